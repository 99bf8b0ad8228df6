"""The page in a browser without a window: no error, no refused load, and cells answer clicks."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ..cases.commands import Quatrain
from ..cases.page_case import AWKWARD, drawn, write_network

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--dump-dom")
PATIENCE = "--virtual-time-budget=20000"  # milliseconds of the page's own clock

pytestmark = pytest.mark.skipif(BROWSER is None, reason=f"needs one of {', '.join(BROWSERS)}")

# Ahead of the page's own script: whatever goes wrong is remembered.
LISTENING = """<script>
const wrong = [];
addEventListener("error", (e) => wrong.push(String(e.message)));
addEventListener("unhandledrejection", (e) => wrong.push(String(e.reason)));
addEventListener("securitypolicyviolation", (e) => wrong.push(e.blockedURI));
for (const kind of ["error", "warn"]) console[kind] = (...words) => wrong.push(words.join(" "));
</script>"""
# Behind it: when all is set up the clicks, and what they brought as the page's title.
CLICKING = """<script>
const found = {};
const timer = setInterval(() => {
  if (!document.documentElement.dataset.ready && document.getElementById("notice").hidden) return;
  clearInterval(timer);
  try { %s } catch (error) { wrong.push(String(error)); }
  document.title = JSON.stringify({ wrong, ...found });
}, 10);
const $ = (query) => document.querySelector(query);
const $$ = (query) => [...document.querySelectorAll(query)];
const choose = (id, value) => {
  document.getElementById(id).value = value;
  document.getElementById(id).dispatchEvent(new Event("input", { bubbles: true }));
};
</script></body>"""


def seen(text: str, folder: Path, clicks: str) -> dict[str, Any]:
    """What a browser finds behind the clicks."""
    page = text.replace("<style>", f"{LISTENING}<style>", 1)
    path = folder / "seen.html"
    path.write_text(page.replace("</body>", CLICKING % clicks), encoding="utf-8")
    done = subprocess.run(
        [str(BROWSER), *FLAGS, PATIENCE, f"--user-data-dir={folder / 'browser'}", path.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    title = re.search(r"<title>(.*?)</title>", done.stdout, re.DOTALL)
    assert title, done.stderr
    found: dict[str, Any] = json.loads(html.unescape(title[1]))
    return found


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


def test_a_browser_that_cannot_unpack_says_so(tmp_path: Path) -> None:
    _, text = drawn()
    old = text.replace('"use strict";', '"use strict"; delete window.DecompressionStream;', 1)
    found = seen(old, tmp_path, 'found.notice = $("#notice").textContent; wrong.length = 0;')
    assert "cannot show the details" in found["notice"] and "Chrome 80" in found["notice"]
