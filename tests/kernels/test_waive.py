"""Waivers: a refused GEMM is an error with the way out, or runs in float where that is allowed."""

from __future__ import annotations

import numpy as np
import pytest

from quatrain.compiler import parse, show, verify
from quatrain.compiler.errors import NoKernelError
from quatrain.compiler.ir import Op
from quatrain.targets.plan.state import aligned_bytes, state_layout
from quatrain.targets.plan.waive import waive, waived
from quatrain.targets.registry import BindOptions, find_target

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
        "cpu: layer fc1: no linear of uint4 by int4; allow=['fc1'] would let that layer run in float"
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


CHANNELS = """\
program p
input x : f32[4x6]
state w : f32[5x6]
state c : f32[4]
state d : f32[]

forward:
  # fc
  xq = quantize(x, c) : uint4*c[4x6]
  wq = quantize(w, d) : int4*t[5x6]
  y = linear(xq, wq) : f32[4x5]

return y
"""


@pytest.mark.tvm
def test_the_cpu_refuses_what_it_has_no_kernel_for_and_runs_it_where_allowed() -> None:
    program = verify(parse(CHANNELS))
    state = state_layout(program)
    cpu = find_target("cpu")
    for refused in (lambda: cpu.lower(program), lambda: cpu.bind(program, state, BindOptions())):
        with pytest.raises(NoKernelError, match=r"layer fc: linear of uint4\*c by int4\*t"):
            refused()
    ((stage, lowered),) = cpu.lower(program, ("f*",))
    assert stage == "waive" and lowered.history[-1] == "waive"
    waived_step = cpu.bind(lowered, state, BindOptions())
    block = aligned_bytes(state.bytes)
    state.views(block)["w"][...] = np.arange(30).reshape(5, 6) - 15
    state.views(block)["c"][...] = [1, 2, 3, 4]
    state.views(block)["d"][...] = 14
    x = aligned_bytes(96).view(np.float32).reshape(4, 6)
    x[...] = np.linspace(0, 4, 24).reshape(4, 6)
    (made,) = waived_step.run((x,), block, block)
    (wanted,) = find_target("reference").bind(program, state, BindOptions()).run((x,), block, block)
    # Six products in f32, each rounded.
    np.testing.assert_allclose(made, wanted, rtol=6 * 2.0**-24)
    assert waived(waived_step.program) == ("fc",)
