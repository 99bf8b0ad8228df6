/* What was watched: a line in each cell of the tables, exponents over the layers, numbers over the steps. */

const MOST_EXPONENTS = 40, WORST_SHOWN = 3;
const NUMBERS = [
  // field, title, how its axis reads, and which end is bad
  ["sqnr", "SQNR, dB", {}, -1],
  ["underflow", "became 0", { percentages: true }, 1],
  ["saturation", "clipped", { percentages: true }, 1],
  ["gain", "gain of rounding (1: no bias)", {}, -1],
  ["cosine", "cosine with f32", {}, -1],
  ["error", "distance from f32", { percentages: true }, 1],
  ["scale", "GradScale", { log: true }, 0],
  ["clip", "clip", {}, 0],
  ["oscillation", "codes that turned back", { percentages: true }, 1],
  ["changed", "codes that changed", { percentages: true }, 1],
  ["rms", "root mean square", { log: true }, 0],
  ["largest", "largest", { log: true }, 0],
];
const ROLE_WORDS = {
  x: "x: data that products read", w: "w: weights", a: "a: first operand of a product of activations", b: "b: its second operand",
  y: "y: results", dy: "dY: gradients that products read", dx: "dX", dw: "dW", da: "da", db: "db",
  mean: "mean over the batch", var: "variance over the batch", value: "others",
};

function setUpWatched(watched) {
  const { steps, tensors } = watched;
  let lead = () => {};
  const section = byId("watched");
  section.addEventListener("click", (event) => {
    const button = event.target.closest("[data-open]");
    if (button) lead(button.dataset.open);
  });
  for (const cell of section.querySelectorAll("td[data-tensor]")) {
    const line = spark(tensors[cell.dataset.tensor].curves[cell.dataset.field] || []);
    if (line) cell.prepend(line, " ");
  }
  for (const made of section.querySelectorAll(".watched-table")) setUpOrder(made);
  const role = byId("role"), look = byId("look");
  const first = ["dy", "x", "w"].find((r) => tensors.some((t) => t.role === r));
  for (const name of new Set(tensors.map((t) => t.role))) role.append(new Option(ROLE_WORDS[name] || name, name));
  if (first) role.value = first;
  steps.forEach((step, i) => look.append(new Option(`step ${step}`, i)));
  look.value = String(steps.length - 1);

  function draw() {
    const chosen = tensors.filter((t) => t.role === role.value);
    drawExponents(chosen, Number(look.value), steps);
    drawCurves(byId("curves"), chosen, steps);
  }
  for (const control of [role, look]) control.addEventListener("input", draw);
  draw();

  /** Names lead to the rows of the layers that have one. */
  function leadTo(layers) {
    lead = layers.open;
    for (const button of section.querySelectorAll("[data-open]")) button.disabled = !layers.knows(button.dataset.open);
  }

  /** What was watched of a layer, for its opened row. */
  function panel(name) {
    const own = tensors.filter((t) => t.layer === name);
    if (!own.length) return [];
    const short = own.map((t) => ({ ...t, name: t.role === "value" ? t.name : [t.role, t.of].filter(Boolean).join(".") }));
    const spread = el("div", { class: "charts" }, ...short.flatMap((t) => overTime(t, steps)));
    const curves = el("div", { class: "charts" });
    drawCurves(curves, short, steps);
    return [el("h4", {}, "Watched: numbers over the steps"), curves, el("h4", {}, "Watched: exponents over the steps"), shareKeys(), spread];
  }

  return { panel, leadTo };
}

/** A click on a head sorts by its column, the worst first; another one as in the network. */
function setUpOrder(made) {
  const body = made.tBodies[0], rows = [...body.rows];
  let sorted = null;
  made.tHead.addEventListener("click", (event) => {
    const head = event.target.closest("th"), bad = Number(head?.querySelector("button")?.dataset.bad ?? 0) || 1;
    if (!head?.cellIndex) return;
    sorted = sorted === head ? null : head;
    const number = (row) => {
      const value = row.cells[head.cellIndex].dataset.value;
      return value === undefined ? -Infinity : value === "nan" ? Infinity : bad * Number(value.replace("inf", "Infinity"));
    };
    for (const th of made.tHead.rows[0].cells) th.setAttribute("aria-sort", th === sorted ? "other" : "none");
    body.append(...(sorted ? [...rows].sort((a, b) => number(b) - number(a) || rows.indexOf(a) - rows.indexOf(b)) : rows));
  });
}

