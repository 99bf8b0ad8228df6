"""Convolutions that leave the statistics of their result: nothing reads it again for them.

A block has whole stripes of rows of its results in shared memory. What a thread of the pointwise
kernel adds up of a stripe, a thread of the block does, in the same order; the same launch joins the
stripes. So mean and variance are to the bit what ``batch_stats`` alone makes of the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ...plan.kernel import Identity, Kernel
from ...plan.plan import PlannedKernel
from ...tir.pointwise.space import STRIPE
from ..pointwise.kernel import DevicePointwise
from .spec import DeviceGemm
from .ways import frame_of_tiles

if TYPE_CHECKING:
    from ..code import Launch


@dataclass(frozen=True, eq=False)
class GemmWithStats(Identity):
    """Slots: those of the GEMM, then what ``stats`` makes; scratch likewise."""

    gemm: DeviceGemm
    stats: DevicePointwise

    @property
    def name(self) -> str:
        """Both."""
        return f"{self.gemm.name}_{self.stats.name}"

    @property
    def launches(self) -> int:
        """Another one joins stripes."""
        return self.gemm.launches + 1

    def build(self) -> list[Launch]:
        """See ``Launch``."""
        # Imported here: a plan can be made and printed without TVM.
        from .stats_build import build_with_stats

        return build_with_stats(self.gemm, self.stats)


def with_stats(planned: Sequence[PlannedKernel]) -> list[PlannedKernel]:
    """The kernels of a plan, statistics with the GEMMs that leave them."""
    made = [*planned]
    makers = {k.outputs[0]: i for i, k in enumerate(p.kernel for p in planned)}
    gone = set[int]()
    for i, p in enumerate(planned):
        maker = makers.get(p.kernel.inputs[0]) if _only_stats(p.kernel) else None
        if maker is None or made[maker].region != p.region:
            continue
        joined = _joined(made[maker].kernel, p.kernel)
        if joined is not None:
            made[maker] = replace(made[maker], kernel=joined)
            gone.add(i)
    return [p for i, p in enumerate(made) if i not in gone]


def _only_stats(kernel: Kernel) -> bool:
    return [op.kind for op in kernel.ops] == ["batch_stats"]


def _joined(gemm: Kernel, stats: Kernel) -> Kernel | None:
    """Both as one, where blocks of the GEMM have stripes of rows."""
    first, second = gemm.spec, stats.spec
    if not isinstance(first, DeviceGemm) or not isinstance(second, DevicePointwise):
        return None
    if not _has_stripes(first, second):
        return None
    return Kernel(
        GemmWithStats(first, second),
        (*gemm.ops, *stats.ops),
        gemm.inputs,
        (*gemm.outputs, *stats.outputs),
        gemm.unit,
        (*gemm.scratch, *stats.scratch),
    )


def _has_stripes(gemm: DeviceGemm, stats: DevicePointwise) -> bool:
    """Whether rows of tiles are pixels in order, and no launch adds parts of their sums."""
    frame = frame_of_tiles(gemm)
    if frame is None or gemm.weight_grad or len(frame.sums) > 1 or frame.partial:
        return False
    (sums,), space = frame.sums, stats.space
    same = (sums.m, gemm.groups * sums.n) == (space.rows, space.channels)
    return same and (frame.tile.m % STRIPE == 0 or sums.blocks[0] == 1)
