"""Each op that ONNX has, by onnxruntime beside the reference: optimized or not, to the bit if it can."""

from __future__ import annotations

import re
from math import prod
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxruntime")

from quatrain.compiler.ir import Op, Program, Region, Value
from quatrain.compiler.ir.ops import OPS, Trait
from quatrain.compiler.ir.ops.shapes import bind
from quatrain.compiler.ir.verify import read_program
from quatrain.targets.numbers.tensor import Array
from quatrain.targets.onnx.loop import LOOP
from quatrain.targets.onnx.pool import POOL
from quatrain.targets.onnx.program import LOWERINGS

from ..cases.onnx_case import agree, text
from ..cases.op_examples import example

SUMS = {
    *("conv2d", "conv2d_transpose", "linear", "matmul", "product", "sum", "mean", "sum_channels"),
    *("batch_stats", "sawb_clip", "log_softmax", "squeeze", "avg_pool2d", "adaptive_avg_pool2d"),
}
# Their operands are codes, which no input of a program is: below. Loops: test_export_loops.
NOT_ALONE = ("dequantize", "rescale", *LOOP)


def numbers(v: Value, rows: int | None, generator: np.random.Generator) -> Array:
    """Places of ``rows`` things, one of them outside on each side; or numbers around 0."""
    shape = v.type.shape
    if v.type.format.is_index:
        low, high = (0, 5) if rows is None else (-1, rows + 1)
        return np.asarray(generator.integers(low, high, shape), np.int64)
    return np.asarray(generator.standard_normal(shape) * 2, np.float32)


def single(op: Op) -> Program:
    """A program of one op whose operands are inputs."""
    results = op.results[:1] if op.kind in POOL else op.results
    inputs = tuple(dict.fromkeys(op.inputs))
    return Program(op.kind, inputs, (), (Region("forward", (op,)),), results)


@pytest.mark.parametrize("kind", sorted(LOWERINGS.keys() - {*NOT_ALONE}))
def test_an_op_alone(kind: str) -> None:
    op, generator = example(kind), np.random.default_rng(0)
    extents = bind(OPS[kind], op)
    feed = {}
    for i, v in enumerate(op.inputs):
        names = OPS[kind].operand(i).names
        feed[v.name] = numbers(v, prod(extents[names]) if names else None, generator)
    if kind in ("log", "log1p", "sqrt", "batch_norm", "power"):
        feed = {k: np.abs(x) for k, x in feed.items()}
    if kind == "embedding":  # what an input holds is checked ahead of predict
        feed["index1"] = feed["index1"].clip(0, 2)
    if kind == "scatter":  # several elements to one row have no order in ONNX
        feed["index1"] = np.argsort(generator.random((2, 4, 3)), axis=1)
    if op.result.type.scale.value and op.kind != "grad_scale":
        feed |= {v.name: LIMITS[v.name[:-1]] for v in op.inputs if v.name[:-1] in LIMITS}
    program = decoded(op) if op.result.type.scale.value else single(op)
    agree(program, feed, exact=True, close=kind in SUMS or Trait.FUNCTION in OPS[kind].traits)


LIMITS = {
    name: np.asarray(number, np.float32)
    for name, number in (
        *(("clip", 1.37), ("bits", 3), ("low", -1.1)),
        *(("high", 2.3), ("alpha", 1.3), ("beta", 0.7)),
    )
}


def decoded(op: Op) -> Program:
    """The codes as numbers, which a graph can give."""
    kind = "dequantize" if op.result.type.format.is_coded else "cast"
    scaled = op.result.type.scale.value
    made = f"q = {str(op).partition(' = ')[2]}"
    shape = "x".join(map(str, op.result.type.shape))
    lines = [f"input {v.name} : {v.type}" for v in op.inputs]
    ends = f"y = dequantize(q) : f32[{shape}]"
    if kind == "cast":
        ends = f"c = cast(q) : int16*{scaled}[{shape}]\n  y = dequantize(c) : f32[{shape}]"
    return text("\n".join(lines), made, ends)


