"""Kernels of single ops against the reference, over awkward shapes and memory orders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tvm")

from quatrain.compiler import parse, verify
from quatrain.compiler.formats import I64
from quatrain.compiler.ir import Value
from quatrain.compiler.ir.ops import OPS
from quatrain.targets.cpu.info import detect
from quatrain.targets.cpu.single_build import BUILDERS
from quatrain.targets.numbers.tensor import Tensor, dtype_of

from ..exactness import compare

pytestmark = pytest.mark.tvm

IMAGES = ("1x1x1x1", "2x16x8x8", "1x3x7x13", "3x13x9x1", "2x33x5x6", "1x32x28x27")
SGD = "x, dw, m, n, lr, lr, lr, lr"


def run(body: str, outputs: str, inputs: dict[str, str], seed: int = 0, **fixed: float) -> None:
    """Compare every kernel of a program made of ``body`` with the reference.

    Operands pass through a relu-free ``scale`` by 1 where PIXELS order is wanted: inputs lie ROWS.
    """
    lines = [f"input {name} : {type_}" for name, type_ in inputs.items()]
    text = "program p\n" + "\n".join(lines) + f"\n\nforward:\n{body}\n\nreturn {outputs}\n"
    program = verify(parse(text))
    rng = np.random.default_rng(seed)
    given = {v.name: random_tensor(v, rng, fixed.get(v.name)) for v in program.inputs}
    found = [str(m) for m in compare(program, given, detect())]
    assert not found, "\n".join(found)


def random_tensor(v: Value, rng: np.random.Generator, fixed: float | None) -> Tensor:
    """Normal numbers with ties, zeros and both signs; small whole numbers for integers."""
    shape = v.type.shape
    if fixed is not None:
        numbers = np.full(shape, fixed)
    elif v.type.format is I64:
        numbers = rng.integers(0, 5, shape)
    else:
        numbers = np.round(rng.normal(size=shape), 1)
    return Tensor(v.type, np.asarray(numbers, dtype_of(v.type.format)))


def image(text: str) -> list[int]:
    return [int(d) for d in text.split("x")]


def window(size: int, kernel: int, stride: int, padding: int, dilation: int = 1) -> int:
    return (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


@pytest.mark.parametrize("shape", IMAGES)
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation"),
    [(1, 1, 0, 1), (2, 2, 0, 1), (3, 2, 1, 1), (3, 1, 1, 1), (2, 1, 1, 2)],
)
def test_sliding_pools(shape: str, kernel: int, stride: int, padding: int, dilation: int) -> None:
    n, c, h, w = image(shape)
    ph, pw = (window(d, kernel, stride, padding, dilation) for d in (h, w))
    if ph < 1 or pw < 1:
        pytest.skip("the window is larger than the plane")
    y = f"{n}x{c}x{ph}x{pw}"
    how = f"kernel=[{kernel},{kernel}], stride=[{stride},{stride}], padding=[{padding},{padding}]"
    body = f"""\
  p = scale(x) {{factor=1.0}} : bf16[{shape}]
  a, where = max_pool2d(p) {{{how}, dilation=[{dilation},{dilation}]}} : bf16[{y}], uint8[{y}]
  da = max_pool2d_grad(a, where) {{{how}, dilation=[{dilation},{dilation}]}} : f32[{shape}]
"""
    outputs = "da"
    if dilation == 1:
        for pad in ("true", "false"):
            options = f"{{{how}, count_include_pad={pad}, divisor=0}}"
            body += f"  m{pad} = avg_pool2d(p) {options} : f32[{y}]\n"
            body += f"  d{pad} = avg_pool2d_grad(m{pad}) {options} : f32[{shape}]\n"
            outputs += f", d{pad}"
    run(body, outputs, {"x": f"f32[{shape}]"})


@pytest.mark.parametrize("shape", IMAGES)
@pytest.mark.parametrize("places", [(1, 1), (3, 2), (9, 9)])
def test_adaptive_pools(shape: str, places: tuple[int, int]) -> None:
    n, c, *_ = image(shape)
    y = f"{n}x{c}x{places[0]}x{places[1]}"
    run(
        f"""\
  p = scale(x) {{factor=1.0}} : f32[{shape}]
  a = adaptive_avg_pool2d(p) : bf16[{y}]
  da = adaptive_avg_pool2d_grad(a) : f32[{shape}]
  b, where = adaptive_max_pool2d(p) : f32[{y}], i32[{y}]
  db = adaptive_max_pool2d_grad(b, where) : bf16[{shape}]
