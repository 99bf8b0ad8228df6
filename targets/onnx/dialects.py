"""The two ways to write quantizers: ONNX's own pairs of nodes, and QONNX's single ones."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ...compiler.errors import UsageError, closest
from ...compiler.formats import Format
from .builder import OnnxBuilder
from .elements import FLOATS, PLAIN, ElementType, element_of, element_range
from .frame import Limits, OnnxDialect, Unwritable
from .graph import QONNX, Array, OnnxAttribute


class Qdq:
    """QuantizeLinear and DequantizeLinear: codes of ONNX's own types, stored in their bits."""

    def rounded(
        self, g: OnnxBuilder, x: str, scale: str, f: Format, ends: tuple[int, int], limits: Limits
    ) -> str:
        """Saturates where the type ends; what ends elsewhere is clipped ahead.

        So is what has 4 bits: onnxruntime moves its nodes over those that move or pool numbers,
        which take no tensors of 4 bits.
        """
        element = _element(f)
        x = x if element_range(element) == ends and element.bits > 4 else limits(x)
        return self._pair(g, x, scale, element)

    def rounded_float(self, g: OnnxBuilder, x: str, f: Format) -> str:
        """The formats whose bits are ONNX's."""
        return self._pair(g, x, g.f32(1.0), _float(f))

    def narrowed(self, g: OnnxBuilder, x: str, f: Format) -> str:
        """A cast there and back."""
        narrow = g.op("Cast", x, to=PLAIN[f].value)
        return g.op("Cast", narrow, to=ElementType.FLOAT.value)

    def _pair(self, g: OnnxBuilder, x: str, scale: str, element: ElementType) -> str:
        zero = g.constant(np.zeros((), np.int64), element=element)
        codes = g.op("QuantizeLinear", x, scale, zero)
        return g.op("DequantizeLinear", codes, scale, zero)

    def stored(self, g: OnnxBuilder, name: str, codes: Array, scale: Array, f: Format) -> str:
        """The codes themselves."""
        element = _float(f) if f.exp else _element(f)
        held = g.constant(codes, name, element)
        factor = g.constant(np.asarray(scale, np.float32))
        zero = g.constant(np.zeros(np.shape(scale), np.int64), element=element)
        if not np.ndim(scale):
            return g.op("DequantizeLinear", held, factor, zero)
        return g.op("DequantizeLinear", held, factor, zero, axis=0)


class Qonnx:
    """IntQuant and FloatQuant of QONNX: numbers in and numbers out, of any number of bits."""

    def rounded(
        self, g: OnnxBuilder, x: str, scale: str, f: Format, ends: tuple[int, int], limits: Limits
    ) -> str:
        """``narrow`` is two's complement without its lowest code."""
        top = 1 << (f.bits - int(ends[0] < 0))
        low = 0 if ends[0] >= 0 else 1 - top
        x = x if ends == (low, top - 1) else limits(x)
        return self._integer(g, x, scale, f.bits, signed=ends[0] < 0)

    def _integer(self, g: OnnxBuilder, x: str, scale: str, bits: int, *, signed: bool) -> str:
        how: dict[str, OnnxAttribute] = {
            "signed": int(signed),
            "narrow": int(signed),
            "rounding_mode": "ROUND",
        }
        inputs = x, scale, g.f32(0.0), g.f32(bits)
        return g.node("IntQuant", inputs, how, domain=QONNX)[0]

    def rounded_float(self, g: OnnxBuilder, x: str, f: Format) -> str:
        """Any float of radix 2 with a mantissa and subnormals, which FloatQuant always has."""
        if f.radix != 2 or not f.man or not f.subnormals:
            raise Unwritable(f"has numbers of {f}, which QONNX has no operation for")
        return self._float(g, x, f, f.max)

    def narrowed(self, g: OnnxBuilder, x: str, f: Format) -> str:
        """As any float; what is too large for it is its largest number, not infinity."""
        top = 2.0 ** ((1 << f.exp) - 2 - f.bias) * (2 - 2.0**-f.man)
        return self._float(g, x, f, top)

    def _float(self, g: OnnxBuilder, x: str, f: Format, top: float) -> str:
        facts = map(g.f32, (1.0, f.exp, f.man, f.bias, top))
        flags = {"has_inf": 0, "has_nan": 0, "has_subnormal": 1, "saturation": 1}
        how: dict[str, OnnxAttribute] = {"rounding_mode": "ROUND", **flags}
        return g.node("FloatQuant", (x, *facts), how, domain=QONNX)[0]

    def stored(self, g: OnnxBuilder, name: str, codes: Array, scale: Array, f: Format) -> str:
        """As numbers, which the node leaves as they are."""
        wide = scale.reshape(-1, *(1,) * (codes.ndim - 1)) if scale.ndim else scale
        if f.exp:
            numbers = np.array([f.decode(c) for c in range(1 << f.bits)], np.float32)[codes]
            return g.op(
                "Mul", self.rounded_float(g, g.constant(numbers, name), f), g.constant(wide)
            )
        held = g.constant(codes.astype(np.float32) * wide, name)
        signed = f.signed and not f.midrise
        return self._integer(g, held, g.constant(wide), f.bits, signed=signed)


def _element(f: Format) -> ElementType:
    element = element_of(f)
    if element is None or f.exp:
        raise Unwritable(f"has codes of {f}, which ONNX has no type for")
    return element


def _float(f: Format) -> ElementType:
    if f not in FLOATS:
        known = " or ".join(map(str, FLOATS))
        other = "write the dialect qonnx, or " if f.subnormals else ""
        raise Unwritable(f"has numbers of {f}, which ONNX has no type for; {other}use {known}")
    return FLOATS[f]


DIALECTS: Mapping[str, type[OnnxDialect]] = {"qdq": Qdq, "qonnx": Qonnx}


def find_dialect(name: str) -> OnnxDialect:
    """The dialect called ``name``; UsageError where there is none."""
    if name not in DIALECTS:
        raise UsageError(f"no dialect of ONNX is called {name!r}; {closest(str(name), DIALECTS)}")
    return DIALECTS[name]()
