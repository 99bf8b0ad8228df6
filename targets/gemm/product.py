"""What a GEMM kernel is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from ...compiler.formats import F32, Format
from ...compiler.ir import Op, Value
from ...compiler.ir.accumulation import Accumulation, accumulation
from ...compiler.types import Scale
from ..plan.layout import Layout, Order
from .pair import FormatPair
from .shapes import channels_last, shape4

Steps = tuple[int, int]
# A transposed convolution walks through its weights as dX of a convolution does.
WALKS_AS = {
    "conv2d_transpose": "conv2d_input_grad",
    "conv2d_transpose_input_grad": "conv2d",
    "conv2d_transpose_weight_grad": "conv2d_weight_grad",
}
EXCHANGED = frozenset({"conv2d_transpose_weight_grad"})


@dataclass(frozen=True, slots=True)
class Product:
    """A product with all that decides how it can be made.

    ``a``, ``b`` are the operands as the op orders them, ``out`` is what is stored, ``made`` the
    format that the GEMM itself rounds to. A linear layer is a convolution of one pixel an image.
    Of a ``batch`` each image has weights of its own, which lie one after the other.
    """

    kind: str
    a: Layout
    b: Layout
    made: Format
    bias: Layout | None
    out: Layout
    stride: Steps
    padding: Steps
    dilation: Steps
    groups: int
    batch: int
    accumulation: Accumulation | None

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
    def weight_grad(self) -> bool:
        """Whether it is dW, which sums over pixels."""
        return self.direction == "weight_grad"

    @property
    def length(self) -> int:
        """Number of products in one sum, at most."""
        first, second = self.a.type.shape, self.b.type.shape
        if self.direction == "forward":
            return prod(second[1:])
        if self.direction == "input_grad":
            return second[0] // (self.groups * self.batch) * prod(second[2:])
        return first[0] // self.batch * prod(first[2:])

    def pair(self, length: int) -> FormatPair:
        """Its formats, with sums of at most ``length`` products in one accumulator."""
        first = F32 if self.scaled_rows else self.a.type.format
        return FormatPair(first, self.b.type.format, length)

    @property
    def in_integers(self) -> bool:
        """Whether integers are multiplied, in units of the formats' smallest levels, and added."""
        return self.accumulation is None and self.pair(1).integers is not None

    @property
    def pointwise(self) -> bool:
        """Whether a weight gradient sums over pixels one by one: 1x1, stride 1, channels last."""
        taps = shape4(self.out)[2:]
        plain = taps == (1, 1) and self.stride == (1, 1) and self.padding == (0, 0)
        return self.batch == 1 and plain and channels_last(self.a) and channels_last(self.b)

    @property
    def depthwise(self) -> bool:
        """Whether every channel is a group: channels then lie in the lanes of both operands."""
        channels = {shape4(x)[1] for x in (self.a, self.b if self.weight_grad else self.out)}
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


def product_of(
    ops: tuple[Op, ...], orders: Mapping[Value, Order]
) -> tuple[Product, tuple[Value, ...]]:
    """What a GEMM, or one and the ``add_bias`` that reads it, asks for; its operands in order."""
    gemm, out = ops[0], ops[-1].result
    factors = gemm.inputs[::-1] if gemm.kind in EXCHANGED else gemm.inputs
    operands = (*factors, *(v for op in ops[1:] for v in op.inputs[1:]))
    a, b, *bias = (Layout(v.type, orders[v]) for v in operands)
    conv = gemm.kind.startswith("conv2d")
    product = Product(
        kind=WALKS_AS.get(gemm.kind, gemm.kind),
        a=a,
        b=b,
        made=gemm.result.type.format,
        bias=bias[0] if bias else None,
        out=Layout(out.type, orders[out]),
        stride=_steps(gemm, "stride") if conv else (1, 1),
        padding=_steps(gemm, "padding") if conv else (0, 0),
        dilation=_steps(gemm, "dilation") if conv else (1, 1),
        groups=gemm.int_attr("groups") if conv else 1,
        batch=1,
        accumulation=accumulation(gemm),
    )
    return product, operands


def _steps(gemm: Op, name: str) -> Steps:
    first, second = gemm.ints_attr(name)
    return first, second
