// The page on which pairs are judged: which pair is shown, what is answered, and that every answer reaches the server.

import { actions, ask, by, notice, person, setup } from "./review.js";
import { VIEWS, look, pan, show, zoomBy } from "./stage.js";

const RETRY_MS = 2000; // after which is tried again what failed, and asked again where others have all that is left
const announce = (text) => { by("live").textContent = text; };
const LONGEST_S = 86400; // the server takes no longer time for an answer
let tasks = [], left = 0, unreadable = "", seen = null, shownAt = 0, loaded = false, retry = 0, work = Promise.resolve();

/** A list that the browser keeps under a name. */
const list = (storage, name) => ({
  get: () => JSON.parse(storage.getItem(name) || "[]"),
  set: (items) => storage.setItem(name, JSON.stringify(items)),
});
const outbox = list(localStorage, `neardup.unsent.${setup.place}`);
const past = list(sessionStorage, `neardup.past.${location.pathname}`);
const session = sessionStorage.getItem("neardup.session") || crypto.getRandomValues(new Uint32Array(3)).join("-");
sessionStorage.removeItem("neardup.session"); // it outlives a reload, but is not copied into a duplicate of the tab
addEventListener("pagehide", () => sessionStorage.setItem("neardup.session", session));

/** A pair's part of the page, as soon as its photos are decoded. */
async function drawn(task) {
  const part = document.createElement("div");
  part.innerHTML = task.html;
  for (const image of part.querySelectorAll(".frame > img")) {
    await image.decode();
    image.closest(".pane").style.setProperty("--ratio", image.naturalWidth / image.naturalHeight);
  }
  return part;
}

/** Go back to where the page of one pair was opened. */
const leave = () => (history.length > 1 ? history.back() : location.assign("/review"));

/** Get the next pairs, so that three are drawn ahead; the page of one pair is left once that is answered. */
async function more() {
  if (setup.one && loaded) return tasks.length || leave();
  const but = [...tasks, ...outbox.get()].map((one) => one.number).filter(Number.isInteger);
  const answer = await ask(`${setup.source}&${new URLSearchParams({ session, who: person(), but, held: tasks.length })}`);
  if (answer.run !== setup.run) return location.reload(); // another run of `duplicates` has other pairs
  tasks.push(...answer.tasks.filter((one) => !tasks.some((task) => task.number === one.number)));
  for (const task of tasks) (task.part ??= drawn(task)).catch(() => {});
  by("standing").innerHTML = answer.html;
  [left, unreadable] = [answer.progress.left, answer.unreadable];
  loaded = true;
  if (!tasks.length || tasks[0] !== seen) await next();
  return null;
}

/** Show the first pair, or that there is none. */
async function next() {
  const task = seen = tasks[0];
  delete document.body.dataset.shown;
  by("empty").hidden = Boolean(task);
  if (!task) return empty();
  const part = await (task.part ??= drawn(task)).catch(() => null);
  if (tasks[0] !== task) return;
  if (!part) return unshown(task);
  by("task").hidden = false;
  show(task, part);
  resume(task);
  shownAt = performance.now();
  announce(`${part.querySelector(".photos").getAttribute("aria-label")} ${by("progress")?.textContent}`);
  const pair = `${task.photo.sha256}/${task.partner.sha256}`;
  const visible = () => { if (tasks[0] === task) document.body.dataset.shown = pair; };
  requestAnimationFrame(() => requestAnimationFrame(visible));
}

/** Where what was begun to be written of a pair is kept. */
const draftOf = ({ photo, partner }) => `neardup.draft.${photo.sha256}/${partner.sha256}`;
/** What the form of the correction holds. */
const corrected = () => Object.fromEntries(new FormData(by("correction")));

/** Go on with what was begun to be written of a pair before it was put off or the page was loaded again. */
function resume(task) {
  const draft = sessionStorage.getItem(draftOf(task));
  by("correction").reset();
  for (const [name, value] of Object.entries(JSON.parse(draft || "{}"))) by("correction").elements[name].value = value;
  if (draft) by("details").open = true;
}

/** Say why a pair is not shown, and leave it out; where all photos are away, or none is broken, try again. */
async function unshown(task) {
  const { number = null, photo, partner } = task;
  delete task.part;
  seen = null;
  by("task").hidden = true;
  try {
    const body = { session, number, photo: photo.sha256, partner: partner.sha256 };
    const { fault } = await ask("/api/unshown", body);
    if (!fault) return later();
    notice(fault);
    if (setup.one) return null;
    tasks = tasks.filter((one) => one !== task);
    return queue(send);
  } catch (error) { return failed(error); }
}

/** Say that nothing is left, or why what is left is not shown; that is asked for again and again. */
function empty() {
  by("task").hidden = true;
  const waits = left && !setup.one, text = unreadable || setup.texts[waits ? "left_elsewhere" : "nothing_left"];
  if (waits) later();
  if (by("empty").textContent === text && by("live").textContent === text) return;
  by("empty").textContent = text;
  announce(text);
}

/** Be done with the pair that is shown: the next one appears at once, and what is to be sent is kept until it is. */
function done(address, body, pair) {
  outbox.set([...outbox.get(), { address, body, pair, number: tasks.shift().number }]);
  if (tasks.length) next();
  else delete document.body.dataset.shown;
  queue(send);
}

/** Do one thing with the server after the other. */
const queue = (step) => { work = work.then(step); };

/** Send what waits, and get more pairs, in a while. */
function later() {
  clearTimeout(retry);
  retry = setTimeout(() => queue(send), RETRY_MS);
}

