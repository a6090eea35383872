// Two photos side by side, or one laid over the other; a zoom moves both. How a view looks is said by the style.
// All places are shares of a photo's width and height; a matrix takes those of one photo to those of the other.

import { ask, by, notice } from "./review.js";

const MOST = 16, SHARP = 1.5; // the greatest zoom, and the one from which the large pictures are fetched
const STEP = 0.01; // share of a width over which the scale of a matrix is taken
const WHOLE = { z: 1, x: 0.5, y: 0.5 };
export const VIEWS = ["side", "blink", "slider", "difference", "points"];
const stage = by("stage"), pointers = new Map();
let pair = null, zoom = WHOLE;

/** The matrix of nine numbers row by row; without any, as it is. */
function matrixOf(numbers) {
  const [a, b, c, d, e, f, g, h, i] = numbers || [1, 0, 0, 0, 1, 0, 0, 0, 1];
  return new DOMMatrix([a, d, 0, g, b, e, 0, h, 0, 0, 1, 0, c, f, 0, i]);
}

/** Where a matrix takes a place. */
function moved(matrix, ...place) {
  const { x, y, w } = matrix.transformPoint(new DOMPoint(...place));
  return [x / w, y / w];
}

const within = (low, value, high) => Math.min(high, Math.max(low, value));
const paneOf = (event) => pair && event.target.closest(".pane");

/** Put both photos where the zoom wants them: the middle of each shows the same place at the same size. */
function layout() {
  if (!pair || by("task").hidden) return;
  const [photo, partner] = stage.querySelectorAll(".frame"), { offsetWidth: width, offsetHeight: height } = photo;
  const back = matrixOf(pair.back), [x, y] = moved(back, zoom.x, zoom.y), [u, v] = moved(back, zoom.x + STEP, zoom.y);
  const step = Math.hypot((u - x) * partner.offsetWidth, (v - y) * partner.offsetHeight);
  const other = zoom.z === 1 ? WHOLE : { x, y, z: pair.back ? (zoom.z * width * STEP) / step : zoom.z };
  for (const [pane, values] of [[photo.parentElement, zoom], [partner.parentElement, other]]) {
    for (const [name, value] of Object.entries(values)) pane.style.setProperty(`--${name}`, value);
  }
  const laid = new DOMMatrix().scale(width, height).multiply(matrixOf(pair.onto)).scale(1 / width, 1 / height);
  for (const image of stage.querySelectorAll(".over img")) image.style.transform = laid;
}

/** Show a pair whose part of the page is drawn already. */
export function show(shown, part) {
  [pair, zoom] = [shown, WHOLE];
  pointers.clear();
  stage.replaceChildren(part);
  look(stage.dataset.view);
}

/** Look at the pair in another way. */
export function look(view) {
  stage.dataset.view = view;
  for (const name of VIEWS) document.querySelector(`[data-action=${name}]`)?.setAttribute("aria-pressed", name === view);
  if (view === "points" && !stage.querySelector(".point")) point().catch((error) => notice(error.message));
  layout();
}

/** Mark the points that agree, each pair of points with one number. */
async function point() {
  const marks = stage.querySelectorAll(".marks"), { html } = await ask(stage.querySelector(".photos").dataset.points);
  marks.forEach((place, side) => place.insertAdjacentHTML("beforeend", html[side]));
}

/** Zoom by a factor, so that a place of the first photo stays where it is; 0 shows the whole photo. */
export function zoomBy(factor, [x, y] = [zoom.x, zoom.y]) {
  const z = within(1, zoom.z * factor, MOST), keep = zoom.z / z;
  zoom = z === 1 ? WHOLE : { z, x: x + (zoom.x - x) * keep, y: y + (zoom.y - y) * keep };
  layout();
  if (z < SHARP) return;
  for (const image of stage.querySelectorAll("img[src*='/1600.']")) image.src = image.src.replace("/1600.", "/4096.");
}

/** Move the zoomed photos by shares of what is seen; says whether there was anything to move. */
export function pan(x, y) {
  if (zoom.z === 1) return false;
  zoom = { z: zoom.z, x: within(0, zoom.x + x / zoom.z, 1), y: within(0, zoom.y + y / zoom.z, 1) };
  layout();
  return true;
}

/** Where a pointer is, in shares of the first photo. */
function placeOf(event) {
  const { left, top, width, height } = paneOf(event).querySelector(".frame").getBoundingClientRect();
  const place = [(event.clientX - left) / width, (event.clientY - top) / height];
  return paneOf(event).closest("#partner") ? moved(matrixOf(pair.onto), ...place) : place;
}

by("slide").addEventListener("input", (event) => stage.style.setProperty("--slide", `${event.target.value}%`));
new ResizeObserver(layout).observe(by("task"));
stage.addEventListener("wheel", (event) => {
  if (!paneOf(event)) return;
  event.preventDefault();
  zoomBy(1.0015 ** -event.deltaY, placeOf(event));
}, { passive: false });
stage.addEventListener("dblclick", (event) => paneOf(event) && zoomBy(zoom.z > 1 ? 0 : 3, placeOf(event)));
stage.addEventListener("pointerdown", (event) => {
  if (!paneOf(event)) return;
  pointers.set(event.pointerId, event);
  paneOf(event).setPointerCapture(event.pointerId);
});
for (const end of ["pointerup", "pointercancel"]) stage.addEventListener(end, (event) => pointers.delete(event.pointerId));
stage.addEventListener("pointermove", (event) => {
  const before = pointers.get(event.pointerId), fixed = [...pointers.values()].find((one) => one !== before);
  if (!before) return;
  pointers.set(event.pointerId, event);
  const { offsetWidth: width, offsetHeight: height } = stage.querySelector(".frame");
  const apart = (one) => Math.hypot(one.clientX - fixed.clientX, one.clientY - fixed.clientY);
  if (fixed) zoomBy(apart(event) / apart(before));
  else pan((before.clientX - event.clientX) / width, (before.clientY - event.clientY) / height);
});
