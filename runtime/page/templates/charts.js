/* Charts: lines over steps, a line in a cell, and grids of shares by exponent. */

const KINDS = 8; // lines of a chart that have a colour of their own
const LEVELS = [0.001, 0.01, 0.03, 0.1, 0.3]; // of shares; the style sheet has a shade for each
const LEVEL_WORDS = ["below 1 %", "1 to 3 %", "3 to 10 %", "10 to 30 %", "more"];
const CHART = { width: 330, height: 150, left: 46, right: 8, top: 8, bottom: 20 };

/** What ticks a line of numbers has: three to six, of one round distance. */
function ticks(low, high) {
  const rough = (high - low) / 4, power = 10 ** Math.floor(Math.log10(rough));
  const apart = [1, 2, 2.5, 5, 10].map((n) => n * power).find((n) => n >= rough);
  const found = [];
  for (let i = Math.ceil(low / apart - 1e-9); i * apart <= high + apart * 1e-9; i++) found.push(i * apart);
  return found;
}

/** Ends of an axis around numbers, never of no length. */
function around(values, log) {
  let low = Math.min(...values), high = Math.max(...values);
  if (high - low < 1e-9 * Math.max(Math.abs(high), 1e-30)) {
    const half = log ? 0.5 : Math.abs(high) / 20 || 0.5;
    low -= half;
    high += half;
  }
  return [low, high];
}

/**
 * A chart of lines: `series` are {name, values}, with a value or null for each of `steps`. Those of which
 * `kinds` says a number have a colour; `percentages` and `log` are about the axis.
 */
function lineChart({ title, steps, series, kinds, percentages = false, log = false }) {
  const { width, height, left, right, top, bottom } = CHART;
  const scaled = (v) => (log ? Math.log2(v) : v);
  const shown = series.map((s) => ({ ...s, points: s.values.flatMap((v, i) =>
    (v === null || v === undefined || (log && v <= 0) ? [] : [[steps[i], scaled(v), v]])) })).filter((s) => s.points.length);
  if (!shown.length) return null;
  const [low, high] = around(shown.flatMap((s) => s.points.map((p) => p[1])), log);
  const [first, last] = around(steps, false);
  const x = (step) => left + ((width - left - right) * (step - first)) / (last - first);
  const y = (v) => top + (height - top - bottom) * (1 - (v - low) / (high - low));
  const words = (v) => percentages ? `${Number((100 * v).toPrecision(3))} %` : log ? power(v) : String(Number(v.toPrecision(3)));
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${title} over the steps` });
  const marks = log && high - low >= 1 ? whole(low, high) : ticks(low, high);
  for (const v of marks) {
    picture.append(svg("line", { class: "grid", x1: left, x2: width - right, y1: y(v), y2: y(v) }),
      svg("text", { x: left - 4, y: y(v) + 4, "text-anchor": "end" }, words(v)));
  }
  const ends = steps.length > 1 ? [steps[0], steps.at(-1)] : steps;
  ends.forEach((step, i) => picture.append(svg("text", { x: x(step), y: height - 4,
    "text-anchor": ends.length < 2 ? "middle" : i ? "end" : "start" }, i ? String(step) : `step ${step}`)));
  const drawn = [...shown].sort((a, b) => (kinds.has(a.name) ? 1 : 0) - (kinds.has(b.name) ? 1 : 0));
  for (const s of drawn) {
    const kind = kinds.has(s.name) ? `kind l${kinds.get(s.name)}` : "faint";
    const path = s.points.map((p, i) => `${i ? "L" : "M"}${x(p[0]).toFixed(1)} ${y(p[1]).toFixed(1)}`).join("");
    const told = svg("title", {}, `${s.name}: ${words(s.points.at(-1)[1])} at step ${s.points.at(-1)[0]}`);
    const line = svg("g", { class: kind }, told, svg("path", { class: "line", d: path }));
    if (s.points.length < 2 || (kinds.has(s.name) && s.points.length <= 12))
      for (const p of s.points) line.append(svg("circle", { cx: x(p[0]), cy: y(p[1]), r: 2 }));
    picture.append(line);
  }
  return el("figure", { class: "chart" }, el("figcaption", {}, title), picture);
}

const power = (v) => {
  const value = 2 ** v;
  return value >= 1 && value < 1e4 ? String(Number(value.toPrecision(3))) : `2^${Number(v.toPrecision(3))}`;
};

function whole(low, high) {
  const apart = Math.max(1, Math.ceil((high - low) / 5)), found = [];
  for (let v = Math.ceil(low / apart) * apart; v <= high; v += apart) found.push(v);
  return found;
}

/** Which line is of which colour, in words. */
function keys(names, more) {
  const made = el("p", { class: "keys" });
  names.forEach((name, i) => made.append(el("span", {}, svg("svg", { class: `l${i}`, viewBox: "0 0 20 6", "aria-hidden": "true" },
    svg("path", { class: "line", d: "M0 3H20" })), name)));
  if (more) made.append(el("small", {}, more));
  return made;
}

/** A small line without axes; null where there are no two numbers. */
function spark(values) {
  const points = values.map((v, i) => [i, v]).filter((p) => p[1] !== null && p[1] !== undefined);
  if (points.length < 2) return null;
  const [low, high] = around(points.map((p) => p[1]), false), last = Math.max(values.length - 1, 1);
  const d = points.map((p, i) => `${i ? "L" : "M"}${(1 + (46 * p[0]) / last).toFixed(1)} ${(13 - (11 * (p[1] - low)) / (high - low)).toFixed(1)}`);
  return svg("svg", { class: "spark", viewBox: "0 0 48 14", "aria-hidden": "true" }, svg("path", { class: "line", d: d.join("") }));
}

/** Cells of a grid by shade, one path for each: `share(column, row)` is 0 where there is nothing. */
function grid(picture, { x, y, wide, tall, columns, rows, share }) {
  const paths = LEVELS.map(() => []);
  for (let r = 0; r < rows; r++)
    for (let c = 0; c < columns; c++) {
      const s = share(c, r), level = LEVELS.findLastIndex((least) => s >= least);
      if (level >= 0) paths[level].push(`M${(x + c * wide).toFixed(1)} ${(y + r * tall).toFixed(1)}h${wide.toFixed(2)}v${tall.toFixed(2)}h-${wide.toFixed(2)}z`);
    }
  picture.append(svg("rect", { class: "frame", x, y, width: columns * wide, height: rows * tall }));
  paths.forEach((d, i) => d.length && picture.append(svg("path", { class: `h${i}`, d: d.join("") })));
}

function shareKeys() {
  const made = el("p", { class: "legend" }, "share of a tensor's numbers: ");
  LEVEL_WORDS.forEach((words, i) => made.append(svg("svg", { class: "swatch", viewBox: "0 0 10 10", "aria-hidden": "true" },
    svg("rect", { class: `h${i}`, width: 10, height: 10 })), ` ${words} \u00a0 `));
  return made;
}
