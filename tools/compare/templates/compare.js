/* The page of two programs: the place where they part, errors along the program, the table of values. */

const POINTS = { width: 1160, height: 300, left: 62, top: 20, lane: 16 };
const LABEL = 58, NARROW = 700; // what a label takes; where two texts do not fit beside each other
const LANES = ["equal", "only in A", "only in B", "hidden", "other shape"];
const LANE_WORDS = { hidden: "not seen" };
const REGION_KINDS = { forward: 0, backward: 1, update: 2, end: 3 };
// How far from right: larger is worse. Logarithms where numbers span many powers of ten.
const MEASURES = {
  relative: { of: (v) => v.relative, log: true },
  sqnr: { of: (v) => v.sqnr, log: false },
  cosine: { of: (v) => (v.cosine === null ? null : Math.max(1 - v.cosine, 1e-16)), log: true },
  codes: { of: (v) => v.codes, log: false },
};

function drawPoints(values, first, measure) {
  const { width, height, left, top, lane } = POINTS, { of, log } = MEASURES[measure];
  const scaled = (n) => (log ? Math.log10(n) : n);
  const shown = (v) => { const n = of(v); return n !== null && n !== undefined && !v.equal && (!log || n > 0) && (measure === "sqnr" || n > 0) ? n : null; };
  const numbers = values.map(shown), known = numbers.filter((n) => n !== null).map(scaled);
  const lanes = LANES.filter((word) => values.some((v) => laneOf(v) === word));
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height + lanes.length * lane + 6}`, role: "img",
    "aria-label": "Errors along the program; the table below has the same in words" });
  const [low, high] = known.length ? around(known, false) : [0, 1];
  const x = (i) => left + ((width - left - 12) * (i + 0.5)) / values.length;
  const y = (n) => top + (height - top - 10) * (1 - (n - low) / (high - low));
  const marks = !known.length ? [] : log ? whole(low, high) : ticks(low, high);
  for (const n of marks)
    picture.append(svg("line", { class: "grid", x1: left, x2: width, y1: y(n), y2: y(n) }),
      svg("text", { x: left - 4, y: y(n) + 4, "text-anchor": "end" }, log ? `1e${n}` : measure === "codes" ? percent(n) : String(Number(n.toPrecision(3)))));
  lanes.forEach((word, i) => picture.append(svg("text", { x: left - 4, y: height + i * lane + 11, "text-anchor": "end" }, LANE_WORDS[word] || word)));
  const starts = values.flatMap((v, i) => (i && values[i - 1].region === v.region ? [] : [i]));
  starts.forEach((start, k) => {
    const from = x(start), to = k + 1 < starts.length ? x(starts[k + 1]) : width;
    if (k) picture.append(svg("line", { x1: from - 1, x2: from - 1, y1: 0, y2: height + lanes.length * lane }));
    if (to - from > LABEL) picture.append(svg("text", { x: from + 3, y: 12 }, values[start].region));
  });
  const drawn = values.map((v, i) => {
    const kind = `l${REGION_KINDS[v.region] ?? 6}`;
    if (numbers[i] !== null) return svg("g", { class: kind }, svg("circle", { cx: x(i), cy: y(scaled(numbers[i])), r: v.name === first ? 6 : 3.5 }));
    const at = lanes.indexOf(laneOf(v));
    return at < 0 ? null : svg("rect", { class: "tick", x: x(i) - 0.8, y: height + at * lane + 2, width: 1.6, height: lane - 5 });
  });
  picture.append(...drawn.filter(Boolean));
  const chosen = values.findIndex((v) => v.name === first);
  if (chosen >= 0 && numbers[chosen] !== null) {
    const px = x(chosen), py = y(scaled(numbers[chosen])), late = px > 0.8 * width;
    picture.append(svg("circle", { class: "ring", cx: px, cy: py, r: 8 }),
      svg("text", { class: "head halo", x: px + (late ? -12 : 12), y: Math.max(py - 8, top + 8), "text-anchor": late ? "end" : "start" }, `first: ${first}`));
  }
  const told = byId("point");
  for (const kind of ["pointerover", "click"])
    picture.addEventListener(kind, (event) => {
      const i = drawn.findIndex((d) => d && (d === event.target || d === event.target.parentNode));
      if (i >= 0) told.textContent = wordsOf(values[i]);
    });
  byId("points").replaceChildren(el("div", { class: "wide" }, picture));
}

/** Where a value stands that has no number; a number that cannot be drawn, such as that of zeros, has no place. */
const laneOf = (v) => (v.equal ? "equal" : v.where === "both" ? "" : v.where);

function wordsOf(v) {
  const place = `${v.name}: ${v.op || v.region}${v.layer ? ` of ${v.layer}` : ""}, ${v.format}; `;
  if (v.equal) return `${place}equal`;
  if (v.where !== "both") return place + (LANE_WORDS[v.where] || v.where);
  const numbers = [["relative", "relative error"], ["sqnr", "SQNR in dB"], ["cosine", "cosine"]]
    .filter(([key]) => v[key] !== null).map(([key, words]) => `${words} ${Number(v[key].toPrecision(4))}`);
  if (v.codes !== null) numbers.push(`${percent(v.codes)} of codes differ`);
  return place + (numbers.join(", ") || "not finite on one side");
}

function setUpValues() {
  const body = document.querySelector(".values tbody"), rows = [...body.rows];
  const which = byId("which"), find = byId("find"), order = byId("order");
  if (!rows.some((row) => row.dataset.parts === "1")) which.value = "all";
  const names = rows.map((row) => `${row.cells[0].textContent} ${row.cells[1].textContent}`.toLowerCase());
  function choose() {
    const asked = find.value.toLowerCase();
    let shown = 0;
    rows.forEach((row, i) => {
      const kept = which.value === "all" || row.dataset[which.value] === "1";
      row.hidden = !kept || !names[i].includes(asked);
      shown += !row.hidden;
    });
    byId("shown").textContent = `${shown} of ${rows.length} values`;
  }
  order.addEventListener("input", () =>
    body.append(...(order.value === "worst" ? [...rows].sort((a, b) => b.dataset.worst - a.dataset.worst) : rows)));
  for (const control of [which, find]) control.addEventListener("input", choose);
  choose();
}

start((data) => {
  const programs = setUpPrograms(data, { text: (name) => `the text of ${name}`, change: () => "from A to B" });
  const rows = data.first ? programs.around(1, [data.first.a, data.first.b]) : [];
  if (rows.length) {
    byId("around").append(el("h3", {}, "Both programs at this place"));
    drawChanges(byId("around"), rows, innerWidth > NARROW);
  }
  byId("measure").addEventListener("input", () => drawPoints(data.values, data.first?.name, byId("measure").value));
  drawPoints(data.values, data.first?.name, "relative");
  setUpValues();
  if (innerWidth <= NARROW) byId("view").value = "unified";
  programs.show(1);
});
