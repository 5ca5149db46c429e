// The network of docs/lrp.md, in fractions: every number can be changed, and everything follows.

// ---- Fractions: [numerator, denominator] of BigInt, in lowest terms, the denominator above 0 ----

function lowest(n, d) {
  let [a, b] = [n < 0n ? -n : n, d < 0n ? -d : d];
  while (b) [a, b] = [b, a % b];
  const sign = d < 0n ? -1n : 1n;
  return [sign * n / a, sign * d / a];
}
const ZERO = [0n, 1n];
const ONE = [1n, 1n];
const add = (...terms) => terms.reduce(([n, d], [m, e]) => lowest(n * e + m * d, d * e), ZERO);
const times = (...factors) => factors.reduce(([n, d], [m, e]) => lowest(n * m, d * e), ONE);
const minus = ([n, d]) => [-n, d];
const over = ([n, d], [m, e]) => lowest(n * e, d * m);
const isZero = ([n]) => n === 0n;
const positive = (f) => (f[0] > 0n ? f : ZERO);
const negative = (f) => (f[0] < 0n ? f : ZERO);
const size = ([n, d]) => [n < 0n ? -n : n, d];
const read = (text) => { const [n, d = "1"] = text.split("/"); return lowest(BigInt(n), BigInt(d)); };
const written = ([n, d]) => (d === 1n ? `${n}` : `${n}/${d}`);

/** A fraction as a floating-point number, right to the last digits also where both parts are huge. */
function decimal([n, d]) {
  const digits = Math.max(`${n}`.length, `${d}`.length) - 300;
  if (digits <= 0) return Number(n) / Number(d);
  const scale = 10n ** BigInt(digits);
  return Number(n / scale) / Number(d / scale);
}

// ---- A rule: c+ and c- of a unit, and what they leave out of R (rotinv/lrp/rules.py) ----

/** One share for both sides: Eqs. 2 and 3, and gamma. */
function joint(pos, neg, r, gamma, eps) {
  const above = add(pos, neg)[0] >= 0n;
  const more = add(ONE, gamma);
  const [forPos, forNeg] = above ? [more, ONE] : [ONE, more];
  const signed = above ? eps : minus(eps);
  const below = add(times(forPos, pos), times(forNeg, neg), signed);
  const u = isZero(below) ? ZERO : over(r, below);
  return { pos: times(forPos, u), neg: times(forNeg, u), stabiliser: times(signed, u), one_sided: ZERO,
    dead: isZero(below) ? r : ZERO };
}

/** A share for each side: Eq. 4 and z+. */
function apart(pos, neg, r, alpha, beta) {
  const [forPos, forNeg] = [isZero(pos) ? ZERO : alpha, isZero(neg) ? ZERO : minus(beta)];
  const oneSided = isZero(pos) !== isZero(neg);
  const left = times(add(ONE, minus(forPos), minus(forNeg)), r);
  return { pos: isZero(pos) ? ZERO : over(times(forPos, r), pos),
    neg: isZero(neg) ? ZERO : over(times(forNeg, r), neg),
    stabiliser: ZERO, one_sided: oneSided ? left : ZERO, dead: isZero(pos) && isZero(neg) ? r : ZERO };
}

const RULES = {
  zero: { text: "rule 0 (Eq. 2)", knob: null, bias: true, share: (p, n, r) => joint(p, n, r, ZERO, ZERO) },
  epsilon: { text: "epsilon (Eq. 3)", knob: "eps", bias: true,
    share: (p, n, r) => joint(p, n, r, ZERO, now.eps) },
  "alpha-beta": { text: "alpha-beta (Eq. 4)", knob: "alpha", bias: true,
    share: (p, n, r) => apart(p, n, r, now.alpha, add(now.alpha, minus(ONE))) },
  gamma: { text: "gamma", knob: "gamma", bias: true, share: (p, n, r) => joint(p, n, r, now.gamma, ZERO) },
  zplus: { text: "z+", knob: null, bias: false, share: (p, n, r) => apart(p, n, r, ONE, ZERO) },
};
const LINES = ["bias_positive", "bias_negative", "stabiliser", "one_sided", "dead"];

