// The page of one group: its forms are sent as JSON, and the page is shown as the group is then.

import { ask, notice, person } from "./review.js";

let changing = false; // the second click of a double click is no second change

document.addEventListener("submit", async (event) => {
  if (event.target.method === "dialog") return;
  event.preventDefault();
  if (changing) return;
  changing = true;
  const fields = new FormData(event.target, event.submitter), there = new URL(location);
  const [other, undo, grouping] = [Number(fields.get("other")), fields.get("undo"), fields.get("grouping")];
  try {
    const change = { photos: fields.getAll("photo"), other, undo, grouping, who: person() };
    const answer = await ask(event.target.action, change);
    for (const [name, value] of Object.entries(answer)) there.searchParams.set(name, value);
    location.replace(there);
  } catch (error) {
    notice(error.message);
    changing = false;
  }
});
