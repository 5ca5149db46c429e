// The stamps of a document, `data`, to be labelled in their order in its section, `root`.
const REAL = "real";
const BOGUS = "bogus";
const SKIPPED = "skipped";
const SIGNS = { [REAL]: "R", [BOGUS]: "B", [SKIPPED]: "–" };
const HEADER = "id,label,object_id";

const labels = new Map(); // by the stamp's place
let history = []; // [place, the label that it had before], the latest last
let current = 0;
let saved = true; // whether the browser's storage, or a file, has all labels

// ---- The page's parts ----

const progress = make("progress", { max: data.stamps.length, value: 0, "aria-hidden": "true" });
const counts = make("p", { class: "counts", role: "status" });
const title = make("h2");
const channels = make("div", { class: "channels" });
channels.style.setProperty("--columns", Math.ceil(Math.sqrt(data.channels.length)));
const facts = make("dl", { class: "facts" });
const reasons = make("dl", { class: "facts reasons" });
const told = make("p", { class: "told", role: "status" });
const shown = data.channels.map((name) => {
  const canvas = make("canvas", { role: "img", "aria-label": name });
  channels.append(make("figure", {}, canvas, make("figcaption", {}, name)));
  return canvas;
});
const thumbnails = data.stamps.map((stamp, place) => {
  const canvas = make("canvas", { "aria-hidden": "true" });
  const difference = data.channels.indexOf("difference");
  paintStamp(canvas, plane(stamp, 0, difference < 0 ? data.channels.length - 1 : difference));
  const sign = make("span", { class: "sign", "aria-hidden": "true" });
  const one = make("button", { type: "button", class: "thumbnail" }, canvas, sign);
  one.addEventListener("click", () => go(place));
  return one;
});

function button(text, key, act, look = "") {
  const one = make("button", { type: "button", class: look }, text, ...(key ? [make("kbd", {}, key)] : []));
  one.addEventListener("click", (event) => {
    if (event.detail) one.blur(); // a mouse's click: the space bar is to skip, not to click again
    act();
  });
  return one;
}

root.append(
  make("div", { class: "done" }, progress, counts),
  make("div", { class: "desk" },
    make("div", { class: "stamp" }, title, channels),
    make("div", { class: "side" },
      make("div", { class: "keys" },
        button("Real", "r", () => label(REAL), "real"),
        button("Bogus", "b", () => label(BOGUS), "bogus"),
        button("Skip", "s", () => label(SKIPPED)),
        button("Undo", "u", undo),
        button("Back", "←", () => go(current - 1)),
        button("Forward", "→", () => go(current + 1))),
      make("div", { class: "keys" },
        button("Save LABELS.csv", "", save, "save"),
        button("Clear all", "", clear)),
      told, facts,
      make("h3", {}, "Why it was chosen"), reasons)),
  make("div", { class: "all", role: "group", "aria-label": "All stamps" }, ...thumbnails),
  make("p", { class: "note" }, data.note));

// ---- Labelling ----

function label(word) {
  history.push([current, labels.get(current) ?? null]);
  labels.set(current, word);
  const next = nextWithout(current);
  tell(next === null ? "That was the last one. Save LABELS.csv." : "");
  if (next !== null) current = next;
  changed();
}

/** The next stamp without a label, from the first one again after the last. */
function nextWithout(place) {
  for (let step = 1; step < data.stamps.length; step++) {
    const next = (place + step) % data.stamps.length;
    if (!labels.has(next)) return next;
  }
  return null;
}

function undo() {
  if (!history.length) {
    tell("There is nothing to undo.");
    return;
  }
  const [place, before] = history.pop();
  if (before === null) labels.delete(place);
  else labels.set(place, before);
  current = place;
  tell("");
  changed();
}

function clear() {
  if (!labels.size || !confirm(`Remove all ${labels.size} labels of this page?`)) return;
  labels.clear();
  history = [];
  current = 0;
  tell("");
  changed();
}

