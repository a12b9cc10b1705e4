"use strict";
const read = (id) => JSON.parse(document.getElementById(id).textContent);
const byId = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const layers = read("layers-data"), details = read("details-data");
const COLOURS = { float: "#9aa4af", 8: "#56b4e9", 4: "#009e73", 2: "#e69f00", 1: "#d55e00" };
let drawn = {};

function make(parent, name, attributes, text) {
  const element = document.createElementNS(SVG, name);
  for (const key in attributes) element.setAttribute(key, attributes[key]);
  if (text !== undefined) element.textContent = text;
  parent.append(element);
  return element;
}

function bits(format) {
  const found = /^w(\d)/.exec(format);
  return found ? Number(found[1]) : 32;
}

function colour(format) {
  const width = bits(format);
  return width > 8 ? COLOURS.float : COLOURS[width > 4 ? 8 : width > 2 ? 4 : width];
}

// Operators in rows by their distance from the input, beside each other where they have the same.
function places(operators) {
  const depth = [], counts = [];
  operators.forEach(([, , , inputs], i) => {
    depth[i] = inputs.length ? 1 + Math.max(...inputs.map((j) => (j < i ? depth[j] : 0))) : 0;
  });
  return operators.map((_, i) => {
    const column = counts[depth[i]] || 0;
    counts[depth[i]] = column + 1;
    return [depth[i], column];
  });
}

function draw(point) {
  const { operators } = layers, spots = places(operators);
  const widest = Math.max(1, ...operators.map((one) => one[4]));
  const wide = (channels) => 22 + 150 * Math.sqrt(channels / widest);
  const LEFT = 30, ROW = 42, COLUMN = 400, HIGH = 24;
  const svg = document.createElementNS(SVG, "svg");
  const columns = 1 + Math.max(...spots.map((spot) => spot[1])), deep = 1 + Math.max(...spots.map((spot) => spot[0]));
  svg.setAttribute("width", LEFT + columns * COLUMN);
  svg.setAttribute("height", deep * ROW + 10);
  const at = (i) => [LEFT + spots[i][1] * COLUMN, 6 + spots[i][0] * ROW];
  operators.forEach(([, , , inputs], i) => inputs.forEach((j) => {
    const [x, y] = at(i), [fromX, fromY] = at(j), side = spots[i][0] - spots[j][0] > 1 ? 24 : 0;
    const path = side && x === fromX
      ? `M${fromX},${fromY + HIGH / 2} C${fromX - side},${fromY + HIGH} ${x - side},${y} ${x},${y + HIGH / 2}`
      : `M${fromX + 11},${fromY + HIGH} C${fromX + 11},${fromY + ROW} ${x + 11},${y - ROW + HIGH} ${x + 11},${y}`;
    make(svg, "path", { class: "edge", d: path });
  }));
  operators.forEach(([name, kind, fused, , channels, why], i) => {
    const [kept, format, primitives] = point.rows[i], [x, y] = at(i);
    const group = make(svg, "g", { "data-row": i, transform: `translate(${x},${y})` });
    make(group, "title", {}, [name, ...fused].join(" + ") + (why ? `\nstays whole: ${why}` : ""));
    if (format && channels > kept) make(group, "rect", { class: "whole", width: wide(channels), height: HIGH, rx: 4 });
    const fill = format ? colour(format) : "#c4c8cf";
    make(group, "rect", { width: format ? wide(kept) : 22, height: HIGH, rx: format ? 4 : 12, fill });
    const label = format ? `${name}  ${kept}${channels > kept ? "/" + channels : ""}` : name;
    make(group, "text", { x: (format ? wide(channels) : 22) + 8, y: 12 }, label);
    const badges = [kind, format, ...primitives, ...(why ? ["stays whole"] : [])].filter(Boolean).join(" · ");
    make(group, "text", { class: "badge", x: (format ? wide(channels) : 22) + 8, y: 24 }, badges);
    group.addEventListener("mouseenter", () => mark(i));
  });
  byId("picture").replaceChildren(svg);
}

function mark(i) {
  const rows = byId("layers").tBodies[0].rows;
  for (const row of rows) row.classList.toggle("chosen", Number(row.dataset.row) === i);
}

function cell(row, text, isText) {
  const found = row.insertCell();
  if (isText) found.className = "text";
  if (text instanceof Node) found.append(text);
  else found.textContent = text;
}

function small(value) {
  return value === 0 || value >= 0.001 ? value.toPrecision(2) : value.toExponential(1);
}

