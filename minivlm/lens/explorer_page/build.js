// The explorer's page, 2 of 4: its parts, made once.

const byId = (name) => document.getElementById(name);

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function make(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

function draws(tag, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

// The line that stands for an answer, as in the charts; nothing where there is one answer only.
function swatches(number) {
  if (data.traces.length < 2) return [];
  const line = draws("line", { class: `line series-${number % 4}`, x1: 1, x2: 21, y1: 4, y2: 4 });
  return [draws("svg", { class: "swatch", viewBox: "0 0 22 8", "aria-hidden": "true" }, line)];
}

function build() {
  byId("model").textContent = data.model;
  byId("question").textContent = data.question || "What the model looked at";
  document.title = data.question ? `${data.question} · attention explorer` : "Attention explorer";
  byId("strong").textContent = data.strong;
  byId("answers").append(...data.traces.map(answer));
  byId("stages").append(...data.traces.map(stage));
  byId("stages").classList.toggle("pair", data.traces.length > 1);
  byId("charts").append(...Object.keys(CURVES).filter(isKnown).map(chart));
  byId("no-evidence").hidden = isKnown("evidence");
  byId("made").append(...data.made.flatMap(([name, text]) => [make("dt", {}, name), make("dd", {}, text)]));
  paint(byId("ramp"), Array.from({ length: 256 }, (_, step) => step));
  buildControls();
}

function isKnown(curve) {
  return data.traces.some((trace) => trace[curve]);
}

function buildControls() {
  for (const [view, name] of Object.entries(VIEWS)) {
    const button = make("button", { type: "button", "data-view": view }, name);
    button.addEventListener("click", () => change({ view }));
    byId("views").append(button);
  }
  byId("layer").max = data.layers - 1;
  byId("bands").append(...data.bands.map(band));
  const heads = Array.from({ length: data.heads }, (_, head) => make("option", { value: head }, head));
  byId("head").append(make("option", { value: "" }, "pooled"), ...heads);
  const kept = [...new Set(data.traces.flatMap((trace) => Object.keys(trace.heads).map(Number)))];
  byId("head-label").hidden = !kept.length;
  byId("head-layers").textContent = kept.length < data.layers ? `(of layers ${span(kept)})` : "";
  byId("boxes-label").hidden = !Object.keys(data.places.boxes).length;
}

function band({ name, layers }) {
  const last = Math.max(1, data.layers - 1);
  const [low, high] = [layers[0] - 0.5, layers[layers.length - 1] + 0.5].map((edge) => clamp(edge / last, 0, 1));
  const element = make("span", { "data-layers": layers.join(" ") }, name);
  element.style.left = `calc(${100 * low}% + 1px)`;
  element.style.width = `calc(${100 * (high - low)}% - 2px)`;
  return element;
}

// --- answers ---------------------------------------------------------------------------------------------------------

function answer(trace, number) {
  const text = make("p", { class: "text", dir: "auto" });
  let place = 0;
  trace.buttons = trace.words.map((word, which) => {
    const [start, stop] = word;
    const button = wordButton(trace, word);
    button.addEventListener("click", () => change({ trace: number, word: which }));
    text.append(trace.text.slice(place, start), button);
    place = Math.max(place, stop);
    return button;
  });
  text.append(trace.text.slice(place));
  const title = make("h2", {}, ...swatches(number), trace.name);
  return make("article", { class: "answer" }, title, text, ...judgement(trace), ...account(trace));
}

const VERDICTS = { true: "in the picture", invented: "not in the picture" };

function wordButton(trace, [start, stop, name, kind]) {
  const attributes = { type: "button", class: `word ${kind}`, "aria-pressed": "false", tabindex: -1 };
  const button = make("button", attributes, trace.text.slice(start, stop) || name);
  if (kind === "invented") button.append(make("span", { class: "unseen" }, " (invented)"));
  if (kind in VERDICTS) button.title = `${name}: ${VERDICTS[kind]}`;
  return button;
}

// Which objects are invented, true and left out; each kind is marked as in the answer, so the line is their legend.
function judgement(trace) {
  if (!data.judged) return [];
  const listed = (kind) => {
    const names = new Set(trace.words.filter((word) => word[3] === kind).map((word) => word[2]));
    return [...names].flatMap((name, place) => [place ? ", " : "", make("span", { class: kind }, name)]);
  };
  const [invented, present] = [listed("invented"), listed("true")];
  const line = make("p", { class: "note" });
  line.append(...(invented.length ? ["Invented: ", ...invented, ". "] : ["Nothing invented. "]));
  line.append("In the picture: ", ...(present.length ? present : ["none named"]), ". ");
  line.append(trace.missed.length ? `Not named: ${trace.missed.join(", ")}.` : "Nothing left out.");
  return [line];
}

// What a method did, and the settings that made it.
function account(trace) {
  const found = trace.notes.map((note) => make("p", { class: "note" }, note));
  if (trace.settings.length) {
    const settings = trace.settings.map((line) => make("p", { class: "note" }, line));
    found.push(make("details", { class: "settings" }, make("summary", {}, "Settings"), ...settings));
  }
  return found;
}

// --- maps ------------------------------------------------------------------------------------------------------------

function laid(element, [left, top, right, bottom]) {
  const shares = { left, top, width: right - left, height: bottom - top };
  for (const [side, share] of Object.entries(shares)) element.style[side] = `${100 * share}%`;
  return element;
}

function stage(trace, number) {
  const { picture, square, ratio } = data.places;
  const look = { src: data.picture.source, alt: "", draggable: "false", class: data.picture.sharp ? "sharp" : "" };
  trace.canvas = laid(make("canvas", { width: data.side, height: data.side, "aria-hidden": "true" }), square);
  const area = { viewBox: `0 0 1000 ${1000 / ratio}`, preserveAspectRatio: "none", "aria-hidden": "true" };
  trace.marks = draws("svg", area);
  trace.absent = make("p", { class: "absent" });
  const layers = [laid(make("img", look), picture), trace.canvas, trace.marks, trace.absent];
  trace.frame = make("div", { class: "frame", role: "img", tabindex: 0 }, ...layers);
  if (isCut(picture, square)) trace.frame.append(laid(make("div", { class: "edge" }), square));
  trace.frame.style.setProperty("--ratio", ratio);
  trace.caption = make("span", { class: "caption" });
  trace.readout = make("p", { class: "readout" });
  pointAt(trace.frame);
  const names = data.traces.length > 1 ? [...swatches(number), trace.name] : [];
  return make("figure", { class: "stage" }, make("h2", {}, ...names, trace.caption), trace.frame, trace.readout);
}

// Whether some of the picture lies outside the square, and was never seen.
function isCut(picture, square) {
  return picture.some((edge, side) => (side < 2 ? edge < square[side] - 0.001 : edge > square[side] + 0.001));
}

function pointAt(frame) {
  frame.addEventListener("pointermove", (event) => change({ over: patchAt(frame, event) }));
  frame.addEventListener("pointerleave", () => change({ over: null }));
  frame.addEventListener("click", (event) => {
    const patch = patchAt(frame, event);
    change({ pinned: patch === state.pinned ? null : patch });
  });
}

function patchAt(frame, event) {
  const area = frame.getBoundingClientRect();
  const [left, top, right, bottom] = data.places.square;
  const column = Math.floor((data.side * ((event.clientX - area.left) / area.width - left)) / (right - left));
  const row = Math.floor((data.side * ((event.clientY - area.top) / area.height - top)) / (bottom - top));
  return [row, column].every((at) => 0 <= at && at < data.side) ? row * data.side + column : null;
}

// --- charts ----------------------------------------------------------------------------------------------------------

function chart(name) {
  const curve = CURVES[name];
  const all = data.traces.flatMap((trace) => (trace[name] || []).flat()).filter((value) => value !== null);
  curve.top = curve.top || rounded(all.reduce((top, value) => Math.max(top, value), curve.chance || 0));
  const plot = draws("svg", { class: "plot", role: "img" });
  const values = make("p", { class: "values" });
  Object.assign(curve, { name, plot, values });
  const layer = (event) => layerAt(plot, event.offsetX);
  plot.addEventListener("pointermove", (event) => change({ [event.buttons ? "layer" : "near"]: layer(event) }));
  plot.addEventListener("pointerleave", () => change({ near: null }));
  plot.addEventListener("pointerdown", (event) => change({ layer: layer(event) }));
  return make("article", { class: "chart" }, make("h3", {}, curve.title), values, plot);
}

