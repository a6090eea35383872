// Two photos on one stage: side by side, or one laid over the other; a zoom moves both.
// All places are shares of a photo's width and height; a matrix takes them to another photo, or to pixels of a frame.

import { ask, by, element, picture, setup } from "./review.js";
import { matchTones, matrixOf, moved } from "./tones.js";

const LARGE = 1600, FULL = 4096, MOST = 16, BLINK_MS = 700;
const UNIT = 1000; // pixels of either side of every image before it is put in its place, as the style says
const frames = { photo: by("photo").querySelector(".frame"), partner: by("partner").querySelector(".frame") };
const over = frames.photo.querySelector(".over");
const marks = { photo: frames.photo.querySelector(".marks"), partner: frames.partner.querySelector(".marks") };
const range = by("slide").querySelector("input");
const views = new Set(["side", "blink", "slider", "difference", "points"]);
let task = null, images = {}, view = "side", zoom = { z: 1, x: 0.5, y: 0.5 }, blinking = 0;

/** A decoded picture of a photo, as an element that can be shown at once. */
export async function decoded(photo, side = LARGE) {
  const image = new Image();
  image.src = picture(photo, side);
  await image.decode();
  return image;
}

/** From shares of an image to pixels of the frame that it is fitted into. */
function fitted(image, frame) {
  const scale = Math.min(frame.clientWidth / image.naturalWidth, frame.clientHeight / image.naturalHeight);
  const [width, height] = [image.naturalWidth * scale, image.naturalHeight * scale];
  return new DOMMatrix().translate((frame.clientWidth - width) / 2, (frame.clientHeight - height) / 2).scale(width, height);
}

/** The same, enlarged so that a place of the image is in the middle of the frame. */
function zoomed(base, frame, z, [x, y]) {
  const [left, top] = moved(base, x, y);
  return new DOMMatrix().translate(frame.clientWidth / 2, frame.clientHeight / 2).scale(z).translate(-left, -top).multiply(base);
}

const place = (image, matrix) => { image.style.transform = matrix.scale(1 / UNIT); };
const length = (m, [x, y], step = 0.01) => { const [a, b] = moved(m, x, y), [c, d] = moved(m, x + step, y); return Math.hypot(c - a, d - b); };

/** Put photos, boxes and points where the view and the zoom want them. */
export function layout() {
  if (!task || !images.photo) return;
  const centre = [zoom.x, zoom.y], base = fitted(images.photo, frames.photo);
  const onA = zoom.z === 1 ? base : zoomed(base, frames.photo, zoom.z, centre);
  let onB = onA.multiply(matrixOf(task.onto));
  place(images.photo, onA);
  if (view === "side" || view === "points") {
    const other = fitted(images.partner, frames.partner), back = matrixOf(task.back);
    const z = task.back ? length(onA, centre) / length(other.multiply(back), centre) : zoom.z;
    onB = zoom.z === 1 ? other : zoomed(other, frames.partner, z, moved(back, ...centre));
  }
  place(images.partner, onB);
  over.style.clipPath = view === "slider" ? `inset(0 0 0 ${100 - range.value}%)` : "none";
  for (const mark of document.querySelectorAll("#stage .mark")) {
    const [x, y, w, h] = mark.box, matrix = mark.closest("#partner") ? onB : onA, [left, top] = moved(matrix, x, y), [right, bottom] = moved(matrix, x + w, y + h);
    Object.assign(mark.style, { left: `${left}px`, top: `${top}px`, width: `${right - left}px`, height: `${bottom - top}px` });
  }
}

/** Show a pair whose pictures are decoded already. */
export function show(pair, photo, partner) {
  task = pair;
  images = { photo, partner };
  zoom = { z: 1, x: 0.5, y: 0.5 };
  for (const image of [photo, partner]) image.draggable = false;
  for (const place of Object.values(marks)) place.replaceChildren();
  marks.photo.append(...(pair.boxes || []).map((box) => Object.assign(element("span", "mark box"), { box })));
  look(view);
}

/** Mark the points that agree, each pair of points with one number. */
async function point() {
  const pair = task;
  if (document.querySelector("#stage .point")) return;
  const { points } = await ask(`/api/points/${pair.photo.sha256}/${pair.partner.sha256}`);
  if (task !== pair || view !== "points") return;
  points.forEach(([x, y, u, v], i) => {
    marks.photo.append(Object.assign(element("span", "mark point", String(i + 1)), { box: [x, y, 0, 0] }));
    marks.partner.append(Object.assign(element("span", "mark point", String(i + 1)), { box: [u, v, 0, 0] }));
  });
  layout();
}

