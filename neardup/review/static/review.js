// What all pages of the review share: words, the name, keys, requests. No page needs a build step or a network.

export const setup = JSON.parse(document.getElementById("setup").textContent);
const language = document.documentElement.lang;
const number = new Intl.NumberFormat(language);

/** The element of an id. */
export const by = (id) => document.getElementById(id);

/** A text of the page, its places filled in; whole numbers are written as the language does. */
export function say(name, values = {}) {
  const write = (value) => (Number.isInteger(value) ? number.format(value) : value);
  return setup.texts[name].replace(/\{(\w+)\}/g, (_, place) => write(values[place]));
}

/** A share as a percentage, rounded towards zero so that a bound never says too much. */
export function percent(share, digits = 0) {
  const steps = 10 ** (2 + digits);
  const format = new Intl.NumberFormat(language, { style: "percent", maximumFractionDigits: digits });
  return format.format(Math.floor(share * steps + 1e-9) / steps);
}

/** An element with a class and children; text is always text, never HTML. */
export function element(tag, kind, ...children) {
  const made = document.createElement(tag);
  if (kind) made.className = kind;
  made.append(...children.filter((child) => child !== null && child !== ""));
  return made;
}

/** Tell a screen reader what happened. */
export const announce = (text) => { by("live").textContent = text; };

/** Show a sentence that must not be overlooked; none hides it. */
export function notice(text) {
  by("notice").textContent = text;
  by("notice").hidden = !text;
}

/** Ask the server; an answer that is no success becomes an error with its sentence and status. */
export async function ask(address, body) {
  const post = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  return answerOf(await fetch(address, body === undefined ? {} : post));
}

/** The JSON of an answer. */
export async function answerOf(response) {
  const text = await response.text();
  if (response.ok) return JSON.parse(text);
  let sentence = text;
  try { sentence = JSON.parse(text).error; } catch { /* not every refusal is JSON */ }
  throw Object.assign(new Error(sentence), { status: response.status });
}

/** The address of a photo's picture. */
export const picture = (photo, side) => `/photo/${photo.sha256}/${side}.jpg`;

const who = by("who");
who.value = localStorage.getItem("neardup.who") || setup.who;
by("name").textContent = who.value;
who.addEventListener("input", () => {
  localStorage.setItem("neardup.who", who.value.trim());
  by("name").textContent = who.value;
});

/** The name that stands beside each verdict. */
export const person = () => who.value.trim() || setup.who;

const keysOn = by("keys-on");
keysOn.checked = localStorage.getItem("neardup.keys") !== "off";
keysOn.addEventListener("change", () => localStorage.setItem("neardup.keys", keysOn.checked ? "on" : "off"));

const actions = { help: () => (by("help").open ? by("help").close() : by("help").showModal()) };
const actionOf = new Map(setup.keys.map(({ key, action }) => [key, action]));

/** Let the keys and buttons of a page do something, by the names of their actions. */
export const act = (more) => Object.assign(actions, more);

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-action]");
  if (button && actions[button.dataset.action]) actions[button.dataset.action]();
});

document.addEventListener("keydown", (event) => {
  const typing = event.target.matches("textarea, select, input:not([type=checkbox])");
  if (typing || event.ctrlKey || event.altKey || event.metaKey || event.repeat && !event.key.startsWith("Arrow")) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const action = actionOf.get(key === "=" ? "+" : key);
  if (!action || !actions[action] || (!keysOn.checked && event.key.length === 1)) return;
  if (by("help").open && action !== "help") return;
  if (actions[action]() !== false) event.preventDefault();
});

/** Verdicts that were given and may be taken back, of one queue; they outlast a reload. */
export function given(queue) {
  const place = `neardup.given.${queue}`;
  const read = () => JSON.parse(sessionStorage.getItem(place) || "[]");
  const write = (list) => sessionStorage.setItem(place, JSON.stringify(list.slice(-200)));
  return {
    push: (ids) => write([...read(), ids]),
    pop: () => { const list = read(); const last = list.pop(); write(list); return last; },
  };
}
