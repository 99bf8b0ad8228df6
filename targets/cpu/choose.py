"""GEMM kernels of the CPU target: convolution and linear, forward, dX and dW, with a bias if asked.

    gemm_kernel(ops, orders, cpu) -> Kernel      ops = (gemm,) or (gemm, add_bias)

A kernel's result is f32(sum of products of integers or floats) * f32(factor of one * factor of the
other), rounded to the GEMM's format; then the bias is added in f32 and rounded to its format. GEMMs
with an accumulator have a kernel of their own, ``chunked``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from ...compiler.errors import NoKernelError
from ...compiler.formats import F32, Format
from ...compiler.ir import Op, Value
from ...compiler.ir.accumulation import Accumulation, accumulation
from ...compiler.types import Scale, TensorType
from ..plan.kernel import Kernel, Slot, Unit, slots_of
from ..plan.layout import Layout, Order
from .gemm.pixels import pixels
from .gemm.shapes import channels_last, shape4
from .gemm.units import (
    FLOAT,
    Dot,
    choose_dot,
    choose_lane_dot,
    choose_pair_dot,
    choose_tile_dot,
)
from .info import CpuInfo

if TYPE_CHECKING:
    from tvm.tirx import PrimFunc

Pair = tuple[int, int]
# A transposed convolution walks through its weights as dX of a convolution does.
TRANSPOSED = {
    "conv2d_transpose": "conv2d_input_grad",
    "conv2d_transpose_input_grad": "conv2d",
    "conv2d_transpose_weight_grad": "conv2d_weight_grad",
}
EXCHANGED = frozenset({"conv2d_transpose_weight_grad"})
# Below this many the rows of tiles, which hold 64 images, would be mostly empty.
FEWEST_IMAGES = 8


@dataclass(frozen=True, slots=True)
class GemmSpec:
    """All that decides a GEMM kernel's code.

    ``a``, ``b`` are the operands as the op orders them, ``out`` is what is stored, ``made`` the
    format that the GEMM itself rounds to. A linear layer is a convolution of one pixel an image.
    """

    kind: str
    a: Layout
    b: Layout
    made: Format
    bias: Layout | None
    out: Layout
    stride: Pair
    padding: Pair
    dilation: Pair
    groups: int
    cpu: CpuInfo
    accumulation: Accumulation | None = None

    @property
    def name(self) -> str:
        """Kind, operand formats, shape of the result."""
        formats = f"{self.a.type.format}_{self.b.type.format}".replace(".", "")
        shape = "x".join(map(str, self.out.type.shape))
        return f"{self.kind}{'_bias' if self.bias else ''}_{formats}_{shape}"

    @property
    def direction(self) -> str:
        """forward, input_grad or weight_grad."""
        _, _, part = self.kind.partition("_")
        return part or "forward"

    @property
    def length(self) -> int:
        """Number of products in one sum, at most."""
        first, second = self.a.type.shape, self.b.type.shape
        if self.direction == "forward":
            return prod(second[1:])
        if self.direction == "input_grad":
            return second[0] // self.groups * prod(second[2:])
        return first[0] * prod(first[2:])

    @property
    def dot(self) -> Dot:
        """The unit that multiplies."""
        if self.accumulation is not None:
            return FLOAT
        a, b = self.a.type.format, self.b.type.format
        weight_grad = self.direction == "weight_grad"
        if self.scaled_rows:
            a = F32
        if self.groups == 1 and (not weight_grad or self._fills_tiles):
            length = 1 if weight_grad else self.length
            tile_dot = choose_tile_dot(a, b, length, self.cpu)
            if tile_dot is not None:
                return tile_dot
        if weight_grad:
            return choose_pair_dot(a, b, pixels(self.a, self.pointwise).columns, self.cpu)
        if self.depthwise:
            return choose_lane_dot(a, b, self.length, self.cpu)
        return choose_dot(a, b, self.length, self.cpu)

    @property
    def pointwise(self) -> bool:
        """Whether a weight gradient sums over pixels one by one: 1x1, stride 1, channels last."""
        taps = shape4(self.out)[2:]
        plain = taps == (1, 1) and self.stride == (1, 1) and self.padding == (0, 0)
        return plain and channels_last(self.a) and channels_last(self.b)

    @property
    def _fills_tiles(self) -> bool:
        """Whether a weight gradient has images, or pixels, for an eighth of a tile's row."""
        n, _, h, w = shape4(self.a)
        return (n * h * w if self.pointwise else n) >= FEWEST_IMAGES

    @property
    def on_tiles(self) -> bool:
        """Whether AMX multiplies."""
        return self.dot.unit in (Unit.INT8_TILE, Unit.BF16_TILE)

    @property
    def depthwise(self) -> bool:
        """Whether every channel is a group: channels then lie in the lanes of both operands."""
        channels = {shape4(x)[1] for x in (self.a, self.out)}
        if self.direction == "weight_grad":
            channels = {shape4(x)[1] for x in (self.a, self.b)}
        return self.groups > 1 and channels == {self.groups}

    @property
    def lane_groups(self) -> int:
        """Groups whose channels are worked on apart from the others."""
        return 1 if self.depthwise else self.groups

    @property
    def scaled_rows(self) -> bool:
        """Whether the sum runs over the channels of a scale, which then joins the weights."""
        return self.direction == "input_grad" and self.b.type.scale is Scale.CHANNEL

    @property
    def parameters(self) -> list[tuple[str, int]]:
        """Element type and count of every slot."""
        layouts = [self.a, self.b, *([self.bias] if self.bias else []), self.out]
        out = []
        for x in layouts:
            out.append((x.dtype, x.rows * x.cell))
            out += [("float32", x.scales)] if x.scales else []
        return out

    def build(self) -> PrimFunc:
        """The private function: one typed pointer per slot, inputs first, returning int32 0."""
        # Imported here: a plan can be made and printed without TVM.
        from .amx.taps import build_amx_taps
        from .amx.weight_grad import build_amx_weight_grad
        from .chunked.gemm import build_chunked
        from .gemm.depthwise import build_depthwise_pairs
        from .gemm.taps import build_taps
        from .gemm.weight_grad import build_weight_grad

        if self.accumulation is not None:
            return build_chunked(self, self.accumulation)
        if self.direction == "weight_grad":
            return build_amx_weight_grad(self) if self.on_tiles else build_weight_grad(self)
        if self.on_tiles:
            return build_amx_taps(self)
        pairs = self.depthwise and self.dot.block == 2
        return build_depthwise_pairs(self) if pairs else build_taps(self)