/** A chart for each number that some of the tensors have; the same line has the same colour in all. */
function drawCurves(place, tensors, steps) {
  place.replaceChildren();
  for (const [field, title, axis, bad] of NUMBERS) {
    const series = tensors.flatMap((t) => (t.curves[field] ? [{ name: t.name, values: t.curves[field] }] : []));
    const few = tensors.length <= KINDS;
    const names = few ? tensors.map((t) => t.name) : worstOf(series, bad);
    const kinds = new Map(names.map((name, i) => [name, i]));
    const chart = lineChart({ title, steps, series, kinds, ...axis });
    if (!chart) continue;
    if (!few && names.length) chart.append(keys(names, series.length > names.length ? `the worst of ${series.length} at last` : ""));
    place.append(chart);
  }
  if (tensors.length > 1 && tensors.length <= KINDS) place.prepend(keys(tensors.map((t) => t.name), ""));
}

/** The names of the series that end worst. */
function worstOf(series, bad) {
  if (!bad) return [];
  const last = (s) => s.values.findLast((v) => v !== null);
  return series.filter((s) => last(s) !== undefined && (bad < 0 || last(s) > 0)).sort((a, b) => bad * (last(b) - last(a))).slice(0, WORST_SHOWN).map((s) => s.name);
}

/** The lowest exponent to draw and how many, so that all that matter are there; `null` of nothing. */
function extent(spreads) {
  const known = spreads.filter((s) => s && s.length > 3);
  if (!known.length) return null;
  const high = Math.max(...known.map((s) => s[0] + s.length - 4));
  const low = Math.max(Math.min(...known.map((s) => s[0])), high - MOST_EXPONENTS + 1);
  return { low, columns: high - low + 1 };
}

/** The share of an exponent; what lies below those that are drawn counts with the lowest. */
function shareOf(spread, low, column) {
  if (!spread) return 0;
  const at = (i) => (i >= 3 && i < spread.length ? spread[i] : 0) / 1000;
  const place = low + column - spread[0] + 3;
  if (column > 0) return at(place);
  let sum = 0;
  for (let i = 3; i <= place; i++) sum += at(i);
  return sum;
}

