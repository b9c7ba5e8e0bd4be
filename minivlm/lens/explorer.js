"use strict";
// The explorer's page: numbers from #data, one state, and one `draw` that shows the state. No text of the model is ever
// read as HTML: it goes into text nodes and attributes alone.

const data = JSON.parse(document.getElementById("data").textContent);
const byId = (name) => document.getElementById(name);
const VIRIDIS = ["440154", "482878", "3e4a89", "31688e", "26828e", "1f9e89", "35b779", "6ece58", "b5de2b", "fde725"];
const VIEWS = { layer: "Attention", noise: "Noise", anchor: "Anchor", picture: "Picture" };
const CURVES = {
  share: { title: "Share on the picture", unit: "%" },
  noise: { title: "Cosine to the noise", top: 1 },
  anchor: { title: "Cosine to the anchor", top: 1 },
  evidence: { title: "Evidence (chance: 1)", unit: "×", chance: 1 },
};
const state = { trace: 0, word: 0, layer: 0, view: "layer", head: null, pinned: null, over: null, near: null, playing: 0 };

// --- small helpers ---------------------------------------------------------------------------------------------------

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function draws(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
const percent = (value) => `${(100 * value).toFixed(value < 0.0995 ? 1 : 0)} %`;

function told(value, curve) {
  if (value === null) return "–";
  return curve.unit === "%" ? percent(value) : curve.unit === "×" ? `${value.toFixed(value < 9.95 ? 1 : 0)}×` : value.toFixed(2);
}

async function inflated(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// --- maps ------------------------------------------------------------------------------------------------------------

const patches = data.side * data.side;

class Maps {
  constructor(pack, bytes) {
    Object.assign(this, pack);
    this.bytes = bytes;
  }

  // Map number `row` as shares of the picture's attention, one for each patch.
  map(row) {
    const steps = this.bytes.subarray(row * patches, (row + 1) * patches);
    return Float32Array.from(steps, (step) => this.largest[row] * (step / this.levels) ** 2);
  }
}

async function unpack(trace) {
  const open = async (pack) => new Maps(pack, await inflated(pack.data));
  trace.maps = await open(trace.maps);
  trace.anchors = await open(trace.anchors);
  for (const layer of Object.keys(trace.heads)) trace.heads[layer] = await open(trace.heads[layer]);
  trace.sinks = await inflated(trace.sinks);
}

// The place in `trace`'s answer of the word that is picked; -1 if that answer does not say it.
function wordOf(number) {
  return number === state.trace ? state.word : data.counterparts[state.trace][number][state.word];
}

function headShown(trace) {
  return state.view === "layer" && state.head !== null && trace.heads[state.layer] ? state.head : null;
}

function mapOf(number) {
  const trace = data.traces[number], word = wordOf(number), head = headShown(trace);
  if (word < 0) return null;
  if (state.view === "noise" || state.view === "anchor") return trace.anchors.map(2 * word + (state.view === "anchor"));
  return head === null ? trace.maps.map(word * data.layers + state.layer) : trace.heads[state.layer].map(word * data.heads + head);
}

function isSink(trace, head, patch) {
  const bit = (state.layer * data.heads + head) * patches + patch;
  return (trace.sinks[bit >> 3] >> (7 - (bit & 7))) & 1;
}

function sinkHeads(trace, patch) {
  let heads = 0;
  for (let head = 0; head < data.heads; head++) heads += isSink(trace, head, patch);
  return heads;
}

function sinksOf(trace) {
  const head = headShown(trace), found = [];
  for (let patch = 0; patch < patches; patch++) {
    if (head === null ? 2 * sinkHeads(trace, patch) >= data.heads : isSink(trace, head, patch)) found.push(patch);
  }
  return found;
}

// What is drawn of a map: all of it, or all but the sinks.
function withoutSinks(map, trace) {
  if (!map || byId("sinks").value !== "out") return map;
  const rest = map.slice();
  for (const patch of sinksOf(trace)) rest[patch] = 0;
  return rest;
}

// Colours (256, RGBA): viridis from where it is light enough for a dimmed picture, which shows where a map is low.
const ramp = Array.from({ length: 256 }, (_, step) => {
  const share = step / 255, place = (0.3 + 0.7 * share) * (VIRIDIS.length - 1), low = Math.min(Math.floor(place), VIRIDIS.length - 2);
  const channel = (index, at) => parseInt(VIRIDIS[index].slice(2 * at, 2 * at + 2), 16);
  const mixed = [0, 1, 2].map((at) => channel(low, at) + (place - low) * (channel(low + 1, at) - channel(low, at)));
  return [...mixed.map(Math.round), Math.round(255 * 0.88 * (0.2 * share + 0.8 * share ** 2))];
});

function paint(canvas, steps) {
  const context = canvas.getContext("2d", { willReadFrequently: true }), image = context.createImageData(canvas.width, canvas.height);
  steps.forEach((step, place) => image.data.set(ramp[step], 4 * place));
  context.putImageData(image, 0, 0);
}

// --- the parts of the page, made once --------------------------------------------------------------------------------

function swatch(number) {
  return draws("svg", { class: "swatch", viewBox: "0 0 22 8", "aria-hidden": "true" }, draws("line", { class: `line series-${number % 4}`, x1: 1, x2: 21, y1: 4, y2: 4 }));
}

function title(number, tag = "h2") {
  const trace = data.traces[number];
  return data.traces.length > 1 ? make(tag, {}, swatch(number), trace.name) : make(tag, {}, trace.name);
}

function answer(trace, number) {
  const text = make("p", { class: "text", dir: "auto" });
  let place = 0;
  trace.buttons = trace.words.map(([start, stop, name, kind], word) => {
    text.append(trace.text.slice(place, start));
    place = Math.max(place, stop);
    const button = make("button", { type: "button", class: `word ${kind}`, "aria-pressed": "false", tabindex: -1 }, trace.text.slice(start, stop) || name);
    if (kind === "invented") button.append(make("span", { class: "unseen" }, " (invented)"));
    button.title = kind === "invented" ? `${name}: not in the picture` : kind === "true" ? `${name}: in the picture` : "";
    button.addEventListener("click", () => change({ trace: number, word }));
    text.append(button);
    return button;
  });
  text.append(trace.text.slice(place));
  const article = make("article", { class: "answer" }, title(number), text);
  const notes = [...judgement(trace), ...(trace.note ? [make("p", { class: "note" }, trace.note)] : [])];
  article.append(...notes);
  return article;
}

function judgement(trace) {
  if (!data.judged) return [];
  const names = (kind) => [...new Set(trace.words.filter((word) => word[3] === kind).map((word) => word[2]))];
  const line = make("p", { class: "note" }), invented = names("invented");
  if (invented.length) line.append(make("b", {}, `Invented: ${invented.join(", ")}. `));
  line.append(invented.length ? "" : "Nothing invented. ", `In the picture: ${names("true").join(", ") || "none named"}. `);
  line.append(trace.missed.length ? `Not named: ${trace.missed.join(", ")}.` : "Nothing left out.");
  return [line];
}

function laid(element, [left, top, right, bottom]) {
  const style = { left, top, width: right - left, height: bottom - top };
  for (const [side, share] of Object.entries(style)) element.style[side] = `${100 * share}%`;
  return element;
}

function stage(trace, number) {
  const { picture, square, ratio } = data.places, cut = picture.some((edge, side) => (side < 2 ? edge < square[side] - 0.001 : edge > square[side] + 0.001));
  const photo = laid(make("img", { src: data.picture.source, alt: "", draggable: "false", class: data.picture.sharp ? "sharp" : "" }), picture);
  trace.canvas = laid(make("canvas", { width: data.side, height: data.side, "aria-hidden": "true" }), square);
  trace.marks = draws("svg", { viewBox: `0 0 1000 ${1000 / ratio}`, preserveAspectRatio: "none", "aria-hidden": "true" });
  trace.absent = make("p", { class: "absent" });
  trace.frame = make("div", { class: "frame", role: "img", tabindex: 0 }, photo, trace.canvas, trace.marks, trace.absent);
  if (cut) trace.frame.append(laid(make("div", { class: "edge" }), square));
  trace.frame.style.setProperty("--ratio", ratio);
  trace.readout = make("p", { class: "readout" });
  trace.frame.addEventListener("pointermove", (event) => change({ over: patchAt(trace.frame, event) }));
  trace.frame.addEventListener("pointerleave", () => change({ over: null }));
  trace.frame.addEventListener("click", (event) => {
    const patch = patchAt(trace.frame, event);
    change({ pinned: patch === state.pinned ? null : patch });
  });
  return make("figure", { class: "stage" }, ...(data.traces.length > 1 ? [title(number)] : []), trace.frame, trace.readout);
}

function patchAt(frame, event) {
  const area = frame.getBoundingClientRect(), [left, top, right, bottom] = data.places.square;
  const column = Math.floor((data.side * ((event.clientX - area.left) / area.width - left)) / (right - left));
  const row = Math.floor((data.side * ((event.clientY - area.top) / area.height - top)) / (bottom - top));
  return [row, column].every((at) => 0 <= at && at < data.side) ? row * data.side + column : null;
}

function chart(name) {
  const curve = CURVES[name], plot = draws("svg", { class: "plot", role: "img" }), values = make("p", { class: "values" });
  const largest = Math.max(...data.traces.flatMap((trace) => (trace[name] || []).flat()).filter((value) => value !== null), curve.chance || 0);
  curve.top = curve.top || rounded(largest);
  Object.assign(curve, { name, plot, values });
  const layer = (event) => clamp(Math.round(((event.offsetX - 30) / (plot.clientWidth - 38)) * (data.layers - 1)), 0, data.layers - 1);
  plot.addEventListener("pointermove", (event) => (event.buttons ? change({ layer: layer(event) }) : change({ near: layer(event) })));
  plot.addEventListener("pointerleave", () => change({ near: null }));
  plot.addEventListener("pointerdown", (event) => change({ layer: layer(event) }));
  return make("article", { class: "chart" }, make("h3", {}, curve.title), values, plot);
}

// The next larger number that a scale may end with.
function rounded(value) {
  const power = 10 ** Math.floor(Math.log10(value || 1));
  return power * [1, 1.5, 2, 3, 4, 5, 6, 8, 10].find((step) => step * power >= value * 0.999);
}

function build() {
  byId("model").textContent = data.model;
  byId("question").textContent = data.question || "What the model looked at";
  document.title = data.question ? `${data.question} · attention explorer` : "Attention explorer";
  byId("strong").textContent = data.strong;
  byId("answers").append(...data.traces.map(answer));
  byId("stages").append(...data.traces.map(stage));
  byId("stages").classList.toggle("pair", data.traces.length > 1);
  for (const [view, name] of Object.entries(VIEWS)) {
    const button = make("button", { type: "button", "data-view": view }, name);
    button.addEventListener("click", () => change({ view }));
    byId("views").append(button);
  }
  byId("layer").max = data.layers - 1;
  byId("layer").addEventListener("input", () => change({ layer: Number(byId("layer").value) }));
  byId("play").addEventListener("click", play);
  byId("head").append(make("option", { value: "" }, "pooled"), ...Array.from({ length: data.heads }, (_, head) => make("option", { value: head }, head)));
  byId("head").addEventListener("change", () => change({ head: byId("head").value === "" ? null : Number(byId("head").value) }));
  byId("head-label").hidden = !data.traces.some((trace) => Object.keys(trace.heads).length);
  byId("boxes-label").hidden = !Object.keys(data.places.boxes).length;
  for (const name of ["sinks", "boxes"]) byId(name).addEventListener("change", draw);
  byId("bands").append(...data.bands.map(band));
  byId("charts").append(...Object.keys(CURVES).filter((name) => data.traces.some((trace) => trace[name])).map(chart));
  paint(byId("ramp"), Array.from({ length: 256 }, (_, step) => step));
}

function band({ name, layers }) {
  const last = Math.max(1, data.layers - 1), [low, high] = [layers[0] - 0.5, layers[layers.length - 1] + 0.5].map((edge) => clamp(edge / last, 0, 1));
  const element = make("span", { "data-layers": layers.join(" ") }, name);
  element.style.left = `calc(${100 * low}% + 1px)`;
  element.style.width = `calc(${100 * (high - low)}% - 2px)`;
  return element;
}

// --- showing the state -----------------------------------------------------------------------------------------------

function draw() {
  const maps = data.traces.map((_, number) => mapOf(number));
  const drawn = maps.map((map, number) => withoutSinks(map, data.traces[number]));
  const top = Math.max(...drawn.map((map) => (map ? Math.max(...map) : 0))) || 1;
  drawControls();
  data.traces.forEach((trace, number) => {
    drawWords(trace, number);
    drawStage(trace, number, maps[number], drawn[number], top);
  });
  byId("scale-high").textContent = percent(top);
  byId("scale-what").textContent = "of the map on one patch";
  byId("scale").style.visibility = state.view === "picture" ? "hidden" : "visible";
  for (const curve of Object.values(CURVES)) if (curve.plot) drawChart(curve);
  byId("status").textContent = state.playing ? "" : sentence();
  remember();
}

function drawControls() {
  byId("layer").value = state.layer;
  byId("layer").setAttribute("aria-valuetext", `layer ${state.layer} of 0 to ${data.layers - 1}`);
  byId("layer-name").textContent = `${state.layer} / ${data.layers - 1}`;
  byId("play").setAttribute("aria-pressed", Boolean(state.playing));
  for (const button of byId("views").children) button.setAttribute("aria-pressed", button.dataset.view === state.view);
  for (const part of byId("bands").children) part.classList.toggle("here", part.dataset.layers.split(" ").includes(String(state.layer)));
  const kept = data.traces.some((trace) => trace.heads[state.layer]) && state.view === "layer";
  byId("head").disabled = !kept;
  byId("head").value = kept && state.head !== null ? state.head : "";
  byId("head").options[0].textContent = kept ? "pooled" : `pooled (heads: layer ${Object.keys(data.traces[0].heads).join(", ")})`;
}

function drawWords(trace, number) {
  const word = wordOf(number);
  trace.buttons.forEach((button, place) => {
    const picked = number === state.trace && place === word;
    button.setAttribute("aria-pressed", picked);
    button.classList.toggle("partner", number !== state.trace && place === word);
    button.tabIndex = picked || (number !== state.trace && place === Math.max(0, word)) ? 0 : -1;
  });
}

function drawStage(trace, number, map, drawn, top) {
  const word = trace.words[wordOf(number)], picked = data.traces[state.trace].words[state.word];
  trace.frame.classList.toggle("bare", state.view === "picture");
  trace.absent.hidden = Boolean(word) || state.view === "picture";
  trace.absent.textContent = `“${picked[2]}” has no counterpart in this answer`;
  paint(trace.canvas, Array.from(drawn || new Float32Array(patches), (value) => Math.round(255 * Math.sqrt(value / top))));
  trace.marks.replaceChildren(...(word ? marks(trace, word) : []));
  readOut(trace, map, drawn);
  trace.frame.setAttribute("aria-label", map ? `${VIEWS[state.view]} of “${word[2]}” on the picture. ${trace.readout.textContent}` : trace.absent.textContent);
}

function marks(trace, word) {
  const [left, top, right, bottom] = data.places.square, tall = 1000 / data.places.ratio, found = [];
  const wide = (1000 * (right - left)) / data.side, high = (tall * (bottom - top)) / data.side;
  const at = (patch) => [1000 * left + (patch % data.side) * wide, tall * top + Math.floor(patch / data.side) * high];
  if (byId("boxes").checked) for (const box of data.places.boxes[word[2]] || []) found.push(...outlined(box, tall));
  if (byId("sinks").value === "ringed" && state.view !== "picture") {
    for (const patch of sinksOf(trace)) {
      const [x, y] = at(patch), ring = { cx: x + wide / 2, cy: y + high / 2, r: Math.min(0.3 * wide, 15), class: "ring" };
      found.push(draws("circle", { ...ring, stroke: "#000", "stroke-opacity": 0.65, "stroke-width": 3.5 }));
      found.push(draws("circle", { ...ring, stroke: "#fff", "stroke-width": 1.5 }));
    }
  }
  const patch = patchShown();
  if (patch !== null) {
    const [x, y] = at(patch);
    found.push(draws("rect", { x, y, width: wide, height: high, class: "ring", stroke: "#fff", "stroke-width": 2 }));
  }
  return found;
}

function outlined([left, top, right, bottom], tall) {
  const frame = { x: 1000 * left, y: tall * top, width: 1000 * (right - left), height: tall * (bottom - top), rx: 6, class: "ring" };
  const dark = { stroke: "#000", "stroke-opacity": 0.6, "stroke-width": 3.5 }, light = { stroke: "#fff", "stroke-width": 1.75, "stroke-dasharray": "6 4" };
  return [draws("rect", { ...frame, ...dark }), draws("rect", { ...frame, ...light })];
}

function patchShown() {
  return state.over === null ? state.pinned : state.over;
}

function readOut(trace, map, drawn) {
  trace.readout.replaceChildren();
  if (!map || state.view === "picture") return;
  const chosen = patchShown(), patch = chosen === null ? drawn.indexOf(Math.max(...drawn)) : chosen;
  const sinks = sinkHeads(trace, patch), place = `row ${Math.floor(patch / data.side)}, column ${patch % data.side}`;
  trace.readout.append(chosen === null ? "Most: " : "", make("b", {}, percent(map[patch])), ` at ${place}`);
  trace.readout.append(make("br"), `${(map[patch] * patches).toFixed(1)}× uniform`, sinks ? ` · sink in ${sinks} of ${data.heads} heads` : "");
}

function drawChart(curve) {
  const { plot, values, name } = curve, wide = plot.clientWidth || 240, high = 128, layer = state.near === null ? state.layer : state.near;
  const x = (place) => 30 + ((wide - 38) * place) / Math.max(1, data.layers - 1), y = (value) => 108 - (98 * value) / curve.top;
  const parts = data.bands.map(({ layers }) => {
    const [left, right] = [x(layers[0] - 0.5), x(layers[layers.length - 1] + 0.5)].map((edge) => clamp(edge, 30, wide - 8));
    return draws("rect", { class: "band", x: left + 1, width: Math.max(1, right - left - 2), y: 10, height: 98 });
  });
  for (const value of [0, curve.top / 2, curve.top]) {
    parts.push(draws("line", { class: "grid", x1: 30, x2: wide - 8, y1: y(value), y2: y(value) }));
    parts.push(draws("text", { x: 25, y: y(value) + 3.5, "text-anchor": "end" }, curve.unit === "%" ? String(Math.round(100 * value)) : String(+value.toFixed(2))));
  }
  parts.push(draws("text", { x: 30, y: 123 }, "0"), draws("text", { x: wide - 8, y: 123, "text-anchor": "end" }, data.layers - 1), draws("text", { x: (wide + 22) / 2, y: 123, "text-anchor": "middle" }, "layer"));
  if (curve.chance) parts.push(draws("line", { class: "chance", x1: 30, x2: wide - 8, y1: y(curve.chance), y2: y(curve.chance) }));
  parts.push(draws("line", { class: "now", x1: x(state.layer), x2: x(state.layer), y1: 10, y2: 108 }));
  if (state.near !== null) parts.push(draws("line", { class: "near", x1: x(layer), x2: x(layer), y1: 10, y2: 108 }));
  const found = data.traces.map((trace, number) => (trace[name] && wordOf(number) >= 0 ? trace[name][wordOf(number)] : null));
  found.forEach((line, number) => line && parts.push(...drawLine(line, number, x, y, layer)));
  if (!found.some((line) => line && line.some((value) => value !== null))) {
    parts.push(draws("text", { class: "empty", x: (wide + 22) / 2, y: 50, "text-anchor": "middle" }, "no object marked"));
  }
  plot.replaceChildren(...parts);
  values.replaceChildren(...found.map((line, number) => valueOf(line, number, curve, layer)));
  if (state.near !== null) values.append(`layer ${layer}`);
  plot.setAttribute("aria-label", `${curve.title}, layer ${layer}: ${values.textContent}`);
}

function drawLine(line, number, x, y, layer) {
  const known = line.map((value, place) => (value === null ? null : `${x(place).toFixed(1)},${y(value).toFixed(1)}`));
  const path = known.map((point, place) => (point ? (place && known[place - 1] ? "L" : "M") + point : "")).join("");
  const parts = [draws("path", { class: `line series-${number % 4}`, d: path })];
  if (line[layer] !== null) parts.push(draws("circle", { class: `dot series-${number % 4}`, cx: x(layer), cy: y(line[layer]), r: 4 }));
  return parts;
}

function valueOf(line, number, curve, layer) {
  const value = line ? line[layer] : null, several = data.traces.length > 1;
  return make("span", { title: data.traces[number].name }, ...(several ? [swatch(number)] : []), make("b", {}, told(value, curve)));
}

function sentence() {
  const trace = data.traces[state.trace], [, , name, kind] = trace.words[state.word];
  const numbers = Object.values(CURVES).filter((curve) => curve.plot).map((curve) => `${curve.title}: ${told(trace[curve.name] ? trace[curve.name][state.word][state.layer] : null, curve)}`);
  return `${trace.name}, “${name}”${kind === "invented" ? " (invented)" : ""}, layer ${state.layer}. ${numbers.join("; ")}.`;
}

// --- changing the state ----------------------------------------------------------------------------------------------

function change(changes) {
  const before = JSON.stringify(state);
  Object.assign(state, changes);
  if (JSON.stringify(state) !== before) draw();
}

function play() {
  clearInterval(state.playing);
  const every = clamp(5000 / data.layers, 160, 600);
  const next = () => change({ layer: (state.layer + 1) % data.layers, near: null });
  change({ playing: state.playing ? 0 : setInterval(next, every) });
}

const STEPS = { ArrowLeft: ["word", -1], ArrowRight: ["word", 1], ArrowUp: ["layer", 1], ArrowDown: ["layer", -1] };

function step(kind, by) {
  const last = kind === "word" ? data.traces[state.trace].words.length - 1 : data.layers - 1;
  change({ [kind]: clamp(state[kind] + by, 0, last) });
  const button = data.traces[state.trace].buttons[state.word];
  if (kind === "word") button.scrollIntoView({ block: "nearest" });
  if (kind === "word" && document.activeElement.classList.contains("word")) button.focus();
}

function stepPatch(kind, by) {
  const from = state.pinned === null ? Math.floor(data.side / 2) * (data.side + 1) : state.pinned;
  const row = Math.floor(from / data.side) - (kind === "layer" ? by : 0), column = (from % data.side) + (kind === "word" ? by : 0);
  change({ pinned: clamp(row, 0, data.side - 1) * data.side + clamp(column, 0, data.side - 1), over: null });
}

document.addEventListener("keydown", (event) => {
  const at = event.target, own = at.tagName === "SELECT" || at.type === "range";
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape") change({ pinned: null });
  if (STEPS[event.key] && !own) {
    (event.shiftKey ? stepPatch : step)(...STEPS[event.key]);
    event.preventDefault();
  }
  const pressable = ["SELECT", "SUMMARY"].includes(at.tagName) || at.type === "checkbox" || (at.tagName === "BUTTON" && !at.classList.contains("word"));
  if (event.key === " " && !pressable) {
    play();
    event.preventDefault();
  }
});
document.addEventListener("keyup", (event) => {
  if (event.key === " " && event.target.classList?.contains("word")) event.preventDefault(); // it played, it picks nothing
});

// The state in the address: a page can be opened at a word and a layer, page.html#word=3&layer=5.
function remember() {
  const named = { text: state.trace, word: state.word, layer: state.layer, view: state.view };
  if (state.head !== null) named.head = state.head;
  const address = `#${new URLSearchParams(named)}`;
  if (state.playing || address === location.hash || location.protocol === "about:") return; // "about:" in a notebook
  history.replaceState(null, "", address);
}

function recall() {
  const named = new URLSearchParams(location.hash.slice(1));
  const number = (name, last, usual) => (/^\d+$/.test(named.get(name) ?? "") ? Math.min(last, Number(named.get(name))) : usual);
  const trace = number("text", data.traces.length - 1, 0), words = data.traces[trace].words;
  const first = words.findIndex((word) => word[3] === "invented"), objects = words.findIndex((word) => word[3] === "true");
  const middle = data.bands[1].layers, usual = middle[middle.length >> 1];
  const word = number("word", words.length - 1, first >= 0 ? first : Math.max(0, objects));
  const view = named.get("view") in VIEWS ? named.get("view") : "layer";
  change({ trace, word, layer: number("layer", data.layers - 1, usual), view, head: number("head", data.heads - 1, null) });
}

async function start() {
  await Promise.all(data.traces.map(unpack));
  build();
  byId("page").hidden = false;
  recall();
  draw();
  addEventListener("resize", draw);
  addEventListener("hashchange", recall);
}

start().catch((error) => {
  byId("trouble").hidden = false;
  byId("trouble").textContent = `The maps could not be opened (${error.message}). A browser of 2023 or later is needed.`;
});
