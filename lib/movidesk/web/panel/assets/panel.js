// The panel's page: takes the news of /events, and shows it.
//
// Whatever callers, agents and Movidesk wrote is put into the page as text (`make`), never as markup. Durations are counted from the
// server's clock: the browser's may be wrong, and its time zone another. Screens on walls are old: Chromium 79 and Safari 13 suffice.

"use strict";

const { texts, version } = JSON.parse(document.getElementById("data").textContent);
const language = document.documentElement.lang;
const SILENCE = 35000; // ms without news after which the connection is taken for dead: three beats of the server
const HIDDEN = 60000;  // ms after which a page that nobody sees gives its place to others
const sections = {};   // what the server sent last, by section
const opened = new Set(); // details that are shown, by their names
let announced = new Set(); // alarms that were said
/** The server's clock. ahead: ms that it is ahead of performance.now(); offset: its seconds east of UTC; looked: when it last read
 *  the journal, epoch seconds; drift: ms between this machine's two clocks. */
const clock = { ahead: 0, offset: 0, looked: 0, drift: Date.now() - performance.now() };

// -- making elements ---------------------------------------------------------------------------------------------------

const byId = name => document.getElementById(name);

/** An element with attributes and children; a child that is no element is text. */
function make(tag, attributes, ...children) {
  const namespace = ["svg", "rect", "line", "text", "g", "title"].includes(tag) ? "http://www.w3.org/2000/svg"
    : "http://www.w3.org/1999/xhtml";
  const made = document.createElementNS(namespace, tag);
  for (const [name, value] of Object.entries(attributes || {}))
    if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
  made.append(...children.filter(child => child !== null && child !== undefined && child !== ""));
  return made;
}

const fill = (text, values) => text.replace(/\{(\w+)\}/g, (whole, name) => name in values ? String(values[name]) : whole);
const plural = (forms, count) => fill(forms[count === 1 ? 0 : 1], { count: new Intl.NumberFormat(language).format(count) });

/** Details that stay open, and keep the keyboard's focus, when they are made again. */
function details(name, summary, ...children) {
  const made = make("details", { "data-name": name, open: opened.has(name) }, summary, ...children);
  made.addEventListener("toggle", () => made.open ? opened.add(name) : opened.delete(name));
  return made;
}

/** Put these children into an element, in place of those that it has. */
function replace(place, ...children) {
  const focused = place.contains(document.activeElement) && document.activeElement.closest("details");
  place.textContent = "";
  place.append(...children);
  const again = focused && Array.from(place.querySelectorAll("details")).find(one => one.dataset.name === focused.dataset.name);
  if (again) again.firstElementChild.focus({ preventScroll: true });
}

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// -- time --------------------------------------------------------------------------------------------------------------

const now = () => (performance.now() + clock.ahead) / 1000; // the server's time, epoch seconds

function span(seconds) {
  const whole = Math.max(0, Math.floor(seconds)), two = number => String(number).padStart(2, "0");
  const hours = Math.floor(whole / 3600), minutes = Math.floor(whole / 60) % 60;
  return hours ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
}

/** The server's local time as the parts of a Date in UTC. */
const local = epoch => new Date((epoch + clock.offset) * 1000);
const timeOfDay = epoch => local(epoch).toISOString().slice(11, 19);

/** A duration that goes on: `tick` counts it. */
const since = (epoch, attributes) => make("span", { "data-since": epoch, class: "number", ...attributes }, span(now() - epoch));

/** The time of an ISO text of the server, with the day unless that is today. */
function moment(iso) {
  const time = iso.slice(11, 16);
  if (iso.slice(0, 10) === local(now()).toISOString().slice(0, 10)) return time;
  const day = new Date(iso.slice(0, 10) + "T00:00:00Z");
  return new Intl.DateTimeFormat(language, { day: "2-digit", month: "2-digit", timeZone: "UTC" }).format(day) + " " + time;
}