def gemm_kernel(ops: tuple[Op, ...], orders: Mapping[Value, Order], cpu: CpuInfo) -> Kernel:
    """The kernel of a GEMM, or of a GEMM and the ``add_bias`` that reads it.

    Raises NoKernelError for a scale per channel where it is no factor of the result.
    """
    gemm, out = ops[0], ops[-1].result
    check_gemm(gemm)
    factors = gemm.inputs[::-1] if gemm.kind in EXCHANGED else gemm.inputs
    operands = (*factors, *(v for op in ops[1:] for v in op.inputs[1:]))
    a, b, *bias = (Layout(v.type, orders[v]) for v in operands)
    conv = gemm.kind.startswith("conv2d")
    spec = GemmSpec(
        kind=TRANSPOSED.get(gemm.kind, gemm.kind),
        a=a,
        b=b,
        made=gemm.result.type.format,
        bias=bias[0] if bias else None,
        out=Layout(out.type, orders[out]),
        stride=_pair(gemm, "stride") if conv else (1, 1),
        padding=_pair(gemm, "padding") if conv else (0, 0),
        dilation=_pair(gemm, "dilation") if conv else (1, 1),
        groups=gemm.int_attr("groups") if conv else 1,
        cpu=cpu,
        accumulation=accumulation(gemm),
    )
    return Kernel(spec, ops, slots_of(operands), (Slot(out),), spec.dot.unit)


def matmul_kernel(op: Op, cpu: CpuInfo) -> Kernel:
    """The kernel of a ``matmul``: the matrices of a batch are groups of a 1x1 convolution.

    All values lie row-major (``layout.MATRICES``), so that they are its operands as they are:
    BxMxK weights of B*M channels out, an image of B*K channels and N pixels.
    """
    a, b = op.inputs
    (batch, m, k), n = a.type.shape, b.type.shape[2]
    shapes = ((1, batch * k, 1, n), (batch * m, k, 1, 1), (1, batch * m, 1, n))
    x, w, y = (
        Layout(TensorType(shape, v.type.format), Order.ROWS)
        for shape, v in zip(shapes, (b, a, op.result), strict=True)
    )
    one = (1, 1)
    made = op.result.type.format
    spec = GemmSpec("conv2d", x, w, made, None, y, one, (0, 0), one, batch, cpu)
    return Kernel(spec, (op,), slots_of((b, a)), (Slot(op.result),), spec.dot.unit)


def _pair(op: Op, name: str) -> Pair:
    first, second = op.ints_attr(name)
    return first, second


def check_gemm(gemm: Op) -> None:
    """Raise NoKernelError for a GEMM that has no kernel of its formats."""
    scales = [v.type.scale for v in gemm.inputs]
    weight_grad = gemm.kind.endswith("weight_grad")
    if scales[0] is Scale.CHANNEL or (weight_grad and scales[1] is Scale.CHANNEL):
        shown = " by ".join(v.type.short for v in gemm.inputs)
        raise NoKernelError(
            f"cpu: layer {gemm.origin or '-'}: {gemm.kind} of {shown}: a scale per channel is only"
            " supported on weights; give this operand one scale per tensor"
        )
