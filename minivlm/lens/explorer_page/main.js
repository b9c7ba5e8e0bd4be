// The explorer's page, 4 of 4: what changes the state.

function change(changes) {
  const before = JSON.stringify(state);
  Object.assign(state, changes);
  if (JSON.stringify(state) !== before) draw();
}

function step(kind, by) {
  const last = kind === "word" ? data.traces[state.trace].words.length - 1 : data.layers - 1;
  change({ [kind]: clamp(state[kind] + by, 0, last) });
  if (kind !== "word") return;
  const button = data.traces[state.trace].buttons[state.word];
  const text = button.closest(".text");
  text.scrollTop += button.getBoundingClientRect().top - text.getBoundingClientRect().top - text.clientHeight / 2;
  if (document.activeElement.classList.contains("word")) button.focus();
}

function stepPatch(kind, by) {
  const from = state.pinned === null ? Math.floor(data.side / 2) * (data.side + 1) : state.pinned;
  const row = Math.floor(from / data.side) - (kind === "layer" ? by : 0);
  const column = (from % data.side) + (kind === "word" ? by : 0);
  change({ pinned: clamp(row, 0, data.side - 1) * data.side + clamp(column, 0, data.side - 1), over: null });
}

// --- playing ---------------------------------------------------------------------------------------------------------

// Fewer than three maps a second, so that nothing flickers; who wants less motion gets one slow pass.
function play() {
  clearInterval(state.playing);
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const pause = calm ? 1200 : clamp(5000 / data.layers, 350, 600);
  change({ playing: state.playing ? 0 : setInterval(next, pause, calm) });
}

function next(calm) {
  const last = data.layers - 1;
  change({ layer: state.layer === last ? 0 : state.layer + 1, near: null });
  if (calm && state.layer === last) play();
}

// --- keys and controls -----------------------------------------------------------------------------------------------

const STEPS = { ArrowLeft: ["word", -1], ArrowRight: ["word", 1], ArrowUp: ["layer", 1], ArrowDown: ["layer", -1] };

// Whether an element does something of its own with the space key.
function isPressable(element) {
  if (["SELECT", "SUMMARY"].includes(element.tagName) || element.type === "checkbox") return true;
  return element.tagName === "BUTTON" && !element.classList.contains("word");
}

function press(event) {
  const at = event.target;
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape") change({ pinned: null });
  if (STEPS[event.key] && at.tagName !== "SELECT" && at.type !== "range") {
    (event.shiftKey ? stepPatch : step)(...STEPS[event.key]);
    event.preventDefault();
  }
  if (event.key === " " && !isPressable(at)) {
    play();
    event.preventDefault();
  }
}

function listen() {
  document.addEventListener("keydown", press);
  document.addEventListener("keyup", (event) => {
    if (event.key === " " && event.target.classList?.contains("word")) event.preventDefault(); // it played
  });
  byId("play").addEventListener("click", play);
  byId("layer").addEventListener("input", () => change({ layer: Number(byId("layer").value) }));
  byId("head").addEventListener("change", () => {
    change({ head: byId("head").value === "" ? null : Number(byId("head").value) });
  });
  for (const name of ["sinks", "boxes"]) byId(name).addEventListener("change", draw);
  for (const button of document.querySelectorAll(".step")) {
    button.addEventListener("click", () => step(button.dataset.of, Number(button.dataset.by)));
  }
  addEventListener("resize", draw);
  addEventListener("hashchange", recall);
  NARROW.addEventListener("change", arrange);
}

// On a phone the maps come first and stay in sight. The order of the tab key is the order on the screen.
const NARROW = matchMedia("(max-width: 640px)");

function arrange() {
  const parts = ["answers", "controls", "sight"].map(byId);
  byId("head-of-page").after(...(NARROW.matches ? parts.reverse() : parts));
}

// --- the address -----------------------------------------------------------------------------------------------------

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
  const number = (name, last, usual) => (/^\d+$/.test(named.get(name) ?? "") ? Math.min(last, named.get(name)) : usual);
  const trace = number("text", data.traces.length - 1, 0);
  const words = data.traces[trace].words;
  const middle = data.bands[1].layers;
  const word = number("word", words.length - 1, telling(words));
  const layer = number("layer", data.layers - 1, middle[middle.length >> 1]);
  const view = named.get("view") in VIEWS ? named.get("view") : "layer";
  change({ trace, word, layer, view, head: number("head", data.heads - 1, null) });
}

// The word to begin with: the first that is invented, or that is true, or the longest.
function telling(words) {
  const found = ["invented", "true"].map((kind) => words.findIndex((word) => word[3] === kind));
  const longest = words.reduce((best, word, place) => (word[2].length > words[best][2].length ? place : best), 0);
  return found.find((place) => place >= 0) ?? longest;
}

async function start() {
  await Promise.all(data.traces.map(unpack));
  build();
  arrange();
  byId("page").hidden = false;
  recall();
  draw();
  listen();
}

start().catch((error) => {
  byId("trouble").hidden = false;
  byId("trouble").textContent = `The maps could not be opened (${error.message}). It takes a browser of 2023 or later.`;
});