function tick() {
  if (!clock.looked) return;
  setText(byId("clock"), timeOfDay(now()));
  for (const element of document.querySelectorAll("[data-since]")) setText(element, span(now() - element.dataset.since));
  for (const element of document.querySelectorAll("[data-until]")) setText(element, span(element.dataset.until - now()));
  if (state === "live" && now() - clock.looked > SILENCE / 1000) say("old");
}

// -- names -------------------------------------------------------------------------------------------------------------

const named = (one, otherwise) => one.name ? `${short(one.name)} (${short(one.number)})` : short(one.number) || otherwise || "";
const caller = number => !number || number === "anonymous" ? texts.withheld : short(number);
const short = text => text.length > 24 ? text.slice(0, 23) + "…" : text;
const queueName = (queue, mode) => (queue.number ? fill(texts.in_queue, { queue: named(queue) }) : texts.no_queue)
  + (mode === "watch" ? `, ${texts.own_queue}` : "");

// -- sections ----------------------------------------------------------------------------------------------------------

function tile(name, text, level, more) {
  const [value, rest] = byId("tile-" + name).querySelectorAll("dd");
  byId("tile-" + name).className = level || "";
  if (text instanceof Node) replace(value, text);
  else setText(value, text);
  if (rest) replace(rest, ...(more || []).filter(Boolean).flatMap((part, place) => place ? [", ", part] : [part]));
}

function showAlarms(alarms) {
  byId("alarms").hidden = !alarms.length && !sections.broken;
  byId("alarms").className = sections.broken || alarms.some(alarm => !alarm.mild) ? "severe" : "mild";
  const items = alarms.map(alarm => make("li", { class: alarm.mild ? "mild" : "severe" },
    make("strong", {}, alarm.text),
    alarm.why && make("p", {}, alarm.why),
    alarm.remedy && make("p", {}, make("b", {}, texts.remedy), " ", alarm.remedy)));
  if (sections.broken && !alarms.some(alarm => alarm.text.startsWith(sections.broken)))
    items.unshift(make("li", { class: "severe" }, make("strong", {}, texts.broken), make("p", {}, sections.broken)));
  replace(byId("alarm-list"), ...items);
  const begun = alarms.filter(alarm => !announced.has(alarm.name)); // an alarm whose text counts seconds is not said each second
  announced = new Set(alarms.map(alarm => alarm.name));
  if (begun.length) setText(byId("alarm-news"), begun.map(alarm => alarm.text).join(" "));
}

function showQueues(queues) {
  const waiting = queues.reduce((sum, queue) => sum + queue.waiting, 0);
  tile("waiting", new Intl.NumberFormat(language).format(waiting), waiting ? "some" : "");
  tile("longest", waiting ? since(Math.min(...queues.map(queue => queue.since))) : "–");
  replace(byId("queues"), ...(queues.length ? queues.map(showQueue) : [make("p", { class: "none" }, texts.nobody)]));
}

function showQueue(queue) {
  const rows = queue.callers.map((one, place) => make("tr", {},
    make("td", { class: "number" }, String(place + 1)), make("td", {}, caller(one.number), one.priority
      ? make("small", {}, " ", fill(texts.priority, { number: one.priority })) : ""),
    make("td", { class: "number" }, since(one.since))));
  const rest = queue.waiting - queue.callers.length;
  return make("article", {},
    make("h3", {}, queueName(queue.queue, queue.mode)),
    make("p", { class: "line" }, make("b", {}, plural(texts.people, queue.waiting)),
      queue.expected === null ? "" : ` · ${fill(texts.expected, { time: span(queue.expected) })}`),
    table([["place", "number"], ["caller"], ["waits", "number"]], rows),
    rest > 0 ? make("p", { class: "none" }, plural(texts.more, rest)) : "");
}

