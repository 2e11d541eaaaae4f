// What the simulator says, and what it is told.

let behind = 0;  // seconds by which this browser's clock is behind the simulator's

export const now = () => Date.now() / 1000 + behind;

/** The simulator answers, and says no. */
export class Refusal extends Error {}

async function answerOf(response) {
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new Refusal(body.error || `HTTP ${response.status}`);
  if (body.now) behind = body.now - Date.now() / 1000;
  return body;
}

export async function state() {
  return answerOf(await fetch("/page/state", {cache: "no-store"}));
}

/** Change something. What changes the page is answered with its new state. */
export async function post(path, body) {
  return answerOf(await fetch("/page/" + path, {
    method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(body)}));
}
