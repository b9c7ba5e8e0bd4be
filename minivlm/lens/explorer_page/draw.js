// The explorer's page, 3 of 4: the state, shown.

function draw() {
  const maps = data.traces.map((_, number) => mapOf(number));
  const drawn = maps.map((map, number) => withoutSinks(map, data.traces[number]));
  const top = Math.max(...drawn.map((map) => (map ? Math.max(...map) : 0))) || 1; // one scale for all
  drawControls();
  data.traces.forEach((trace, number) => {
    drawWords(trace, number);
    drawStage(trace, number, maps[number], drawn[number], top);
  });
  drawScale(top);
  for (const curve of Object.values(CURVES)) if (curve.plot) drawChart(curve);
  byId("status").textContent = state.playing ? "" : sentence();
  remember();
}

function drawControls() {
  const words = data.traces[state.trace].words;
  byId("word-name").replaceChildren(make("b", {}, words[state.word][2]), ` ${state.word + 1} / ${words.length}`);
  byId("layer").value = state.layer;
  byId("layer").setAttribute("aria-valuetext", `layer ${state.layer} of 0 to ${data.layers - 1}`);
  byId("layer-name").replaceChildren(make("b", {}, state.layer), ` / ${data.layers - 1}`);
  byId("play").setAttribute("aria-pressed", Boolean(state.playing));
  const ends = { word: words.length - 1, layer: data.layers - 1 };
  for (const button of document.querySelectorAll(".step")) {
    button.disabled = state[button.dataset.of] === (button.dataset.by < 0 ? 0 : ends[button.dataset.of]);
  }
  for (const button of byId("views").children) button.setAttribute("aria-pressed", button.dataset.view === state.view);
  for (const part of byId("bands").children) {
    part.classList.toggle("here", part.dataset.layers.split(" ").includes(String(state.layer)));
  }
  byId("head").disabled = !headsKept();
  byId("head").value = headsKept() && state.head !== null ? state.head : "";
}

function drawWords(trace, number) {
  const word = wordOf(number);
  const own = number === state.trace;
  trace.buttons.forEach((button, place) => {
    const picked = own && place === word;
    button.setAttribute("aria-pressed", picked);
    button.classList.toggle("partner", !own && place === word);
    button.tabIndex = picked || (!own && place === Math.max(0, word)) ? 0 : -1; // one stop of the tab key an answer
  });
}

// --- maps ------------------------------------------------------------------------------------------------------------

const VIRIDIS = ["440154", "482878", "3e4a89", "31688e", "26828e", "1f9e89", "35b779", "6ece58", "b5de2b", "fde725"];

function mixed(place, channel) {
  const low = Math.min(Math.floor(place), VIRIDIS.length - 2);
  const [below, above] = [VIRIDIS[low], VIRIDIS[low + 1]].map((colour) => parseInt(colour.substr(2 * channel, 2), 16));
  return Math.round(below + (place - low) * (above - below));
}

// Colours (256, RGBA): viridis from where it is light enough for a dimmed picture, which shows where a map is low.
const ramp = Array.from({ length: 256 }, (_, step) => {
  const share = step / 255;
  const place = (0.3 + 0.7 * share) * (VIRIDIS.length - 1);
  return [...[0, 1, 2].map((channel) => mixed(place, channel)), Math.round(224 * (0.2 * share + 0.8 * share ** 2))];
});

function paint(canvas, steps) {
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const image = context.createImageData(canvas.width, canvas.height);
  steps.forEach((step, place) => image.data.set(ramp[step], 4 * place));
  context.putImageData(image, 0, 0);
}

function drawStage(trace, number, map, drawn, top) {
  const word = trace.words[wordOf(number)];
  drawCaption(trace.caption, word);
  trace.frame.classList.toggle("bare", state.view === "picture");
  trace.absent.hidden = Boolean(word) || state.view === "picture";
  trace.absent.textContent = `“${data.traces[state.trace].words[state.word][2]}” has no counterpart in this answer`;
  const values = drawn || new Float32Array(patches);
  paint(trace.canvas, Array.from(values, (value) => Math.round(255 * Math.sqrt(value / top))));
  trace.marks.replaceChildren(...(word ? marks(trace, word) : []));
  readOut(trace, map, drawn);
  const shown = map ? `${VIEWS[state.view]} of “${word[2]}” on the picture. ${trace.readout.textContent}` : "";
  trace.frame.setAttribute("aria-label", shown || trace.absent.textContent);
}