function showAgents(agents) {
  tile("talking", String(agents.filter(agent => agent.outcome !== "ringing").length));
  if (!agents.length) return replace(byId("agents"), make("p", { class: "none" }, texts.no_agents));
  replace(byId("agents"), table([["agent"], ["caller"], ["since", "number"]], agents.map(one => make("tr", {},
    make("th", { scope: "row" }, named(one.agent, texts.unknown)),
    make("td", {}, caller(one.number), " ", make("span", { class: "chip " + one.outcome }, texts.outcomes[one.outcome]),
      one.queue.number ? make("small", { class: "under" }, named(one.queue)) : ""),
    make("td", { class: "number" }, since(one.since))))));
}

function showRequests(requests) {
  if (!requests) return tile("requests", texts.unknown);
  const paused = requests.paused && make("span", { "data-until": requests.paused, class: "number" }, span(requests.paused - now()));
  const used = requests.rate === null ? String(requests.used) : `${requests.used} / ${requests.rate}`;
  tile("requests", used, paused ? "severe" : requests.lowered ? "mild" : "", [
    requests.rate === null ? texts.no_limit : texts.window, requests.night && texts.night,
    requests.lowered && fill(texts.lowered, { limit: requests.limit }),
    paused && around(texts.paused, "time", paused)]);
}

/** A text with an element in the place of {name}. */
function around(text, name, element) {
  const [before, after] = text.split(`{${name}}`);
  return make("span", {}, before, element, after || "");
}

function showOutbox(outbox) {
  if (!outbox) return tile("outbox", texts.unknown);
  tile("outbox", String(outbox.pending), outbox.refused ? "mild" : "", [
    outbox.refused && fill(texts.refused, { count: outbox.refused }),
    outbox.since && around(texts.oldest, "time", since(outbox.since))]);
}

const HOW = ["answered", "lost", "abandoned"];

function showToday(today) {
  const hours = today ? today.hours : [];
  const all = Object.fromEntries(HOW.map(how => [how, hours.reduce((sum, hour) => sum + hour[how], 0)]));
  if (!hours.some(hour => HOW.some(how => hour[how]))) return replace(byId("today"), make("p", { class: "none" }, texts.no_today));
  replace(byId("today"),
    make("p", { class: "legend" }, ...HOW.map(how => make("span", { class: "key " + how }, `${texts[how]}: ${all[how]}`))),
    chart(hours),
    details("today", make("summary", {}, texts.hour), table([["hour"], ...HOW.map(how => [how, "number"])],
      hours.map(hour => make("tr", {}, make("th", { scope: "row" }, hour.hour),
        ...HOW.map(how => make("td", { class: "number" }, String(hour[how]))))))));
}

/** Bars of each hour, one upon the other; the table beside it says the same. */
function chart(hours) {
  const wide = 24, high = 120, most = Math.max(1, ...hours.map(hour => HOW.reduce((sum, how) => sum + hour[how], 0)));
  const bars = hours.flatMap((hour, place) => {
    let top = high;
    const parts = HOW.map(how => {
      const size = hour[how] / most * high;
      top -= size;
      return size ? make("rect", { class: how, x: place * wide + 3, y: top.toFixed(1), width: wide - 6, height: size.toFixed(1) }) : "";
    });
    const said = fill(texts.hour_text, { hour: hour.hour, ...Object.fromEntries(HOW.map(how => [how, hour[how]])) });
    return [make("g", {}, make("title", {}, said), ...parts,
      make("text", { x: place * wide + wide / 2, y: high + 14, "text-anchor": "middle" }, hour.hour.slice(0, 2)))];
  });
  return make("svg", { viewBox: `0 0 ${Math.max(hours.length, 8) * wide} ${high + 20}`, class: "chart", role: "img",
    "aria-label": texts.today }, ...bars);
}

