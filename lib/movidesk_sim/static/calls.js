// The waiting line and the tickets.

import {callButton, canCall} from "./agents.js";
import {byId, element, icon, keep, setAttribute, setText, show} from "./dom.js";
import {_, duration, size, timeOfDay} from "./texts.js";

const REASONS = {
  0: () => _("holiday"), 1: () => _("outside business hours"), 2: () => _("no agent is online"),
  3: () => _("no agent's telephony is on"), 4: () => _("all agents are in calls"),
};
const ORIGINS = {
  received: () => _("Received call"), made: () => _("Made call"), lost: () => _("Lost call"), abandoned: () => _("Abandoned call"),
};
const ICONS = {received: "in", made: "out", lost: "lost", abandoned: "abandoned"};

function waiting() {
  const number = element("p", {class: "caller"});
  const facts = element("p", {class: "facts"});
  const clock = element("span", {class: "clock"});
  const node = element("li", {class: "row"}, element("div", {class: "main"}, number, facts), clock);
  return {node, update(call) {
    setText(number, call.number);
    const why = call.offered ? _("extension {extension} rings", {extension: call.offered}) : REASONS[call.code]?.() ?? "";
    setText(facts, [_("Queue {queue}", {queue: call.queue}), why].filter(Boolean).join(" · "));
    setAttribute(clock, "data-since", call.since);
  }};
}

const FAULTS = {
  checking: () => _("Looking for the recording …"),
  not_http: () => _("The recording cannot be played: its link is no web address"),
  no_answer: () => _("The recording cannot be played: its server does not answer"),
  not_audio: () => _("The recording cannot be played: what is at its link is no sound"),
};

function faultOf(recording) {
  if (recording.fault === "status") {
    return _("The recording cannot be played: its server answers {status}", {status: recording.status});
  }
  return FAULTS[recording.fault]?.() ?? "";
}

/** A button; once it is pressed, a player in its place. It plays from where the recording is, as it would in Movidesk. */
function recording(first) {
  const length = element("span", {class: "size"});
  const fault = element("span", {class: "fault"});
  const button = element("button", {type: "button", class: "plain", click: play}, icon("play"), _("Play the recording"), length);
  const node = element("li", {}, button, fault);
  let player = null;

  function play() {
    player = element("audio", {controls: "", preload: "none", "aria-label": _("Recording"), src: first.link, error: broken});
    button.replaceWith(player);
    player.play().catch(broken);
  }

  function broken() {
    setText(fault, _("This browser cannot play it"));
    show(fault, true);
  }

  return {node, update(now) {
    if (player) return;
    show(button, !now.fault);
    show(fault, Boolean(now.fault));
    setText(fault, faultOf(now));
    setText(length, now.length ? size(now.length) : "");
    setAttribute(node, "title", now.fault ? now.link : "");
  }};
}

function ticket(first) {
  const mark = element("span", {class: "origin", "data-origin": first.origin}, icon(ICONS[first.origin]));
  const number = element("span", {class: "caller"});
  const origin = element("span", {class: "word"});
  const facts = element("p", {class: "facts"});
  const id = element("p", {class: "id"});
  const recordings = element("ul", {class: "recordings"});
  let newest = first;
  const back = canCall && first.known ? [callButton(() => [newest.number, newest.agent])] : [];
  const node = element("li", {class: "row", "data-id": first.id}, mark,
    element("div", {class: "main"}, element("p", {}, number, " ", origin), facts, id, recordings), ...back);
  return {node, update(ticket) {
    newest = ticket;
    setAttribute(mark, "data-origin", ticket.origin);
    setAttribute(mark.querySelector("use"), "href", "#" + ICONS[ticket.origin]);
    setText(number, ticket.number || _("number unknown"));
    setText(origin, ORIGINS[ticket.origin]());
    const known = [timeOfDay(ticket.time)];
    if (ticket.queue !== null) known.push(_("Queue {queue}", {queue: ticket.queue}));
    if (ticket.agent) known.push(ticket.agent_name || _("Agent {extension}", {extension: ticket.agent}));
    if (ticket.waited !== null) known.push(_("waited {time}", {time: duration(ticket.waited)}));
    if (ticket.talked !== null) known.push(_("talked {time}", {time: duration(ticket.talked)}));
    setText(facts, known.join(" · "));
    setText(id, _("Ticket {id}", {id: ticket.id}));
    keep(recordings, ticket.recordings.map((each, place) => ({...each, place})), each => `${each.place} ${each.link}`, recording);
  }};
}

export function drawCalls(shown) {
  keep(byId("waiting"), shown.waiting, call => call.id, waiting);
  show(byId("waiting-empty"), shown.waiting.length === 0);
  keep(byId("tickets"), shown.tickets, each => each.id, ticket);
  show(byId("tickets-empty"), shown.tickets.length === 0);
}
