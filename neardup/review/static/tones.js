// Tones of the second photo made like those of the first where they overlap, so that a difference is one of the picture.

const SIDE = 160, STEPS = 16;

/** The part of a photo that the other one covers, as left, top, right and bottom in shares; by its corners. */
function covered(matrix) {
  if (!matrix) return [0, 0, 1, 1];
  const corners = [[0, 0], [1, 0], [0, 1], [1, 1]].map(([x, y]) => {
    const w = matrix[6] * x + matrix[7] * y + matrix[8];
    return [(matrix[0] * x + matrix[1] * y + matrix[2]) / w, (matrix[3] * x + matrix[4] * y + matrix[5]) / w];
  });
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
  const target = levels(images.photo, covered(onto)), source = levels(images.partner, covered(back));
  const table = [];
  for (let step = 0, at = 0; step <= STEPS; step += 1) {
    while (at < source.length - 1 && source[at] < step / STEPS) at += 1;
    table.push(target[at].toFixed(3));
  }
  for (const channel of document.querySelectorAll("#tones [tableValues]")) channel.setAttribute("tableValues", table.join(" "));
}