/** R of the inputs of a layer, the part that went along each weight, and the lines of its ledger. */
function descend(inputs, weights, biases, received, rule) {
  const lines = Object.fromEntries(LINES.map((name) => [name, ZERO]));
  const parts = weights.map((row) => row.map(() => ZERO));
  received.forEach((r, j) => {
    const z = inputs.map((x, i) => times(x, weights[i][j]));
    const b = rule.bias ? biases[j] : ZERO;
    const taken = rule.share(add(...z.map(positive), positive(b)), add(...z.map(negative), negative(b)), r);
    const gets = (f) => add(times(positive(f), taken.pos), times(negative(f), taken.neg));
    z.forEach((product, i) => { parts[i][j] = gets(product); });
    lines[b[0] > 0n ? "bias_positive" : "bias_negative"] = add(
      lines[b[0] > 0n ? "bias_positive" : "bias_negative"], gets(b));
    for (const name of LINES.slice(2)) lines[name] = add(lines[name], taken[name]);
  });
  return { below: parts.map((row) => add(...row)), parts, lines };
}

// ---- What can be changed ----

const SLIDERS = { inputs: ["x_1", "x_2"], "hidden layer": ["w_11", "w_21", "w_12", "w_22", "b_1", "b_2"],
  output: ["v_1", "v_2", "c"] };
const RANGES = { eps: [0, 4, 0.25], alpha: [1, 4, 0.5], gamma: [0, 4, 0.25] };
const now = Object.fromEntries(Object.entries(data.start).map(([name, text]) => [name, read(text)]));
let picked = "zero";

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function slider(name) {
  const [min, max, step] = RANGES[name] ?? [-8, 8, 0.5];
  const input = make("input", { type: "range", min, max, step, name, "aria-label": name });
  const told = make("output", {});
  const put = () => { input.value = decimal(now[name]); told.textContent = written(now[name]); };
  input.addEventListener("input", () => { now[name] = read(`${Math.round(input.value * 4)}/4`); put(); show(); });
  put();
  const row = make("label", { class: "slider" }, name, input, told);
  return { row, put };
}

const sliders = {};
const groups = Object.entries(SLIDERS).map(([title, names]) => make("fieldset", {}, make("legend", {}, title),
  ...names.map((name) => (sliders[name] = slider(name)).row)));
const knobs = Object.keys(RANGES).map((name) => (sliders[name] = slider(name)).row);
const rules = Object.entries(RULES).map(([name, { text }]) => {
  const input = make("input", { type: "radio", name: "rule", value: name });
  input.checked = name === picked;
  input.addEventListener("change", () => { picked = name; show(); });
  return make("label", {}, input, ` ${text}`);
});
const again = make("button", { type: "button" }, "As in the course");
again.addEventListener("click", () => {
  for (const [name, text] of Object.entries(data.start)) now[name] = read(text);
  for (const one of Object.values(sliders)) one.put();
  show();
});
const shown = make("div", { class: "shown" });
root.append(make("div", { class: "desk" },
  make("div", {}, make("fieldset", { class: "rule" }, make("legend", {}, "rule"), ...rules, ...knobs),
    ...groups, again), shown));

// ---- What is shown ----

/** The forward pass and the relevance of the numbers as they are. */
function computed() {
  const x = [now.x_1, now.x_2];
  const w = [[now.w_11, now.w_12], [now.w_21, now.w_22]];
  const b = [now.b_1, now.b_2];
  const v = [[now.v_1], [now.v_2]];
  const z = [0, 1].map((j) => add(times(x[0], w[0][j]), times(x[1], w[1][j]), b[j]));
  const a = z.map(positive);
  const y = add(times(a[0], now.v_1), times(a[1], now.v_2), now.c);
  const top = descend(a, v, [now.c], [y], RULES[picked]);
  const low = descend(x, w, b, top.below, RULES[picked]);
  return { x, w, b, v, z, a, y, top, low };
}

function number(f, name) {
  const value = decimal(f);
  const text = Math.abs(value) >= 1e6 ? value.toExponential(4) : `${Number(value.toFixed(6))}`;
  const cell = make("td", { class: f[0] > 0n ? "plus" : f[0] < 0n ? "minus" : "" }, text);
  if (name) Object.assign(cell.dataset, { name, fraction: written(f), value });
  const exact = written(f);
  if (f[1] !== 1n && exact.length < 24) cell.append(" ", make("small", {}, `= ${exact}`));
  return cell;
}

function table(heads, rows, label) {
  const head = make("tr", {}, ...heads.map((text) => make("th", { scope: "col" }, text)));
  const body = rows.map(([name, ...cells]) => make("tr", {}, make("th", { scope: "row" }, name), ...cells));
  const all = make("table", { "aria-label": label }, make("thead", {}, head), make("tbody", {}, ...body));
  return make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label }, all);
}