function go(place) {
  current = Math.max(0, Math.min(data.stamps.length - 1, place));
  tell("");
  show();
}

function changed() {
  saved = store();
  show();
}

// ---- What is shown ----

const tell = (text) => { told.textContent = text; };
const count = (word) => [...labels.values()].filter((one) => one === word).length;
const pairs = (list) => list.flatMap(([name, text]) => [make("dt", {}, name), make("dd", {}, text)]);

function show() {
  const stamp = data.stamps[current];
  const word = labels.get(current);
  title.replaceChildren(`${current + 1}. ${stamp.title}`,
    ...(word ? [" ", make("span", { class: `word ${word}` }, word)] : []));
  shown.forEach((canvas, c) => paintStamp(canvas, plane(stamp, 0, c)));
  facts.replaceChildren(...pairs(stamp.facts));
  reasons.replaceChildren(...pairs(stamp.reasons));
  progress.value = labels.size;
  counts.textContent = `${labels.size} of ${data.stamps.length}: ${count(REAL)} real, ${count(BOGUS)} bogus, `
    + `${count(SKIPPED)} skipped`;
  thumbnails.forEach(showThumbnail);
}

function showThumbnail(one, place) {
  const word = labels.get(place);
  one.dataset.label = word ?? "";
  one.querySelector(".sign").textContent = SIGNS[word] ?? "";
  one.setAttribute("aria-label", `stamp ${place + 1}, ${word ?? "without a label"}`);
  if (place === current) one.setAttribute("aria-current", "true");
  else one.removeAttribute("aria-current");
}

// ---- Keeping the labels ----

const quoted = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

/** The file: real and bogus stamps in the page's order. */
function file() {
  const rows = data.stamps.map((stamp, place) => [stamp.id, labels.get(place), stamp.object_id]);
  const kept = rows.filter(([, word]) => word === REAL || word === BOGUS);
  return [HEADER, ...kept.map((row) => row.map(quoted).join(","))].map((line) => `${line}\n`).join("");
}

function save() {
  const link = make("a", { download: "LABELS.csv" });
  link.href = URL.createObjectURL(new Blob([file()], { type: "text/csv" }));
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  saved = true;
  tell(`Saved ${count(REAL) + count(BOGUS)} labels as LABELS.csv, where your browser puts its downloads.`);
}

/** Put the labels into the browser's storage; gives whether it took them. */
function store() {
  try {
    localStorage.setItem(data.storage, JSON.stringify({ labels: [...labels], history }));
    return true;
  } catch {
    return false; // none for a file's page, or it is full
  }
}

/** Take up the labels that are in the browser's storage. */
function restore() {
  let kept = null;
  try {
    kept = JSON.parse(localStorage.getItem(data.storage));
  } catch {
    return;
  }
  if (!kept) return;
  labels.clear();
  kept.labels.forEach(([place, word]) => labels.set(place, word));
  history = kept.history;
}

restore();
if (labels.size) {
  const next = labels.has(0) ? nextWithout(0) : 0;
  current = next ?? 0;
  tell(`${labels.size} labels of before are taken up.`);
}
show();

addEventListener("storage", (event) => { // the same page in another tab
  if (event.key !== data.storage) return;
  restore();
  show();
});
addEventListener("beforeunload", (event) => {
  if (!saved) event.preventDefault(); // the browser asks whether to leave
});
document.addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  const onButton = event.target.closest?.("button") ?? null;
  if (event.key === " " && onButton) return; // which the space bar clicks
  const act = {
    r: () => label(REAL),
    b: () => label(BOGUS),
    s: () => label(SKIPPED),
    " ": () => label(SKIPPED),
    u: undo,
    arrowleft: () => go(current - 1),
    arrowright: () => go(current + 1),
  }[event.key.toLowerCase()];
  if (!act) return;
  event.preventDefault();
  if (!event.repeat || event.key.startsWith("Arrow")) act(); // a key that is held labels one stamp
});
