// The page on which pairs are judged: what is shown, what is answered, what is sent.

import { act, announce, ask, by, element, given, notice, percent, person, say, setup } from "./review.js";
import { decoded, layout, look, pan, show, zoomBy } from "./stage.js";

const OUTBOX = "neardup.outbox", RETRY_MS = 2000;
const { queue } = setup;
const past = given(queue + (setup.group || ""));
const session = sessionStorage.getItem("neardup.session") || crypto.getRandomValues(new Uint32Array(3)).join("-");
sessionStorage.setItem("neardup.session", session);
let tasks = [], pictures = new Map(), gone = new Set(), shownAt = 0, fetching = null, sending = false, ended = false;

const outbox = () => JSON.parse(localStorage.getItem(OUTBOX) || "[]");
const store = (list) => localStorage.setItem(OUTBOX, JSON.stringify(list));
const ready = (task) => {
  const key = `${task.photo.sha256}/${task.partner.sha256}`;
  if (!pictures.has(key)) pictures.set(key, Promise.all([decoded(task.photo), decoded(task.partner)]));
  return pictures.get(key);
};

/** Get the next pairs, so that three are decoded ahead. */
async function more() {
  if (queue === "pair") return onePair();
  if (fetching) return fetching;
  const but = [...[...tasks, ...outbox()].map((one) => one.number).filter(Number.isInteger), ...gone];
  const query = new URLSearchParams({ queue, session, who: person(), group: setup.group || 0, but: but.join(",") });
  fetching = ask(`/api/tasks?${query}`).finally(() => { fetching = null; });
  const { tasks: next, progress } = await fetching;
  tasks.push(...next.filter((one) => !tasks.some((task) => task.number === one.number)));
  for (const task of tasks) ready(task).catch(() => {});
  ended = !tasks.length;
  tell(progress);
}

/** Get the one pair that this page is about. */
async function onePair() {
  const { tasks: [task] } = await ask(`/api/pair/${setup.pair.join("/")}`);
  tasks = [task];
}

/** Show the first pair, or that there is none; nothing while more are on their way. */
async function next() {
  const [task] = tasks;
  by("task").hidden = !task;
  by("empty").hidden = Boolean(task) || !ended;
  if (!task) return ended && announce(setup.texts.nothing_left);
  let photos;
  try {
    photos = await ready(task);
  } catch { // it has no picture now: it is put off, and not asked for again before the page is opened anew
    gone.add(task.number);
    return tasks[0] === task ? skip() : null;
  }
  if (tasks[0] !== task) return;
  const names = [task.photo, task.partner].map((photo) => photo.name || setup.texts.brought);
  photos.forEach((image, i) => { image.alt = `${say(i ? "photo_b" : "photo_a")}: ${[task.photo, task.partner][i].legend || names[i]}`; });
  show(task, ...photos);
  for (const name of ["photo", "partner"]) caption(name, task[name]);
  by("says").replaceChildren(...machine(task));
  for (const field of ["relation", "direction", "note"]) by(field).value = "";
  shownAt = performance.now();
  announce(say("new_pair", { a: names[0], b: names[1], left: by("progress").textContent }));
  requestAnimationFrame(() => requestAnimationFrame(() => { document.body.dataset.shown = `${task.photo.sha256}/${task.partner.sha256}`; }));
}

/** Write what is known of a photo below it. */
function caption(name, photo) {
  const page = photo.page && say("page", { n: photo.page }), row = photo.row && say("truth_row", { n: photo.row });
  const where = [photo.newspaper, photo.date, page, row].filter(Boolean).join(" · ");
  by(name).querySelector("figcaption").replaceChildren(
    element("p", "name", element("b", "", say(name === "photo" ? "photo_a" : "photo_b")), " ", photo.path || setup.texts.brought),
    where ? element("p", "where", where) : "",
    photo.legend ? element("p", "legend", photo.legend) : "",
    photo.caption ? element("p", "legend", element("i", "", setup.texts.in_english), " ", photo.caption) : "",
  );
}

