// What a viewer shows of its document, `data`, in its section, `root`, and what its reader does there.
const ROTATIONS = ["0°", "90°", "180°", "270°", "average"];
const TURNED = data.answers[0][0][0].layers.some((layer) => layer.shape[0] === 4);
const MOST_BARS = 512; // of more units each bar shows several
const HINT = "Point at a map, or go to it with Tab and move with the arrow keys, to read single values.";

const picked = { stamp: 0, model: 0, rule: 0, layer: data.answers[0][0][0].layers[0].name, rotation: 0 };
let cursor = null; // the place that is read out: a pixel's number, row by row, or a unit's

/** A group of choices of which one is picked, as radio buttons: the arrow keys go through them. */
function choices(what, legend, labels) {
  const name = `lrp-viewer-${[...document.querySelectorAll(".lrp-viewer")].indexOf(root)}-${what}`;
  const group = make("fieldset", { class: what }, make("legend", {}, legend));
  labels.forEach((label, i) => {
    const input = make("input", { type: "radio", name, value: i });
    input.checked = i === picked[what];
    input.addEventListener("change", () => pick(what, i));
    group.append(make("label", {}, input, make("span", { class: "choice" }, ...[label].flat())));
  });
  return group;
}

// ---- The page's parts ----

const difference = data.channels.indexOf("difference");
const thumbnails = data.stamps.map((stamp) => {
  const canvas = make("canvas", { "aria-hidden": "true" });
  paintStamp(canvas, plane(stamp, 0, difference < 0 ? data.channels.length - 1 : difference));
  const label = make("small", {}, stamp.label ?? "");
  return [canvas, make("span", { title: stamp.title }, `${stamp.index}`, label)];
});
const layers = make("select");
const rotations = choices("rotation", "Rotation", ROTATIONS);
const verdict = make("p", { class: "verdict", role: "status" });
const seen = make("div", { class: "row" });
const says = make("p", { class: "says" });
const maps = make("div", { class: "row maps", tabindex: "0", role: "application" });
const bar = make("canvas", { "aria-hidden": "true" });
const ticks = make("div", { class: "ticks" });
rotations.hidden = !TURNED;
const scale = make("div", { class: "scale" }, bar, ticks);
const note = make("p", { class: "note" });
const readout = make("output", { "aria-live": "polite" });
const trust = make("p", { class: "trust" });
const caption = make("p", { class: "note" });
const rows = make("tbody");
const head = make("tr", {}, ...data.columns.map((name) => make("th", { scope: "col" }, name)));
const table = make("table", { "aria-label": "Ledger" }, make("thead", {}, head), rows);
paint(bar, 201, Float64Array.from({ length: 201 }, (_, i) => i / 100 - 1), diverging);

root.append(
  choices("stamp", "Stamp", thumbnails),
  make("div", { class: "desk" },
    make("div", { class: "choose" },
      choices("model", "Model", data.models),
      choices("rule", "Rule", data.rules.map((rule) => rule.name)),
      make("label", { class: "layer" }, make("span", {}, "Layer"), layers),
      rotations, ...(data.editing ? [editingTools(() => picked.stamp, () => pick("stamp", picked.stamp))] : [])),
    make("div", { class: "look" }, verdict, seen, says, maps, trust, scale, readout, note)),
  caption,
  make("div", { class: "ledger", tabindex: "0", role: "region", "aria-label": "Ledger" }, table));

// ---- What is shown ----

const kept = () => data.answers[picked.stamp][picked.model][picked.rule];
const answered = () => (edits.has(picked.stamp)
  ? answerAnew(picked.stamp, picked.model, picked.rule, kept()) : kept());
const layerNow = () => answered().layers.find((layer) => layer.name === picked.layer);
const isVector = (layer) => layer.shape.length === 2;
const ownChannels = (layer) => !isVector(layer) && !layer.summed;
const rotationNow = (layer) => (layer.shape[0] === 4 ? picked.rotation : 0);

