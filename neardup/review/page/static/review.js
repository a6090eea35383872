// What all pages of the review share: the name, the keys, requests. No page needs a build step or a network.

/** What the server tells the scripts of the page: texts, keys, where its pairs come from. */
export const setup = JSON.parse(document.getElementById("setup").textContent);

/** The element of an id. */
export const by = (id) => document.getElementById(id);

/** Show a sentence that must not be overlooked; none hides it. */
export function notice(text) {
  by("notice").textContent = text;
  by("notice").hidden = !text;
}

/** Ask the server, by POST where there is a body; a refusal becomes an error with its sentence and status. */
export async function ask(address, body) {
  const [type, sent] = body instanceof Blob ? ["octet-stream", body] : ["json", JSON.stringify(body)];
  const post = { method: "POST", headers: { "Content-Type": `application/${type}` }, body: sent };
  const response = await fetch(address, body && post).catch(() => { throw new Error(setup.texts.server_gone); });
  if (response.ok) return response.json();
  const text = await response.text();
  const sentence = response.headers.get("Content-Type") === "application/json" ? JSON.parse(text).error : text;
  throw Object.assign(new Error(sentence), { status: response.status });
}

const who = by("who"), keysOn = by("keys-on");
who.addEventListener("input", () => {
  by("name").textContent = who.value;
  document.cookie = `neardup_who=${encodeURIComponent(who.value.trim())}; path=/; max-age=31536000; samesite=strict`;
});

/** The name that stands beside each verdict. */
export const person = () => who.value.trim() || setup.who;

keysOn.checked = localStorage.getItem("neardup.keys") !== "off";
keysOn.addEventListener("change", () => localStorage.setItem("neardup.keys", keysOn.checked ? "on" : "off"));

/** What buttons and keys do, by the names of their actions; a page adds its own. */
export const actions = { help: () => (by("help").open ? by("help").close() : by("help").showModal()) };

/** Do what a button or a key is for; what was said of the action before goes, but not that something waits still. */
function act(run) {
  if (!by("notice").dataset.unsent) notice("");
  return run();
}

document.addEventListener("click", (event) => {
  const run = actions[event.target.closest("[data-action]")?.dataset.action];
  if (run) act(run);
});
document.addEventListener("keydown", (event) => {
  const single = event.key.length === 1, key = single ? event.key.toLowerCase().replace("=", "+") : event.key;
  const own = single ? "textarea, input:not([type=checkbox], [type=range])" : "textarea, select, input:not([type=checkbox])";
  const typing = event.target.matches(own); // a letter answers in a list, too; the arrows choose there
  const { action } = setup.keys.find((one) => one.key === key) || {};
  if (!action || typing || event.ctrlKey || event.altKey || event.metaKey) return;
  if (single && (event.repeat || !keysOn.checked) || by("help").open && action !== "help") return;
  const button = document.querySelector(`[data-action="${action}"]`);
  const run = actions[action] || button && (() => button.click());
  if (run && act(run) !== false) event.preventDefault();
});

notice(setup.done || "");
const there = new URL(location);
there.searchParams.delete("done"); // it is said once, not each time that the page is loaded
history.replaceState(history.state, "", there);
