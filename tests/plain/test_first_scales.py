"""First scales: which gradients need not be in memory, and what is repeated for their maximum."""

from __future__ import annotations

import numpy as np
import pytest

from quatrain.compiler import parse, verify
from quatrain.compiler.ir import Program
from quatrain.targets.numbers.tensor import Tensor
from quatrain.targets.plan.first_scales import first_scales
from quatrain.targets.plan.fuse import fuse
from quatrain.targets.reference.evaluate import evaluate

SHAPE = "f32[2x4x3x3]"
HEAD = f"""\
program p
input x : {SHAPE}
input y : {SHAPE}
state s : f32[]
state v : f32[4]
state w : f32[4x4x1x1]

"""
QUANTIZER = """\
  s1 = grad_scale_init(s, g) {top=64.0, always=false} : f32[]
  gs = grad_scale(g, s1) : f32*p[2x4x3x3]
  q = round_log(gs) {tie=up, underflow=uniform, up=1.6} : fp4.even*p[2x4x3x3]
"""


def program(body: str, outputs: str = "q, s1") -> Program:
    """A program of a region."""
    return verify(parse(f"{HEAD}backward:\n{body}\nreturn {outputs}\n"))


def groups(made: Program) -> list[list[str]]:
    """The kinds of each kernel."""
    return [[op.kind for op in g.ops] for g in fuse(verify(made))]


def test_a_gradient_is_quantized_where_it_is_made() -> None:
    before = program(f"  a = relu(x) : {SHAPE}\n  g = mul(a, y) : {SHAPE}\n{QUANTIZER}")
    after = first_scales(before)
    assert groups(after) == [
        ["relu", "mul", "amax_first"],
        ["grad_scale_init"],
        ["relu", "mul", "grad_scale", "round_log"],
    ]
    assert after.history[-1] == "first_scales"
    assert len({*after.names()}) == len([*after.names()])


def test_what_is_in_memory_anyway_is_not_made_again() -> None:
    made = first_scales(
        program(
            f"  a = relu(x) : {SHAPE}\n  t = sum_channels(a) : f32[4]\n"
            f"  g = batch_norm_input_grad(a, x, v, v, v, t, t) {{eps=1e-05}} : {SHAPE}\n{QUANTIZER}"
        )
    )
    # Two kernels read a: it is stored.
    assert groups(made)[:2] == [
        ["relu", "sum_channels"],
        ["batch_norm_input_grad", "amax_first"],
    ]


def test_what_would_run_in_every_step_is_not_repeated() -> None:
    # Two of three ops that read a are one kernel with it, which the copy would join.
    made = program(
        f"  a = relu(x) : {SHAPE}\n  g = mul(a, y) : {SHAPE}\n  h = add(a, y) : {SHAPE}\n"
        f"{QUANTIZER}",
        "q, h",
    )
    assert first_scales(made) is made


def test_a_scalar_stays_as_it_is() -> None:
    text = f"""{HEAD}backward:
  a = scale(s) {{factor=3.0}} : f32[]
  g = mul(a, s) : f32[]
  s0 = scale(s) {{factor=2.0}} : f32[]
  s1 = grad_scale_init(s0, g) {{top=64.0, always=false}} : f32[]
return s1
"""
    made = verify(parse(text))
    assert first_scales(made) is made


CONV = "{stride=[1,1], padding=[0,0], dilation=[1,1], groups=1}"


@pytest.mark.parametrize(
    ("body", "outputs"),
    [
        pytest.param(f"  g = conv2d(x, w) {CONV} : {SHAPE}\n{QUANTIZER}", "q, s1", id="of a GEMM"),
        pytest.param(f"  g = relu(x) : {SHAPE}\n{QUANTIZER}", "q, s1, g", id="returned"),
        pytest.param(
            f"  g = relu(x) : {SHAPE}\n{QUANTIZER}  z = conv2d(g, w) {CONV} : {SHAPE}\n",
            "q, s1, z",
            id="an operand",
        ),
        pytest.param(
            f"  g = relu(x) : {SHAPE}\n{QUANTIZER.replace('false', 'true')}",
            "q, s1",
            id="of every step",
        ),
        pytest.param(QUANTIZER.replace("g)", "x)").replace("(g,", "(x,"), "q, s1", id="an input"),
    ],
)
def test_what_stays_as_it_is(body: str, outputs: str) -> None:
    made = program(body, outputs)
    assert first_scales(made) is made


@pytest.mark.parametrize("kind", ["grad_scale_init", "amax_init"])
@pytest.mark.parametrize("state", [0.0, 0.25])
@pytest.mark.parametrize("number", [3.0, 0.0, float("inf"), float("nan")])
def test_the_program_means_the_same(kind: str, state: float, number: float) -> None:
    body = QUANTIZER
    if kind == "amax_init":
        body = body.replace("grad_scale_init(s, g) {top=64.0, always=false}", "amax_init(s, g)")
        body = body.replace("grad_scale(", "normalize(").replace("*p", "*t")
    made = program(f"  g = scale(x) {{factor=2.0}} : {SHAPE}\n{body}")
    after = verify(first_scales(made))
    assert after is not made
    x = np.linspace(-1, 2, 72).reshape(2, 4, 3, 3)
    x[1, 3, 2, 2] = number
    numbers = {"x": x, "y": x, "s": state, "v": np.ones(4), "w": np.ones((4, 4, 1, 1))}
    given = {
        v.name: Tensor.from_numbers(v.type, np.asarray(numbers[v.name]))
        for v in (*made.inputs, *made.state)
    }
    with np.errstate(all="ignore"):
        results = [evaluate(p, given) for p in (made, after)]
    for one, other in zip(made.outputs, after.outputs, strict=True):
        a, b = results[0][one], results[1][other]
        assert a.data.tobytes() == b.data.tobytes()