function pick(what, value) {
  picked[what] = value;
  if (!layerNow()) picked.layer = answered().layers[0].name;
  if (["model", "layer"].includes(what)) cursor = null;
  show();
}

function show() {
  const layer = layerNow();
  showLayers();
  rotations.disabled = layer.shape[0] !== 4;
  showVerdict();
  showStamp(rotationNow(layer) % AVERAGE);
  says.textContent = describe(layer);
  maps.setAttribute("aria-label", `${says.textContent}. The arrow keys read single values.`);
  if (isVector(layer)) showUnits(layer);
  else showMaps(layer);
  showScale(layer);
  showTrust();
  showLedger();
  showCursor();
}

function showLayers() {
  const texts = answered().layers.map((layer) => [layer.name, `${layer.name} (${size(layer)})`]);
  layers.replaceChildren(...texts.map(([value, text]) => make("option", { value }, text)));
  layers.value = picked.layer;
}

function size(layer) {
  const [, ...extents] = layer.shape;
  if (layer.summed) extents[2] = layer.summed;
  return extents.join("×");
}

function showVerdict() {
  const { predicted, right, probability } = answered();
  const judged = right === null ? "" : right ? " (right)" : " (wrong)";
  verdict.replaceChildren(
    make("strong", {}, data.stamps[picked.stamp].title),
    ` — ${data.models[picked.model]}: `,
    make("span", { "data-right": right }, predicted + judged),
    `, ${data.p} = ${probability}`);
}

function cell(name, sum) {
  const canvas = make("canvas", { role: "img", "aria-label": name });
  const frame = make("div", { class: "frame" }, canvas, make("div", { class: "mark", hidden: "" }));
  const text = make("figcaption", {}, name);
  if (sum !== undefined) text.append(make("span", { class: "sum" }, `ΣR ${sum}`));
  return { canvas, figure: make("figure", {}, frame, text) };
}

function showStamp(quarters) {
  seen.style.setProperty("--columns", data.channels.length);
  seen.replaceChildren(...data.channels.map((name, c) => {
    const { canvas, figure } = cell(name);
    paintStamp(canvas, turned(plane(stampAt(picked.stamp), 0, c), quarters));
    return figure;
  }));
}

/** What the maps are, in words. */
function describe(layer) {
  const pixels = ownChannels(layer) || layer.name === "input";
  const where = pixels ? "R of the stamp's pixels" : `R at the output of ${layer.name}`;
  const what = layer.summed ? `${where}, summed over its ${layer.summed} channels` : where;
  const rotation = rotationNow(layer);
  if (!TURNED) return what;
  if (layer.shape[0] !== 4) return `${what}; here the rotations are together`;
  if (rotation < AVERAGE) return `${what}, the stamp turned by ${ROTATIONS[rotation]}`;
  return `${what}: mean of the four rotations${isVector(layer) ? "" : ", turned back"}`;
}

function showMaps(layer) {
  const rotation = rotationNow(layer);
  const sums = layer.sums[rotation];
  const names = layer.summed ? ["sum of channels"] : data.channels;
  maps.className = layer.summed ? "row maps single" : "row maps";
  maps.style.setProperty("--columns", names.length);
  maps.replaceChildren(...names.map((name, c) => {
    const { canvas, figure } = cell(name, sums[c]);
    const { side, values } = mapAt(layer, rotation, c);
    paint(canvas, side, values, (value) => diverging(value / (layer.largest || 1)));
    return figure;
  }));
  if (sums.length > names.length) says.append(` (ΣR ${sums[names.length]} over all channels)`);
}

