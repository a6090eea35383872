// The search: a photo is dropped or chosen, or words are typed; each hit can be compared and judged.

import { answerOf, ask, by, element, notice, percent, picture, say, setup } from "./review.js";

/** A picture with its alternative text. */
const image = (photo, side) => Object.assign(new Image(), { src: picture(photo, side), alt: photo.legend || photo.name, loading: "lazy" });

/** Show what was found. */
function show({ query, hits }) {
  by("found").textContent = say("found", { n: hits.length });
  by("query").replaceChildren(...(query ? [image({ ...query, name: setup.texts.brought }, 1600)] : []));
  by("hits").replaceChildren(...hits.map((hit) => {
    const facts = [hit.sentence || say("similarity", { s: hit.similarity.toFixed(3) })];
    if (hit.probability != null) facts.push(say("probability", { p: percent(hit.probability, 1) }));
    facts.push(...hit.said.map((verdict) => setup.texts[`key_${verdict.replace(" ", "_")}`]));
    const inside = [image(hit.photo, 320), element("span", "name", hit.photo.path), element("span", "", facts.join(" · "))];
    if (!query) return element("li", "", ...inside);
    const link = element("a", "", ...inside);
    link.href = `/pair/${query.sha256}/${hit.photo.sha256}?search`;
    return element("li", "", link);
  }));
}

/** Search, and say so while it lasts. */
async function search(request) {
  notice("");
  by("found").textContent = setup.texts.searching;
  try { show(await request()); } catch (error) { by("found").textContent = ""; notice(error.message); }
}

const byPhoto = (file) => search(async () => answerOf(await fetch("/api/search", { method: "POST", headers: { "Content-Type": "application/octet-stream" }, body: file })));
by("file").addEventListener("change", (event) => event.target.files[0] && byPhoto(event.target.files[0]));
addEventListener("dragover", (event) => { event.preventDefault(); by("drop").classList.add("here"); });
addEventListener("dragleave", () => by("drop").classList.remove("here"));
addEventListener("drop", (event) => {
  event.preventDefault();
  by("drop").classList.remove("here");
  if (event.dataTransfer.files[0]) byPhoto(event.dataTransfer.files[0]);
});
by("words")?.addEventListener("submit", (event) => {
  event.preventDefault();
  search(() => ask("/api/words", { text: event.target.elements.text.value }));
});
