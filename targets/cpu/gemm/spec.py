"""What a GEMM kernel is asked for, the ways to make one, and the spec of the one chosen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from ....compiler.formats import F32, Format
from ....compiler.ir.accumulation import Accumulation
from ....compiler.types import Scale
from ...plan.layout import Layout
from ..info import CpuInfo
from .shapes import channels_last, shape4
from .units import Dot, FormatPair, UnitRule

if TYPE_CHECKING:
    from tvm.tirx import PrimFunc

Steps = tuple[int, int]


@dataclass(frozen=True, slots=True)
class GemmRequest:
    """A product with all that decides how it can be made.

    ``a``, ``b`` are the operands as the op orders them, ``out`` is what is stored, ``made`` the
    format that the GEMM itself rounds to. A linear layer is a convolution of one pixel an image.
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
    cpu: CpuInfo
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
            return second[0] // self.groups * prod(second[2:])
        return first[0] * prod(first[2:])

    def pair(self, length: int) -> FormatPair:
        """Its formats, with sums of at most ``length`` products in one accumulator."""
        first = F32 if self.scaled_rows else self.a.type.format
        return FormatPair(first, self.b.type.format, length)

    @property
    def pointwise(self) -> bool:
        """Whether a weight gradient sums over pixels one by one: 1x1, stride 1, channels last."""
        taps = shape4(self.out)[2:]
        plain = taps == (1, 1) and self.stride == (1, 1) and self.padding == (0, 0)
        return plain and channels_last(self.a) and channels_last(self.b)

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


@dataclass(frozen=True, slots=True)
class Way:
    """One way to make GEMMs: ``takes`` says with which dot, None where it cannot make one.

    Of the ways that take a GEMM the one with the highest ``peak`` is chosen, see ``UnitRule``.
    """

    name: str
    peak: int
    takes: Callable[[GemmRequest], Dot | None]
    build: Callable[[GemmSpec], PrimFunc]

    def __repr__(self) -> str:
        return f"Way({self.name})"  # the name of a spec in the cache of kernels is its repr


@dataclass(frozen=True, slots=True)
class GemmSpec(GemmRequest):
    """All that decides a GEMM kernel's code: what is asked, the way and the dot that answer it."""

    way: Way
    dot: Dot

    def build(self) -> PrimFunc:
        """The private function: one typed pointer per slot, inputs first, returning int32 0."""
        return self.way.build(self)


def ways(
    loops: str,
    sums: Callable[[GemmRequest], int | None],
    units: Sequence[UnitRule],
    build: Callable[[GemmSpec], PrimFunc],
) -> tuple[Way, ...]:
    """A way for each unit of a kernel whose loops serve several.

    ``sums`` gives the number of products that one accumulator adds up, at most; None for a GEMM
    that these loops do not make.
    """

    def taker(unit: UnitRule) -> Callable[[GemmRequest], Dot | None]:
        def takes(gemm: GemmRequest) -> Dot | None:
            length = sums(gemm)
            return None if length is None else unit.dot(gemm.pair(length), gemm.cpu)

        return takes

    return tuple(Way(f"{loops}, {u.name}", u.peak, taker(u), build) for u in units)