/** Bars, red up and blue down; where they are too many, each reaches as far as any of its units. */
function showUnits(layer) {
  const units = unitsAt(layer, rotationNow(layer));
  const each = Math.ceil(units.length / MOST_BARS);
  const count = Math.ceil(units.length / each);
  const picture = drawing("svg", { viewBox: `0 -1 ${count} 2`, preserveAspectRatio: "none" });
  for (const [sign, name] of [[1, "plus"], [-1, "minus"]]) {
    let path = "";
    for (let i = 0; i < count; i++) {
      const reach = Math.max(0, ...units.subarray(i * each, (i + 1) * each).map((value) => sign * value));
      if (reach) path += `M${i + 0.1} 0v${-sign * reach / layer.largest}h.8V0z`;
    }
    picture.append(drawing("path", { d: path, class: name }));
  }
  picture.append(drawing("line", { x1: 0, x2: count, y1: 0, y2: 0, class: "zero" }));
  const frame = make("div", { class: "frame bars" }, picture, make("div", { class: "mark", hidden: "" }));
  const levels = make("div", { class: "levels" }, ...levelsOf(layer, [1, 0, -1]));
  const few = units.length < 9;
  const named = few ? [...units.keys()] : [0, units.length - 1];
  const names = named.map((i) => make("span", {}, unitName(layer, i)));
  const below = make("div", { class: few ? "ends each" : "ends" }, ...names);
  const several = each > 1 ? `; a bar shows the furthest of ${each} units` : "";
  maps.className = few ? "maps vector few" : "maps vector";
  maps.replaceChildren(levels, frame, below);
  says.append(` (ΣR ${layer.sums[rotationNow(layer)][0]}${several})`);
}

/** The numbers along a colour bar or an axis, at shares of the largest magnitude. */
function levelsOf(layer, shares) {
  const text = (share) => (share ? format(share * layer.largest, layer.largest) : "0");
  return shares.map((share) => make("span", {}, text(share)));
}

function unitName(layer, i) {
  return layer.shape[1] === data.classes.length ? data.classes[i] : `unit ${i}`;
}

function showScale(layer) {
  scale.hidden = isVector(layer);
  ticks.replaceChildren(...levelsOf(layer, [-1, -0.5, 0, 0.5, 1]));
  const among = layer.shape[0] === 4 ? ["the four rotations"] : [];
  if (ownChannels(layer)) among.push("all channels");
  note.textContent = `${data.rules[picked.rule].text}. Red adds to it, blue takes from it. `
    + `The scale is one for ${among.join(" and ") || "the layer"}: it reaches to the largest `
    + `magnitude, ${format(layer.largest, layer.largest)}. Each stamp, model, rule and layer has its own.`;
}

/** What share of the logit the map holds, what took the rest, and why it misleads, if it does. */
function showTrust() {
  const { trust: told, doubts } = answered();
  trust.hidden = !told;
  trust.replaceChildren(`Of the stamp: ${told}.`,
    ...doubts.map((doubt) => make("strong", {}, ` Doubtful: ${doubt}.`)));
}

function showLedger() {
  const { ledger, output } = answered();
  if (edits.has(picked.stamp)) {
    caption.textContent = "The stamp is changed: its score and its map are computed here, its ledger is not.";
    rows.replaceChildren();
    return;
  }
  const whole = output === "0" ? "the relevance at the output is 0, so that nothing is shared out"
    : `in percent of ${output}, the sum of |R| at the output`;
  caption.textContent = `Ledger of ${data.models[picked.model]}, ${data.rules[picked.rule].name}: where R `
    + `went; ${whole}. A layer received what it passed and `
    + "the lines beside that. Rounding, closing (what is left unexplained) and deviation (from float64) are "
    + "shares as they are.";
  rows.replaceChildren(...ledger.map(([name, ...cells]) => {
    const row = make("tr", { "data-layer": name }, make("th", { scope: "row" }, name),
      ...cells.map((text) => make("td", {}, text)));
    if (name === picked.layer) row.setAttribute("aria-current", "true");
    return row;
  }));
}

// ---- Reading single values ----

/** How many places a map has, and how many of them are in a row. */
function places(layer) {
  const vector = isVector(layer);
  const width = vector ? layer.shape[1] : layer.shape[2];
  return { vector, width, count: vector ? width : width * width };
}

