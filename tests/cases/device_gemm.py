"""GEMM cases on the kernels of the ``cuda`` target, in the emulator."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from quatrain.compiler.ir import Value
from quatrain.targets.cuda.gemm.spec import DeviceGemm
from quatrain.targets.numbers.packing import from_memory, to_memory
from quatrain.targets.numbers.tensor import Tensor
from quatrain.targets.plan.fuse import Group
from quatrain.targets.plan.kernel import Kernel
from quatrain.targets.plan.layout import Layout, Order

from ..cuda.emulated import EmulatedGpu
from .compiled import chunk, compiled
from .gemm_case import CANARY, FLOAT_UNITS, Case, Draw, bound, expected, tensor

GPU = EmulatedGpu()


def device_kernel(case: Case, gpu: EmulatedGpu = GPU) -> tuple[Kernel, dict[Value, Order]]:
    """The kernel and the order of every value."""
    ops = case.ops()
    values = (*ops[0].inputs, ops[-1].result)
    orders = dict(zip(values, case.orders, strict=True))
    orders |= {v: Order.ROWS for op in ops for v in (*op.inputs, *op.results) if v not in orders}
    return gpu.kernel(Group(ops, (ops[-1].result,), "forward"), orders), orders


def device_spec(case: Case, gpu: EmulatedGpu = GPU) -> DeviceGemm:
    """What decides the kernel's code."""
    spec = device_kernel(case, gpu)[0].spec
    assert isinstance(spec, DeviceGemm)
    return spec


def check_on_device(
    case: Case,
    way: str,
    *,
    beside: Sequence[Case] = (),
    draw: Draw = tensor,
    gpu: EmulatedGpu = GPU,
) -> None:
    """A case is made by a way, in every order of threads alike, as the reference says."""
    kernel, orders = device_kernel(case, gpu)
    assert device_spec(case, gpu).way.name == way
    rng = np.random.default_rng(7)
    operands: list[Tensor] = []
    arrays = []
    for slot in kernel.inputs:
        if slot.scale:
            arrays.append(np.atleast_1d(np.asarray(operands[-1].scale)))
            continue
        operands.append(draw(slot.value.type, rng))
        arrays.append(to_memory(operands[-1], Layout(slot.value.type, orders[slot.value])))
    result = kernel.outputs[0].value
    layout = Layout(result.type, orders[result])
    elements = layout.rows * layout.cell
    out = np.full(elements + CANARY, 77, layout.dtype)

    def neighbours() -> list[Kernel]:
        return [device_kernel(c, gpu)[0] for c in chunk(case, beside or (case,))]

    compiled(kernel, gpu, neighbours)(*arrays, out)
    assert np.all(out[elements:] == 77), "the kernel wrote behind its result"
    got, want = from_memory(out[:elements], layout), expected(case, operands)
    if kernel.unit in FLOAT_UNITS:
        difference = np.abs(got.numbers.astype(np.float64) - want.numbers.astype(np.float64))
        column = operands[2].numbers if case.bias else np.zeros(1)
        assert np.all(difference <= bound(case, operands) + np.abs(column).max() * 2.0**-7)
    else:
        assert np.array_equal(got.numbers, want.numbers)
