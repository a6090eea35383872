// The page of one group: photos are taken out, groups merged, a reference chosen.

import { act, ask, by, given, notice, person, setup } from "./review.js";

const address = `/api/group/${setup.group}`;
const history = given(`group ${setup.group}`);
const chosen = () => [...document.querySelectorAll("input[name=photo]:checked")].map((box) => box.value);

/** Do something to the group, and show the page as it is then. */
async function change(path, body, done) {
  try {
    const { ids } = await ask(`${address}/${path}`, { ...body, who: person() });
    if (ids) history.push(ids);
    sessionStorage.setItem("neardup.done", setup.texts[done]);
    location.reload();
  } catch (error) {
    notice(error.message);
  }
}

by("out").addEventListener("click", () => (chosen().length ? change("out", { photos: chosen() }, "done_out") : notice(setup.texts.choose_first)));
by("merge").addEventListener("click", () => change("merge", { other: Number(by("other").value) }, "done_merge"));
by("group").addEventListener("submit", (event) => event.preventDefault());
for (const button of document.querySelectorAll("[data-reference]")) {
  button.addEventListener("click", () => change("reference", { photo: button.dataset.reference }, "done_reference"));
}
act({
  undo: async () => {
    const ids = history.pop();
    if (!ids) return notice(setup.texts.nothing_to_undo);
    await ask("/api/undo", { ids, who: person() }).catch((error) => notice(error.message));
    sessionStorage.setItem("neardup.done", setup.texts.undone);
    return location.reload();
  },
});
notice(sessionStorage.getItem("neardup.done") || "");
sessionStorage.removeItem("neardup.done");
