"""Runs one kernel beside the reference, on random inputs of any type."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from quatrain.compiler.formats import F32
from quatrain.compiler.ir import Attr, Op, Value, attrs
from quatrain.compiler.types import Scale, TensorType
from quatrain.targets.numbers.packing import from_memory, to_memory
from quatrain.targets.numbers.tensor import Tensor, dtype_of, scale_shape
from quatrain.targets.plan.kernel import Kernel
from quatrain.targets.plan.layout import Layout, Order
from quatrain.targets.reference.evaluate import run_op

from .compiled import compiled, noted
from .machine import kernel_of, machine

Array = npt.NDArray[np.generic]
Values = dict[str, Tensor]


class Group:
    """Ops under construction: ``op`` appends one and returns its results."""

    def __init__(self) -> None:
        self.ops: list[Op] = []
        self.inputs: list[Value] = []

    def input(self, name: str, type_: TensorType) -> Value:
        """A value from outside."""
        self.inputs.append(Value(name, type_))
        return self.inputs[-1]

    def op(
        self, kind: str, inputs: Sequence[Value], results: Sequence[TensorType], **attributes: Attr
    ) -> tuple[Value, ...]:
        """Append an op."""
        made = tuple(Value(f"{kind}{len(self.ops)}_{i}", t) for i, t in enumerate(results))
        self.ops.append(Op(kind, tuple(inputs), made, attrs(**attributes), "layer"))
        return made


def random_inputs(
    values: Sequence[Value], seed: int = 0, given: Mapping[str, Array | float] | None = None
) -> Values:
    """Normal numbers with some zeros, all codes, positive variances and clips; or what is given."""
    rng = np.random.default_rng(seed)
    made: Values = {}
    for v in values:
        if given is not None and v.name in given:
            made[v.name] = Tensor.from_numbers(v.type, np.broadcast_to(given[v.name], v.type.shape))
            continue
        f, shape = v.type.format, v.type.shape
        x = rng.normal(size=shape) * (rng.random(shape) > 0.1)
        if v.name in ("var", "clip", "count"):
            x = np.abs(rng.normal(size=shape)) + 0.5
        scale = None
        if v.type.scale is not Scale.NONE:
            size = scale_shape(v.type)
            scale = np.exp2(rng.integers(-4, 4, size)).astype(np.float32)
        if f.is_coded:
            codes = rng.integers(0, 1 << f.bits, shape).astype(dtype_of(f))
            made[v.name] = Tensor(v.type, _plain_codes(codes, v.type), scale)
        elif f.is_index:
            made[v.name] = Tensor.from_numbers(v.type, rng.integers(0, 5, shape))
        else:
            made[v.name] = Tensor.from_numbers(v.type, x, scale)
    return made


def _plain_codes(codes: npt.NDArray[np.unsignedinteger], type_: TensorType) -> Array:
    """Without infinities and NaNs; a region mask has no code 3."""
    f = type_.format
    if f.name == "uint2" and type_.scale is Scale.NONE:
        return np.asarray(np.minimum(codes, 2))
    sign = 1 << (f.bits - 1)
    plain = ~np.isin(codes % sign, f.specials)
    return np.asarray(np.where(plain, codes, 0), codes.dtype)


def reference(ops: Sequence[Op], inputs: Mapping[str, Tensor]) -> Values:
    """All values of a group, by name."""
    env = dict(inputs)
    for op in ops:
        made = run_op(op, [env[v.name] for v in op.inputs])
        env.update(zip((r.name for r in op.results), made, strict=True))
    return env


def run_kernel(
    kernel: Kernel, inputs: Mapping[str, Tensor], orders: Mapping[Value, Order]
) -> Values:
    """The outputs of a kernel, by name; buffers start as garbage."""
    arrays: list[npt.NDArray[np.generic]] = []
    for slot in kernel.inputs:
        tensor = inputs[slot.value.name]
        layout = Layout(slot.value.type, orders[slot.value])
        if slot.scale:
            assert tensor.scale is not None
            arrays.append(tensor.scale.reshape(-1))
        else:
            arrays.append(to_memory(tensor, layout).reshape(-1))
    made: dict[tuple[Value, bool], npt.NDArray[np.generic]] = {}
    for slot in kernel.outputs:
        layout = Layout(slot.value.type, orders[slot.value])
        size = layout.scales if slot.scale else layout.rows * layout.cell
        garbage = np.full(size * 8, 0xA5, np.uint8)
        made[slot.value, slot.scale] = garbage.view(
            np.float32 if slot.scale else layout.dtype
        ).copy()[:size]
    compiled(kernel, machine())(*arrays, *made.values())
    result: Values = {}
    for (value, scale), array in made.items():
        if not scale:
            layout = Layout(value.type, orders[value])
            result[value.name] = from_memory(array, layout, made.get((value, True)))
            check_padding(array, result[value.name], layout)
    return result


def check_padding(array: npt.NDArray[np.generic], tensor: Tensor, layout: Layout) -> None:
    """Codes that only fill the last byte of a row are zero."""
    again = to_memory(tensor, layout).reshape(-1)
    if layout.parts > 1:
        np.testing.assert_array_equal(array, again)


def pointwise(
    group: Group,
    outputs: Sequence[Value],
    inputs: Mapping[str, Tensor],
    order: Callable[[Value], Order] = lambda v: Order.PIXELS,
) -> tuple[Values, Values]:
    """Outputs of the fused kernel, and all values of the reference."""
    values = {v for op in group.ops for v in (*op.inputs, *op.results)}
    orders = {v: order(v) for v in values}
    kernel = kernel_of(group.ops, outputs, orders)
    return _run(kernel, inputs, orders, reference(group.ops, inputs))


def single(
    group: Group,
    inputs: Mapping[str, Tensor],
    order: Callable[[Value], Order] = lambda v: Order.PIXELS,
) -> tuple[Values, Values]:
    """Results of the kernel of the group's only op, and of the reference."""
    (op,) = group.ops
    orders = {v: order(v) for v in (*op.inputs, *op.results)}
    kernel = kernel_of([op], op.results, orders)
    return _run(kernel, inputs, orders, reference([op], inputs))


def _run(
    kernel: Kernel, inputs: Mapping[str, Tensor], orders: Mapping[Value, Order], want: Values
) -> tuple[Values, Values]:
    """What the kernel makes, or while kernels are only noted what is wanted, and that."""
    return (want if noted(kernel) else run_kernel(kernel, inputs, orders)), want


def same(got: Tensor, want: Tensor) -> None:
    """Bit for bit: codes, numbers (with zeros of one sign like those of the other) and scales."""
    if got.type.format.is_coded:
        np.testing.assert_array_equal(got.data, want.data)
    else:
        np.testing.assert_array_equal(got.numbers, want.numbers)
    if want.scale is not None:
        np.testing.assert_array_equal(got.scale, want.scale)


def close(got: Tensor, want: Tensor, relative: float, absolute: float = 0.0) -> None:
    """Within a tolerance of the largest number of the result."""
    assert got.type.format == F32 or relative > 1e-3
    np.testing.assert_allclose(got.numbers, want.numbers, rtol=relative, atol=absolute)
