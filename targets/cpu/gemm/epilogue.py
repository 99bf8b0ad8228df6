"""Epilogue: from a vector of sums to what is stored - factor, rounding, bias, rounding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from tvm import tirx as tir

from ....compiler.formats import F16, F32, Format
from ....compiler.types import Scale
from ...gemm.shapes import shape4
from ...numbers.integers import unit_of
from ...tir.expr import Code, Expr, Index, load, shuffle
from .decode import from_carrier
from .spec import GemmSpec
from .unpack import StoredTensor
from .vectors import bits, cast, powers, splat, store


@dataclass(frozen=True, eq=False, slots=True)
class GemmBuffers:
    """The slots of a GEMM kernel by role."""

    a: Expr
    a_scale: Expr | None
    b: Expr
    b_scale: Expr | None
    bias: Expr | None
    out: Expr

    @classmethod
    def of(cls, spec: GemmSpec, slots: list[Expr]) -> GemmBuffers:
        """Take the slots in their order."""
        rest = iter(slots)
        a, a_scale = next(rest), next(rest) if spec.a.scales else None
        b, b_scale = next(rest), next(rest) if spec.b.scales else None
        bias = next(rest) if spec.bias else None
        return cls(a, a_scale, b, b_scale, bias, next(rest))


def narrow(code: Code, f: Format, x: Expr, lanes: int, *, scaled: bool = False) -> Expr:
    """f32 to stored elements of a carrier, to nearest even.

    ``scaled`` numbers are integers times a factor. A NaN among them was made by that product, so
    the lower half of its bits is 0 and rounding leaves it a NaN.
    """
    if f is F32:
        return x
    if f is F16:
        return cast(x, "float16", lanes)
    upper = _upper(code, x, lanes, scaled=scaled)
    return cast(tir.shift_right(upper, splat(16, "uint32", lanes)), "uint16", lanes)


def _upper(code: Code, x: Expr, lanes: int, *, scaled: bool) -> Expr:
    """f32 to words whose upper half is the nearest bf16; see ``narrow``."""

    def k(value: int) -> Expr:
        return splat(value, "uint32", lanes)

    u = bits(code.fence(x, "float32", lanes), "uint32", lanes)
    odd = tir.bitwise_and(tir.shift_right(u, k(16)), k(1))
    rounded = u + k(0x7FFF) + odd
    if scaled:
        return rounded
    nan = tir.bitwise_and(u, k(0x7FFFFFFF)) > k(0x7F800000)
    return tir.Select(nan, tir.bitwise_or(u, k(0x400000)), rounded)


@dataclass(frozen=True, eq=False, slots=True)
class Epilogue:
    """Turns sums of ``lanes`` output channels into stored numbers.

    ``factors`` and ``biases`` hold one f32 a channel, padded to whole vectors in every group.
    """

    code: Code
    spec: GemmSpec
    buffers: GemmBuffers
    lanes: int
    pitch: int
    factors: Expr | None
    biases: Expr | None

    @property
    def stored(self) -> str:
        """Type of a stored element."""
        return self.spec.out.dtype

    def finish(self, total: Expr, first: Index) -> Expr:
        """The stored vector from the sums of channels ``first`` .. on, in padded numbering."""
        y = self._number(total, first)
        return narrow(self.code, self.spec.out.type.format, y, self.lanes, scaled=self._scaled)

    def finish_two(self, totals: Sequence[Expr], firsts: Sequence[Index]) -> Expr:
        """Two vectors of bf16 as one: their upper halves are taken from both at once."""
        words = []
        for total, first in zip(totals, firsts, strict=True):
            y = self._number(total, first)
            upper = _upper(self.code, y, self.lanes, scaled=self._scaled)
            words.append(bits(upper, "uint16", 2 * self.lanes))
        return shuffle(words, range(1, 4 * self.lanes, 2))

    @property
    def _scaled(self) -> bool:
        """Whether results are integers times a factor."""
        return self.spec.dot.acc != "float32" and self.biases is None

    def _number(self, total: Expr, first: Index) -> Expr:
        """The result in f32."""
        code, lanes, spec = self.code, self.lanes, self.spec
        y = cast(total, "float32", lanes) if spec.dot.acc != "float32" else total
        factor = self._factor(first)
        if factor is not None:
            y = code.fence(y * factor, "float32", lanes)
        if self.biases is None:
            return y
        y = from_carrier(spec.made, narrow(code, spec.made, y, lanes), lanes)
        return y + load(self.biases, first, lanes)

    def _factor(self, first: Index) -> Expr | None:
        if self.factors is not None:
            return load(self.factors, first, self.lanes)
        factor = scalar_factor(self.spec, self.buffers)
        return None if factor is None else splat(factor, "float32", self.lanes)


def scalar_factor(spec: GemmSpec, buffers: GemmBuffers) -> Expr | None:
    """The product of both operands' factors; None where it is 1."""
    product: Expr | None = None
    for layout, scale in ((spec.a, buffers.a_scale), (spec.b, buffers.b_scale)):
        unit = unit_of(layout.type.format)
        if layout.type.scale is Scale.CHANNEL or (scale is None and unit == 1.0):
            continue
        one = tir.const(unit, "float32")
        factor = one if scale is None else load(scale, 0) * one
        product = factor if product is None else product * factor
    return product


