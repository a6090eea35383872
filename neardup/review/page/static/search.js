// The search: a photo that is dropped or chosen is sent to the server, which says where its hits are shown.

import { ask, by, notice, setup } from "./review.js";

/** Search for the photo of a file, and say so while it lasts; what was found for another photo goes away. */
async function search(file) {
  if (!file) return;
  by("query")?.remove();
  by("hits").replaceChildren();
  by("found").textContent = setup.texts.searching;
  try {
    location.assign((await ask("/api/search", file)).address);
  } catch (error) {
    by("found").textContent = "";
    by("file").value = ""; // so that the same file, mended, can be chosen again
    notice(error.message);
  }
}

by("file").addEventListener("change", () => search(by("file").files[0]));
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => { event.preventDefault(); search(event.dataTransfer.files[0]); });
