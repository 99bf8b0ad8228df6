"""Operands fitted to a format by f32 scales: of rows, of blocks, of tiles of weights or of tensors.

"DeepSeek-V3 Technical Report" (DeepSeek-AI, 2024): 128 numbers, tiles of 128 x 128. "Stable and
low-precision training for large-scale vision-language models" (Wortsman et al., 2023), SwitchBack:
rows in int8 beside a tensor, dW in 16 bits. torchao's ``int8_mixed_precision_training``: both
operands in int8, a scale for each whole sum.

    operand                 one scale for
    x, dY                   so many numbers along the sum of the product, or all of it
    w of forward and dX     the same, a square tile, or the tensor

A tensor that is summed along two directions is quantized for each, from its own numbers. Of a
convolution a block is of channels at one place or tap; that of dW of samples at one place.
"""

from __future__ import annotations

from itertools import count
from typing import Literal, NamedTuple

from ..compiler.formats import E8M0, F32, Format
from ..compiler.ir import Op, Program, Value, attrs
from ..compiler.ir.ops import (
    BETWEEN_ACTIVATIONS,
    FORWARD_GEMMS,
    GRADIENT_PRODUCTS,
    INPUT_GRADS,
    WEIGHT_GRADS,
)
from ..compiler.spelled import format_of
from ..compiler.types import BlockScale, Shape
from .parts.blocks import BlockCodes, BlockOperands, sum_dims
from .parts.draws import seed_and_step, with_seed
from .parts.options import FormatName, require
from .parts.order import Makes, placed
from .parts.select import Attention, quantized


class FittedSum(NamedTuple):
    """What a product asks of an operand: where blocks reach along, and whether it is a gradient."""

    dims: tuple[int, ...]
    gradient: bool


@placed(makes=Makes.CODES)
def fitted_operands(
    program: Program,
    *,
    fit_format: FormatName = "fp8.143",
    fit_gradient_format: FormatName = "fp8.143",
    fit_block: int = 128,
    fit_weights: Literal["blocks", "square", "tensor"] = "square",
    fit_scale: Literal["exact", "power"] = "exact",
    fit_forward: bool = True,
    fit_dx: bool = True,
    fit_dw: bool = True,
    sr: bool = False,
    exempt: str = "first,last",
    attention: Attention = "keep",
) -> Program:
    """Scale and round what the products of all layers but the exempt ones read.

    ``fit_block`` numbers have one scale, all of a sum for 0; ``power`` makes scales powers of two,
    rounded up. Products that ``fit_forward``, ``fit_dx`` and ``fit_dw`` leave out read carriers.
    ``sr`` rounds gradients stochastically. RecipeError for a negative block, and for square tiles
    of no size.
    """
    require(fit_block >= 0, f"fit_block={fit_block} must be at least 0")
    tiles = fit_weights != "square" or fit_block > 0
    require(tiles, "fit_weights=square is tiles of fit_block numbers, which is 0")
    drawn = seed_and_step(program, "sr=true") if sr else ()
    kinds = [FORWARD_GEMMS] * fit_forward + [INPUT_GRADS] * fit_dx + [WEIGHT_GRADS] * fit_dw
    formats = format_of(fit_format), format_of(fit_gradient_format)
    own = _Fitted(program, formats, fit_block, fit_weights, fit_scale == "power", drawn)
    chosen = quantized(program, exempt, attention)
    work = BlockOperands(program, chosen, own.ask, own.quantize, frozenset[str]().union(*kinds))
    out = program.rewrite(work.rule, by="fitted_operands")
    return with_seed(out, drawn, next(own.codes.salts) > 0)


class _Fitted:
    """What is asked of operands, and how codes are made."""

    def __init__(
        self,
        program: Program,
        formats: tuple[Format, Format],
        size: int,
        of_weights: str,
        power: bool,
        drawn: tuple[Value, ...],
    ) -> None:
        self.formats, self.size, self.of_weights = formats, size, of_weights
        self.power, self.drawn = power, drawn
        self.weights, self.codes = frozenset(program.state), BlockCodes(program.names(), count())

    def ask(self, op: Op, i: int) -> FittedSum:
        """Tiles and tensors of weights are one for both products that read them."""
        dim, of_dw = sum_dims(op)[i], op.kind in WEIGHT_GRADS - BETWEEN_ACTIVATIONS
        gradient = i == 0 and op.kind in GRADIENT_PRODUCTS
        if op.inputs[i] not in self.weights or of_dw or self.of_weights == "blocks":
            return FittedSum((dim,), gradient)
        rank = len(op.inputs[i].type.shape)
        return FittedSum((0, 1) if self.of_weights == "square" else tuple(range(rank)), gradient)

    def quantize(self, op: Op, i: int, kind: FittedSum) -> tuple[list[Op], Value]:
        """Divided by scales and rounded."""
        v, ending = op.inputs[i], f"fit{''.join(map(str, kind.dims))}"
        to, shape = self.formats[kind.gradient], v.type.shape
        scale = BlockScale(self._block(shape, kind.dims), E8M0 if self.power else F32)
        how = attrs(to=to.name, rule="rceil") if self.power else attrs(to=to.name)
        by_what = "scale_blocks" if self.power else "fit_blocks"
        scaling = Op(by_what, (v,), (), how, op.origin)
        drawn = self.drawn if kind.gradient else ()
        return self.codes.of(op, i, ending, (to, scale), scaling, drawn)

    def _block(self, shape: Shape, dims: tuple[int, ...]) -> Shape:
        """The sizes of a block that reaches along ``dims``."""
        whole = not self.size or (len(dims) > 1 and self.of_weights == "tensor")
        sizes = (n if whole else min(n, self.size) for n in shape)
        return tuple(size if d in dims else 1 for d, size in enumerate(sizes))