/** What the machine says of a pair, with what its probability is made of. */
function machine(task) {
  const said = (task.said || []).map((one) => element("p", "tag", say("said_before", { who: one.who, verdict: setup.texts[`key_${one.verdict.replace(" ", "_")}`] })));
  if (queue === "audit") return [element("p", "", setup.texts.audit_blind)];
  const facts = [];
  if (task.probability !== null) facts.push(say("probability", { p: percent(task.probability, 1) }));
  if (task.similarity !== null) facts.push(say("similarity", { s: task.similarity.toFixed(3) }));
  if (task.inliers !== null) facts.push(say("points_agree", { n: task.inliers }));
  if (task.affected > 2) facts.push(say("affected", { n: task.affected }));
  return [
    task.reason ? element("p", "reason", say(task.reason.name, task.reason.values)) : "",
    ...said,
    task.sentence ? element("p", "sentence", task.sentence) : "",
    facts.length ? element("p", "", facts.join(" · ")) : "",
    task.bridge ? element("p", "warn", setup.texts.bridge) : "",
    ...waterfall(task.terms),
  ];
}

/** The terms of a probability, each a bar from where the one before ended; right is for, left is against. */
function waterfall(terms) {
  if (!terms.length) return [];
  let sum = 0;
  const steps = terms.map(([what, odds]) => ({ what, odds, from: sum, to: (sum += odds) }));
  const ends = steps.flatMap(({ from, to }) => [from, to]), low = Math.min(...ends), span = Math.max(...ends) - low || 1;
  const list = element("ol", "waterfall");
  for (const { what, odds, from, to } of steps) {
    const bar = element("i", odds < 0 ? "against" : "for");
    bar.style.left = `${(100 * (Math.min(from, to) - low)) / span}%`;
    bar.style.width = `${(100 * Math.abs(odds)) / span}%`;
    const value = element("span", "odds", `${odds < 0 ? "−" : "+"}${Math.abs(odds).toFixed(1)}`);
    list.append(element("li", "", element("span", "", what), element("span", "bar", bar), value));
  }
  return [element("h2", "", setup.texts.why), list];
}

/** Write how much is left, about how long it takes, and what the answers have bought. */
function tell(progress) {
  const { left, seconds, answered, implied, audited } = progress;
  const minutes = seconds === null ? null : Math.round(seconds / 60);
  const time = minutes < 1 ? say("less_than_a_minute") : minutes < 60 ? say("minutes", { n: minutes }) : say("hours", { n: Math.floor(minutes / 60), m: minutes % 60 });
  const parts = [say("left", { n: left })];
  if (minutes !== null && left) parts.push(say("about", { time }));
  if (answered) parts.push(say("answered", { n: answered }));
  if (implied) parts.push(say("implied", { n: implied }));
  by("progress").textContent = parts.join(" · ");
  const { answers, bound, missing, promise } = audited;
  const aim = promise && { n: missing, promise: percent(promise) };
  const bought = answers ? say("bound", { bound: percent(bound) }) + (aim ? `; ${say("bound_missing", aim)}` : "") : aim ? say("bound_none", aim) : "";
  by("bought").textContent = bought && `${bought}.`;
}

/** Answer the pair that is shown: the next one appears at once, and the answer is kept until the server has it. */
function answer(verdict) {
  const [task] = tasks;
  if (!task || document.body.dataset.shown !== `${task.photo.sha256}/${task.partner.sha256}`) return;
  delete document.body.dataset.shown;
  const answered = {
    number: task.number,
    body: {
      id: `${session}-${Date.now()}`, photo: task.photo.sha256, partner: task.partner.sha256, verdict, who: person(),
      queue: queue === "pair" && new URLSearchParams(location.search).has("search") ? "search" : queue,
      relation: by("relation").value || task.relation || "", direction: by("direction").value, note: by("note").value,
      seconds: (performance.now() - shownAt) / 1000, supersedes: (task.said || []).map((one) => one.id),
    },
  };
  store([...outbox(), answered]);
  past.push([answered.body.id]);
  pictures.delete(`${task.photo.sha256}/${task.partner.sha256}`);
  tasks.shift();
  if (queue !== "pair") next();
  send().then(() => (queue === "pair" && !outbox().length ? leave() : null));
}

