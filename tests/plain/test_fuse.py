"""Fusion: groups cover every op once, run in a valid order, and join what may be joined."""

from __future__ import annotations

from quatrain.compiler import parse, verify
from quatrain.compiler.ir import Program, Value
from quatrain.targets.plan.fuse import Group, fuse

CONV = "{stride=[1,1], padding=[0,0], dilation=[1,1], groups=1}"
HEAD = """\
program p
input x : f32[2x4x3x3]
input g : f32[2x4x3x3]
state w : f32[4x4x1x1]
state b : f32[4]
state c : f32[]

"""


def groups(body: str, outputs: str) -> tuple[Program, list[list[str]], list[Group]]:
    """The fused kinds of a program, after checking cover and order."""
    program = verify(parse(f"{HEAD}{body}\nreturn {outputs}\n"))
    made = fuse(program)
    assert sorted(id(op) for g in made for op in g.ops) == sorted(id(op) for _, op in program.ops())
    ready: set[Value] = {*program.inputs, *program.state}
    for group in made:
        for op in group.ops:
            assert all(v in ready for v in op.inputs), "a group runs before what it reads"
            ready.update(op.results)
    return program, [[op.kind for op in g.ops] for g in made], made


def test_forward_chain_is_one_kernel_around_its_statistics() -> None:
    _, kinds, made = groups(
        f"""\
forward:
  y0 = conv2d(x, w) {CONV} : f32[2x4x3x3]
  y = add_bias(y0, b) : f32[2x4x3x3]
  mean, var = batch_stats(y) : f32[4], f32[4]
  n = batch_norm(y, mean, var, b, b) {{eps=1e-05}} : f32[2x4x3x3]
  r = relu(n) : f32[2x4x3x3]
  q = quantize(r, c) : uint4*t[2x4x3x3]
""",
        "q",
    )
    assert kinds == [["conv2d", "add_bias"], ["batch_stats"], ["batch_norm", "relu", "quantize"]]
    assert [v.name for v in made[2].outputs] == ["q"]


def test_what_needs_a_finished_reduction_starts_a_new_kernel() -> None:
    _, kinds, _ = groups(
        """\
forward:
  mean, var = batch_stats(x) : f32[4], f32[4]
  d = relu_grad(g, x) : f32[2x4x3x3]
  dgamma, dbeta = batch_norm_grad_stats(d, x, mean, var) {eps=1e-05} : f32[4], f32[4]
  dx = batch_norm_input_grad(d, x, mean, var, b, dgamma, dbeta) {eps=1e-05} : f32[2x4x3x3]
  m = amax(dx) : f32[]
""",
        "m",
    )
    assert kinds == [
        ["batch_stats"],
        ["relu_grad", "batch_norm_grad_stats"],
        ["batch_norm_input_grad", "amax"],
    ]


def test_no_cycle_through_a_lone_op() -> None:
    """The second relu depends on a convolution of the first: one kernel would wait for itself."""
    _, kinds, _ = groups(
        f"""\
forward:
  a = relu(x) : f32[2x4x3x3]
  y = conv2d(a, w) {CONV} : f32[2x4x3x3]
  z = add(a, y) : f32[2x4x3x3]
""",
        "z",
    )
    assert kinds == [["relu"], ["conv2d"], ["add"]]


def test_a_bias_whose_convolution_is_read_twice_stays_alone() -> None:
    _, kinds, _ = groups(
        f"""\
forward:
  y = conv2d(x, w) {CONV} : f32[2x4x3x3]
  z = add_bias(y, b) : f32[2x4x3x3]
  u = add(y, z) : f32[2x4x3x3]
""",
        "u",
    )
    assert kinds[0] == ["conv2d"]