@contextmanager
def epilogue(
    code: Code, spec: GemmSpec, buffers: GemmBuffers, lanes: int, *, tables: bool = False
) -> Iterator[Epilogue]:
    """The epilogue, with its tables of channels in scratch memory.

    ``tables`` asks for one of factors even if all are the same: a kernel whose instructions may
    touch any memory would compute the factor anew for each vector.
    """
    channels = shape4(spec.out)[1]
    group = channels // spec.lane_groups
    pitch = max(group, lanes)
    by_channel = tables or (spec.b.type.scale is Scale.CHANNEL and not spec.scaled_rows)
    with (
        code.workspace("float32", spec.lane_groups * pitch if by_channel else 1) as factors,
        code.workspace("float32", spec.lane_groups * pitch if spec.bias else 1) as biases,
    ):
        made = Epilogue(
            code,
            spec,
            buffers,
            lanes,
            pitch,
            factors if by_channel else None,
            biases if spec.bias else None,
        )
        _tables(made, group)
        yield made


def _tables(e: Epilogue, group: int) -> None:
    """Copy per-channel factors and the bias to f32, group by group."""
    code, spec, buffers = e.code, e.spec, e.buffers
    if e.factors is None and e.biases is None:
        return
    with code.loop(spec.lane_groups) as g, code.loop(group) as k:
        to, channel = g * e.pitch + k, g * group + k
        if e.factors is not None:
            code.store(e.factors, to, _factor_of(spec, buffers, channel))
        if e.biases is not None:
            assert spec.bias is not None
            f = spec.bias.type.format
            code.store(e.biases, to, from_carrier(f, load(buffers.bias, channel), 1))


def _factor_of(spec: GemmSpec, buffers: GemmBuffers, channel: Index) -> Expr:
    """The factor of one channel's sums."""
    other = scalar_factor(spec, buffers)
    if spec.b.type.scale is not Scale.CHANNEL:
        return tir.const(1, "float32") if other is None else other
    factor = load(buffers.b_scale, channel) * tir.const(unit_of(spec.b.type.format), "float32")
    return factor if other is None else other * factor


def put(
    code: Code,
    out: StoredTensor,
    at: tuple[Index, Index, Index],
    first: Index,
    value: tuple[Expr, int, int],
) -> None:
    """Store a ``value`` (vector, its lanes, how many count) from channel ``first`` of a pixel on.

    ``at`` is (image, row, column).
    """
    vector, lanes, n = value
    image, h, w = at
    _, channels, height, width = out.shape
    if out.pixels and n == lanes:
        store(code, out.buffer, out.pixel(image, h, w) * channels + first, vector, lanes)
        return
    aside = code.local(out.layout.dtype, lanes)
    store(code, aside, 0, vector, lanes)
    if out.pixels:
        start = out.pixel(image, h, w) * channels + first
        for offset, some in powers(n, lanes):
            store(code, out.buffer, start + offset, load(aside, offset, some), some)
        return
    with code.loop(n) as i:
        to = ((image * channels + first + i) * height + h) * width + w
        store(code, out.buffer, to, load(aside, i))
