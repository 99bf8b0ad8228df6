/* Which tensor lives when, and where in memory: a rectangle each. */

const HEIGHT = 320, LEFT = 62, TOP = 18, LEAST = 0.4, LARGEST_FIRST = 25;

function setUpMemory(memory) {
  const place = byId("map"), told = byId("tensor");
  if (!memory.lives.length) {
    place.append(el("p", {}, "Nothing lives between the steps of this program."));
    return;
  }
  const width = 1160, unit = memory.planned ? "kernel" : "op";
  const x = (step) => LEFT + ((width - LEFT) * step) / memory.steps;
  const y = (bytes) => TOP + ((HEIGHT - TOP) * bytes) / memory.size;
  const picture = svg("svg", { viewBox: `0 0 ${width} ${HEIGHT + 2}`, role: "img",
    "aria-label": "Memory over the step; the table below has the same in words" });
  const drawn = memory.lives.map((life) => {
    const tall = y(life.bytes) - y(0);
    if (tall < LEAST) return null;
    const last = Math.min(life.last + 1, memory.steps);
    return svg("rect", { class: `b${life.shade}`, x: x(life.first), y: y(life.offset), height: tall,
      width: Math.max(x(last) - x(life.first), 1) });
  });
  picture.append(...drawn.filter(Boolean));
  for (const [name, start] of memory.regions) {
    if (start) picture.append(svg("line", { x1: x(start), x2: x(start), y1: 0, y2: HEIGHT }));
    const late = start > 0.9 * memory.steps;
    picture.append(svg("text", { x: x(start) + (late ? -4 : 4), y: 12, "text-anchor": late ? "end" : "start" }, name));
  }
  for (const share of [0, 0.25, 0.5, 0.75, 1])
    picture.append(svg("text", { x: 4, y: Math.min(y(share * memory.size) + 10, HEIGHT) }, size(Math.round(share * memory.size))));
  const peak = memory.peak;
  place.append(picture);
  const small = drawn.filter((r) => !r).length;
  if (small) place.append(el("small", {}, `${small} buffers are too small to be drawn.`));

  const where = (step) => `${unit} ${step}${memory.layers[step] ? ` (${memory.layers[step]})` : ""}`;
  told.textContent = `Most at one time: ${size(peak.bytes)}, at ${where(peak.step)}.`;
  const words = (life) => `${life.name} : ${life.type}, ${size(life.bytes)}${life.layer ? `, of ${life.layer}` : ""}; `
    + `lives from ${where(life.first)} to ${where(Math.min(life.last, memory.steps - 1))}`
    + (life.kept ? "; kept for backward" : "");
  const choose = (i) => {
    for (const rect of drawn) rect?.classList.remove("on");
    drawn[i]?.classList.add("on");
    if (drawn[i]) picture.append(drawn[i]);
    told.textContent = words(memory.lives[i]);
  };
  for (const kind of ["pointerover", "click"])
    picture.addEventListener(kind, (event) => {
      const i = drawn.indexOf(event.target);
      if (i >= 0) choose(i);
    });
  byId("kept-only").addEventListener("input", (event) => {
    drawn.forEach((rect, i) => rect?.classList.toggle("faint", event.target.checked && !memory.lives[i].kept));
  });

  const largest = memory.lives.map((life, i) => [life, i]).sort((a, b) => b[0].bytes - a[0].bytes);
  const rows = largest.map(([life, i]) => () => {
    const name = el("button", { type: "button", class: "link" }, life.name);
    name.addEventListener("click", () => choose(i));
    return [name, life.layer || "-", el("span", {}, swatch(life.shade), ` ${life.type}`), size(life.bytes),
      String(life.first), String(Math.min(life.last, memory.steps - 1)), life.kept ? "yes" : ""];
  });
  longTable(byId("tensors"), "The largest buffers",
    ["tensor", "layer", "type", "bytes#", `from ${unit}#`, `to ${unit}#`, "kept for backward"], rows, LARGEST_FIRST);
}
