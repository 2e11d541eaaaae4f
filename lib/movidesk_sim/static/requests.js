// The limit of requests, and the requests themselves.

import {byId, element, keep, setAttribute, setText, show} from "./dom.js";
import {now} from "./server.js";
import {modeName} from "./switches.js";
import {_, duration, timeOfDay} from "./texts.js";

const MARKS = 200;  // that the strip shows at most
let limit = null;

export function drawGauge(shown) {
  limit = shown;
  const used = shown.taken.length, most = shown.requests;
  const gauge = byId("gauge");
  setText(byId("gauge-text"), most ? _("{used} of {most}", {used, most}) : _("{used}, no limit now", {used}));
  setAttribute(gauge, "aria-valuenow", used);
  setAttribute(gauge, "aria-valuemax", most || Math.max(used, 1));
  setAttribute(gauge, "data-full", most && used >= most ? "full" : most && used >= 0.8 * most ? "nearly" : "no");
  gauge.firstElementChild.style.width = `${Math.min(100, most ? 100 * used / most : 0)}%`;
  keep(byId("strip"), shown.taken.slice(-MARKS), at => at, at => {
    const node = element("i");
    node.at = at;
    return {node, update() {}};
  });
  moveStrip();
}

/** Each request's mark moves to the left, and leaves the strip when the request counts no longer. */
export function moveStrip() {
  if (!limit) return;
  for (const mark of byId("strip").children) {
    mark.style.left = `${Math.max(0, 100 - 100 * (now() - mark.at) / limit.seconds)}%`;
  }
  const wait = limit.free_at - now();
  setText(byId("gauge-note"), wait > 0 ? _("Full: the next one is taken in {time}", {time: duration(wait + 1)})
    : _("taken in the last {seconds} seconds", {seconds: limit.seconds}));
}

const kind = status => status === 0 ? "cut" : status === 200 ? "good" : status === 429 ? "limit" : "bad";

function request() {
  const status = element("span", {class: "status"});
  const endpoint = element("span", {class: "endpoint"});
  const time = element("span", {class: "time"});
  const params = element("p", {class: "params"});
  const answer = element("p", {class: "answer"});
  const node = element("li", {}, element("p", {class: "head"}, status, endpoint, time), params, answer);
  return {node, update(each) {
    setAttribute(status, "data-kind", kind(each.status));
    setText(status, each.status || _("cut"));
    setText(endpoint, `${each.method} ${each.endpoint}`);
    setText(time, timeOfDay(each.time));
    setText(params, each.params.map(([name, value]) => `${name}=${value}`).join("  "));
    const said = [each.fault && _("switch: {mode}", {mode: modeName(each.fault)}), each.answer && `→ ${each.answer}`];
    setText(answer, said.filter(Boolean).join("  "));
    show(answer, Boolean(each.answer || each.fault));
  }};
}

export function drawRequests(shown) {
  keep(byId("requests"), shown.requests, each => each.n, request);
  show(byId("requests"), shown.requests.length > 0);
  show(byId("requests-empty"), shown.requests.length === 0);
  keep(byId("problems"), shown.problems, problem => problem.n, () => {
    const time = element("span", {class: "time"}), text = element("span");
    const node = element("li", {}, time, " ", text);
    return {node, update(problem) { setText(time, timeOfDay(problem.time)); setText(text, problem.text); }};
  });
  show(byId("problems-box"), shown.problems.length > 0);
  show(byId("problems-none"), shown.problems.length === 0 && shown.requests.length > 0);
  setText(byId("duplicates"), shown.counts.duplicates ? _("sent twice: {count}", {count: shown.counts.duplicates}) : "");
}