function drawCaption(caption, word) {
  caption.replaceChildren();
  if (!word) return;
  caption.append("“", make("span", { class: word[3] }, word[2]), "”", word[3] === "invented" ? " (invented)" : "");
}

function drawScale(top) {
  const [noise, anchor] = data.bands.map(({ layers }) => `${layers.length > 1 ? "layers" : "layer"} ${span(layers)}`);
  const head = headsKept() && state.head !== null ? `head ${state.head}` : "heads pooled";
  const shown = {
    layer: `Layer ${state.layer}, ${head}`,
    noise: `Noise: mean map of ${noise}`,
    anchor: `Anchor: what ${anchor} add to it`,
    picture: "The picture as it is",
  };
  byId("shown").textContent = shown[state.view];
  byId("scale-high").textContent = `${percent(top)} of the map on one patch`;
  byId("scale-ramp").hidden = state.view === "picture";
  byId("ring-sign").hidden = state.view !== "layer" || byId("sinks").value !== "ringed";
}

function readOut(trace, map, drawn) {
  trace.readout.replaceChildren();
  if (!map || state.view === "picture") return;
  const chosen = patchShown();
  const patch = chosen === null ? drawn.indexOf(Math.max(...drawn)) : chosen;
  const place = `row ${Math.floor(patch / data.side)}, column ${patch % data.side}`;
  const times = `${(map[patch] * patches).toFixed(1)}× uniform`;
  const sinks = state.view === "layer" ? sinkHeads(trace, patch) : 0;
  const more = (text) => make("span", { class: "more" }, text); // where there is room
  trace.readout.append(more(chosen === null ? "Most: " : ""), make("b", {}, percent(map[patch])), ` · ${times}`);
  trace.readout.append(make("br"), place);
  if (sinks) trace.readout.append(more(` · sink in ${sinks} of ${data.heads} heads`));
}

function patchShown() {
  return state.over === null ? state.pinned : state.over;
}

// --- marks on a map --------------------------------------------------------------------------------------------------

// Boxes of the word's object, rings on sinks, and the chosen patch; on a stage that is 1000 wide.
function marks(trace, word) {
  const boxes = byId("boxes").checked ? data.places.boxes[word[2]] || [] : [];
  const sinks = byId("sinks").value === "ringed" ? sinksOf(trace) : [];
  const chosen = patchShown() === null || state.view === "picture" ? [] : [patchShown()];
  const around = chosen.flatMap((patch) => twice("rect", cell(patch), 2));
  return [...boxes.flatMap(boxed), ...sinks.flatMap(ringed), ...around];
}

function cell(patch) {
  const [left, top, right, bottom] = data.places.square;
  const tall = 1000 / data.places.ratio;
  const width = (1000 * (right - left)) / data.side;
  const height = (tall * (bottom - top)) / data.side;
  const [row, column] = [Math.floor(patch / data.side), patch % data.side];
  return { x: 1000 * left + column * width, y: tall * top + row * height, width, height };
}

function ringed(patch) {
  const { x, y, width, height } = cell(patch);
  return twice("circle", { cx: x + width / 2, cy: y + height / 2, r: Math.min(0.3 * width, 15) }, 1.5);
}

function boxed([left, top, right, bottom]) {
  const tall = 1000 / data.places.ratio;
  const area = { x: 1000 * left, y: tall * top, width: 1000 * (right - left), height: tall * (bottom - top), rx: 6 };
  return twice("rect", area, 1.75, { "stroke-dasharray": "6 4" });
}

// A white line over a dark one, to be seen on any colour.
function twice(tag, shape, width, style = {}) {
  const below = draws(tag, { ...shape, class: "outline dark", "stroke-width": width + 2 });
  return [below, draws(tag, { ...shape, ...style, class: "outline", "stroke-width": width })];
}

// --- charts ----------------------------------------------------------------------------------------------------------

const EDGE = { left: 36, right: 12, top: 20, bottom: 24 }; // around a plot, in pixels

function acrossOf(plot) {
  const wide = (plot.clientWidth || 240) - EDGE.left - EDGE.right;
  return (layer) => EDGE.left + (wide * layer) / Math.max(1, data.layers - 1);
}

function layerAt(plot, x) {
  const wide = plot.clientWidth - EDGE.left - EDGE.right;
  return clamp(Math.round(((x - EDGE.left) / wide) * (data.layers - 1)), 0, data.layers - 1);
}