function showCursor() {
  const layer = layerNow();
  const { vector, width, count } = places(layer);
  for (const mark of root.querySelectorAll(".mark")) {
    mark.hidden = cursor === null || (!ownChannels(layer) && seen.contains(mark));
    mark.style.left = `${100 * (cursor % width) / width}%`;
    mark.style.width = `${100 / width}%`;
    mark.style.top = vector ? "0" : `${100 * Math.floor(cursor / width) / width}%`;
    mark.style.height = vector ? "100%" : `${100 * width / count}%`;
  }
  readout.textContent = cursor === null ? HINT : told(layer);
}

/** The values under the cursor. */
function told(layer) {
  const { vector, width } = places(layer);
  const rotation = rotationNow(layer);
  const r = (values) => `R ${format(values[cursor], layer.largest)}`;
  if (vector) return `${unitName(layer, cursor)}: ${r(unitsAt(layer, rotation))}`;
  const place = `row ${Math.floor(cursor / width)}, column ${cursor % width}`;
  if (layer.summed) return `${place}: ${r(mapAt(layer, rotation, 0).values)}`;
  const stamp = stampAt(picked.stamp);
  const each = data.channels.map((name, c) => {
    const pixel = turned(plane(stamp, 0, c), rotation % AVERAGE).values[cursor];
    return `${name} ${format(pixel, stamp.largest)}, ${r(mapAt(layer, rotation, c).values)}`;
  });
  return `${place}: ${each.join("; ")}`;
}

function point(event) {
  const frame = event.target.closest(".frame");
  if (!frame) return;
  const { vector, width } = places(layerNow());
  const box = frame.getBoundingClientRect();
  const along = (share) => Math.max(0, Math.min(width - 1, Math.floor(share * width)));
  const column = along((event.clientX - box.left) / box.width);
  cursor = vector ? column : along((event.clientY - box.top) / box.height) * width + column;
  showCursor();
}

function move(event) {
  const { vector, width, count } = places(layerNow());
  const column = cursor % width;
  const steps = {
    ArrowLeft: column > 0 ? -1 : 0,
    ArrowRight: column < width - 1 ? 1 : 0,
    ArrowUp: vector ? undefined : -width,
    ArrowDown: vector ? undefined : width,
  };
  const step = steps[event.key];
  if (step === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  const next = cursor === null ? Math.floor(count / 2) : cursor + step;
  if (next >= 0 && next < count) cursor = next;
  showCursor();
}

/** Change the stamp at a place of the rotation that is shown, if the page can compute its answer. */
function edit(place) {
  if (!data.editing || place === null) return;
  const [side] = data.stamps[picked.stamp].shape;
  const own = Float64Array.from({ length: side * side }, (_, i) => i);
  change(picked.stamp, turned({ side, values: own }, rotationNow(layerNow()) % AVERAGE).values[place]);
  pick("stamp", picked.stamp);
}

seen.addEventListener("click", (event) => {
  const frame = event.target.closest(".frame");
  if (!frame) return;
  const [side] = data.stamps[picked.stamp].shape;
  const box = frame.getBoundingClientRect();
  const along = (share) => Math.max(0, Math.min(side - 1, Math.floor(share * side)));
  edit(along((event.clientY - box.top) / box.height) * side + along((event.clientX - box.left) / box.width));
});
maps.addEventListener("keydown", (event) => { if (event.key === "Enter" && ownChannels(layerNow())) edit(cursor); });
maps.addEventListener("pointermove", point);
maps.addEventListener("pointerdown", point);
maps.addEventListener("keydown", move);
layers.addEventListener("change", () => pick("layer", layers.value));
rows.addEventListener("click", (event) => {
  const row = event.target.closest("tr");
  if (answered().layers.some((layer) => layer.name === row.dataset.layer)) pick("layer", row.dataset.layer);
});
show();
