// What the person at the page sets: how Movidesk answers, business hours, holidays.

import {toggle} from "./agents.js";
import {byId, element, keep, setAttribute, setText} from "./dom.js";
import {_} from "./texts.js";

// Each mode of faults.py: its name, and what it does.
const MODES = new Map([
  ["", [() => _("As usual"), () => _("Movidesk answers as its documents say.")]],
  ["429", [() => "429", () => _("Too many requests: each is refused, to be sent again after 20 seconds.")]],
  ["500", [() => "500", () => _("An error of Movidesk's own for each request.")]],
  ["slow", [() => _("Slow"), () => _("Each answer takes 8 seconds longer.")]],
  ["nonsense", [() => _("Nonsense"), () => _("Each request is taken, and answered with a page of HTML.")]],
  ["cut", [() => _("Answer lost"), () => _("Each request is taken, then its connection is cut: the PBX cannot know.")]],
  ["outage", [() => _("Outage"), () => _("Each connection is cut before Movidesk sees the request.")]],
]);

export const modeName = mode => MODES.get(mode)?.[0]() ?? mode;

function mode({name}, act) {
  const node = element("button", {type: "button", role: "radio", "aria-checked": "false", "data-mode": name, text: modeName(name),
    click: () => act("mode", {mode: name, once: byId("once").checked})});
  return {node, update({on}) {
    setAttribute(node, "aria-checked", on);
    node.tabIndex = on ? 0 : -1;
  }};
}

/** In a group of radio buttons the arrows go from one to the next. */
function arrows(event) {
  const step = {ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1}[event.key];
  if (!step) return;
  const all = [...byId("modes").children];
  const next = all[(all.indexOf(document.activeElement) + step + all.length) % all.length];
  event.preventDefault();
  next.focus();
  next.click();
}

function group(first, act) {
  const change = body => act("groups/" + first.queue_id, body);
  const badge = element("span", {class: "badge"});
  const hours = ["opens", "closes"].map(name => element("input", {
    type: "text", inputmode: "numeric", pattern: "([01][0-9]|2[0-3]):[0-5][0-9]|24:00", maxlength: "5", size: "5",
    "aria-label": name === "opens" ? _("Opens at") : _("Closes at"), change: save}));
  const closed = toggle(_("Closed"), on => change(on ? {opens: "00:00", closes: "00:00"} : {opens: "00:00", closes: "24:00"}));
  const holiday = toggle(_("Holiday today"), on => change({holiday: on}));

  function save() {
    if (hours.every(input => input.reportValidity())) change({opens: hours[0].value, closes: hours[1].value});
  }

  const node = element("li", {"data-queue": first.queue_id},
    element("div", {class: "who"}, element("h3", {text: _("Queue {queue}", {queue: first.queue_id})}), badge),
    element("div", {class: "hours"}, hours[0], element("span", {"aria-hidden": "true", text: "–"}), hours[1]),
    element("div", {class: "switches"}, closed.node, holiday.node));
  return {node, update(now) {
    setAttribute(node, "data-closed", now.closed ?? "no");
    setText(badge, now.closed === "0" ? _("Holiday") : now.closed ? _("Closed now") : _("Open now"));
    [now.opens, now.closes].forEach((value, place) => {
      if (document.activeElement !== hours[place] && hours[place].value !== value) hours[place].value = value;
    });
    closed.set(now.opens === now.closes);
    holiday.set(now.holiday);
  }};
}

byId("modes").addEventListener("keydown", arrows);

/** act(path, body) changes something. */
export function drawSwitches(shown, act) {
  const modes = [...MODES.keys()].map(name => ({name, on: name === shown.mode}));
  keep(byId("modes"), modes, each => each.name, each => mode(each, act));
  setAttribute(byId("modes"), "data-mode", shown.mode);
  const note = MODES.get(shown.mode)?.[1]() ?? shown.mode;
  const more = shown.more_faults ? _("Faults set by /control/: {count}", {count: shown.more_faults}) : "";
  setText(byId("mode-note"), `${note} ${more}`.trim());
  keep(byId("groups"), shown.groups, each => each.queue_id, each => group(each, act));
}
