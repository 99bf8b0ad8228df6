"""Waivers: a refused GEMM is an error with the way out, or runs in float where that is allowed."""

from __future__ import annotations

import pytest

from quatrain.compiler import parse, show, verify
from quatrain.compiler.errors import NoKernelError
from quatrain.compiler.ir import Op
from quatrain.targets.waive import waive, waived

PROGRAM = """\
program p
input x : f32[4x3]
state w : f32[5x3]
state c : f32[]

forward:
  # fc1
  xq = quantize(x, c) : uint4*t[4x3]
  wq = quantize(w, c) : int4*t[5x3]
  y = linear(xq, wq) : f32[4x5]
  # fc2
  z = linear(xq, wq) : f32[4x5]

return y, z
"""


def refuse_fc1(op: Op) -> None:
    """A target without a kernel for one layer."""
    if op.origin == "fc1":
        raise NoKernelError("cpu: layer fc1: no linear of uint4 by int4")


def test_without_a_waiver_it_is_an_error_that_names_the_layer_and_the_way_out() -> None:
    with pytest.raises(NoKernelError) as e:
        waive(parse(PROGRAM), refuse_fc1, ("fc2",))
    assert str(e.value) == (
        "cpu: layer fc1: no linear of uint4 by int4; allow='fc1' would let that layer run in float"
    )


def test_a_waived_layer_reads_its_operands_in_float() -> None:
    made = verify(waive(parse(PROGRAM), refuse_fc1, ("fc[12]",)))
    assert waived(made) == ("fc1",)
    text = show(made)
    assert "xq.plain = dequantize(xq) : f32[4x3]" in text
    assert "y = linear(xq.plain, wq.plain) : f32[4x5]" in text
    assert "z = linear(xq, wq) : f32[4x5]" in text


def test_a_program_without_a_refusal_is_left_alone() -> None:
    program = parse(PROGRAM)
    assert waive(program, lambda op: None, ()) is program
    assert waived(program) == ()
