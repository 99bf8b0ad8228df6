"""MX operands: each product reads blocks of small floats, each block scaled by a power of two.

"OCP Microscaling Formats (MX) Specification" 1.0 (2023); "Microscaling Data Formats for Deep
Learning" (Rouhani et al., 2023); "Recipes for Pre-training LLMs with MXFP8" (Mishra et al., 2025),
section 4, for scales that are rounded up.

    operand                         blocks
    x, w of the forward product     along the channels that it sums over
    dY, w of dX                     along the channels of its sum, which are others
    dY, x of dW                     along rows, or samples of images

So a tensor is quantized once for each direction that it is summed along, from its own numbers each
time. A convolution sums over channels and taps: a block is of neighbouring channels at one place,
or one tap; that of dW of neighbouring samples at one place.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from ..compiler.formats import E8M0, F32, FORMATS, Format
from ..compiler.ir import Op, Program, Region, Value, attrs, unused
from ..compiler.ir.ops import GEMMS, GRADIENT_PRODUCTS, OPS
from ..compiler.types import BlockScale, TensorType
from .parts.data import roles_of
from .parts.draws import seed_and_step, with_seed
from .parts.names import part
from .parts.order import Makes, placed
from .parts.select import Attention, quantized

MxFormat = Literal["fp8.143", "fp8.152", "fp6.123", "fp6.132", "fp4.121", "int8"]
Summed = tuple[int, bool]  # the dimension of the sum, and whether it is a gradient


@placed(makes=Makes.CODES)
def mx_operands(
    program: Program,
    *,
    mx_format: MxFormat = "fp8.143",
    mx_gradient_format: MxFormat = "fp8.143",
    mx_scale: Literal["floor", "ceil", "rceil", "even"] = "rceil",
    mx_block: int = 32,
    sr: bool = False,
    exempt: str = "first,last",
    attention: Attention = "quantize",
) -> Program:
    """Scale and round what the products of all layers but the exempt ones read.

    ``sr`` rounds gradients stochastically, others are rounded to the nearest.
    """
    drawn = seed_and_step(program, "sr=true") if sr else ()
    work = _Blocks(program, quantized(program, exempt, attention), mx_block, mx_scale, drawn)
    formats = {False: FORMATS[mx_format], True: FORMATS[mx_gradient_format]}

    def rule(region: Region, op: Op) -> tuple[Op, ...] | None:
        if op.kind not in GEMMS or op.origin not in work.chosen:
            return None
        ahead = [o for i in range(2) for o in work.ahead(op, i, formats)]
        pairs = zip(op.inputs, work.wanted(op), strict=True)
        return (*ahead, replace(op, inputs=tuple(work.codes.get(pair, pair[0]) for pair in pairs)))

    return with_seed(program.rewrite(rule, by="mx_operands"), drawn, work.draws > 0)


class _Blocks:
    """What the products of the chosen layers want of each value, and the codes so far."""

    def __init__(
        self,
        program: Program,
        chosen: frozenset[str],
        size: int,
        scale_rule: str,
        drawn: tuple[Value, ...],
    ) -> None:
        self.chosen, self.size, self.scale_rule, self.drawn = chosen, size, scale_rule, drawn
        self.taken, self.weights = program.names(), frozenset(program.state)
        self.codes: dict[tuple[Value, Summed], Value] = {}
        self.draws = 0
        self.asked: dict[Value, list[Summed]] = {}
        for _, op in program.ops():
            if op.kind in GEMMS and op.origin in chosen:
                for v, wanted in zip(op.inputs, self.wanted(op), strict=True):
                    self.asked.setdefault(v, []).append(wanted)

    def wanted(self, op: Op) -> tuple[Summed, Summed]:
        """Of both operands: the first dimension that the result has not is summed over."""
        definition = OPS[op.kind]
        (made,) = definition.results[0].patterns
        dims = (definition.operand(i).patterns[0] for i in range(2))
        first, second = (next(d for d, name in enumerate(p) if name not in made) for p in dims)
        return (first, op.kind in GRADIENT_PRODUCTS), (second, False)

    def ahead(self, op: Op, i: int, formats: dict[bool, Format]) -> list[Op]:
        """The codes that ``op`` reads, and others of the same data: backward then keeps codes."""
        v, wanted = op.inputs[i], self.wanted(op)[i]
        if not v.type.format.is_carrier or (v, wanted) in self.codes:
            return []
        now = [wanted] if v in self.weights else dict.fromkeys(self.asked[v])
        return [o for w in now for o in self._quantize(op, i, w, formats[w[1]])]

    def _quantize(self, op: Op, i: int, wanted: Summed, to: Format) -> list[Op]:
        v, (dim, gradient) = op.inputs[i], wanted
        block = tuple(self.size if d == dim else 1 for d in range(len(v.type.shape)))
        scale = BlockScale(block, E8M0)
        name = part(op.origin, f"{roles_of(op)[i]}.mx{dim}")
        scaled = Value(unused(f"{name}.scaled", self.taken), TensorType(v.type.shape, F32, scale))
        code = Value(unused(name, self.taken), TensorType(v.type.shape, to, scale))
        self.codes[v, wanted] = code
        how = attrs(to=to.name, rule=self.scale_rule)
        first = Op("scale_blocks", (v,), (scaled,), how, op.origin)
        if not (gradient and self.drawn):
            return [first, Op("cast", (scaled,), (code,), origin=op.origin)]
        salt, self.draws = attrs(salt=self.draws), self.draws + 1
        drawn = (scaled, *self.drawn)
        return [first, Op("round_stochastic", drawn, (code,), salt, op.origin)]
