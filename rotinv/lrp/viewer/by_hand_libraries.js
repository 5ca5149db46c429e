// Other libraries, on the page of the course's network: how each shares a unit's relevance, and the term that differs.
// Fractions, rules and the numbers as they are now: by_hand.js.

const tiny = (power) => [1n, 10n ** BigInt(power)];
const sum = (list) => add(...list);
const ratio = (a, b) => (isZero(b) ? ZERO : over(a, b));
const signed = (z, eps) => (z[0] >= 0n ? add(z, eps) : add(z, minus(eps)));

/** What each of z, the products of one unit, gets of r; null for a rule that a library does not have. */
const LIBRARIES = [
  ["zennit 1.0.0", {
    zero: ["z / (z_j <mark>± 10⁻⁶</mark>)",
      (z, b, r) => z.map((p) => over(times(p, r), signed(sum([...z, b]), tiny(6))))],
    epsilon: ["the same", (z, b, r) => z.map((p) => ratio(times(p, r), signed(sum([...z, b]), now.eps)))],
    "alpha-beta": ["α z⁺ / (z⁺_j <mark>+ 10⁻⁶</mark>) − β z⁻ / (z⁻_j <mark>− 10⁻⁶</mark>)",
      (z, b, r) => byEq4(z, b, b, r, now.alpha, tiny(6))],
    gamma: ["(z + γ z⁺) / (z_j + γ z⁺_j <mark>± 10⁻⁶</mark>)", (z, b, r) => byGamma(z, b, r, tiny(6))],
    zplus: ["z⁺ / (sum of z⁺ <mark>+ b⁺ + 10⁻⁶</mark>)", (z, b, r) => byEq4(z, b, b, r, ONE, tiny(6))],
  }],
  ["captum 0.9.0", {
    zero: ["z / (z_j <mark>± 10⁻⁹</mark>)",
      (z, b, r) => z.map((p) => over(times(p, r), signed(sum([...z, b]), tiny(9))))],
    epsilon: ["the same", (z, b, r) => z.map((p) => ratio(times(p, r), signed(sum([...z, b]), now.eps)))],
    gamma: ["(z + γ x w⁺) / (sum of those <mark>+ b</mark> ± 10⁻⁹)", (z, b, r, clamped) => {
      const more = z.map((p, i) => add(p, times(now.gamma, clamped[i])));
      return more.map((p) => over(times(p, r), signed(sum([...more, b]), tiny(9))));
    }],
    "alpha-beta": ["x w⁺ / (sum of x w⁺ <mark>+ b</mark> ± 10⁻⁹); alpha 1 only", (z, b, r, clamped) => (
      written(now.alpha) === "1"
        ? clamped.map((p) => over(times(p, r), signed(sum([...clamped, b]), tiny(9)))) : null)],
  }],
  ["autolrp 0.2.0", {
    zero: ["z / sum of z · <mark>|sum| / (|sum| + |b|)</mark>", (z, b, r) => keepingBias(z, b, r,
      (kept) => z.map((p) => ratio(times(p, kept), sum(z))))],
    epsilon: ["z / (sum of z ± eps) · <mark>|sum| / (|sum| + |b|)</mark>", (z, b, r) => keepingBias(z, b, r,
      (kept) => z.map((p) => ratio(times(p, kept), signed(sum(z), now.eps))))],
    "alpha-beta": ["α z⁺ / sum of z⁺ − β z⁻ / sum of z⁻, · <mark>|sum| / (|sum| + |b|)</mark>",
      (z, b, r) => keepingBias(z, b, r, (kept) => byEq4(z, ZERO, ZERO, kept, now.alpha, ZERO))],
    zplus: ["z⁺ / sum of z⁺ · <mark>|sum| / (|sum| + |b|)</mark>",
      (z, b, r) => keepingBias(z, b, r, (kept) => byEq4(z, ZERO, ZERO, kept, ONE, ZERO))],
  }],
  ["iNNvestigate 2.1.2", {
    zero: ["z / (z_j <mark>± 10⁻⁷</mark>)",
      (z, b, r) => z.map((p) => over(times(p, r), signed(sum([...z, b]), tiny(7))))],
    epsilon: ["the same", (z, b, r) => z.map((p) => ratio(times(p, r), signed(sum([...z, b]), now.eps)))],
    "alpha-beta": ["α z⁺ / (sum of z⁺ <mark>+ b</mark>) − β z⁻ / (sum of z⁻ <mark>+ b</mark>), ± 10⁻⁷",
      (z, b, r) => bothBiases(z, b, r)],
  }],
];

function byEq4(z, bPos, bNeg, r, alpha, eps) {
  const pos = add(...z.map(positive), positive(bPos), eps);
  const neg = add(...z.map(negative), negative(bNeg), minus(eps));
  const beta = add(alpha, minus(ONE));
  return z.map((p) => add(ratio(times(alpha, positive(p), r), pos),
    minus(ratio(times(beta, negative(p), r), neg))));
}

function byGamma(z, b, r, eps) {
  const above = sum([...z, b])[0] >= 0n;
  const more = (f) => add(f, times(now.gamma, above ? positive(f) : negative(f)));
  const all = sum([...z, b].map(more));
  return z.map((p) => over(times(more(p), r), add(all, above ? eps : minus(eps))));
}

function keepingBias(z, b, r, share) {
  const whole = size(sum(z));
  return share(ratio(times(whole, r), add(whole, size(b))));
}

function bothBiases(z, b, r) {
  const sides = [[positive, now.alpha], [negative, minus(add(now.alpha, minus(ONE)))]];
  const each = sides.map(([side, weight]) => {
    const below = signed(add(...z.map(side), b), tiny(7));
    return z.map((p) => times(weight, over(times(side(p), r), below)));
  });
  return z.map((_, i) => add(each[0][i], each[1][i]));
}

/** R of a layer's inputs by a library; null if it does not have the rule. */
function byLibrary(how, inputs, weights, biases, received) {
  const each = received.map((r, j) => {
    const z = inputs.map((x, i) => times(x, weights[i][j]));
    return how(z, biases[j], r, inputs.map((x, i) => times(x, positive(weights[i][j]))));
  });
  return each.includes(null) ? null : inputs.map((_, i) => add(...each.map((parts) => parts[i])));
}
