"use strict";
// The explorer's page, 1 of 4: its numbers, the state, and which map belongs to it. build.js makes the parts of the
// page, draw.js shows the state in them, main.js changes it. No text of a model or user is ever read as HTML: all of it
// goes into text nodes and attributes.

const data = JSON.parse(document.getElementById("data").textContent);
const patches = data.side * data.side;
const VIEWS = { layer: "Attention", noise: "Noise", anchor: "Anchor", picture: "Picture" };
const CURVES = {
  share: { title: "Attention on the picture", unit: "%" },
  noise: { title: "Drift: cosine to the noise", top: 1 },
  anchor: { title: "Drift: cosine to the anchor", top: 1 },
  evidence: { title: "Evidence (chance: 1)", unit: "×", chance: 1 },
};
const state = {
  trace: 0, // the answer whose word is picked, and which word of it
  word: 0,
  layer: 0,
  view: "layer", // one of VIEWS
  head: null, // null is the pooled map
  pinned: null, // a patch that was clicked, and one under the pointer
  over: null,
  near: null, // the layer under the pointer in a chart
  playing: 0, // a timer
};

// --- unpacking -------------------------------------------------------------------------------------------------------

async function inflated(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

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

// --- what the state says of an answer --------------------------------------------------------------------------------

// The place in an answer of the word that is picked; -1 if that answer does not say it.
function wordOf(number) {
  return number === state.trace ? state.word : data.counterparts[state.trace][number][state.word];
}

function headsKept(layer = state.layer) {
  return state.view === "layer" && data.traces.some((trace) => trace.heads[layer]);
}

function headShown(trace) {
  return state.view === "layer" && trace.heads[state.layer] ? state.head : null;
}

function mapOf(number) {
  const trace = data.traces[number];
  const word = wordOf(number);
  const head = headShown(trace);
  if (word < 0) return null;
  if (state.view === "noise") return trace.anchors.map(2 * word);
  if (state.view === "anchor") return trace.anchors.map(2 * word + 1);
  if (head !== null) return trace.heads[state.layer].map(word * data.heads + head);
  return trace.maps.map(word * data.layers + state.layer);
}

// --- sinks -----------------------------------------------------------------------------------------------------------

function isSink(trace, head, patch) {
  const bit = (state.layer * data.heads + head) * patches + patch;
  return (trace.sinks[bit >> 3] >> (7 - (bit & 7))) & 1;
}

function sinkHeads(trace, patch) {
  let heads = 0;
  for (let head = 0; head < data.heads; head++) heads += isSink(trace, head, patch);
  return heads;
}

// The sinks of the layer or head that is shown; noise and anchor are of no single layer.
function sinksOf(trace) {
  if (state.view !== "layer") return [];
  const head = headShown(trace);
  const marked = (patch) => (head === null ? 2 * sinkHeads(trace, patch) >= data.heads : isSink(trace, head, patch));
  return Array.from({ length: patches }, (_, patch) => patch).filter(marked);
}

// What is drawn of a map: all of it, or all but the sinks.
function withoutSinks(map, trace) {
  if (!map || byId("sinks").value !== "out") return map;
  const rest = map.slice();
  for (const patch of sinksOf(trace)) rest[patch] = 0;
  return rest;
}

// --- numbers as text -------------------------------------------------------------------------------------------------

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
const percent = (value) => `${(100 * value).toFixed(value < 0.0995 ? 1 : 0)} %`;

function told(value, curve) {
  if (value === null) return "–";
  if (curve.unit === "%") return percent(value);
  return curve.unit === "×" ? `${value.toFixed(value < 9.95 ? 1 : 0)}×` : value.toFixed(2);
}

// [3, 4, 5] -> "3–5"
function span(layers) {
  const [first, last] = [layers[0], layers[layers.length - 1]];
  return last - first === layers.length - 1 && last > first ? `${first}–${last}` : layers.join(", ");
}

// The next larger number that a scale may end with.
function rounded(value) {
  const power = 10 ** Math.floor(Math.log10(value || 1));
  return power * [1, 1.5, 2, 3, 4, 5, 6, 8, 10].find((step) => step * power >= value * 0.999);
}

