"""One GEMM as a test case: its ops, its kernel run on random operands, the comparison.

Integer units must agree bit for bit with the reference. F32 sums run in another order than the
reference's, so they may differ by length * 2^-24 of the sum of magnitudes, plus half a step of the
stored format; products of bf16 are exact in f32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import pytest

from quatrain.compiler.formats import BF16, F16, F32, INT4, UINT4, Format
from quatrain.compiler.ir import Op, Value, attrs
from quatrain.compiler.types import Scale, TensorType
from quatrain.targets.cpu.build import Compiled
from quatrain.targets.cpu.choose import gemm_kernel, matrices_kernel
from quatrain.targets.cpu.gemm.spec import GemmSpec
from quatrain.targets.cpu.info import CpuInfo, detect, flags
from quatrain.targets.numbers.packing import from_memory, to_memory
from quatrain.targets.numbers.tensor import Tensor, dtype_of
from quatrain.targets.plan.kernel import Kernel, Unit
from quatrain.targets.plan.layout import Layout, Order
from quatrain.targets.reference.gemm import GEMM

from .compiled import chunk, compiled
from .machine import Cpu

KINDS = ("conv2d", "conv2d_input_grad", "conv2d_weight_grad")
LINEAR = ("linear", "linear_input_grad", "linear_weight_grad")
MATRICES = ("product", "product_input_grad", "product_weight_grad")
CANARY = 64
HALF_STEP = {F32: 0.0, F16: 2.0**-11, BF16: 2.0**-8}
Pair = tuple[int, int]
FLOAT_UNITS = (Unit.F32, Unit.BF16_DOT, Unit.BF16_TILE, Unit.BF16_MMA)
TILES = (Unit.INT8_TILE, Unit.BF16_TILE)
EXTRA = tuple(feature for feature in detect().extra if not feature.startswith("amx"))
WITHOUT_TILES = replace(detect(), amx=False, bf16="avx512bf16" in flags(), extra=EXTRA)
# What this machine runs: its own kernels and, where those are AMX, what a CPU without it would run.
CPUS = [detect(), WITHOUT_TILES] if detect().amx else [detect()]
EACH_CPU = pytest.mark.parametrize("cpu", CPUS, ids=lambda c: "tiles" if c.amx else "vectors")


@dataclass(frozen=True)
class Case:
    """One GEMM: sizes N, C, HxW, K, RxS, how they combine, formats, orders in memory.

    Of products of matrices ``n`` is the batch, ``size`` M and N, and ``c`` what forward sums over.
    """

    kind: str
    n: int = 2
    c: int = 13
    size: Pair = (7, 9)
    k: int = 28
    kernel: Pair = (3, 3)
    stride: Pair = (1, 1)
    padding: Pair = (1, 1)
    dilation: Pair = (1, 1)
    groups: int = 1
    formats: tuple[Format, Format] = (UINT4, INT4)
    channel_scale: bool = False
    made: Format = F32
    bias: Format | None = None
    out: Format = F32
    orders: tuple[Order, Order, Order] = (Order.PIXELS,) * 3

    def ops(self) -> tuple[Op, ...]:
        """The GEMM, and the bias if there is one."""
        a, b, out = self._shapes()
        scales = [Scale.TENSOR if f.is_coded else Scale.NONE for f in self.formats]
        if self.channel_scale:
            scales[1] = Scale.CHANNEL
        types = [
            TensorType(s, f, scale)
            for s, f, scale in zip((a, b), self.formats, scales, strict=True)
        ]
        options = attrs(
            stride=self.stride, padding=self.padding, dilation=self.dilation, groups=self.groups
        )
        y = Value("y", TensorType(out, self.made))
        values = tuple(Value(name, t) for name, t in zip("ab", types, strict=True))
        gemm = Op(self.kind, values, (y,), options if self.kind in KINDS else attrs())
        if self.bias is None:
            return (gemm,)
        bias = Value("bias", TensorType(out[1:2], self.bias))
        return gemm, Op("add_bias", (y, bias), (Value("z", TensorType(out, self.out)),))

    def _shapes(self) -> tuple[tuple[int, ...], ...]:
        x: tuple[int, ...]
        w: tuple[int, ...]
        y: tuple[int, ...]
        if self.kind in LINEAR:
            x, w, y = (self.n, self.c), (self.k, self.c), (self.n, self.k)
        elif self.kind in MATRICES:
            m, n = self.size
            x, w, y = (self.n, m, self.c), (self.n, self.c, n), (self.n, m, n)
        else:
            places = (
                (size + 2 * p - d * (r - 1) - 1) // s + 1
                for size, p, d, r, s in zip(
                    self.size, self.padding, self.dilation, self.kernel, self.stride, strict=True
                )
            )
            x, y = (self.n, self.c, *self.size), (self.n, self.k, *places)
            w = (self.k, self.c // self.groups, *self.kernel)
        if self.kind.endswith("input_grad"):
            return y, w, x
        return (y, x, w) if self.kind.endswith("weight_grad") else (x, w, y)

    def kernel_on(self, cpu: CpuInfo) -> tuple[Kernel, dict[Value, Order]]:
        """The kernel and the order of every value."""
        ops, orders = self.ordered()
        if self.kind in MATRICES:
            return matrices_kernel(ops[0], cpu), orders
        return gemm_kernel(ops, orders, cpu), orders

    def ordered(self) -> tuple[tuple[Op, ...], dict[Value, Order]]:
        """The ops, and the order of every value."""
        ops = self.ops()
        values = (*ops[0].inputs, ops[-1].result)
        alike = (Order.ROWS,) * 3 if self.kind in MATRICES else self.orders
        orders = dict(zip(values, alike, strict=True))
        orders |= {
            v: Order.ROWS for op in ops for v in (*op.inputs, *op.results) if v not in orders
        }
        return ops, orders


def without_tiles(kernel: Kernel) -> Kernel:
    """The kernel for a CPU without tiles where it uses none: a test sees that its code is one."""
    spec = kernel.spec
    assert isinstance(spec, GemmSpec)
    if spec.cpu != detect() or kernel.unit in TILES:
        return kernel
    return replace(kernel, spec=replace(spec, cpu=WITHOUT_TILES))


def compile_case(kernel: Kernel, case: Case, beside: Sequence[Case]) -> Compiled:
    """The kernel of a case as a function, compiled with those of its neighbours in ``beside``."""
    made = without_tiles(kernel)
    cpu = _cpu(made)

    def neighbours() -> list[Kernel]:
        some = (without_tiles(c.kernel_on(_cpu(kernel))[0]) for c in chunk(case, beside))
        return [k for k in some if _cpu(k) == cpu]

    return cast(Compiled, compiled(made, Cpu(cpu), neighbours))


def _cpu(kernel: Kernel) -> CpuInfo:
    assert isinstance(kernel.spec, GemmSpec)
    return kernel.spec.cpu


def tensor(type_: TensorType, rng: np.random.Generator) -> Tensor:
    """Random numbers over all codes but the special ones, with a scale where one belongs."""
    f = type_.format
    scale = None
    if type_.scale is not Scale.NONE:
        shape = type_.shape[:1] if type_.scale is Scale.CHANNEL else ()
        scale = np.asarray(rng.uniform(0.01, 2.0, shape), np.float32)
    if not f.is_coded:
        return Tensor.from_numbers(type_, rng.standard_normal(type_.shape), scale)
    magnitude = (1 << (f.bits - 1)) - 1
    codes = [c for c in range(1 << f.bits) if not f.specials or c & magnitude not in f.specials]
    return Tensor(type_, rng.choice(np.array(codes, dtype_of(f)), type_.shape), scale)


Draw = Callable[[TensorType, np.random.Generator], Tensor]


@dataclass(frozen=True)
class Drawn:
    """Random operands as the op orders them, and the arrays that its kernel takes: theirs, and room
    for a result."""

    operands: list[Tensor]
    arrays: list[np.ndarray]
    out: np.ndarray
    layout: Layout

    @classmethod
    def of(
        cls, kernel: Kernel, orders: Mapping[Value, Order], draw: Draw, infinite: int | None = None
    ) -> Drawn:
        """The first operand may have a sample that is ``infinite``."""
        rng = np.random.default_rng(7)
        operands: dict[Value, Tensor] = {}
        arrays = []
        for slot in kernel.inputs:
            if slot.scale:
                arrays.append(np.atleast_1d(np.asarray(operands[slot.value].scale)))
                continue
            operand = operands[slot.value] = draw(slot.value.type, rng)
            if infinite is not None and len(operands) == 1:
                operand.data[infinite] = np.inf
            arrays.append(to_memory(operand, Layout(slot.value.type, orders[slot.value])))
        result = kernel.outputs[0].value
        layout = Layout(result.type, orders[result])
        out = np.full(layout.rows * layout.cell + CANARY, 77, layout.dtype)
        inputs = [v for op in kernel.ops for v in op.inputs if v in operands]
        return cls([operands[v] for v in inputs], arrays, out, layout)

    def result(self, function: Callable[..., object]) -> Tensor:
        """What a kernel makes of them; nothing behind it is touched."""
        function(*self.arrays, self.out)
        elements = self.out.size - CANARY
        assert np.all(self.out[elements:] == 77), "the kernel wrote behind its result"
        return from_memory(self.out[:elements], self.layout)


def run(
    case: Case,
    cpu: CpuInfo,
    beside: Sequence[Case] = (),
    *,
    infinite: int | None = None,
    draw: Draw = tensor,
) -> tuple[Tensor, list[Tensor], Kernel]:
    """The compiled kernel's result and its operands.

    It is compiled with its neighbours in ``beside``. The first operand may have a sample that is
    ``infinite``; ``draw`` makes the operands.
    """
    kernel, orders = case.kernel_on(cpu)
    drawn = Drawn.of(kernel, orders, draw, infinite)
    got = drawn.result(compile_case(kernel, case, beside or (case,)))
    return got, drawn.operands, kernel


def expected(case: Case, operands: list[Tensor]) -> Tensor:
    """The reference's result."""
    gemm, *bias = case.ops()
    (y,) = GEMM[gemm.kind](gemm, operands[:2])
    for op in bias:
        column = operands[2].numbers.reshape(1, -1, *(1,) * (len(y.type.shape) - 2))
        y = Tensor.from_numbers(op.result.type, y.numbers + column)
    return y