/** Send what was answered or put off, oldest first, and get more pairs; what cannot be sent is tried again. */
async function send() {
  clearTimeout(retry);
  try {
    for (let [first] = outbox.get(); first; [first] = outbox.get()) {
      const refused = await ask(first.address, first.body).catch((error) => error);
      if (refused instanceof Error && ![404, 422].includes(refused.status)) throw refused;
      outbox.set(outbox.get().filter((one) => JSON.stringify(one) !== JSON.stringify(first)));
      if (!(refused instanceof Error)) continue;
      notice(refused.message);
      if (setup.one) return; // the page of one pair is left only once its answer was taken
    }
    const before = by("notice").dataset.unsent;
    delete by("notice").dataset.unsent;
    await more();
    if (before && !by("notice").dataset.unsent) notice("");
  } catch (error) { failed(error); }
}

/** Say why nothing goes on at the moment, and try again. */
function failed(error) {
  const waiting = outbox.get().length;
  const unsaved = setup.texts[waiting === 1 ? "not_saved_one" : "not_saved"];
  notice(`${error.message} ${waiting ? unsaved.replace("{n}", waiting) : ""}`);
  by("notice").dataset.unsent = "yes";
  later();
}

/** Answer the pair that is shown. */
function answer(verdict) {
  const [task] = tasks;
  if (!task || !document.body.dataset.shown) return;
  const id = `${session}-${Date.now()}`, correction = corrected();
  sessionStorage.removeItem(draftOf(task));
  remember({ id, verdict });
  done("/api/verdict", {
    id, photo: task.photo.sha256, partner: task.partner.sha256, verdict, who: person(), queue: setup.queue,
    ...correction, seconds: Math.min((performance.now() - shownAt) / 1000, LONGEST_S),
    supersedes: task.said.map((one) => one.id),
  });
}

/** Keep what was done last, for `undo`. */
const remember = (step) => past.set([...past.get(), step].slice(-200));

/** Show a pair again that was put off; whether the server knows of that already makes no difference. */
async function unskip(pair) {
  outbox.set(outbox.get().filter((one) => one.pair !== pair));
  const { tasks: [task] } = await ask(`/api/pair/${pair}?queue=${setup.queue}`);
  return { task };
}

/** Send an answer no more that still waits to be sent, or take it back where only its receipt was lost; its pair. */
async function unsend({ id, photo, partner }) {
  outbox.set(outbox.get().filter((one) => one.body.id !== id));
  const { tasks: [task] } = await ask(`/api/pair/${photo}/${partner}?queue=${setup.queue}`);
  return task.said.some((one) => one.id === id) ? ask("/api/undo", { ids: [id], who: person() }) : { task };
}

/** Take the last answer back, or that a pair was put off, and show the pair again. */
async function undo() {
  const { id, verdict, pair } = past.get().at(-1) || {}, unsent = outbox.get().find((one) => id && one.body.id === id);
  if (!id && !pair) return notice(setup.texts.nothing_to_undo);
  try {
    const taken = pair ? unskip(pair) : unsent ? unsend(unsent.body) : ask("/api/undo", { ids: [id], who: person() });
    const { task } = await taken, said = document.querySelector(`[data-action="${verdict || "skip"}"] span`).textContent;
    tasks = [task, ...tasks.filter((one) => one.number !== task?.number)].filter(Boolean).slice(0, 5);
    await next();
    await more();
    notice(setup.texts.undone_what.replace("{what}", said));
  } catch (error) {
    notice(error.message);
    if (!error.status) return;
  }
  past.set(past.get().slice(0, -1));
}

/** Let the two photos change their places. */
async function swap() {
  const [task] = tasks, turned = !task.turned;
  const [photo, partner] = [task.photo.sha256, task.partner.sha256];
  const { tasks: [other] } = await ask(`/api/pair/${photo}/${partner}?queue=${setup.queue}&turned=${turned}`);
  Object.assign(task, other, { turned, number: task.number, part: drawn(other) });
  if (tasks[0] === task) await next();
}

for (const verdict of ["same", "same scene", "different", "cannot tell"]) actions[verdict] = () => answer(verdict);
for (const view of VIEWS.filter((name) => document.querySelector(`[data-action=${name}]`))) {
  actions[view] = () => tasks.length && look(view);
}
Object.assign(actions, {
  skip() {
    if (setup.one) return leave();
    const [task] = tasks;
    if (!task) return null;
    const pair = `${task.photo.sha256}/${task.partner.sha256}`;
    remember({ pair });
    return done("/api/skip", { session, number: task.number }, pair);
  },
  undo: () => queue(undo),
  swap: () => tasks.length && swap().catch((error) => notice(error.message)),
  "zoom in": () => zoomBy(1.5), "zoom out": () => zoomBy(1 / 1.5), "zoom off": () => zoomBy(0),
  left: () => pan(-0.2, 0), right: () => pan(0.2, 0), up: () => pan(0, -0.2), down: () => pan(0, 0.2),
  details: () => { by("details").open = !by("details").open; if (by("details").open) by("relation").focus(); },
});
by("correction").addEventListener("input", () => tasks.length && sessionStorage.setItem(draftOf(tasks[0]), JSON.stringify(corrected())));
by("details").addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  by("details").open = false;
  by("details").querySelector("summary").focus();
});
// Who leaves holds no pairs any more; a page that comes back as it was left is made anew.
addEventListener("pagehide", () => {
  navigator.sendBeacon("/api/leave", new Blob([JSON.stringify({ session })], { type: "application/json" }));
});
addEventListener("pageshow", (event) => event.persisted && location.reload());
queue(send);