/** Go back to where the one pair was opened. */
const leave = () => (window.history.length > 1 ? window.history.back() : location.assign("/review"));

/** Send what was answered, oldest first; what cannot be sent stays and is tried again. */
async function send() {
  if (sending) return;
  sending = true;
  let failed = false;
  try {
    for (let [first] = outbox(); first; [first] = outbox()) {
      try {
        await ask("/api/verdict", first.body);
      } catch (error) {
        if (error.status !== 422 && error.status !== 404) throw error;
        notice(error.message);
      }
      store(outbox().filter((one) => one.body.id !== first.body.id));
    }
    if (by("notice").dataset.kind === "unsent") { notice(""); delete by("notice").dataset.kind; }
    if (queue !== "pair") { await more(); if (!document.body.dataset.shown) next(); }
  } catch (error) {
    failed = true;
    by("notice").dataset.kind = "unsent";
    const waiting = outbox().length ? say("not_saved", { n: outbox().length }) : "";
    notice(`${error.status ? error.message : setup.texts.server_gone} ${waiting}`);
    setTimeout(send, RETRY_MS);
  } finally {
    sending = false;
  }
  // What was answered while the next pairs were on their way.
  if (!failed && outbox().length) await send();
}

/** Put the pair off until all others are answered. */
async function skip() {
  if (queue === "pair") return leave();
  const task = tasks.shift();
  if (!task) return;
  delete document.body.dataset.shown;
  next();
  await ask("/api/skip", { session, number: task.number }).catch(() => {});
  try { await more(); } catch { return setTimeout(send, RETRY_MS); }
  if (!document.body.dataset.shown) next();
}

/** Take the last answer back and show its pair again. */
async function undo() {
  const ids = past.pop();
  if (!ids) return notice(setup.texts.nothing_to_undo);
  notice("");
  await send();
  try {
    const { task } = await ask("/api/undo", { ids, who: person() });
    if (task) tasks = [task, ...tasks.filter((one) => one.number !== task.number)].slice(0, 5);
    await fetching?.catch(() => {}); // it counts as before
    if (queue !== "pair") await more();
    await next();
    announce(setup.texts.undone);
  } catch (error) {
    past.push(ids);
    notice(error.message);
  }
}

/** Let the two photos change their places. */
function swap() {
  const [task] = tasks;
  if (!task) return;
  const { photo, partner, onto, back, boxes, others } = task;
  tasks[0] = { ...task, photo: partner, partner: photo, onto: back, back: onto, boxes: others, others: boxes };
  next();
}

const verdicts = ["same", "same scene", "different", "cannot tell"];
act(Object.fromEntries(verdicts.map((verdict) => [verdict, () => answer(verdict)])));
act(Object.fromEntries(["side", "blink", "slider", "difference", "points"].map((view) => [view, () => tasks.length && look(view)])));
act({
  skip, undo, swap,
  "zoom in": () => zoomBy(1.5), "zoom out": () => zoomBy(1 / 1.5), "zoom off": () => zoomBy(0),
  left: () => pan(-0.2, 0), right: () => pan(0.2, 0), up: () => pan(0, -0.2), down: () => pan(0, 0.2),
  details: () => { by("details").open = !by("details").open; if (by("details").open) by("relation").focus(); },
});
addEventListener("resize", layout);
by("progress").textContent = setup.texts.loading;
send().then(() => (queue === "pair" ? onePair().then(next) : null)).catch((error) => notice(error.message));
