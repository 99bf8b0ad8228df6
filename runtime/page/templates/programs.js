/* Programs after every pass: the first as text, each other as edits of the one before. */

const CONTEXT = 3, NEIGHBOURS = 8, FIRST_ROWS = 600;

const PASS_WORDS = { text: (name) => `the text after ${name}`, change: (name) => `what ${name} changed` };

function setUpPrograms(data, words = PASS_WORDS) {
  const { names, first, edits } = data.stages;
  const lines = data.stages.lines.split("\n");
  const texts = [first];
  for (const changes of edits) texts.push(applied(texts.at(-1), changes));
  const view = byId("view"), layer = byId("of-layer"), place = byId("program");
  const buttons = [...document.querySelectorAll("#passes button")];
  let stage = 0;

  for (const name of new Set(data.layers.map((l) => l.name).filter(Boolean))) layer.append(new Option(name, name));
  byId("passes").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) show(Number(button.dataset.stage));
  });
  byId("earlier").addEventListener("click", () => show(Math.max(0, stage - 1)));
  byId("later").addEventListener("click", () => show(Math.min(names.length - 1, stage + 1)));
  for (const control of [view, layer]) control.addEventListener("input", () => show(stage));

  function show(next) {
    stage = next;
    for (const button of buttons) button.setAttribute("aria-current", String(Number(button.dataset.stage) === stage));
    const whole = stage === 0 || view.value === "text";
    place.replaceChildren(el("h3", {}, (whole ? words.text : words.change)(names[stage])));
    if (whole) place.append(text(stage, layer.value));
    else drawChanges(place, changed(stage, layer.value), view.value === "split");
  }

  function text(index, only) {
    const own = owners(texts[index], lines);
    const chosen = texts[index].filter((_, i) => !only || own[i] === only);
    const made = el("pre", { class: "text", tabindex: "0" });
    made.textContent = chosen.map((i) => lines[i]).join("\n") || "no line belongs to this layer";
    return made;
  }

  /** Rows [sign, old number, new number, text]; only those near a change. */
  const changed = (index, only) => near(compared(index, only));

  /** A few rows of the whole on both sides of where one of the texts begins. */
  function around(index, starts) {
    const rows = compared(index, "");
    const at = rows.findIndex((row) => starts.some((text) => text && row[3].trim().startsWith(text)));
    return at < 0 ? [] : rows.slice(Math.max(0, at - NEIGHBOURS), at + NEIGHBOURS + 1);
  }

  function compared(index, only) {
    const before = texts[index - 1], after = texts[index];
    const ownersBefore = owners(before, lines), ownersAfter = owners(after, lines);
    const rows = [];
    const old = (a, b, sign, shift) => {
      for (let i = a; i < b; i++)
        if (!only || ownersBefore[i] === only) rows.push([sign, i + 1, sign === " " ? i + 1 + shift : 0, lines[before[i]]]);
    };
    let at = 0, shift = 0;
    for (const [start, removed, added] of edits[index - 1]) {
      old(at, start, " ", shift);
      old(start, start + removed, "-", 0);
      added.forEach((line, k) => {
        const number = start + shift + k;
        if (!only || ownersAfter[number] === only) rows.push(["+", 0, number + 1, lines[line]]);
      });
      at = start + removed;
      shift += added.length - removed;
    }
    old(at, before.length, " ", shift);
    return rows;
  }

  /** The lines of a layer in the final program, a block for each region. */
  function linesOf(name) {
    const last = texts.at(-1), own = owners(last, lines), regions = regionsOf(last, lines);
    const blocks = new Map();
    last.forEach((line, i) => {
      if (own[i] === name && name && !lines[line].startsWith("  #"))
        blocks.set(regions[i], [...(blocks.get(regions[i]) || []), lines[line].trim()]);
    });
    return [...blocks].flatMap(([region, found]) => {
      const code = el("pre", { tabindex: "0" });
      code.textContent = found.join("\n");
      return [el("small", {}, `IR, ${region}`), code];
    });
  }

  function showLayer(name) {
    layer.value = name;
    const busy = names.findIndex((_, i) => i > 0 && changed(i, name).length);
    show(stage > 0 && changed(stage, name).length ? stage : Math.max(busy, 0));
    byId("programs").scrollIntoView();
    place.focus({ preventScroll: true });
  }

  return { show, linesOf, showLayer, around, count: names.length };
}

function applied(text, changes) {
  const made = [];
  let at = 0;
  for (const [start, removed, added] of changes) {
    for (; at < start; at++) made.push(text[at]);
    for (const line of added) made.push(line);
    at = start + removed;
  }
  for (; at < text.length; at++) made.push(text[at]);
  return made;
}