function showCalls(place, calls, otherwise) {
  if (!calls.length) return replace(place, otherwise ? make("p", { class: "none" }, otherwise) : "");
  replace(place, table([["arrived"], ["number_of"], ["queue", "wide"], ["agent"], ["waited", "number"],
    ["talked", "number"], ["outcome"], ["events"]], calls.map(call => showCall(place.id, call))));
}

const SIGNS = { delivered: "✓", pending: "…", refused: "!", dismissed: "–" };

function showCall(place, call) {
  const events = details(`${place} ${call.id}`,
    make("summary", {}, ...(call.events.length ? call.events.map(event => make("span", { class: "event " + event.status,
      title: texts.statuses[event.status] }, make("span", { "aria-hidden": "true" }, SIGNS[event.status]), " ",
      texts.kinds[event.kind] || event.kind, make("span", { class: "unseen" }, " ", texts.statuses[event.status]))) : ["–"])),
    make("ul", {}, make("li", { class: "none" }, call.call_id), ...call.events.map(event => make("li", {},
      `${event.at.slice(11, 19)} ${texts.kinds[event.kind] || event.kind}: ${texts.statuses[event.status]}`,
      event.tries > 1 ? `, ${fill(texts.tries, { count: event.tries })}` : "", event.note ? make("q", {}, event.note) : ""))));
  return make("tr", { class: call.reported === "refused" ? "refused" : "" },
    make("td", { class: "number" }, moment(call.at)), make("td", {}, caller(call.number)),
    make("td", { class: "wide" }, named(call.queue)), make("td", {}, named(call.agent)),
    ...["waited", "talked"].map(what => make("td", { class: "number" }, ...(call[what] === null ? []
      : [make("span", { class: "narrow" }, texts[what], " "), span(call[what])]))),
    make("td", {}, make("span", { class: "chip " + call.outcome }, texts.outcomes[call.outcome]),
      call.why ? make("small", {}, " ", call.why) : "", call.recorded ? make("small", {}, " ", texts.recorded) : ""),
    make("td", { class: "events" }, events));
}

/** columns: each the name of its heading, and its class. */
function table(columns, rows) {
  return make("table", {}, make("thead", {}, make("tr", {}, ...columns.map(([name, kind]) =>
    make("th", { scope: "col", class: kind || null }, texts[name === "number_of" ? "number" : name])))), make("tbody", {}, ...rows));
}

const SHOW = {
  alarms: showAlarms, broken: () => showAlarms(sections.alarms || []), queues: showQueues, agents: showAgents,
  requests: showRequests, outbox: showOutbox, today: showToday, calls: calls => showCalls(byId("calls"), calls, texts.no_calls),
};

function showTitle() {
  const waiting = (sections.queues || []).reduce((sum, queue) => sum + queue.waiting, 0);
  const alarms = (sections.alarms || []).length;
  document.title = `${state === "live" && waiting ? `(${waiting}) ` : ""}${alarms ? "⚠ " : ""}${TITLE}`;
}

// -- the connection ----------------------------------------------------------------------------------------------------

const TITLE = document.title;
let source = null, state = "connecting", heard = performance.now(), wait = 1000, retry = 0, hidden = 0;

function say(next) {
  state = next;
  byId("contact").className = "contact " + next;
  const text = next === "old" ? fill(texts.lost_contact, { time: clock.looked ? timeOfDay(clock.looked) : "–" })
    : { live: texts.live, connecting: texts.connecting, full: texts.full }[next];
  setText(byId("contact-text"), text);
  document.body.classList.toggle("stale", next !== "live" && clock.looked > 0);
  showTitle();
}

function connect() {
  clearTimeout(retry);
  if (source) source.close();
  heard = performance.now();
  source = new EventSource("events?lang=" + encodeURIComponent(language.slice(0, 2)));
  source.addEventListener("version", event => event.data === version || reload());
  source.addEventListener("news", hear);
  source.addEventListener("error", () => {
    if (source.readyState === EventSource.CLOSED) askWhy();
  });
}