function bar(part, most) {
  const found = document.createElement("span"), line = document.createElement("span");
  line.className = "bar";
  line.style.width = `${Math.max(1, (60 * part) / most)}px`;
  found.append(line, `${(100 * part).toFixed(1)} %`);
  return found;
}

function tabulate(point) {
  const table = byId("layers"), whole = layers.points.find((one) => one.key === layers.float);
  const most = Math.max(...point.rows.map((one) => one[4]));
  table.replaceChildren();
  const head = table.createTHead().insertRow();
  for (const [title, unit] of [["operator", ""], ["format", ""], ["by", ""], ["channels", ""], ["latency", "ms"], ["of float", ""],
    ["share", "of the latency"], ["moved", "KB"], ["bound", ""], ["sensitivity", "nats"]]) {
    const th = document.createElement("th"), small = document.createElement("small");
    th.append(title, small);
    small.textContent = unit;
    if (["operator", "format", "by"].includes(title)) th.className = "text";
    head.append(th);
  }
  const body = table.createTBody();
  layers.operators.forEach(([name, kind, , , channels], i) => {
    const [kept, format, primitives, latency, part, moved, bound, nats] = point.rows[i], before = whole.rows[i][3];
    const row = body.insertRow();
    row.dataset.row = i;
    cell(row, name, true);
    cell(row, format || kind, true);
    cell(row, primitives.join(", "), true);
    cell(row, channels ? (kept === channels ? `${kept}` : `${kept} of ${channels}`) : "");
    cell(row, latency.toPrecision(3));
    cell(row, before > 0 ? `${Math.round((100 * latency) / before)} %` : "");
    cell(row, bar(part, most));
    cell(row, (moved / 1e3).toFixed(1));
    cell(row, bound);
    cell(row, nats === null ? "" : small(nats));
  });
}

function choose(key) {
  const point = (layers.points || []).find((one) => one.key === key);
  if (!point) return false;
  byId("point").value = key;
  byId("summary").textContent = point.summary;
  draw(point);
  tabulate(point);
  for (const row of document.querySelectorAll("tr[data-plan]")) row.classList.toggle("chosen", row.dataset.plan === key);
  return true;
}

function open(name) {
  for (const tab of document.querySelectorAll("[role=tab]")) {
    const chosen = tab.dataset.tab === name;
    tab.setAttribute("aria-selected", chosen);
    tab.tabIndex = chosen ? 0 : -1;
    byId(tab.dataset.tab).hidden = !chosen;
  }
  const shown = { front: "plot", search: "history" }[name];
  if (shown && drawn[shown]) Plotly.Plots.resize(byId(shown));
}

function paint() {
  const style = getComputedStyle(document.documentElement), of = (name) => style.getPropertyValue(name).trim();
  for (const id of Object.keys(drawn)) {
    const change = { paper_bgcolor: of("--card"), plot_bgcolor: of("--card"), "font.color": of("--ink") };
    for (const axis of Object.keys(byId(id).layout).filter((name) => /^[xy]axis/.test(name))) {
      change[`${axis}.gridcolor`] = of("--grid");
      change[`${axis}.linecolor`] = of("--soft");
    }
    Plotly.relayout(byId(id), change);
  }
}

function tabs() {
  const every = [...document.querySelectorAll("[role=tab]")];
  every.forEach((tab, i) => {
    tab.addEventListener("click", () => open(tab.dataset.tab));
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const next = every[(i + step + every.length) % every.length];
      open(next.dataset.tab);
      next.focus();
    });
  });
  const asked = location.hash.slice(1);
  open(every.some((tab) => tab.dataset.tab === asked) ? asked : "front");
}

function points() {
  const choice = byId("point");
  if (!layers.points) {
    byId("summary").textContent = "This front was saved without its network.";
    choice.hidden = true;
    return;
  }
  for (const one of layers.points) choice.add(new Option(one.name, one.key));
  choice.addEventListener("change", () => choose(choice.value));
  for (const row of document.querySelectorAll("tr[data-plan]")) {
    const show = () => choose(row.dataset.plan) && open("network");
    row.addEventListener("click", show);
    row.addEventListener("keydown", (event) => event.key === "Enter" && show());
  }
  for (const [name, text] of [["float", "floats"], [8, "5 to 8 bits"], [4, "3 or 4 bits"], [2, "2 bits"], [1, "1 bit"]]) {
    const entry = document.createElement("span"), box = document.createElement("i");
    box.style.background = COLOURS[name];
    entry.append(box, text);
    byId("legend").append(entry);
  }
  choose(layers.knee) || choose(layers.float);
}

