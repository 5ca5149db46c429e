// Deep-HiTS and CAP in JavaScript: the logits of one stamp, and its relevance map, in double precision from the
// engine's own float32 weights. It mirrors rotinv/nn and rotinv/lrp: arrays are (h, w, c), row by row. A rule is
// {gamma, eps} for one share on both sides, or {alpha, beta} for a share on each; `terms` says what is shared out
// (rules.py), and `equal` whether a mean is shared in equal parts.

/** What a unit hands down per unit of its positive and of its negative products (kernels/reference/shares.py). */
function shares(pos, neg, r, rule) {
  if ("alpha" in rule) {
    const lone = rule.conserve && (pos === 0) !== (neg === 0);
    return [pos === 0 ? 0 : (lone ? 1 : rule.alpha) * r / (pos + rule.eps),
      neg === 0 ? 0 : (lone ? 1 : -rule.beta) * r / (neg - rule.eps)];
  }
  const above = pos + neg >= 0;
  const [forPos, forNeg] = above ? [1 + rule.gamma, 1] : [1, 1 + rule.gamma];
  const below = forPos * pos + forNeg * neg + (above ? rule.eps : -rule.eps);
  return below === 0 ? [0, 0] : [forPos * r / below, forNeg * r / below];
}

/** A map turned counter-clockwise by quarters, as numpy.rot90 does. */
function turnedMap({ values, side, channels }, quarters) {
  let out = values;
  for (let q = 0; q < quarters; q++) {
    const from = out;
    out = new Float64Array(from.length);
    for (let row = 0; row < side; row++) {
      for (let column = 0; column < side; column++) {
        const source = (column * side + side - 1 - row) * channels;
        out.set(from.subarray(source, source + channels), (row * side + column) * channels);
      }
    }
  }
  return { values: out, side, channels };
}

function padded({ values, side, channels }, pad) {
  const wide = side + 2 * pad;
  const out = new Float64Array(wide * wide * channels);
  for (let row = 0; row < side; row++) {
    out.set(values.subarray(row * side * channels, (row + 1) * side * channels),
      ((row + pad) * wide + pad) * channels);
  }
  return { values: out, side: wide, channels };
}

function cropped({ values, side, channels }, pad) {
  const narrow = side - 2 * pad;
  const out = new Float64Array(narrow * narrow * channels);
  for (let row = 0; row < narrow; row++) {
    const start = ((row + pad) * side + pad) * channels;
    out.set(values.subarray(start, start + narrow * channels), row * narrow * channels);
  }
  return { values: out, side: narrow, channels };
}

/** z+ and z- at each place of a convolution without padding; a dense layer is one of the side of its map. */
function sums({ values, side, channels }, { w, b, size, filters }) {
  const across = side - size + 1;
  const pos = new Float64Array(across * across * filters);
  const neg = new Float64Array(pos.length);
  for (let place = 0; place < across * across; place++) {
    const at = place * filters;
    for (let o = 0; o < filters; o++) (b[o] > 0 ? pos : neg)[at + o] = b[o];
    eachInput(place, across, side, size, channels, (from, weights) => {
      const a = values[from];
      if (a === 0) return;
      for (let o = 0; o < filters; o++) {
        const z = a * w[weights * filters + o];
        if (z > 0) pos[at + o] += z;
        else neg[at + o] += z;
      }
    });
  }
  return { pos, neg, across };
}

/** R of a layer's input from c+ and c- of its units. */
function handedDown({ values, side, channels }, { w, size, filters }, cPos, cNeg, across) {
  const below = new Float64Array(values.length);
  for (let place = 0; place < across * across; place++) {
    const at = place * filters;
    eachInput(place, across, side, size, channels, (from, weights) => {
      const a = values[from];
      if (a === 0) return;
      let r = 0;
      for (let o = 0; o < filters; o++) {
        const z = a * w[weights * filters + o];
        r += z * (z > 0 ? cPos : cNeg)[at + o];
      }
      below[from] += r;
    });
  }
  return below;
}

/** Call `visit` with each input that a place of a convolution sees, and with its row of weights. */
function eachInput(place, across, side, size, channels, visit) {
  const [row, column] = [Math.floor(place / across), place % across];
  for (let i = 0; i < size; i++) {
    for (let j = 0; j < size; j++) {
      const start = ((row + i) * side + column + j) * channels;
      for (let c = 0; c < channels; c++) visit(start + c, (i * size + j) * channels + c);
    }
  }
}

/** What a rule shares out in place of a, w and b, as {values, w, b}: one or two terms, whose products are summed. */
function termsOf({ values }, { w, b }, rule) {
  const none = new Float64Array(b.length);
  const ones = (like) => new Float64Array(like.length).fill(1);
  const each = (array, change) => Float64Array.from(array, change);
  return {
    own: () => [{ values, w, b }],
    "no bias": () => [{ values, w, b: none }],
    squares: () => [{ values: ones(values), w: each(w, (one) => one * one), b: none }],
    ones: () => [{ values: ones(values), w: ones(w), b: none }],
    box: () => [
      { values: each(values, (a) => a - rule.low), w: each(w, (one) => Math.max(one, 0)), b: none },
      { values: each(values, (a) => a - rule.high), w: each(w, (one) => Math.min(one, 0)), b: none }],
  }[rule.terms]();
}