/** Layers as rows, exponents as columns: ahead of rounding, and as each product reads it. */
function drawExponents(tensors, look, steps) {
  const place = byId("exponents"), told = byId("exponent");
  const layers = [...new Set(tensors.map((t) => t.layer))];
  const panels = panelsOf(tensors);
  const drawn = extent(tensors.flatMap((t) => [t.before?.[look], t.after?.[look]]));
  told.textContent = "";
  if (!drawn) {
    place.replaceChildren(el("p", { class: "note" }, `No exponents were counted at step ${steps[look]}.`));
    return;
  }
  const width = 1160, left = 190, gap = 22, tall = layers.length > 80 ? 8 : 12, top = 34;
  const wide = Math.min((width - left) / panels.length - gap, 520) / (drawn.columns + 2), apart = wide * (drawn.columns + 2) + gap;
  const height = top + layers.length * tall + 16;
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "Exponents by layer" });
  layers.forEach((name, i) => {
    if (tall < 12 && i % 2) return;
    const short = name.length > 30 ? `…${name.slice(-29)}` : name || "(no layer)";
    picture.append(svg("text", { x: left - 6, y: top + i * tall + tall / 2 + 4, "text-anchor": "end" }, short));
  });
  panels.forEach((panel, p) => {
    const x = left + p * apart, from = x + 2 * wide;
    const of = layers.map((name) => panel.of.find((t) => t.layer === name)?.[panel.which]?.[look]);
    picture.append(svg("text", { class: "head", x, y: 12 }, panel.title));
    grid(picture, { x, y: top, wide: 1.4 * wide, tall, columns: 1, rows: layers.length, share: (c, r) => (of[r]?.[1] || 0) / 1000 });
    grid(picture, { x: from, y: top, wide, tall, columns: drawn.columns, rows: layers.length, share: (c, r) => shareOf(of[r], drawn.low, c) });
    picture.append(svg("text", { x, y: 28 }, "0"));
    for (let c = drawn.columns - 1; c >= 0; c -= 4)
      if (c > 0 || drawn.columns < 4) picture.append(svg("text", { x: from + (c + 0.5) * wide, y: 28, "text-anchor": "middle" }, String(drawn.low + c)));
  });
  const tell = (event) => {
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(picture.getScreenCTM().inverse());
    const p = Math.floor((at.x - left) / apart), r = Math.floor((at.y - top) / tall), panel = panels[p];
    const c = Math.floor((at.x - left - p * apart) / wide) - 2;
    const spread = layers[r] !== undefined && panel?.of.find((t) => t.layer === layers[r])?.[panel.which]?.[look];
    if (!spread || c >= drawn.columns) return;
    const exponent = drawn.low + c, share = c < 0 ? spread[1] / 1000 : shareOf(spread, drawn.low, c);
    const what = c < 0 ? "are 0" : c === 0 ? `are below 2^${exponent + 1}` : `are from 2^${exponent} to 2^${exponent + 1}`;
    told.textContent = `${layers[r]}, ${panel.title}: ${percent(share)} ${what}`;
  };
  for (const kind of ["pointermove", "click"]) picture.addEventListener(kind, tell);
  place.replaceChildren(el("p", {}, `Columns are exponents of 2, at step ${steps[look]}; the first is what is 0. Point at a cell.`), shareKeys(),
    el("div", { class: "wide" }, picture));
}

/** What is drawn beside each other: the tensors as they were, and their codes by the product that reads them. */
function panelsOf(tensors) {
  const reading = [...new Set(tensors.map((t) => t.of))];
  const firsts = tensors.filter((t, i) => tensors.findIndex((u) => u.layer === t.layer) === i);
  const rounded = tensors.some((t) => t.after);
  const made = [{ title: rounded ? "ahead of rounding" : "as it is", which: "before", of: firsts }];
  for (const of of reading) {
    const some = tensors.filter((t) => t.of === of && t.after);
    if (some.length) made.push({ title: of ? `as d${of.slice(1).toUpperCase()} reads it` : "as it is read", which: "after", of: some });
  }
  return made;
}

/** Of one tensor: exponents upwards, looks from left to right. */
function overTime(t, steps) {
  const drawn = extent([...(t.before || []), ...(t.after || [])]);
  if (!drawn) return [];
  const { width, left, top } = CHART, tall = 6, rows = drawn.columns, inner = (width - left - 20) / (t.after ? 2 : 1);
  const wide = Math.min(inner / steps.length, 24), height = top + rows * tall + 12 + tall;
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height + 14}`, role: "img", "aria-label": `Exponents of ${t.name} over the steps` });
  for (let r = 0; r < rows; r += 4)
    picture.append(svg("text", { x: left - 4, y: top + r * tall + 7, "text-anchor": "end" }, `2^${drawn.low + rows - 1 - r}`));
  picture.append(svg("text", { x: left - 4, y: top + rows * tall + 12, "text-anchor": "end" }, "0"));
  [["before", "ahead"], ["after", "rounded"]].forEach(([which, words], i) => {
    const spreads = t[which];
    if (!spreads) return;
    const x = left + i * (inner + 16);
    const share = (c, r) => shareOf(spreads[c], drawn.low, rows - 1 - r);
    grid(picture, { x, y: top, wide, tall, columns: steps.length, rows, share });
    grid(picture, { x, y: top + rows * tall + 5, wide, tall, columns: steps.length, rows: 1, share: (c) => (spreads[c]?.[1] || 0) / 1000 });
    picture.append(svg("text", { x, y: height + 8 }, `${words}, steps ${steps[0]} to ${steps.at(-1)}`));
  });
  return [el("figure", { class: "chart" }, el("figcaption", {}, `${t.name} `, el("small", {}, t.quantized ? `${t.format} to ${t.quantized}` : t.format)), picture)];
}
