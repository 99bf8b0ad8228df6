"""A small network in 4 bits whose layers have awkward names, as a file and as the page of it."""

from __future__ import annotations

import base64
import json
import zlib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np

from quatrain.compiler.ir.text import parse
from quatrain.compiler.ir.verify import verify
from quatrain.compiler.saved import Kept
from quatrain.passes.recipe import load_recipe
from quatrain.runtime.bundle import Bundle, write
from quatrain.runtime.page.render import page
from quatrain.runtime.page.source import CAPTURED as FIRST
from quatrain.runtime.page.source import PageSource
from quatrain.runtime.report.bill import bill_of, exempt_layers, making_of

from .bill_programs import CAPTURED

# What HTML, a script, a template or an attribute would read as its own.
AWKWARD = "</script><b>&\"'{{ 1 }}"
PROGRAM = CAPTURED.replace("# conv\n", f"# {AWKWARD}\n").replace("program tiny", "program <i>tiny")
RECIPE, OPTIONS = "ultra_low_4bit", {"exempt": "fc"}


def source() -> PageSource:
    """What the page of that network is drawn from, without a plan."""
    captured = verify(parse(PROGRAM))
    recipe = load_recipe(RECIPE).with_options(OPTIONS)
    stages = ((FIRST, captured), *recipe.apply(captured))
    final = stages[-1][1]
    bill = bill_of(
        final,
        (Kept(AWKWARD, "conv2d", (3, 13, 7, 7), 7644),),
        making=making_of(recipe, "reference", final, (), None),
        exempt=exempt_layers(recipe, captured),
    )
    return PageSource(bill, recipe, stages)


def write_network(path: Path, fill: float = 0.0) -> Path:
    """The same network as a ``.qtn``, with state that is ``fill`` everywhere."""
    program = parse(PROGRAM)
    state = {v.name: np.full(v.type.shape, fill, np.float32) for v in program.state}
    kept = {"layer": AWKWARD, "function": "conv2d", "shape": [3, 13, 7, 7], "bytes": 7644}
    manifest = {"target": "reference", "allow": [], "seed": 0, "torch_saved": [kept]}
    recipe = load_recipe(RECIPE).with_options(OPTIONS)
    write(Bundle(program, program, recipe, manifest, state), path)
    return path


class ReadPage(HTMLParser):
    """A page as a parser reads it: tags with attributes, and the text within each kind of tag."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Remember it."""
        self.tags.append((tag, dict(attrs)))
        self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Close what is open inside of it too."""
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        """Text counts with the innermost tag."""
        if self._open:
            self.texts.setdefault(self._open[-1], []).append(data)

    def values(self, name: str) -> list[str]:
        """An attribute of all tags that have it."""
        return [attrs[name] or "" for _, attrs in self.tags if name in attrs]

    def data(self) -> dict[str, Any]:
        """What the script unpacks."""
        letters = next(text for text in self.texts["script"] if "function" not in text)
        found: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(letters)))
        return found


def drawn() -> tuple[PageSource, str]:
    """The source and its page."""
    made = source()
    return made, page(made)
