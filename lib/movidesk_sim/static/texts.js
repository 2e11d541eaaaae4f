// The texts in the language that the server chose for this browser, and times.

const translated = JSON.parse(document.getElementById("texts").textContent);
const language = document.documentElement.lang;
// UTC, and 24 hours, as in the requests: one page has one clock, wherever the browser is.
const clockTime = new Intl.DateTimeFormat(language, {hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23",
  timeZone: "UTC"});

/** A text with its {placeholders} filled in. */
export function _(text, values = {}) {
  return (translated[text] || text).replace(/\{(\w+)\}/g, (whole, name) => name in values ? values[name] : whole);
}

/** Seconds as 0:07, 12:30 or 1:02:03. */
export function duration(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const parts = [Math.floor(whole / 60) % 60, whole % 60].map(part => String(part).padStart(2, "0"));
  return whole < 3600 ? `${Math.floor(whole / 60)}:${parts[1]}` : `${Math.floor(whole / 3600)}:${parts.join(":")}`;
}

/** Seconds since 1970 as the time of day, in UTC. */
export const timeOfDay = seconds => clockTime.format(new Date(seconds * 1000));

export function size(bytes) {
  return bytes < 1024 ? `${bytes} B` : new Intl.NumberFormat(language, {maximumFractionDigits: 0}).format(bytes / 1024) + " kB";
}