""",
        "da, db",
        {"x": f"f32[{shape}]"},
    )


@pytest.mark.parametrize("shape", IMAGES)
def test_shapes(shape: str) -> None:
    n, c, h, w = image(shape)
    flat, turned = f"{n}x{c * h * w}", f"{n}x{h}x{w}x{c}"
    grown = f"{n + 1}x{c + 3}x{h + 2}x{w}"
    part = f"{n}x{c}x{(h + 1) // 2}x{w}"
    run(
        f"""\
  p = scale(x) {{factor=1.0}} : bf16[{shape}]
  flat = view(p) : bf16[{flat}]
  back = view(flat) : bf16[{shape}]
  turned = permute(p) {{dims=[0,2,3,1]}} : f32[{turned}]
  grown = pad(p) {{before=[0,2,1,0], value=0.5}} : bf16[{grown}]
  part = slice(p) {{dim=2, start=0, step=2}} : bf16[{part}]
  whole = slice_grad(part) {{dim=2, start=0, step=2}} : f32[{shape}]
  both = cat(p, x, back) {{dim=1}} : f32[{n}x{3 * c}x{h}x{w}]
""",
        "turned, grown, whole, both",
        {"x": f"f32[{shape}]"},
    )


@pytest.mark.parametrize("shape", IMAGES)
def test_reductions_and_broadcasts(shape: str) -> None:
    n, c, _, w = image(shape)
    run(
        f"""\
  p = scale(x) {{factor=1.0}} : bf16[{shape}]
  m = mean(p) {{dims=[2,3], keepdim=true}} : bf16[{n}x{c}x1x1]
  s = sum(p) {{dims=[0,2], keepdim=false}} : f32[{c}x{w}]
  t = mean(x) {{dims=[0,1,2,3], keepdim=false}} : f32[]
  wide = broadcast(m) {{dims=[2,3]}} : bf16[{shape}]
  tall = broadcast(s) {{dims=[0,2]}} : f32[{shape}]
  one = constant() {{value=0.1}} : f32[{c}]
""",
        "wide, tall, t, one",
        {"x": f"f32[{shape}]"},
    )


@pytest.mark.parametrize("shape", ["1x1", "1x5", "7x5", "33x10", "128x1000"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_cross_entropy(shape: str, reduction: str) -> None:
    rows = shape.split("x")[0]
    how = f"{{reduction={reduction}, ignore_index=3}}"
    if shape == "1x1":
        how = how.replace("=3", "=-100")
    run(
        f"""\
  y = log_softmax(x) : f32[{shape}]
  loss, count = nll_loss(y, target) {how} : f32[], f32[]
  dy = nll_loss_grad(g, target, count) {how} : f32[{shape}]
  dx = log_softmax_grad(dy, y) : bf16[{shape}]
""",
        "loss, dx",
        {"x": f"f32[{shape}]", "target": f"i64[{rows}]", "g": "f32[]"},
        **({"target": 0} if shape == "1x1" else {}),
    )


@pytest.mark.parametrize("shape", ["1", "3x7", "2x3x5x7", "70000"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_mse(shape: str, reduction: str) -> None:
    run(
        f"""\
  loss = mse_loss(x, y) {{reduction={reduction}}} : f32[]
  dx = mse_loss_grad(loss, x, y) {{reduction={reduction}}} : f32[{shape}]