/** Look at the pair in another way. */
export function look(chosen) {
  view = views.has(chosen) && (chosen !== "points" || setup.points) ? chosen : "side";
  const beside = view === "side" || view === "points";
  by("stage").dataset.view = view;
  by("slide").hidden = view !== "slider";
  for (const image of document.querySelectorAll("#stage img")) image.remove();
  frames.photo.prepend(images.photo);
  (beside ? frames.partner : over).prepend(images.partner);
  images.partner.style.filter = view === "difference" ? "grayscale(1) url(#tones)" : "none";
  if (view === "difference") matchTones(images, task);
  if (view === "points") point();
  over.classList.remove("off");
  clearInterval(blinking);
  const slow = matchMedia("(prefers-reduced-motion: reduce)").matches ? 3 : 1;
  if (view === "blink") blinking = setInterval(() => over.classList.toggle("off"), BLINK_MS * slow);
  for (const button of document.querySelectorAll(".views [data-action]")) {
    if (views.has(button.dataset.action)) button.setAttribute("aria-pressed", String(button.dataset.action === view));
  }
  layout();
}

/** Zoom by a factor, so that a place of the first photo stays where it is; 0 shows the whole photo. */
export function zoomBy(factor, at = [zoom.x, zoom.y]) {
  const z = factor ? Math.min(MOST, Math.max(1, zoom.z * factor)) : 1, keep = zoom.z / z;
  const from = zoom.z === 1 && factor ? [0.5, 0.5] : [zoom.x, zoom.y];
  zoom = z === 1 ? { z, x: 0.5, y: 0.5 } : { z, x: at[0] + (from[0] - at[0]) * keep, y: at[1] + (from[1] - at[1]) * keep };
  layout();
  if (z > 1.5) sharpen();
}

/** Move the zoomed photos by shares of what is seen; says whether there was anything to move. */
export function pan(x, y) {
  if (zoom.z === 1) return false;
  const within = (share) => Math.min(1, Math.max(0, share));
  zoom = { ...zoom, x: within(zoom.x + x / zoom.z), y: within(zoom.y + y / zoom.z) };
  layout();
  return true;
}

/** Fetch the large pictures of photos that are zoomed into; the small ones stay until they are there. */
function sharpen() {
  if (!task || images.sharp) return;
  images.sharp = true;
  for (const [photo, image] of [[task.photo, images.photo], [task.partner, images.partner]]) {
    decoded(photo, FULL).then((large) => { image.src = large.src; }, () => {});
  }
}

/** Where a pointer is, in shares of the first photo; both frames move alike. */
function shareAt(event) {
  const frame = event.currentTarget, box = frame.getBoundingClientRect();
  const base = fitted(images.photo, frames.photo);
  const x = zoom.z === 1 ? base.e : frame.clientWidth / 2 - zoom.x * base.a * zoom.z;
  const y = zoom.z === 1 ? base.f : frame.clientHeight / 2 - zoom.y * base.d * zoom.z;
  return [(event.clientX - box.left - x) / (base.a * zoom.z), (event.clientY - box.top - y) / (base.d * zoom.z)];
}

range.addEventListener("input", layout);
new ResizeObserver(layout).observe(by("stage"));
for (const frame of Object.values(frames)) {
  const pointers = new Map();
  frame.addEventListener("wheel", (event) => { event.preventDefault(); zoomBy(1.0015 ** -event.deltaY, shareAt(event)); }, { passive: false });
  frame.addEventListener("dblclick", (event) => zoomBy(zoom.z > 1 ? 0 : 3, shareAt(event)));
  frame.addEventListener("pointerdown", (event) => { pointers.set(event.pointerId, event); frame.setPointerCapture(event.pointerId); });
  for (const end of ["pointerup", "pointercancel"]) frame.addEventListener(end, (event) => pointers.delete(event.pointerId));
  frame.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    if (!before || !images.photo) return;
    const apart = () => { const [a, b] = [...pointers.values()]; return Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY); };
    const distance = pointers.size === 2 ? apart() : 0;
    pointers.set(event.pointerId, event);
    const base = fitted(images.photo, frames.photo);
    if (distance) zoomBy(apart() / distance);
    else pan((before.clientX - event.clientX) / base.a, (before.clientY - event.clientY) / base.d);
  });
}
