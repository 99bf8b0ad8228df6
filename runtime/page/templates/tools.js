/* Small tools: making elements, numbers in words, and unpacking what the page carries. */

/** An element with attributes and children; text is never read as HTML. */
function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function svg(tag, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

const byId = (id) => document.getElementById(id);

function size(bytes) {
  for (const [unit, name] of [[2 ** 30, "GiB"], [2 ** 20, "MiB"], [2 ** 10, "KiB"]])
    if (bytes >= unit) return `${(bytes / unit).toFixed(1)} ${name}`;
  return `${bytes} B`;
}

function count(n) {
  for (const [unit, letter] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]])
    if (n >= unit) return `${Number((n / unit).toPrecision(3))} ${letter}`;
  return String(n);
}

const percent = (share) => `${(100 * share).toFixed(1)} %`;
const micro = (seconds) => `${Number((1e6 * seconds).toPrecision(3))} µs`;
const swatch = (bits) => el("i", { class: `swatch b${bits}`, "aria-hidden": "true" });

/** A table of rows of strings or elements; columns whose name ends in "#" are numbers. */
function table(caption, columns, rows) {
  const number = columns.map((name) => name.endsWith("#"));
  const head = columns.map((name, i) => el("th", number[i] ? { class: "n" } : {}, name.replace("#", "")));
  const made = el("table", {}, el("caption", {}, caption), el("thead", {}, el("tr", {}, ...head)));
  const body = el("tbody");
  for (const row of rows)
    body.append(el("tr", {}, ...row.map((cell, i) => el("td", number[i] ? { class: "n" } : {}, cell))));
  made.append(body);
  return made;
}

/** The first rows of a table that may be long, and a button for the others. */
function longTable(place, caption, columns, rows, first) {
  const draw = (n) => {
    place.replaceChildren(table(caption, columns, rows.slice(0, n).map((row) => row())));
    if (n >= rows.length) return;
    const more = el("button", { type: "button" }, `show all ${rows.length}`);
    more.addEventListener("click", () => draw(rows.length));
    place.append(more);
  };
  draw(first);
}

async function unpack(letters) {
  if (typeof DecompressionStream === "undefined")
    throw new Error("it has no DecompressionStream, as Chrome 80, Firefox 113, Safari 16.4 and newer ones have");
  const bytes = Uint8Array.from(atob(letters), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).json();
}
