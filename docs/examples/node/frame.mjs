// From a picture of any size to the frame that a network takes, by the rule of docs/bundle-format.md, "From picture to frame".
// All sums are of whole numbers, so that this and Python get the same bytes.

function toNearest(x) {
  const up = Math.round(x);
  return up - x === 0.5 && up % 2 !== 0 ? up - 1 : up; // a half to the even number
}

/** Where the part around the centre begins, and its size. */
function cut(size, { height, width, resize, crop }) {
  let [h, w] = size;
  if (resize === "cover") {
    if (w * height > h * width) w = toNearest((h * width) / height);
    else h = toNearest((w * height) / width);
  }
  [h, w] = [Math.max(1, toNearest(h * crop)), Math.max(1, toNearest(w * crop))];
  return { top: Math.floor((size[0] - h) / 2), left: Math.floor((size[1] - w) / 2), height: h, width: w };
}

/** For each output pixel of one axis: where its sources begin, and their weights; each adds up to the same sum. */
function taps(from, to) {
  if (from === to) return Array.from({ length: to }, (_, i) => ({ start: i, weights: [1] }));
  return Array.from({ length: to }, (_, i) => (from > to ? area : between)(from, to, i));
}

function area(from, to, i) {
  const [low, high] = [i * from, (i + 1) * from]; // in units of 1 / to of a source pixel
  const start = Math.floor(low / to);
  const weights = [];
  for (let at = start; at * to < high; at++) weights.push(Math.min((at + 1) * to, high) - Math.max(at * to, low));
  return { start, weights };
}

function between(from, to, i) {
  const unit = 2 * to;
  const centre = Math.min(Math.max((2 * i + 1) * from - to, 0), (from - 1) * unit);
  const start = Math.min(Math.floor(centre / unit), Math.max(from - 2, 0));
  const share = centre - start * unit;
  return { start, weights: from > 1 ? [unit - share, share] : [unit] };
}

/**
 * pixels: 8-bit RGB or RGBA, row by row, as a canvas has them; size: [height, width].
 * Gives 8-bit values [frame.height, frame.width, frame.channels].
 */
export function toPixels(pixels, size, frame) {
  const stride = pixels.length / (size[0] * size[1]);
  const part = cut(size, frame);
  const [rows, columns] = [taps(part.height, frame.height), taps(part.width, frame.width)];
  const sum = (tap) => tap.weights.reduce((total, weight) => total + weight, 0);
  const whole = sum(rows[0]) * sum(columns[0]);
  const made = new Uint8Array(frame.height * frame.width * frame.channels);
  const colours = [0, 0, 0];
  rows.forEach((row, y) =>
    columns.forEach((column, x) => {
      colours.fill(0);
      row.weights.forEach((down, dy) =>
        column.weights.forEach((across, dx) => {
          const at = ((part.top + row.start + dy) * size[1] + part.left + column.start + dx) * stride;
          for (let c = 0; c < 3; c++) colours[c] += down * across * pixels[at + c];
        }),
      );
      const levels = colours.map((colour) => toNearest(colour / whole));
      const place = (y * frame.width + x) * frame.channels;
      if (frame.channels === 1) made[place] = (19595 * levels[0] + 38470 * levels[1] + 7471 * levels[2] + 32768) >> 16;
      else made.set(levels, place);
    }),
  );
  return made;
}
