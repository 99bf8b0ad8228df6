/* Kernels in their order, and a line of time where they were timed. */

const LANE = 34, MANY_KERNELS = 25;

function setUpKernels(kernels) {
  if (!kernels.length) return;
  const timed = kernels.some((k) => k.seconds !== null);
  if (timed) timeline(kernels);
  const numbered = kernels.map((k, i) => [i, k]);
  if (timed) numbered.sort((a, b) => b[1].seconds - a[1].seconds);
  const columns = ["no.#", "region", "layer", "ops", "reads", "makes", "unit", ...(timed ? ["time#"] : [])];
  const rows = numbered.map(([i, k]) => () => {
    const [number, region, ...others] = kernelRow(i, k, timed);
    return [number, region, k.layer || "-", ...others];
  });
  longTable(byId("kernels"), timed ? "Kernels, the slowest first" : "Kernels in their order", columns, rows, MANY_KERNELS);
}

function timeline(kernels) {
  const width = 1160, left = 62, total = kernels.reduce((sum, k) => sum + k.seconds, 0) || 1;
  const lanes = [...new Set(kernels.map((k) => k.region))];
  const picture = svg("svg", { viewBox: `0 0 ${width} ${lanes.length * LANE + 16}`, role: "img",
    "aria-label": "Kernels over time; the table below has the same in words" });
  let now = 0;
  const drawn = kernels.map((k) => {
    const x = left + ((width - left) * now) / total;
    now += k.seconds;
    return svg("rect", { class: `b${k.shade}`, x, y: lanes.indexOf(k.region) * LANE + 3, height: LANE - 8,
      width: Math.max(((width - left) * k.seconds) / total, 0.2) });
  });
  picture.append(...drawn);
  lanes.forEach((name, i) => picture.append(svg("text", { x: 4, y: i * LANE + 20 }, name)));
  for (const share of [0, 0.25, 0.5, 0.75])
    picture.append(svg("text", { x: left + (width - left) * share, y: lanes.length * LANE + 12 }, `${Number((1e3 * total * share).toPrecision(3))} ms`));
  const told = byId("kernel");
  for (const kind of ["pointerover", "click"])
    picture.addEventListener(kind, (event) => {
      const i = drawn.indexOf(event.target);
      if (i < 0) return;
      drawn.forEach((rect, k) => rect.classList.toggle("on", k === i));
      const k = kernels[i];
      told.textContent = `kernel ${i}: ${k.ops.join(" + ")}${k.layers.length ? `, of ${k.layers.join(", ")}` : ""}; `
        + `${micro(k.seconds)}, ${percent(k.seconds / total)}${k.unit ? `, multiplied in ${k.unit}` : ""}`;
    });
  byId("timeline").append(picture);
}
