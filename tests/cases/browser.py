"""A page in a browser without a window: what clicks find, and all that went wrong."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--dump-dom")
PATIENCE = "--virtual-time-budget=20000"  # milliseconds of the page's own clock

needs_browser = pytest.mark.skipif(BROWSER is None, reason=f"needs one of {', '.join(BROWSERS)}")
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
