/* The table of layers: opening a layer, finding, ordering. */

function setUpLayers(data, programs, watched) {
  const body = document.querySelector(".layers tbody");
  const rows = [...body.querySelectorAll("tr.layer")];
  body.addEventListener("click", (event) => {
    const button = event.target.closest("tr.layer button");
    if (!button) return;
    const row = button.closest("tr");
    toggle(row, button.dataset.direction || "");
  });

  function toggle(row, direction) {
    const open = row.nextElementSibling?.classList.contains("detail") ? row.nextElementSibling : null;
    if (open) open.remove();
    const closing = open && open.dataset.direction === direction;
    row.querySelector(".name").setAttribute("aria-expanded", String(!closing));
    if (!closing) row.after(detail(row, data.layers[row.dataset.layer], direction));
  }

  function detail(row, layer, direction) {
    const cell = el("td", { colspan: row.children.length });
    if (layer.gemms.length) cell.append(gemmTable(layer, direction));
    if (watched) cell.append(...watched.panel(layer.name));
    if (layer.kept.length || layer.torch) cell.append(keptTable(layer));
    const own = data.kernels.flatMap((k, i) => (k.layers.includes(layer.name) ? [[i, k]] : []));
    if (own.length) cell.append(kernelTable(`Kernels (${own.length} of ${data.kernels.length})`, own));
    cell.append(...programs.linesOf(layer.name));
    const changes = el("button", { type: "button" }, "what each pass did to this layer");
    changes.addEventListener("click", () => programs.showLayer(layer.name));
    cell.append(changes);
    return el("tr", { class: "detail", "data-direction": direction }, cell);
  }

  const place = (row) => Number(row.dataset.layer);
  const find = byId("find"), order = byId("order"), products = byId("products");
  function arrange() {
    const key = order.value;
    const sorted = [...rows].sort((a, b) =>
      key === "place" ? place(a) - place(b) : b.dataset[key] - a.dataset[key] || place(a) - place(b));
    const details = new Map(rows.map((row) => [row, row.nextElementSibling?.matches(".detail") ? row.nextElementSibling : null]));
    let shown = 0;
    for (const row of sorted) {
      const name = data.layers[row.dataset.layer].name.toLowerCase();
      row.hidden = !name.includes(find.value.toLowerCase()) || (products.checked && row.classList.contains("plain"));
      row.style.display = row.hidden ? "none" : "";
      body.append(row);
      const open = details.get(row);
      if (open) { open.style.display = row.hidden ? "none" : ""; body.append(open); }
      shown += !row.hidden;
    }
    byId("shown").textContent = shown === rows.length ? "" : `${shown} of ${rows.length} layers`;
  }
  for (const control of [find, order, products]) control.addEventListener("input", arrange);

  /** Open a layer by name and go there. */
  function open(name) {
    const row = rows.find((r) => data.layers[r.dataset.layer].name === name);
    if (!row) return;
    if (row.hidden) { find.value = ""; products.checked = false; arrange(); }
    if (!row.nextElementSibling?.classList.contains("detail")) toggle(row, "");
    row.scrollIntoView();
    row.querySelector(".name").focus({ preventScroll: true });
  }

  const knows = (name) => data.layers.some((layer) => layer.name === name);
  return { open, knows };
}

function gemmTable(layer, direction) {
  const columns = ["GEMM", "first operand", "second operand", "multiplied in", "MACs#", "share#", "why not 4 bits"];
  const operand = (g, i) => el("span", {}, swatch(g.shades[i]), ` ${g.operands[i]} `,
    el("small", {}, g.by[i] ? `by ${g.by[i]}` : "as captured"));
  const made = table("Products", columns, layer.gemms.map((g) => [
    g.direction, operand(g, 0), operand(g, 1), g.unit, count(g.macs), percent(g.share), g.why || "-",
  ]));
  [...made.tBodies[0].rows].forEach((row, i) => {
    const own = layer.gemms[i].direction;
    row.classList.toggle("on", own === direction || (own === "product" && direction === "forward"));
  });
  return wide(made);
}

function keptTable(layer) {
  const theirs = layer.torch ? `PyTorch keeps ${size(layer.torch)} that this layer made` : "PyTorch keeps nothing that this layer made";
  return wide(table(`Kept for backward (${theirs})`, ["tensor", "stored as", "from", "bytes#"], layer.kept.map((s) => [
    s.name, el("span", {}, swatch(s.shade), ` ${s.type}`), s.kind, size(s.bytes),
  ])));
}

const wide = (made) => el("div", { class: "scroll" }, made);

/** Rows of kernels with their places in the order. */
function kernelTable(caption, numbered) {
  const timed = numbered.some(([, k]) => k.seconds !== null);
  const columns = ["no.#", "region", "ops", "reads", "makes", "unit", ...(timed ? ["time#"] : [])];
  return wide(table(caption, columns, numbered.map(([i, k]) => kernelRow(i, k, timed))));
}

function kernelRow(i, k, timed) {
  const often = k.runs > 1 ? `in ${k.runs} steps: ` : "";
  const short = (values) => el("span", { class: "flow", title: values.join("\n") },
    values.slice(0, 3).join(", ") + (values.length > 3 ? ` and ${values.length - 3} more` : ""));
  const ops = k.ops.length > 6 ? `${k.ops.slice(0, 5).join(" + ")} and ${k.ops.length - 5} more` : k.ops.join(" + ");
  const row = [String(i), k.region, often + ops, short(k.reads), short(k.makes), el("span", { class: "unit" }, k.unit || "-")];
  return timed ? [...row, k.seconds === null ? "-" : micro(k.seconds)] : row;
}