""",
        "dx",
        {"x": f"f32[{shape}]", "y": f"f32[{shape}]"},
    )


@pytest.mark.parametrize("shape", ["1", "7", "33x7", "3x3x3x3", "70001"])
@pytest.mark.parametrize("step", [0, 5])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd(shape: str, step: int, momentum: float) -> None:
    body = "".join(
        f"  w{i}, m{i} = sgd(x, dw, m, n, lr, momentum, dampening, lr) "
        f"{{nesterov={nesterov}, maximize={maximize}}} : f32[{shape}], f32[{shape}]\n"
        for i, (nesterov, maximize) in enumerate([("false", "false"), ("true", "true")])
    )
    types = dict.fromkeys(("x", "dw", "m"), f"f32[{shape}]")
    types |= {"n": "i64[]", **dict.fromkeys(("lr", "momentum", "dampening"), "f32[]")}
    fixed = {"n": step, "lr": 0.1, "momentum": momentum, "dampening": 0.25}
    run(body, "w0, m0, w1, m1", types, 0, **fixed)


def test_statistics_and_counters() -> None:
    run(
        """\
  r = running_stats(x, y) {momentum=0.1, correction=1.25} : f32[33]
  a = running_average(x, y, n) {correction=1.0} : f32[33]
  n1 = increment(n) : i64[]
""",
        "r, a, n1",
        {"x": "f32[33]", "y": "f32[33]", "n": "i64[]"},
        n=3,
    )


@pytest.mark.parametrize("shape", ["1x1x1x1", "7x3x3x3", "64x32x3x3", "33x27"])
def test_sawb_clip(shape: str) -> None:
    rows = shape.split("x")[0]
    run(
        f"""\
  one = sawb_clip(w) {{c1=12.035, c2=12.03}} : f32[]
  each = sawb_clip(w) {{c1=12.035, c2=12.03}} : f32[{rows}]
  zero = sawb_clip(z) {{c1=12.035, c2=12.03}} : f32[]
""",
        "one, each, zero",
        {"w": f"f32[{shape}]", "z": f"f32[{shape}]"},
        z=0.0,
    )


@pytest.mark.parametrize("s", [0.0, 0.5, 2.0**20])
@pytest.mark.parametrize("largest", [0.0, 3.1e-5, 1.0, 64.0, float("inf"), float("nan")])
@pytest.mark.parametrize("always", ["false", "true"])
def test_gradient_scales(s: float, largest: float, always: str) -> None:
    run(
        f"""\
  p = scale(g) {{factor=1.0}} : f32[2x3x5x7]
  s1 = grad_scale_init(s, p) {{top=64.0, always={always}}} : f32[]
  s2 = grad_scale_step(s1, m) {{top=64.0}} : f32[]
""",
        "s2",
        {"g": "f32[2x3x5x7]", "s": "f32[]", "m": "f32[]"},
        g=largest,
        s=s,
        m=largest,
    )


@pytest.mark.parametrize("s", [0.0, 0.5])
@pytest.mark.parametrize("largest", [0.0, 3.1e-5, 65.0, float("inf"), float("nan")])
@pytest.mark.parametrize("always", ["false", "true"])
def test_gradient_scales_of_channels(s: float, largest: float, always: str) -> None:
    run(
        f"""\
  now, inverse = channel_scales(s, m) {{top=64.0, always={always}}} : f32[13], f32[13]
  later = grad_scale_step(now, m) {{top=64.0}} : f32[13]
""",
        "now, inverse, later",
        {"s": "f32[13]", "m": "f32[13]"},
        s=s,
        m=largest,
    )


@pytest.mark.parametrize("shape", ["1x1x1x1", "7x3x3x3", "33x27"])
def test_extremes(shape: str) -> None:
    rows = shape.split("x")[0]
    run(
        f"""\
  low, high = extremes(x) : f32[], f32[]
  lows, highs = extremes(x) : f32[{rows}], f32[{rows}]
""",
        "low, high, lows, highs",
        {"x": f"f32[{shape}]"},
    )


def test_every_single_op_is_tested() -> None:
    """Each is called here, or stands in a test that runs single kernels.

    Updates are of one rule each, and test_special_numbers runs all of them.
    """
    here = Path(__file__)
    text = here.read_text(encoding="utf-8")
    others = (p.read_text(encoding="utf-8") for p in here.parents[1].rglob("test_*.py"))
    single = "".join(t for t in others if "single" in t)
    kinds = (k for k in BUILDERS if OPS[k].family != "update")
    missing = [k for k in kinds if f"{k}(" not in text and f'"{k}"' not in single]
    assert not missing