// A histogram, with the levels of the quantizer below it: lines where they are few, else the range that they span.
function histogram(title, one, levels) {
  const WIDE = 300, HIGH = 80, BELOW = 26;
  const low = Math.min(one.low, levels ? levels.low : one.low);
  const high = Math.max(one.high, levels ? levels.low + levels.step * (levels.count - 1) : one.high);
  const x = (value) => (WIDE * (value - low)) / (high - low), most = Math.max(...one.counts);
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${WIDE} ${HIGH + BELOW}`);
  svg.setAttribute("width", WIDE);
  make(svg, "title", {}, title);
  const step = (one.high - one.low) / one.counts.length;
  one.counts.forEach((count, i) => {
    const high = count ? Math.max(1, (HIGH - 14) * Math.sqrt(count / most)) : 0;
    const place = { x: x(one.low + i * step), width: Math.max(0.5, x(one.low + step) - x(one.low) - 0.5) };
    make(svg, "rect", { class: "count", ...place, y: HIGH - high, height: high });
  });
  if (levels) {
    const last = levels.low + levels.step * (levels.count - 1);
    if (levels.count <= 64)
      for (let i = 0; i < levels.count; i++) {
        const at = x(levels.low + i * levels.step);
        make(svg, "line", { class: "level", x1: at, x2: at, y1: 12, y2: HIGH + 6 });
      }
    make(svg, "rect", { class: "range", x: x(levels.low), width: Math.max(1, x(last) - x(levels.low)), y: HIGH + 2, height: 4 });
  }
  make(svg, "text", { x: 0, y: 9 }, title);
  make(svg, "text", { x: 0, y: HIGH + 20 }, low.toPrecision(3));
  make(svg, "text", { x: WIDE, y: HIGH + 20, "text-anchor": "end" }, high.toPrecision(3));
  return svg;
}

function drawTensors() {
  const format = byId("format").value, place = byId("tensors");
  place.replaceChildren();
  for (const one of details.tensors) {
    const box = document.createElement("figure"), title = document.createElement("figcaption");
    const nats = one.sensitivity[format];
    title.textContent = one.layer + (nats === undefined ? "" : `: ${small(nats)} nats in ${format}`);
    box.append(title, histogram("weights, of their channel's largest", one.weights, one.weight_levels[format]));
    if (one.inputs) box.append(histogram("inputs", one.inputs, one.input_levels[format]));
    place.append(box);
  }
}

function tensors() {
  const known = details.tensors && details.tensors.length, choice = byId("format");
  choice.hidden = !known;
  byId("tensors-said").textContent = known
    ? "In the float network, heights as square roots. Lines are the levels of the format, the bar below is the range that they span."
    : "This front was saved without its network, or offers no formats.";
  if (!known) return;
  const formats = new Set(details.tensors.flatMap((one) => Object.keys(one.weight_levels)));
  for (const name of formats) choice.add(new Option(name, name));
  choice.selectedIndex = choice.options.length - 1;
  choice.addEventListener("change", drawTensors);
  drawTensors();
}

function losses() {
  const known = details.losses && Object.keys(details.losses).length;
  byId("losses-said").textContent = known
    ? `Signal to noise of each layer's output against the float network's, under the whole plan ${details.knee}, in dB: below 10 little is left of it.`
    : "It is not known where this front's knee loses accuracy: it is the float network, was trained, or its network was not at hand.";
  if (!known) return;
  const body = byId("losses").createTBody();
  for (const [name, db] of Object.entries(details.losses)) {
    const row = body.insertRow(), line = document.createElement("span"), both = document.createElement("span");
    line.className = "bar";
    line.style.width = `${Math.min(120, Math.max(1, 2 * (db ?? 60)))}px`;
    both.append(line, db === null ? "exact" : db.toFixed(1));
    cell(row, name, true);
    cell(row, both, true);
  }
}

async function plots() {
  const packed = Uint8Array.from(atob(byId("plotly").textContent), (one) => one.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(stream).text();
  document.head.append(script);
  const config = { displaylogo: false, responsive: true, modeBarButtonsToRemove: ["select2d", "lasso2d"] };
  for (const id of ["plot", "history"]) {
    const { data, layout } = read(`${id}-data`);
    await Plotly.newPlot(byId(id), data, layout, config);
    drawn[id] = true;
  }
  byId("plot").on("plotly_click", (event) => choose(event.points[0].customdata) && open("network"));
  paint();
  document.documentElement.dataset.ready = "yes";
}

const dark = matchMedia("(prefers-color-scheme: dark)");
document.documentElement.classList.toggle("dark", dark.matches);
byId("theme").addEventListener("click", () => {
  document.documentElement.classList.toggle("dark");
  paint();
});
tabs();
points();
losses();
tensors();
plots();
