"""The examples of docs/formats.md, and formats that are spelled by their bits."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tvm")

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import quatrain
from quatrain.compiler.errors import ParseError, RecipeError
from quatrain.compiler.formats import FORMATS, FP4_121, FP8_143
from quatrain.compiler.ir.text import parse, parse_type, show
from quatrain.compiler.spelled import named
from quatrain.runtime.step import Step
from quatrain.targets.cpu.info import detect
from quatrain.targets.numbers.rounding import decode, encode

from ..exactness import compare
from ..exactness import given as given_to

pytestmark = [pytest.mark.torch, pytest.mark.tvm]
PAGE = (Path(__file__).parents[2] / "docs" / "formats.md").read_text(encoding="utf-8")


def block(start: str) -> str:
    """The fenced block whose content starts with ``start``."""
    blocks = re.findall(r"^```\w+\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
    (found,) = (b for b in blocks if b.startswith(start))
    return str(found)


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(3, 3, 7, 7), torch.randint(3, (3,))


def compiled(recipe: Path) -> Step:
    model = nn.Sequential(
        nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Conv2d(5, 7, 3), nn.Flatten(), nn.Linear(63, 3)
    )
    made = quatrain.compile(
        model,
        nn.functional.cross_entropy,
        batch(),
        torch.optim.SGD(model.parameters(), lr=0.1),
        recipe=recipe,
        options={"exempt": "none"},
        target="reference",
    )
    assert isinstance(made, Step)
    return made


@pytest.mark.parametrize(
    ("start", "stored"),
    [
        ('title = "Blocks of 32', {"fp5.e3m1", "fp6.e4m1"}),
        ('title = "E2M1 gradients', {"fp4.121"}),
    ],
)
def test_recipes_of_the_page(tmp_path: Path, start: str, stored: set[str]) -> None:
    (tmp_path / "own_e2m1.py").write_text(block('"""Gradients as E2M1'), encoding="utf-8")
    path = tmp_path / "own.toml"
    path.write_text(block(start), encoding="utf-8")
    made = compiled(path)
    formats = {v.type.format for _, op in made.program.ops() for v in op.results}
    assert {f.name for f in formats if f.name.startswith("fp")} == stored
    text = show(made.program)
    assert show(parse(text)) == text
    assert stored <= set(re.findall(r"fp[\w.]+", made.report().html()))
    made(*batch())
    found = [str(m) for m in compare(made.program, given_to(made, batch()), detect())]
    assert not found, "\n".join(found)


@settings(max_examples=100, deadline=None)
@given(
    exp=st.integers(1, 6),
    man=st.integers(0, 6),
    bias=st.none() | st.integers(0, 63),
    flat=st.booleans(),
    nan=st.booleans(),
)
def test_a_spelled_format_rounds_to_its_levels(
    exp: int, man: int, bias: int | None, flat: bool, nan: bool
) -> None:
    bits = 1 + exp + man
    name = f"fp{bits}.e{exp}m{man}" + ("" if bias is None else f".b{bias}")
    name += ".flat" * flat + ".nan" * nan
    f = named(name)
    assert (f is None) == (bits > 8)
    if f is None:
        return
    levels = np.array(f.levels(), np.float64)
    # By hand: m / 2^man of the power of two, the lowest without a leading one but where flat.
    codes = [(e, m) for e in range(1 << exp) for m in range(1 << man)][: -1 if nan else None]
    b = (1 << (exp - 1)) - 1 if bias is None else bias
    sizes = {
        0.0 if (e, m) == (0, 0) else 2.0 ** (max(e, not flat) - b) * ((e > 0 or flat) + m / 2**man)
        for e, m in codes
    }
    assert set(np.abs(levels)) == sizes
    assert np.array_equal(decode(encode(levels.astype(np.float32), f), f), levels)
    middles = ((levels[1:] + levels[:-1]) / 2).astype(np.float32)
    near = np.asarray(decode(encode(middles, f), f))
    assert np.all((near == levels[1:]) | (near == levels[:-1]))


def test_names_that_mean_a_format_of_the_list_are_that_format() -> None:
    assert named("fp4.e2m1") is FP4_121 and named("fp8.e4m3.nan") is FP8_143
    assert parse_type("fp4.e2m1*t[3]").format is FP4_121
    for name in FORMATS:
        assert named(name) is FORMATS[name]


@pytest.mark.parametrize(
    "name",
    ["fp5.e3m2", "fp9.e5m3", "fp8.e7m0", "fp4.e0m3", "fp1.e1m0", "fp5.e3m1.b64", "fp5.e3m1x", ""],
)
def test_names_of_no_format_are_refused(name: str) -> None:
    assert named(name) is None
    with pytest.raises(ParseError, match=r"no format is called|is no type"):
        parse_type(f"{name}*t[3]")
    recipe = quatrain.passes.recipe.load_recipe("mxfp8")
    for key in ("mx_format", "mx_gradient_format"):
        with pytest.raises(RecipeError, match=f"option {key} of mx_operands must be the name of"):
            recipe.with_options({key: name})


@pytest.mark.parametrize("name", ["f32", "uint8", "e8m0", "dyn8", "int4.midrise", "fp4.even"])
def test_formats_that_data_are_not_rounded_to_are_refused(name: str) -> None:
    assert named(name) is not None
    with pytest.raises(RecipeError, match="must be the name of a format of at most 8 bits"):
        quatrain.passes.recipe.load_recipe("deepseek_fp8").with_options({"fit_format": name})
