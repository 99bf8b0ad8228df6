"""Fused pointwise kernels on a GPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ....compiler.ir import Op, Value
from ...plan.kernel import Kernel, slots_of
from ...plan.layout import Order
from ...tir.pointwise.group import group_spec
from ...tir.pointwise.space import PointwiseSpec
from .geometry import PointwiseGrid

if TYPE_CHECKING:
    from ..code import Launch, Made, Maker

LANES = 4  # f32 in the widest load


@dataclass(frozen=True, eq=False)
class DevicePointwise(PointwiseSpec):
    """The spec with what builds it."""

    @cached_property
    def geometry(self) -> PointwiseGrid:
        """How threads share it."""
        return PointwiseGrid(self)

    def build(self) -> list[Launch]:
        """One launch, and one that joins what is reduced."""
        # Imported here: a plan can be made and printed without TVM.
        from ..code import launch

        return self.build_by(launch)

    def build_by(self, make: Maker[Made]) -> list[Made]:
        """The launches, each from ``make``: also as parts of others."""
        from .build import build

        return build(self, self.geometry, make)


def pointwise_kernel(
    ops: tuple[Op, ...], outputs: tuple[Value, ...], orders: Mapping[Value, Order]
) -> Kernel:
    """The kernel of a group of pointwise ops and tails, see ``group_spec``."""
    spec, inputs = group_spec(DevicePointwise, ops, outputs, orders, LANES)
    scratch = tuple(size * np.dtype(dtype).itemsize for dtype, size in spec.geometry.scratch)
    return Kernel(spec, ops, slots_of(inputs), slots_of(outputs), scratch=scratch)