function hear(event) {
  const news = JSON.parse(event.data);
  heard = performance.now();
  wait = 1000;
  Object.assign(clock, { ahead: news.now * 1000 - performance.now(), offset: news.offset, looked: news.looked });
  Object.assign(sections, news.sections);
  for (const name of Object.keys(news.sections)) SHOW[name] && SHOW[name](sections[name]);
  say(news.looked && news.now - news.looked < SILENCE / 1000 ? "live" : clock.looked ? "old" : "connecting");
  tick();
}

/** The stream was refused: find out why. Whoever wants a login, here or in front of the panel, asks for it when the page is loaded
 *  again. Else try again; a page that is loaded while nobody answers would stay an error for ever. */
async function askWhy() {
  wait = Math.min(wait * 2, 30000);
  try {
    const answer = await fetch("events", { method: "HEAD", cache: "no-store", redirect: "manual" });
    if (answer.status === 401 || answer.type === "opaqueredirect") return location.reload();
    if (answer.status === 503 && answer.headers.has("Retry-After")) say("full");
    if (answer.ok) wait = 1000;
  } catch {
    say(state === "connecting" ? state : "old");
  }
  clearTimeout(retry);
  retry = setTimeout(connect, wait);
}

/** The service is of another version: load the page again, once a minute at most. */
function reload() {
  const last = Number(recall("sessionStorage", "reloaded"));
  if (Date.now() - last < 60000 && Date.now() >= last) return;
  remember("sessionStorage", "reloaded", String(Date.now()));
  location.reload();
}

/** What is kept in this storage; null where the browser has none, as simple apps for wall screens, or forbids it. */
function recall(storage, name) {
  try {
    return window[storage].getItem(name);
  } catch {
    return null;
  }
}

function remember(storage, name, value) {
  try {
    window[storage].setItem(name, value);
  } catch (error) {
    console.warn(error); // it holds until the page is loaded again
  }
}

function watch() {
  tick();
  const drift = Date.now() - performance.now(); // it jumps where a machine that slept wakes, or its clock is set
  if (Math.abs(drift - clock.drift) > 5000 && source) connect();
  clock.drift = drift;
  if (hidden && performance.now() - hidden > HIDDEN && source) {
    source.close();
    source = null;
    say("old");
  }
  if (!source || hidden) return;
  const silent = performance.now() - heard;
  if (silent > SILENCE) {
    say("old");
    connect();
  } else if (state === "live" && silent > 15000) say("old");
}

document.addEventListener("visibilitychange", () => {
  hidden = document.hidden ? performance.now() : 0;
  if (!hidden && (!source || performance.now() - heard > 15000)) connect();
});
addEventListener("online", connect);

// -- what a viewer does ------------------------------------------------------------------------------------------------

byId("search").addEventListener("submit", async event => {
  event.preventDefault();
  const place = byId("found"), number = byId("number").value;
  try {
    const answer = await fetch("search", { method: "POST", body: new URLSearchParams({ number }), cache: "no-store" });
    if (answer.status === 401) return location.reload();
    if (!answer.ok) throw new Error(answer.statusText);
    const found = await answer.json();
    showCalls(place, found.calls, "");
    setText(byId("found-text"), found.calls.length ? plural(texts.found, found.calls.length)
      : found.too_short ? texts.too_short : texts.none_found);
  } catch {
    replace(place);
    setText(byId("found-text"), texts.search_failed);
  }
});

const THEMES = ["", "light", "dark"];

function setTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
}

byId("theme").addEventListener("click", () => {
  const theme = THEMES[(THEMES.indexOf(document.documentElement.dataset.theme || "") + 1) % THEMES.length];
  remember("localStorage", "movidesk-theme", theme);
  setTheme(theme);
});
const chosen = recall("localStorage", "movidesk-theme");
setTheme(THEMES.includes(chosen) ? chosen : "");

connect();
setInterval(watch, 1000);
