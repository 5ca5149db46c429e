// The numbers of a viewer's document, `data`: unpacked, turned, averaged, as text, and painted.
const AVERAGE = 4; // the fifth rotation to pick: the mean of the four, turned back
// ColorBrewer's RdBu, with pure white at 0.
const RAMP = "053061 2166ac 4393c3 92c5de d1e5f0 ffffff fddbc7 f4a582 d6604d b2182b 67001f".split(" ");
const COLOURS = RAMP.map((hex) => [0, 2, 4].map((i) => parseInt(hex.slice(i, i + 2), 16)));

const unpacked = data.blobs.map(() => null);

/** The 16-bit integers of an array. */
function integers(packed) {
  if (!unpacked[packed.blob]) {
    const text = atob(data.blobs[packed.blob]);
    unpacked[packed.blob] = new Int16Array(Uint8Array.from(text, (c) => c.charCodeAt(0)).buffer);
  }
  return unpacked[packed.blob];
}

/** A number with three decimals of its map's largest magnitude, which are all right. */
function format(value, largest) {
  const power = Math.floor(Math.log10(largest || 1));
  const plain = power > -4 && power < 4;
  const text = plain ? value.toFixed(3 - power) : (value / 10 ** power).toFixed(3);
  return (Number(text) === 0 ? text.replace("-", "") : text) + (plain ? "" : `e${power}`);
}

/** One channel of one rotation of maps [rotations, side, side, channels]. */
function plane(packed, rotation, channel) {
  const [side, , channels] = packed.shape.slice(-3);
  const all = integers(packed);
  const start = rotation * side * side * channels + channel;
  const values = Float64Array.from({ length: side * side },
    (_, i) => all[start + i * channels] * packed.largest / 32767);
  return { side, values };
}

/** A square turned counter-clockwise by quarters, as numpy.rot90 does. */
function turned({ side, values }, quarters) {
  let out = values;
  for (let q = 0; q < quarters; q++) {
    const from = out;
    out = from.map((_, i) => from[(i % side) * side + side - 1 - Math.floor(i / side)]);
  }
  return { side, values: out };
}

const mean = (four) => four[0].map((_, i) => ((four[0][i] + four[2][i]) + (four[1][i] + four[3][i])) / 4);

/** The map of a layer's channel at the picked rotation. */
function mapAt(layer, rotation, channel) {
  if (rotation < AVERAGE) return plane(layer, rotation, channel);
  const back = [0, 1, 2, 3].map((r) => turned(plane(layer, r, channel), (4 - r) % 4));
  return { side: back[0].side, values: mean(back.map((one) => one.values)) };
}

/** The units of a layer that gives vectors, at the picked rotation. */
function unitsAt(layer, rotation) {
  const count = layer.shape[1];
  const all = Float64Array.from(integers(layer), (whole) => whole * layer.largest / 32767);
  const of = (r) => all.subarray(r * count, (r + 1) * count);
  return rotation < AVERAGE ? of(rotation) : mean([0, 1, 2, 3].map(of));
}

/** Red, green and blue of a share of the largest magnitude, from -1 to 1. */
function diverging(share) {
  const place = (Math.max(-1, Math.min(1, share)) + 1) * (COLOURS.length - 1) / 2;
  const low = Math.min(Math.floor(place), COLOURS.length - 2);
  return COLOURS[low].map((from, i) => from + (COLOURS[low + 1][i] - from) * (place - low));
}

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function drawing(tag, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

/** Paint numbers, one pixel each; `colour` gives red, green and blue. */
function paint(canvas, width, values, colour) {
  canvas.width = width;
  canvas.height = values.length / width;
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height);
  values.forEach((value, i) => image.data.set([...colour(value).map(Math.round), 255], 4 * i));
  context.putImageData(image, 0, 0);
}

/** A channel of a stamp, from its least pixel in black to its largest in white. */
function paintStamp(canvas, { side, values }) {
  // Not Math.min(...values): a call takes no more arguments than some ten thousands.
  const least = values.reduce((a, b) => Math.min(a, b), Infinity);
  const extent = values.reduce((a, b) => Math.max(a, b), -Infinity) - least || 1;
  paint(canvas, side, values, (value) => Array(3).fill(255 * (value - least) / extent));
}