function drawChart(curve) {
  const { plot, values, name } = curve;
  const layer = state.near === null ? state.layer : state.near;
  const x = acrossOf(plot);
  const [high, low] = [EDGE.top, (plot.clientHeight || 150) - EDGE.bottom];
  const y = (value) => low - ((low - high) * value) / curve.top;
  const upright = (kind, at) => draws("line", { class: kind, x1: x(at), x2: x(at), y1: high, y2: low });
  const lines = data.traces.map((trace, number) => trace[name]?.[wordOf(number)] ?? null);
  const parts = [...data.bands.flatMap((part) => shade(part, x, high, low)), ...axes(curve, x, y, layer, low)];
  parts.push(upright("now", state.layer), ...(state.near === null ? [] : [upright("near", layer)]));
  lines.forEach((line, number) => line && parts.push(...drawLine(line, number, x, y, layer)));
  if (!lines.some((line) => line && line.some((value) => value !== null))) {
    const place = { x: (x(0) + x(data.layers - 1)) / 2, y: (high + low) / 2, "text-anchor": "middle", class: "empty" };
    parts.push(draws("text", place, "not known for this word"));
  }
  plot.replaceChildren(...parts);
  values.replaceChildren(...lines.map((line, number) => valueOf(line, number, curve, layer)), `layer ${layer}`);
  plot.setAttribute("aria-label", `${curve.title}, ${values.textContent}`);
}

// The layers that are called noise, anchor or deep.
function shade({ name, layers }, x, high, low) {
  const [first, last] = [x(0), x(data.layers - 1)];
  const [left, right] = [layers[0] - 0.5, layers[layers.length - 1] + 0.5].map((at) => clamp(x(at), first, last));
  const area = { class: "band", x: left + 1, width: Math.max(1, right - left - 2), y: high, height: low - high };
  const label = draws("text", { x: (left + right) / 2, y: high - 6, "text-anchor": "middle" }, name);
  return right - left > 7 * name.length ? [draws("rect", area), label] : [draws("rect", area)];
}

function axes(curve, x, y, layer, low) {
  const [start, end] = [x(0), x(data.layers - 1)];
  const level = (kind, value) => draws("line", { class: kind, x1: start, x2: end, y1: y(value), y2: y(value) });
  const written = (at, text, how) => draws("text", { x: at, y: low + 17, ...how }, text);
  const parts = [0, curve.top / 2, curve.top].flatMap((value) => {
    const number = curve.unit === "%" ? Math.round(100 * value) : +value.toFixed(2);
    return [level("grid", value), draws("text", { x: start - 6, y: y(value) + 4, "text-anchor": "end" }, number)];
  });
  if (curve.chance) parts.push(level("chance", curve.chance));
  if (x(layer) > start + 62) parts.push(written(start, "layer 0", {}));
  if (x(layer) < end - 26) parts.push(written(end, data.layers - 1, { "text-anchor": "end" }));
  parts.push(written(x(layer), layer, { class: "chosen", "text-anchor": "middle" }));
  return parts;
}

function drawLine(line, number, x, y, layer) {
  const points = line.map((value, at) => (value === null ? null : `${x(at).toFixed(1)},${y(value).toFixed(1)}`));
  const path = points.map((point, at) => (point ? (at && points[at - 1] ? "L" : "M") + point : "")).join("");
  const parts = [draws("path", { class: `line series-${number % 4}`, d: path })];
  if (line[layer] === null) return parts;
  return [...parts, draws("circle", { class: `dot series-${number % 4}`, cx: x(layer), cy: y(line[layer]), r: 4 })];
}

function valueOf(line, number, curve, layer) {
  const value = make("b", {}, told(line ? line[layer] : null, curve));
  return make("span", { title: data.traces[number].name }, ...swatches(number), value);
}

function sentence() {
  const trace = data.traces[state.trace];
  const [, , name, kind] = trace.words[state.word];
  const numbers = Object.values(CURVES).filter((curve) => curve.plot).map((curve) => {
    const line = trace[curve.name];
    return `${curve.title}: ${told(line ? line[state.word][state.layer] : null, curve)}`;
  });
  const verdict = kind === "invented" ? " (invented)" : "";
  return `${trace.name}, “${name}”${verdict}, layer ${state.layer}. ${numbers.join("; ")}.`;
}

