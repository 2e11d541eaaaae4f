// The agents, with what each has on its screen, and the call that an agent makes.

import {byId, element, icon, keep, setAttribute, setText, show} from "./dom.js";
import {post} from "./server.js";
import {_, duration} from "./texts.js";

const STATES = {
  free: () => _("Free"), ringing: () => _("Phone rings"), call: () => _("In a call"), offline: () => _("Offline"),
  no_telephony: () => _("Telephony off"),
};

export const nameOf = agent => agent.name || _("Agent {extension}", {extension: agent.extension});

const initials = agent => agent.name ? agent.name.split(/\s+/).map(word => [...word][0]).slice(0, 2).join("") : agent.extension.slice(-2);

/** A switch that is on or off; change(on) tells the simulator. */
export function toggle(label, change) {
  const name = element("span", {text: label});
  const node = element("button", {type: "button", role: "switch", "aria-checked": "false", class: "switch",
    click: () => change(node.getAttribute("aria-checked") !== "true")}, element("i", {"aria-hidden": "true"}), name);
  return {node, set: on => setAttribute(node, "aria-checked", on)};
}

function screen() {
  const number = element("p", {class: "caller"});
  const facts = element("p", {class: "facts"});
  const clock = element("span", {class: "clock"});
  const what = element("span");
  const ticket = element("p", {class: "id"});
  const node = element("div", {class: "screen"}, element("p", {class: "bar"}, what, clock), number, facts, ticket);
  return {node, update(call, ringing) {
    setText(what, ringing ? _("Phone rings") : _("Caller's screen"));
    setAttribute(clock, "data-since", call.since);
    setText(number, call.number);
    const known = [call.queue === null ? _("Made call") : _("Queue {queue}", {queue: call.queue})];
    if (call.waited !== null) known.push(_("waited {time}", {time: duration(call.waited)}));
    known.push(call.earlier === null ? _("number unknown")
      : call.earlier ? _("has called before: {count}", {count: call.earlier}) : _("first call"));
    setText(facts, known.join(" · "));
    setText(ticket, _("Ticket {id}", {id: call.id}));
  }};
}

function card(first, act) {
  const change = body => act("agents/" + encodeURIComponent(first.extension), body);
  const badge = element("span", {class: "badge"});
  const face = element("span", {class: "face", "aria-hidden": "true"});
  const name = element("h3");
  const extension = element("p", {text: _("Extension {extension}", {extension: first.extension})});
  const online = toggle(_("Online"), on => change({online: on}));
  const telephony = toggle(_("Telephony"), on => change({telephony: on}));
  const window = screen();
  const node = element("li", {class: "agent", "data-extension": first.extension},
    element("div", {class: "who"}, face, element("div", {}, name, extension), badge),
    window.node, element("div", {class: "switches"}, online.node, telephony.node));
  return {node, update(agent) {
    setAttribute(node, "data-state", agent.state);
    setText(badge, STATES[agent.state]());
    setText(face, initials(agent));
    setText(name, nameOf(agent));
    online.set(agent.online);
    telephony.set(agent.telephony);
    for (const [node, label] of [[online.node, _("Online")], [telephony.node, _("Telephony")]]) {
      setAttribute(node, "aria-label", `${label}: ${nameOf(agent)}`);
    }
    const opens = agent.state === "call" && window.node.dataset.id !== agent.call?.id;
    show(window.node, agent.call !== null);
    if (agent.call) window.update(agent.call, agent.state === "ringing");
    window.node.dataset.id = agent.state === "call" ? agent.call?.id ?? "" : "";
    if (opens && agent.call) {
      setText(byId("news"), _("{agent} talks to {number}", {agent: nameOf(agent), number: agent.call.number}));
    }
  }};
}

/** act(path, body) changes something. */
export function drawAgents(agents, act) {
  keep(byId("agents"), agents, agent => agent.extension, agent => card(agent, act));
  keep(byId("call-agent"), agents, agent => agent.extension, agent => {
    const node = element("option", {value: agent.extension});
    return {node, update: agent => setText(node, `${nameOf(agent)} (${agent.extension})`)};
  });
}

// The call that an agent makes

export const canCall = document.body.dataset.canCall === "yes";

/** Asks who calls this customer. */
export function askToCall(number, extension) {
  const agents = byId("call-agent");
  byId("call-number").value = number;
  if ([...agents.options].some(option => option.value === extension)) agents.value = extension;
  setText(byId("call-answer"), "");
  byId("call").showModal();
}

/** A button that asks for it; {number, extension} are looked up when it is pressed. */
export function callButton(whom) {
  return element("button", {type: "button", class: "plain", click: () => askToCall(...whom())}, icon("phone"), _("Call back"));
}

async function start(event) {
  event.preventDefault();
  const answer = byId("call-answer"), button = byId("call-start");
  button.disabled = true;
  setText(answer, _("The agent's phone rings …"));
  try {
    const made = await post("call", {extension: byId("call-agent").value, number: byId("call-number").value.trim()});
    if (made.call_id) {  // the agent has answered: the ticket is on the page
      byId("call").close();
      setText(byId("news"), _("The customer is called: {id}", {id: made.call_id}));
    } else {
      setText(answer, made.status ? _("The PBX refused: {status} {text}", made) : _("The PBX does not answer: {text}", made));
    }
  } catch (error) {
    setText(answer, error.message);
  }
  button.disabled = false;
}

show(byId("call-somebody"), canCall);
byId("call-somebody").addEventListener("click", () => askToCall("", ""));
byId("call-close").addEventListener("click", () => byId("call").close());
byId("call-form").addEventListener("submit", start);