/** A convolution's or a dense layer's forward pass, and how it hands relevance back. */
function weighted(input, layer, rule) {
  const map = padded(input, layer.pad);
  const { pos, neg, across } = sums(map, layer);
  const { filters, pool } = layer;
  const side = Math.floor(across / pool);
  const values = new Float64Array(side * side * filters);
  const winner = new Int32Array(values.length);
  for (let at = 0; at < values.length; at++) {
    const [o, place] = [at % filters, Math.floor(at / filters)];
    let best = -Infinity;
    for (let k = 0; k < pool * pool; k++) {
      const row = pool * Math.floor(place / side) + Math.floor(k / pool);
      const from = (row * across + pool * (place % side) + k % pool) * filters + o;
      const z = pos[from] + neg[from];
      const y = z > 0 ? z : layer.slope * z; // of a dead window all are 0, and the first wins
      if (y > best) [best, winner[at]] = [y, from];
    }
    values[at] = best;
  }
  const back = (r) => {
    const [cPos, cNeg] = [new Float64Array(pos.length), new Float64Array(pos.length)];
    const terms = termsOf(input, layer, rule).map(({ values: a, w, b }) => (
      { map: padded({ ...input, values: a }, layer.pad), layer: { ...layer, w, b } }));
    const each = rule.terms === "own" ? [{ pos, neg }] : terms.map((term) => sums(term.map, term.layer));
    const total = (side, at) => each.reduce((sum, one) => sum + one[side][at], 0);
    for (let at = 0; at < r.length; at++) {
      const from = winner[at];
      if (r[at]) [cPos[from], cNeg[from]] = shares(total("pos", from), total("neg", from), r[at], rule);
    }
    const below = new Float64Array(map.values.length);
    for (const term of terms) {
      handedDown(term.map, term.layer, cPos, cNeg, across).forEach((one, i) => { below[i] += one; });
    }
    return cropped({ ...map, values: below }, layer.pad).values;
  };
  return { output: { values, side, channels: filters }, back };
}

// ---- Layers: what each makes of its branches (one, or four rotations), and how it hands relevance back ----

const LAYERS = {
  pad: (maps, layer) => ({ maps: maps.map((map) => padded(map, layer.pad)) }),
  slice: ([map]) => ({ maps: [0, 1, 2, 3].map((quarters) => turnedMap(map, quarters)) }),
  flatten: (maps) => ({ maps: maps.map(asVector), back: (rs) => rs }),
  weighted: (maps, layer, rule) => {
    const done = maps.map((map) => weighted(map, layer, rule));
    return { maps: done.map(({ output }) => output), back: (rs) => rs.map((r, i) => done[i].back(r)) };
  },
  mean: (maps, _, rule) => ({
    maps: [{ ...maps[0], values: maps[0].values.map((_, i) => totalAt(maps, i) / 4) }],
    back: ([r]) => maps.map(({ values }) => r.map((one, i) => (rule.equal ? one / 4
      : totalAt(maps, i) === 0 ? 0 : values[i] / totalAt(maps, i) * one))),
  }),
  concat: (maps) => {
    const length = maps[0].values.length;
    const values = new Float64Array(4 * length);
    maps.forEach((map, i) => values.set(map.values, i * length));
    return { maps: [{ values, side: 1, channels: 4 * length }],
      back: ([r]) => [0, 1, 2, 3].map((i) => r.subarray(i * length, (i + 1) * length)) };
  },
};

const asVector = ({ values }) => ({ values, side: 1, channels: values.length });
const totalAt = (maps, i) => (maps[0].values[i] + maps[2].values[i]) + (maps[1].values[i] + maps[3].values[i]);

/** The layers with their weights: `flat` has those of all layers in a row. */
function layersOf(described, flat) {
  let start = 0;
  const take = (count) => flat.subarray(start, (start += count));
  return described.map((layer) => (layer.kind === "weighted"
    ? { ...layer, w: take(layer.inputs * layer.filters), b: take(layer.filters) } : layer));
}

/**
 * The logits of a stamp {values, side, channels}, and the relevance of its four rotations as the network sees them,
 * without the padding, by a rule for each layer; `seed` gives R at the logits from them.
 */
function explained(layers, stamp, rules, seed) {
  let maps = [stamp];
  let border = 0;
  const backs = [];
  let wide = null;
  for (const [i, layer] of layers.entries()) {
    const done = LAYERS[layer.kind](maps, layer, rules[i]);
    if (layer.kind === "pad") border = layer.pad;
    if (layer.kind === "slice") [wide] = done.maps;
    if (done.back) backs.push(done.back);
    maps = done.maps;
  }
  const logits = maps[0].values;
  const seen = backs.reduceRight((rs, back) => back(rs), [seed(logits)]);
  return { logits, maps: seen.map((values) => cropped({ ...wide, values }, border).values) };
}