/** Of each line of a text, the layer that the nearest comment above it names. */
function owners(text, lines) {
  let owner = "";
  return text.map((i) => {
    const line = lines[i];
    if (line.startsWith("  # ")) owner = line.slice(4);
    else if (!line.startsWith("  ")) owner = "";
    return owner;
  });
}

function regionsOf(text, lines) {
  let region = "";
  return text.map((i) => {
    if (/^\w+:$/.test(lines[i])) region = lines[i].slice(0, -1);
    return region;
  });
}

/** Changed rows with some context; null stands for rows that are left out. */
function near(rows) {
  const keep = new Set();
  rows.forEach(([sign], i) => {
    if (sign !== " ") for (let k = Math.max(0, i - CONTEXT); k <= Math.min(rows.length - 1, i + CONTEXT); k++) keep.add(k);
  });
  const kept = [];
  let last = -1;
  for (const i of [...keep].sort((a, b) => a - b)) {
    if (i > last + 1) kept.push(null);
    kept.push(rows[i]);
    last = i;
  }
  return kept;
}

function drawChanges(place, rows, split) {
  if (!rows.length) {
    place.append(el("p", {}, "It changed no line here."));
    return;
  }
  const made = (split ? paired(rows) : rows.map((row) => row && [row]));
  const body = el("tbody", { class: "code" });
  const grid = el("table", { class: split ? "diff split" : "diff" });
  if (split) grid.append(el("colgroup", {}, ...["3.2rem", "auto", "3.2rem", "auto"].map((w) => el("col", { style: `width:${w}` }))));
  grid.append(body);
  place.append(el("div", { class: "scroll" }, grid));
  const draw = (from, to) => body.append(...made.slice(from, to).map(split ? splitRow : unifiedRow));
  draw(0, FIRST_ROWS);
  if (made.length <= FIRST_ROWS) return;
  const more = el("button", { type: "button" }, `show all ${made.length} rows`);
  more.addEventListener("click", () => { draw(FIRST_ROWS, made.length); more.remove(); });
  place.append(more);
}

/** What a line defines: the names ahead of its sign of equality. */
const defined = (row) => row[3].split(" = ")[0];

/** Removed lines beside the added ones that define the same, others where they come. */
function paired(rows) {
  const made = [];
  let removed = [], added = [];
  const flush = () => {
    const names = new Set(removed.map(defined));
    while (removed.length || added.length) {
      const waits = added.length && names.has(defined(added[0]));
      if (!removed.length || (added.length && !waits)) made.push([undefined, added.shift()]);
      else if (waits && defined(added[0]) === defined(removed[0])) made.push([removed.shift(), added.shift()]);
      else made.push([removed.shift(), undefined]);
    }
  };
  for (const row of rows) {
    if (row && row[0] === "-") { if (added.length) flush(); removed.push(row); }
    else if (row && row[0] === "+") added.push(row);
    else { flush(); made.push(row && [row, row]); }
  }
  flush();
  return made;
}

const kind = { "+": "add", "-": "del", " ": "" };
const gap = (columns) => el("tr", { class: "gap" }, el("td", { colspan: columns }, "⋯"));

function unifiedRow(row) {
  if (!row) return gap(3);
  const [sign, before, after, text] = row[0];
  return el("tr", { class: kind[sign] }, el("td", { class: "no" }, String(before || "")),
    el("td", { class: "no" }, String(after || "")), el("td", {}, `${sign} ${text}`));
}

function splitRow(row) {
  if (!row) return gap(4);
  const [before, after] = row;
  const both = before && after && before[0] === "-" && defined(before) === defined(after) ? marked(before[3], after[3]) : null;
  const side = (one, number, part) => [
    el("td", { class: "no" }, one ? String(one[number]) : ""),
    el("td", { class: one ? kind[one[0]] : "" }, ...(one ? [`${one[0]} `, ...(part || [one[3]])] : [""])),
  ];
  return el("tr", {}, ...side(before, 1, both && both[0]), ...side(after, 2, both && both[1]));
}

/** Two lines cut where they part and meet again. */
function marked(a, b) {
  let start = 0, end = 0;
  while (start < Math.min(a.length, b.length) && a[start] === b[start]) start++;
  while (end < Math.min(a.length, b.length) - start && a.at(-1 - end) === b.at(-1 - end)) end++;
  return [a, b].map((s) => [s.slice(0, start), el("mark", {}, s.slice(start, s.length - end)), s.slice(s.length - end)]);
}