X, EVEN, NX = "x : f32[2x3x5x6]", "x : f32[2x3x6x6]", "n : i64[2x5x3]"
WINDOW = "kernel=[3,2], stride=[2,2], padding=[1,1]"
CASES: dict[str, tuple[str, str]] = {
    "max_pool_beyond": (
        EVEN,
        f"max_pool2d(x) {{{WINDOW}, dilation=[1,1]}} : f32[2x3x4x4], uint8[2x3x4x4]",
    ),
    "max_pool_dilated": (
        X,
        "max_pool2d(x) {kernel=[2,2], stride=[1,2], padding=[0,1], dilation=[2,3]}"
        " : f32[2x3x3x3], uint8[2x3x3x3]",
    ),
    "avg_pool_counts": (
        X,
        f"avg_pool2d(x) {{{WINDOW}, count_include_pad=true, divisor=0}} : f32[2x3x3x4]",
    ),
    "avg_pool_beyond": (
        EVEN,
        f"avg_pool2d(x) {{{WINDOW}, count_include_pad=true, divisor=0}} : f32[2x3x4x4]",
    ),
    "avg_pool_inside": (
        X,
        f"avg_pool2d(x) {{{WINDOW}, count_include_pad=false, divisor=0}} : f32[2x3x3x4]",
    ),
    "avg_pool_by_7": (
        X,
        f"avg_pool2d(x) {{{WINDOW}, count_include_pad=false, divisor=7}} : f32[2x3x3x4]",
    ),
    "adaptive_uneven": (X, "adaptive_avg_pool2d(x) : f32[2x3x3x4]"),
    "adaptive_even": (X, "adaptive_avg_pool2d(x) : f32[2x3x5x3]"),
    "adaptive_one": (X, "adaptive_avg_pool2d(x) : f32[2x3x1x1]"),
    "adaptive_max_one": (X, "adaptive_max_pool2d(x) : f32[2x3x1x1], i32[2x3x1x1]"),
    "resample_taps": (
        X,
        "resample(x) {dim=2, starts=[0,3,3,4], index=[4,1,0,3], weights=[0.5,0.25,0.25,1.0]}"
        " : f32[2x3x3x6]",
    ),
    "slice_grad_apart": (X, "slice_grad(x) {dim=2, start=2, step=3} : f32[2x3x16x6]"),
    "slice_apart": (X, "slice(x) {dim=3, start=1, step=2} : f32[2x3x5x2]"),
    "pad_numbers": (X, "pad(x) {before=[0,0,2,1], value=-1.5} : f32[2x3x8x7]"),
    "broadcast_ahead": ("x : f32[3]", "broadcast(x) {dims=[0,2]} : f32[2x3x4]"),
    "broadcast_kept": ("x : f32[2x1x3]", "broadcast(x) {dims=[1]} : f32[2x4x3]"),
    "sum_kept": (X, "sum(x) {dims=[1,3], keepdim=true} : f32[2x1x5x1]"),
    "one_hot_ignored": ("n : i64[7]", "one_hot(n) {ignore_index=2} : f32[7x5]"),
    "order_down": ("x : f32[2x7x3]", "order(x) {descending=true} : i64[2x7x3]"),
    "order_of_equals": ("x : f32[2x7x3]", "order(s) {descending=true} : i64[2x7x3]"),
    "take_from_the_end": (
        "x : f32[2x4x3]\ninput n : i64[5]",
        "take(x, n) {wraps=true} : f32[2x5x3]",
    ),
    "take_integers": (f"{NX}\ninput m : i64[4]", "take(n, m) {wraps=false} : i64[2x4x3]"),
    "place_wraps": (
        "n : i64[7]\ninput m : i64[7]",
        "place(n, m) {sizes=[3,4], wraps=true} : i64[7]",
    ),
    "cumsum_integers": (NX, "cumsum(n) : i64[2x5x3]"),
    "divided_down": ("n : i64[7]", "whole_divided(m) {by=-3, rest=false} : i64[7]"),
    "rest": ("n : i64[7]", "whole_divided(m) {by=3, rest=true} : i64[7]"),
    "power_cube": (X, "power(x) {exponent=3.0} : f32[2x3x5x6]"),
    "power_square": (X, "power(x) {exponent=2.0} : f32[2x3x5x6]"),
    "power_root": (X, "power(x) {exponent=-0.5} : f32[2x3x5x6]"),
    "within": (X, "within(x) {low=-1.0, high=1.5} : f32[2x3x5x6]"),
    **{
        f"relation_{r}": (X, f"compare_to(s) {{relation={r}, value=1.0}} : f32[2x3x5x6]")
        for r in ("lt", "le", "eq", "ne", "ge", "gt")
    },
    **{
        f"whole_{f}": ("n : i64[2x1]\ninput m : i64[3]", f"whole(n, m) {{function={f}}} : i64[2x3]")
        for f in ("add", "sub", "mul", "maximum", "minimum")
    },
}
# What some cases read is computed: whole numbers, also negative ones.
AHEAD = {
    "order_of_equals": ("s = round(x) : f32[2x7x3]",),
    "divided_down": ("c = whole_table() {numbers=[3,3,3,3,3,3,3]} : i64[7]",
                     "m = whole(n, c) {function=sub} : i64[7]"),
    **{f"relation_{r}": ("s = round(x) : f32[2x3x5x6]",) for r in ("lt", "le", "eq", "ne", "ge", "gt")},
}  # fmt: skip
AHEAD["rest"] = AHEAD["divided_down"]


@pytest.mark.parametrize("name", CASES)
def test_an_op_with_attributes(name: str) -> None:
    inputs, line = CASES[name]
    results = ", ".join(("y", "z")[: line.rpartition(" : ")[2].count("[")])
    program = text(f"input {inputs}", *AHEAD.get(name, ()), f"{results} = {line}")
    generator = np.random.default_rng(1)
    feed = {v.name: numbers(v, 4, generator) for v in program.inputs}
    if name.startswith(("power", "avg")):
        feed = {k: np.abs(x) for k, x in feed.items()}
    agree(program, feed, exact=False, close=name.startswith(("avg", "adaptive", "power", "sum")))


def test_the_page_lists_what_has_no_counterpart() -> None:
    page = (Path(__file__).parents[2] / "docs" / "onnx.md").read_text(encoding="utf-8")
    listed = page.partition("<!-- the ops -->")[2].partition("<!-- end -->")[0]
    constants = {kind for kind, d in OPS.items() if not d.operands}
    assert set(re.findall(r"`(\w+)`", listed)) == OPS.keys() - LOWERINGS.keys() - constants


def test_outputs_that_are_inputs_or_come_twice() -> None:
    program = read_program(
        "program p\ninput x : f32[3]\n\nforward:\n  y = abs(x) : f32[3]\n\nreturn x, y, y\n"
    )
    agree(program, {"x": np.array([-1, 0, 2], np.float32)}, exact=False, close=False)
