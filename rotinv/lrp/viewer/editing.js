// Changing a stamp: a pixel is painted or a patch blanked, and the score and the map are computed anew (engine.js).
const PATCH = 3; // pixels, the side of a patch that is blanked
const edits = new Map(); // by the stamp's number: its pixels, as changed
const computedAnew = new Map(); // by the stamp's, the model's and the rule's number: the answer
const tool = { kind: "paint", channel: 0, value: 1 };

/** Numbers from base64 of 32-bit floating-point ones. */
const floats = (text) => new Float32Array(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);

/** An array that the page computed, as `packed` of fragments.py gives those that it brings. */
function packedHere(values, shape) {
  const largest = values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  unpacked.push(Int16Array.from(values, (value) => Math.round(value * 32767 / (largest || 1))));
  return { blob: unpacked.length - 1, largest, shape };
}

/** The stamp at that place, as changed. */
function stampAt(place) {
  const kept = data.stamps[place];
  return edits.has(place) ? { ...kept, ...packedHere(edits.get(place), kept.shape) } : kept;
}

/** What is shown of a changed stamp: its score, and its map; the ledger is of the stamp as it was. */
function answerAnew(stamp, model, rule, kept) {
  const key = `${stamp}-${model}-${rule}`;
  if (!computedAnew.has(key)) computedAnew.set(key, answerOf(edits.get(stamp), model, rule, kept));
  return computedAnew.get(key);
}

function answerOf(pixels, model, rule, kept) {
  const started = performance.now();
  const { layers, rules, weights } = data.editing.models[model];
  const network = layersOf(layers, floats(weights));
  const [, side, , channels] = kept.layers[0].shape;
  let predicted = 0;
  const seed = (logits) => {
    const better = (z, best) => (logits.length === 2 ? z >= best : z > best); // of two a tie is a candidate
    predicted = logits.reduce((best, z, i) => (better(z, logits[best]) ? i : best), 0);
    return logits.map((z, i) => (i === predicted ? z : 0));
  };
  const { logits, maps } = explained(network, { values: pixels, side, channels }, rules[rule], seed);
  const top = Math.max(...logits);
  const each = logits.map((z) => Math.exp(z - top));
  const p = each[data.editing.candidate] / each.reduce((a, b) => a + b);
  const flat = Float64Array.from(maps.flatMap((map) => [...map]));
  const layer = { ...kept.layers[0], ...packedHere(flat, kept.layers[0].shape) };
  layer.sums = sumsOf(layer);
  const answer = { ...kept, predicted: data.classes[predicted], right: null, probability: `${+p.toPrecision(4)}`,
    output: `${+logits[predicted].toPrecision(6)}`, layers: [layer], ledger: [], trust: "", doubts: [] };
  root.dispatchEvent(new CustomEvent("computed",
    { detail: { logits: [...logits], maps: maps.map((map) => [...map]), seconds: (performance.now() - started) / 1000 } }));
  return answer;
}

/** The sum of each rotation's and the average's map, by channel and of all, as text. */
function sumsOf(layer) {
  const total = (values) => values.reduce((a, b) => a + b, 0);
  const channels = layer.shape[3];
  return [0, 1, 2, 3, AVERAGE].map((rotation) => {
    const each = Array.from({ length: channels }, (_, c) => total(mapAt(layer, rotation, c).values));
    return (channels > 1 ? [...each, total(each)] : each).map((sum) => `${+sum.toPrecision(4)}`);
  });
}

/** Change the stamp at a place of its own orientation. */
function change(stamp, place) {
  const [side, , channels] = data.stamps[stamp].shape;
  if (!edits.has(stamp)) edits.set(stamp, Float64Array.from(floats(data.editing.pixels[stamp])));
  const pixels = edits.get(stamp);
  const [row, column] = [Math.floor(place / side), place % side];
  const reach = tool.kind === "blank" ? Math.floor(PATCH / 2) : 0;
  for (let i = Math.max(0, row - reach); i <= Math.min(side - 1, row + reach); i++) {
    for (let j = Math.max(0, column - reach); j <= Math.min(side - 1, column + reach); j++) {
      for (let c = 0; c < channels; c++) {
        if (tool.channel === channels || tool.channel === c) {
          pixels[(i * side + j) * channels + c] = tool.kind === "blank" ? 0 : tool.value;
        }
      }
    }
  }
  forget(stamp);
}

function forget(stamp) {
  for (const key of [...computedAnew.keys()]) if (key.startsWith(`${stamp}-`)) computedAnew.delete(key);
}

/** The controls; `again` is called after a change. */
function editingTools(current, again) {
  const select = (label, options, set) => {
    const list = make("select", { "aria-label": label }, ...options.map((text, i) => make("option", { value: i }, text)));
    list.addEventListener("change", () => set(+list.value));
    return list;
  };
  const kinds = ["paint", "blank"];
  const value = make("input", { type: "range", min: 0, max: 1, step: 0.05, value: 1, "aria-label": "Value to paint" });
  value.addEventListener("input", () => { tool.value = +value.value; });
  const undo = make("button", { type: "button" }, "Undo");
  undo.addEventListener("click", () => { edits.delete(current()); forget(current()); again(); });
  return make("fieldset", { class: "edit" }, make("legend", {}, "Change the stamp: click, or Enter at a value"),
    select("Tool", ["paint a pixel", `blank ${PATCH}×${PATCH} pixels`], (i) => { tool.kind = kinds[i]; }),
    select("Channel", [...data.channels, "all channels"], (i) => { tool.channel = i; }), value, undo);
}