function products({ x, w, b, v, z, a, y }) {
  const unit = (j) => [`unit ${j + 1}`, ...[0, 1].map((i) => number(times(x[i], w[i][j]), `z_${i + 1}${j + 1}`)),
    number(b[j]), number(z[j], `z_${j + 1}`), number(a[j], `a_${j + 1}`)];
  const last = ["output", ...[0, 1].map((i) => number(times(a[i], v[i][0]), `s_${i + 1}`)), number(now.c),
    number(y, "y"), number(y)];
  return table(["", "first product", "second product", "bias", "sum", "ReLU"], [unit(0), unit(1), last], "Products");
}

function ledger({ y, top, low }) {
  const row = (name, key, received, { below, lines }) => [name, number(received, `received_${key}`),
    number(below[0], `R_${key}1`), number(below[1], `R_${key}2`),
    ...LINES.map((line) => number(lines[line], `${line}_${key}`)),
    number(add(received, ...[...below, ...Object.values(lines)].map(minus)), `closing_${key}`)];
  const heads = ["", "received", "R of 1", "R of 2", ...LINES.map((line) => line.replace("_", " ")), "left"];
  return table(heads, [row("output", "a", y, top), row("hidden layer", "x", add(...top.below), low)], "Ledger");
}

function others({ x, w, b, v, a, y, low }) {
  const rows = [["the equation", ...low.below.map((f) => number(f)), make("td", {})]];
  for (const [name, byRule] of LIBRARIES) {
    const [text, how] = byRule[picked] ?? ["has no such rule", () => null];
    const above = byLibrary(how, a, v, [now.c], [y]);
    const below = above && byLibrary(how, x, w, b, above);
    const term = make("td", {});
    term.innerHTML = text;
    rows.push([name, ...[0, 1].map((i) => (below ? number(below[i], `${name.split(" ")[0]}_${i + 1}`)
      : make("td", {}, "–"))), term]);
  }
  return table(["", "R of x_1", "R of x_2", "what a product gets of R"], rows, "Other libraries");
}

/** The network; a line is as wide as the relevance that goes along it, red above 0, blue and dashed below. */
function picture({ x, z, a, y, top, low }) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const places = { x: [[60, 60], [60, 190]], a: [[280, 60], [280, 190]], y: [[500, 125]] };
  const draw = (tag, attributes, text = "") => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.textContent = text;
    svg.append(element);
  };
  const along = [...low.parts.flat(), ...top.parts.flat()].map((f) => Math.abs(decimal(f)));
  const most = Math.max(...along) || 1;
  const line = ([x1, y1], [x2, y2], part) => draw("line", { x1, y1, x2, y2,
    class: part[0] > 0n ? "plus" : part[0] < 0n ? "minus" : "none",
    "stroke-width": 1 + 9 * Math.abs(decimal(part)) / most });
  low.parts.forEach((row, i) => row.forEach((part, j) => line(places.x[i], places.a[j], part)));
  top.parts.forEach((row, i) => line(places.a[i], places.y[0], row[0]));
  const node = ([cx, cy], name, value, r) => {
    draw("circle", { cx, cy, r: 26 });
    draw("text", { x: cx, y: cy - 34 }, name);
    draw("text", { x: cx, y: cy + 4 }, written(value));
    draw("text", { x: cx, y: cy + 44 }, `R ${Number(decimal(r).toPrecision(4))}`);
  };
  x.forEach((value, i) => node(places.x[i], `x_${i + 1}`, value, low.below[i]));
  a.forEach((value, i) => node(places.a[i], `a_${i + 1}`, value, top.below[i]));
  node(places.y[0], "y", y, y);
  svg.setAttribute("viewBox", "0 0 560 245");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", "The network, with the relevance that goes along each weight");
  return svg;
}

function show() {
  for (const name of Object.keys(RANGES)) sliders[name].row.hidden = RULES[picked].knob !== name;
  const found = computed();
  const heading = (text) => make("h2", {}, text);
  const note = (text) => make("p", {}, text);
  shown.replaceChildren(note("Two inputs, two hidden units with ReLU, one output. In a circle stands a value, below it its "
    + "relevance R, which goes from the output down. A line is as wide as the relevance that goes along it: red and solid "
    + "above 0, blue and dashed below."), picture(found), heading("Products"), products(found), heading("Relevance and ledger"),
    note("What a layer received is what its inputs get and what the lines beside them take; nothing is left."),
    ledger(found), heading("The same by other libraries"),
    note("Of the whole network, for the same rule; the term that differs is marked."), others(found));
}

show();
