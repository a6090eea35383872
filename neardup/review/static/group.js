// The page of one group: its forms are sent as JSON, and the page is shown as the group is then.

import { ask, notice, person } from "./review.js";

document.addEventListener("submit", async (event) => {
  if (event.target.method === "dialog") return;
  event.preventDefault();
  const fields = new FormData(event.target, event.submitter), there = new URL(location);
  const body = { photos: fields.getAll("photo"), other: Number(fields.get("other")), undo: fields.get("undo") || "", who: person() };
  try {
    for (const [name, value] of Object.entries(await ask(event.target.action, body))) there.searchParams.set(name, value);
    location.replace(there);
  } catch (error) { notice(error.message); }
});
