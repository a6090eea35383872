// What brings two photos together: places of one on the other, and the tones of the second made like those of the first
// where they overlap, so that a difference is one of the picture.

const SIDE = 160, STEPS = 16;

/** The matrix of nine numbers row by row, which takes shares of one photo to those of another; without any, as it is. */
export function matrixOf(numbers) {
  const [a, b, c, d, e, f, g, h, i] = numbers || [1, 0, 0, 0, 1, 0, 0, 0, 1];
  return new DOMMatrix([a, d, 0, g, b, e, 0, h, 0, 0, 1, 0, c, f, 0, i]);
}

/** Where a matrix takes a place. */
export const moved = (matrix, x, y) => { const point = matrix.transformPoint({ x, y }); return [point.x / point.w, point.y / point.w]; };

/** The part of a photo that the other one covers, as left, top, right and bottom in shares; by its corners. */
function covered(matrix) {
  const corners = [[0, 0], [1, 0], [0, 1], [1, 1]].map(([x, y]) => moved(matrix, x, y));
  const within = (share) => Math.min(1, Math.max(0, share));
  const [xs, ys] = [0, 1].map((axis) => corners.map((corner) => within(corner[axis])));
  const box = [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)];
  return box[2] - box[0] > 0.01 && box[3] - box[1] > 0.01 ? box : [0, 0, 1, 1];
}

/** The grey levels of a part of an image in order, 0 to 1. */
function levels(image, [left, top, right, bottom]) {
  const canvas = Object.assign(document.createElement("canvas"), { width: SIDE, height: SIDE });
  const pen = canvas.getContext("2d", { willReadFrequently: true }), { naturalWidth: w, naturalHeight: h } = image;
  pen.drawImage(image, left * w, top * h, (right - left) * w, (bottom - top) * h, 0, 0, SIDE, SIDE);
  const { data } = pen.getImageData(0, 0, SIDE, SIDE), grey = new Float32Array(SIDE * SIDE);
  for (let i = 0; i < grey.length; i += 1) grey[i] = (0.2126 * data[4 * i] + 0.7152 * data[4 * i + 1] + 0.0722 * data[4 * i + 2]) / 255;
  return grey.sort();
}

/** Set the filter that takes each quantile of the second photo's grey levels to that of the first. */
export function matchTones(images, { onto, back }) {
  const target = levels(images.photo, covered(matrixOf(onto))), source = levels(images.partner, covered(matrixOf(back)));
  const table = [];
  for (let step = 0, at = 0; step <= STEPS; step += 1) {
    while (at < source.length - 1 && source[at] < step / STEPS) at += 1;
    table.push(target[at].toFixed(3));
  }
  for (const channel of document.querySelectorAll("#tones [tableValues]")) channel.setAttribute("tableValues", table.join(" "));
}
