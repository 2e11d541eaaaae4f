// The page: asks for the state, shows it, and lets clocks run in between.

import {drawAgents} from "./agents.js";
import {drawCalls} from "./calls.js";
import {byId, setAttribute, setText} from "./dom.js";
import {drawGauge, drawRequests, moveStrip} from "./requests.js";
import {now, post, Refusal, state} from "./server.js";
import {drawSwitches} from "./switches.js";
import {_, duration} from "./texts.js";

const EVERY = 500;  // milliseconds between two questions, while the page can be seen

let last = {run: "", serial: 0};

/** Shows a state, unless a newer one of this simulator is shown: answers may overtake each other. */
function draw(shown) {
  if (shown.run === last.run && shown.serial < last.serial) return;
  last = shown;
  drawAgents(shown.agents, act);
  drawCalls(shown);
  drawGauge(shown.limit);
  drawSwitches(shown, act);
  drawRequests(shown);
  setText(byId("count-waiting"), shown.waiting.length);
  setText(byId("count-calls"), shown.agents.filter(agent => agent.state === "call").length);
  setText(byId("count-free"), shown.agents.filter(agent => agent.state === "free").length);
  setText(byId("count-tickets"), shown.counts.tickets);
  setText(byId("count-problems"), shown.counts.problems);
  byId("count-problems").classList.toggle("bad", shown.counts.problems > 0);
  tick();
}

function tick() {
  for (const clock of document.querySelectorAll("[data-since]")) {
    setText(clock, duration(now() - Number(clock.dataset.since)));
  }
  moveStrip();
}

let refusalUntil = 0;  // why a button did nothing can be read so long

/** Shows the state that comes of a request. */
async function showAnswer(request) {
  const live = byId("live");
  try {
    draw(await request);
    if (Date.now() < refusalUntil) return;
    setAttribute(live, "data-state", "live");
    setText(live, _("live"));
  } catch (error) {
    console.warn(error);
    const refused = error instanceof Refusal;
    if (refused) refusalUntil = Date.now() + 6000;
    setAttribute(live, "data-state", "gone");
    setText(live, refused ? error.message : _("The simulator does not answer"));
  }
}

/** Changes something, and shows what came of it. */
const act = (path, body) => showAnswer(post(path, body));

async function go() {
  for (;;) {
    if (!document.hidden) await showAnswer(state());
    await new Promise(resolve => setTimeout(resolve, EVERY));
  }
}

setInterval(tick, 250);
go();