def bound(case: Case, operands: list[Tensor]) -> np.ndarray:
    """How far an f32 sum may be off, see the top of this file."""
    gemm = case.ops()[0]
    sizes = [
        Tensor.from_numbers(TensorType(x.type.shape, F32), np.abs(x.real())) for x in operands[:2]
    ]
    plain = replace(case, made=F32, bias=None)
    (total,) = GEMM[gemm.kind](plain.ops()[0], sizes)
    spec = plain.kernel_on(detect())[0].spec
    assert isinstance(spec, GemmSpec)
    last = case.out if case.bias else case.made
    steps = HALF_STEP[case.made] + HALF_STEP[last]
    return np.asarray(total.numbers * ((spec.length + 4) * 2.0**-24 + 2.5 * steps)) + 2.0**-24


def check(
    case: Case, cpu: CpuInfo, unit: Unit | None = None, *, beside: Sequence[Case] = ()
) -> None:
    """Compare one case with the reference; its kernel is compiled with neighbours in ``beside``."""
    got, operands, kernel = run(case, cpu, beside)
    if unit is not None:
        assert kernel.unit is unit
    compare(case, kernel, operands, got)


def compare(case: Case, kernel: Kernel, operands: list[Tensor], got: Tensor) -> None:
    """A kernel's result with the reference's, see the top of this file."""
    want = expected(case, operands)
    if kernel.unit in FLOAT_UNITS:
        difference = np.abs(got.numbers.astype(np.float64) - want.numbers.astype(np.float64))
        column = operands[2].numbers if case.bias else np.zeros(1)
        assert np.all(difference <= bound(case, operands) + np.abs(column).max() * 2.0**-7)
    else:
        assert np.array_equal(got.numbers, want.numbers)
