"""The page: one file that needs nothing else, holds no data, and says what the programs say."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest

from quatrain.compiler.ir.text import show
from quatrain.compiler.ir.verify import read_program
from quatrain.runtime.page.deltas import deltas
from quatrain.runtime.page.kernels import kernels
from quatrain.runtime.page.layers import PageGemm, layers
from quatrain.runtime.page.lives import memory_map
from quatrain.runtime.page.makers import makers
from quatrain.runtime.page.render import page
from quatrain.runtime.page.source import KernelTimes, PageSource
from quatrain.tools.planning import plan_program

from ..cases.commands import Quatrain
from ..cases.page_case import AWKWARD, ReadPage, drawn, source, write_network
from ..cases.plan_in_numpy import planned

SVG = "http://www.w3.org/2000/svg"  # the name of a vocabulary, which nothing fetches
# The first two kernels share their code.
ALIKE = """
program p
input x : f32[3x5]
input y : f32[3x5]

forward:
  a = sum(x) {dims=[0,1], keepdim=false} : f32[]
  b = sum(y) {dims=[0,1], keepdim=false} : f32[]
  c = mean(x) {dims=[0], keepdim=false} : f32[5]
  d = mean(y) {dims=[1], keepdim=false} : f32[3]

return a, b, c, d
"""
# Tags and attributes by which a page loads something.
LOADING = {"link", "img", "iframe", "object", "embed", "audio", "video", "source", "base", "form"}


@pytest.fixture(scope="module")
def made() -> tuple[PageSource, ReadPage, str]:
    found, text = drawn()
    return found, ReadPage(text), text


def test_it_loads_nothing(made: tuple[PageSource, ReadPage, str]) -> None:
    _, read, text = made
    assert not LOADING & {tag for tag, _ in read.tags}
    assert not read.values("src") and all(h.startswith("#") for h in read.values("href"))
    style = "".join(read.texts["style"])
    assert "url(" not in style and "@import" not in style
    assert set(re.findall(r"https?://[^\s\"'<)]*", text)) == {SVG}
    assert any("default-src 'none'" in content for content in read.values("content"))


def test_what_the_script_asks_for_is_there(made: tuple[PageSource, ReadPage, str]) -> None:
    _, read, text = made
    ids = read.values("id")
    assert len(ids) == len(set(ids))
    asked = set(re.findall(r'byId\("([^"]+)"\)', text))
    # Only a page with times has a line of time.
    assert asked - set(ids) == {"timeline", "kernel"}
    assert {href[1:] for href in read.values("href")} <= set(ids)


def test_names_are_text_and_no_html(made: tuple[PageSource, ReadPage, str]) -> None:
    _, read, text = made
    tags = [tag for tag, _ in read.tags]
    assert tags.count("script") == 2 and "i" in tags
    assert AWKWARD not in text and "<i>tiny" not in text
    assert AWKWARD in read.texts["button"] and "<i>tiny " in read.texts["h1"]
    assert AWKWARD in {layer["name"] for layer in read.data()["layers"]}


def test_every_program_comes_back_from_its_edits(
    made: tuple[PageSource, ReadPage, str],
) -> None:
    found, read, _ = made
    data = read.data()["stages"]
    lines, text = data["lines"].split("\n"), data["first"]
    texts = [text]
    for edits in data["edits"]:
        for start, removed, added in reversed(edits):
            text = [*text[:start], *added, *text[start + removed :]]
        texts.append(text)
    assert data["names"] == [name for name, _ in found.stages]
    for (_, program), places in zip(found.stages, texts, strict=True):
        assert [lines[i] for i in places] == show(program).splitlines()


def test_what_changed_nothing_is_marked(made: tuple[PageSource, ReadPage, str]) -> None:
    found, _, text = made
    by_name = {d.name: d for d in deltas(found.stages).others}
    # The only convolution is of 3x3, and FP8 is for 1x1.
    assert not by_name["hybrid_fp8"].changed and by_name["sawb_weights"].changed
    idle = sum(not d.changed for d in by_name.values())
    assert text.count("changed nothing") == text.count('<li class="idle">') == idle > 0


def test_each_format_names_the_pass_that_decided_it() -> None:
    found = makers(source().stages)
    conv = {key[1]: (by.first, by.second) for key, by in found.items() if key[0] == AWKWARD}
    assert conv == {
        "forward": ("pact_activations", "sawb_weights"),
        "dW": ("two_phase_rounding", "pact_activations"),
    }


def gemm(found: PageSource, layer: str) -> PageGemm:
    return next(one for one in layers(found, ()) if one.name == layer).gemms[0]


def test_why_a_layer_is_not_on_four_bits(made: tuple[PageSource, ReadPage, str]) -> None:
    found, read, _ = made
    assert gemm(found, AWKWARD).why == ""
    why = "left in plain floats by the recipe's option exempt=fc"
    assert gemm(found, "fc").why == why and why in read.texts["td"]


@pytest.mark.parametrize("with_plan", [False, True])
def test_tensors_that_live_together_lie_apart(with_plan: bool) -> None:
    found = source()
    plan = planned(found.stages[0][1]) if with_plan else None
    memory = memory_map(found.program, plan)
    kept = found.bill.saved_bytes if plan is None else plan.saved_bytes()
    assert sum(x.bytes for x in memory.lives if x.kept) == kept > 0
    assert memory.planned == with_plan and max(x.last for x in memory.lives) <= memory.steps
    for a, b in combinations(memory.lives, 2):
        if a.first <= b.last and b.first <= a.last and a.bytes and b.bytes:
            assert a.offset + a.bytes <= b.offset or b.offset + b.bytes <= a.offset
    most, at = memory.peak
    living = [x.bytes for x in memory.lives if x.first <= at <= x.last]
    assert most == sum(living) <= memory.size


def test_the_file_holds_no_state(quatrain: Quatrain, tmp_path: Path) -> None:
    pages = []
    for fill in (0.0, 0.123456):
        network = write_network(tmp_path / "net.qtn", fill)
        assert quatrain("report", network, "--html", tmp_path / "net.html") == ""
        pages.append((tmp_path / "net.html").read_text(encoding="utf-8"))
    assert pages[0] == pages[1] and "holds no data" in pages[0]
    assert len(pages[0]) < 100_000


def test_times_count_with_the_layer_that_multiplies() -> None:
    found = source()
    plan = planned(found.stages[0][1])
    seconds = tuple(1e-3 * (i + 1) for i in range(len(plan.kernels)))
    timed = replace(found, plan=plan, times=KernelTimes(seconds, "counted out"))
    rows = kernels(plan, timed.times)
    assert sum(layer.seconds or 0 for layer in layers(timed, rows)) == pytest.approx(sum(seconds))
    (conv,) = (k for k in rows if k.ops == ("conv2d",))
    assert (conv.layer, conv.shade, conv.region) == (AWKWARD, 32, "forward")
    read = ReadPage(page(timed))
    assert "timeline" in read.values("id") and "counted out" in read.texts["small"]
    assert [k["seconds"] for k in read.data()["kernels"]] == list(seconds)


@pytest.mark.tvm
def test_a_gpu_without_a_gpu_has_predicted_times(quatrain: Quatrain, tmp_path: Path) -> None:
    network, path = write_network(tmp_path / "net.qtn"), tmp_path / "net.html"
    quatrain("report", network, "--html", path, "--target", "cuda:sm_90")
    read = ReadPage(path.read_text(encoding="utf-8"))
    data = read.data()
    assert "timeline" in read.values("id") and all(k["seconds"] > 0 for k in data["kernels"])
    assert "predicted from peaks of H100 SXM, each kernel alone, not measured" in " ".join(
        read.texts["small"]
    )
    memory = data["memory"]
    assert memory["planned"] and memory["steps"] == len(data["kernels"])


@pytest.mark.tvm
@pytest.mark.torch
def test_kernels_that_share_code_are_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from quatrain.tools.bench import profile  # which builds models, so it needs torch

    runs: list[float] = []

    def counted(call: Callable[[], object]) -> float:
        call()
        runs.append(len(runs) + 1.0)
        return runs[-1]

    monkeypatch.setattr(profile, "typical", counted)
    plan = plan_program("cpu", read_program(ALIKE))
    assert plan is not None and len(plan.kernels) == 4
    first, again, other, last = profile.kernel_seconds(plan)
    assert (first, again, other, last) == (1.0, 1.0, 2.0, 3.0) and len(runs) == 3


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("--html", "{tmp}/net.txt"), "net.txt'; for example net.html"),
        (("--html", "{tmp}/net"), "writes an .html file"),
        (("--html", "{tmp}"), "writes an .html file"),
        (("--html", "{tmp}/nowhere/net.html"), "nowhere is no folder; make it first"),
        (("--html", "{tmp}/net.html", "--json"), "give one"),
        (("--profile",), "--profile goes with --html"),
        (("--html", "{tmp}/net.html", "--profile"), "not reference; --target cpu"),
        (("--html", "{tmp}/net.html", "--profile", "--no-plan"), "--no-plan leaves out"),
        (("--html", "{tmp}/net.html", "--target", "cpo"), "did you mean 'cpu'?"),
    ],
)
def test_mistakes_write_nothing(
    quatrain: Quatrain, tmp_path: Path, words: tuple[str, ...], hint: str
) -> None:
    network = write_network(tmp_path / "net.qtn")
    given = [word.format(tmp=tmp_path) for word in words]
    assert hint in quatrain("report", network, *given, status=2)
    assert [path.name for path in tmp_path.iterdir()] == ["net.qtn"]
