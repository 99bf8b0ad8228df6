"""The page in a browser without a window: no error, no refused load, and cells answer clicks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from quatrain.runtime.page.render import page
from quatrain.runtime.page.source import WatchedRows

from ..cases.browser import needs_browser, seen
from ..cases.commands import Quatrain
from ..cases.page_case import AWKWARD, drawn, source, write_network
from ..cases.watched_case import watched_rows

pytestmark = needs_browser

LAYERS_AND_PASSES = """
const row = $$("tr.layer").find((r) => r.querySelector("[data-direction]"));
row.querySelector("[data-direction=dW]").click();
const detail = row.nextElementSibling;
found.name = row.querySelector(".name").textContent;
found.detail = detail.textContent;
found.marked = detail.querySelector("tr.on").textContent;
found.expanded = row.querySelector(".name").getAttribute("aria-expanded");
detail.querySelector("td > button").click();
found.layer = $("#of-layer").value;
row.querySelector("[data-direction=dW]").click();
found.closed = $$("tr.detail").length === 0;
choose("of-layer", "");
$$("#passes button").find((b) => b.textContent.startsWith("sawb_weights")).click();
found.unified = $("#program").textContent;
choose("view", "split");
found.columns = $("#program tr:not(.gap)").children.length;
choose("view", "text");
found.text = $("#program pre").textContent;
choose("find", "FC");
found.shown = $$("tr.layer").filter((r) => !r.hidden).map((r) => r.querySelector(".name").textContent);
choose("find", ""); choose("order", "macs");
found.most = $("tr.layer .name").textContent;
$("#tensors button").click();
found.tensor = $("#tensor").textContent;
found.rectangles = $$("#map rect").length;
found.theme = [0, 1, 2].map(() => ($("#theme").click(), document.documentElement.dataset.theme || "auto"));
"""


def test_cells_and_passes_answer_clicks(tmp_path: Path) -> None:
    source, text = drawn()
    found = seen(text, tmp_path, LAYERS_AND_PASSES)
    assert found["wrong"] == []
    assert found["name"] == found["layer"] == found["most"] == AWKWARD
    assert "int4*t by pact_activations" in found["detail"] and "= conv2d(" in found["detail"]
    assert found["marked"].startswith("dW") and found["expanded"] == "true" and found["closed"]
    assert "what sawb_weights changed" in found["unified"]
    assert " = quantize(conv.w, " in found["unified"] and found["columns"] == 4
    stages = dict(source.stages)
    assert found["text"].splitlines() == str(stages["sawb_weights"]).splitlines()
    assert found["shown"] == ["fc"] and found["rectangles"] > 5
    assert "lives from op " in found["tensor"]
    assert found["theme"] == ["light", "dark", "auto"]


@pytest.mark.tvm
def test_kernels_over_time(quatrain: Quatrain, tmp_path: Path) -> None:
    clicks = """
      found.rectangles = $$("#timeline rect").length;
      $("#timeline rect").dispatchEvent(new MouseEvent("click", { bubbles: true }));
      found.kernel = $("#kernel").textContent;
      $("tr.layer .name").click();
      found.detail = $("tr.detail").textContent;
    """
    network, path = write_network(tmp_path / "net.qtn"), tmp_path / "net.html"
    quatrain("report", network, "--html", path, "--target", "cuda:sm_90")
    found = seen(path.read_text(encoding="utf-8"), tmp_path, clicks)
    assert found["wrong"] == [] and found["rectangles"] > 5
    assert found["kernel"].startswith("kernel 0: ") and "µs" in found["kernel"]
    assert "Kernels (" in found["detail"]


WATCHED = """
const words = (query) => $$(query).map((e) => e.textContent);
found.charts = words("#curves figcaption");
found.heads = words("#exponents .head");
$("#exponents svg").dispatchEvent(new PointerEvent("pointermove", { clientX: -1, clientY: -1, bubbles: true }));
choose("role", "x"); choose("look", "0");
found.chosen = words("#exponents p")[0];
found.lines = $$("#curves .chart")[0].querySelectorAll("g .line").length;
found.sparks = $$(".watched-table .spark").length;
const names = () => words(".watched-table tbody th").slice(0, 2);
const head = $$(".watched-table thead button").find((b) => b.textContent === "w SQNR");
found.before = names(); head.click(); found.worst = names(); head.click(); found.after = names();
$(".troubles button").click();
found.panel = words("tr.detail h4");
found.own = words("tr.detail figcaption");
"""


def test_what_was_watched_is_drawn(tmp_path: Path) -> None:
    made = source()
    rows = tuple(watched_rows(made))
    found = seen(page(replace(made, watched=WatchedRows(rows, "run"))), tmp_path, WATCHED)
    assert found["wrong"] == []
    assert found["charts"][:2] == ["SQNR, dB", "became 0"]
    assert found["heads"] == ["ahead of rounding", "as it is read"]
    assert "at step 0" in found["chosen"] and (found["lines"], found["sparks"]) == (1, 5)
    assert found["before"] == found["after"] == [AWKWARD, "fc"]
    assert found["worst"] == ["fc", AWKWARD]
    assert len(found["panel"]) == 2 and "dy bf16 to fp4.odd*p" in found["own"]
    # A look alone is drawn as points.
    once = tuple(watched_rows(made, (0,)))
    found = seen(page(replace(made, watched=WatchedRows(once, "run"))), tmp_path, WATCHED)
    assert found["wrong"] == [] and found["sparks"] == 0


def test_a_browser_that_cannot_unpack_says_so(tmp_path: Path) -> None:
    _, text = drawn()
    old = text.replace('"use strict";', '"use strict"; delete window.DecompressionStream;', 1)
    found = seen(old, tmp_path, 'found.notice = $("#notice").textContent; wrong.length = 0;')
    assert "cannot show the details" in found["notice"] and "Chrome 80" in found["notice"]
