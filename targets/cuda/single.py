"""Kernels of single ops on a GPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...compiler.ir import Op, Value
from ..plan.kernel import Kernel, slots_of
from ..plan.layout import Order
from ..tir.single.spec import Single

if TYPE_CHECKING:
    from .code import Launch, Made, Maker

LANES = 4  # f32 in the widest load
# Ops that reduce all elements to a few numbers: each of up to 1024 blocks leaves up to four.
REDUCING = {
    "sum",
    "mean",
    "extremes",
    "mse_loss",
    "dots",
    "sawb_clip",
    "amax_init",
    "grad_scale_init",
    "squeeze_stats",
    "tally",
    "loss_scale_step",
}
NUMBERS = 4 * 1024


@dataclass(frozen=True, eq=False)
class DeviceSingle(Single):
    """The spec with what builds it."""

    @property
    def name(self) -> str:
        """The kind of the op."""
        return self.kind

    @property
    def numbers(self) -> int:
        """How many f64 numbers are kept between its launches."""
        return NUMBERS if self.kind in REDUCING else 0

    def build(self) -> list[Launch]:
        """The launches, see ``Launch``."""
        # Imported here: a plan can be made and printed without TVM.
        from .code import launch

        return self.build_by(launch)

    def build_by(self, make: Maker[Made]) -> list[Made]:
        """The launches, each from ``make``: also as parts of others."""
        from .single_build import build

        return build(self, self.numbers, make)


def single_kernel(op: Op, orders: Mapping[Value, Order]) -> Kernel:
    """The kernel of one op that is no fused group."""
    values = (*op.inputs, *op.results)
    spec = DeviceSingle(
        kind=op.kind,
        attrs=tuple(sorted(op.attrs.items())),
        types=tuple(v.type for v in values),
        orders=tuple(orders[v] for v in values),
        operands=len(op.inputs),
        lanes=LANES,
    )
    slots = slots_of(op.inputs), slots_of(op.results)
    return Kernel(spec, (op,), *slots, scratch=(8 * spec.numbers,) if spec.numbers else ())
