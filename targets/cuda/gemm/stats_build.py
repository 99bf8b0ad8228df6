"""The launches of a GEMM that leaves statistics of its result, see ``stats``."""

from __future__ import annotations

from collections.abc import Sequence

from ...tir.expr import Expr
from ...tir.pointwise import buffers
from ..code import Body, DeviceCode, Launch, launch
from ..pointwise.geometry import THREADS
from ..pointwise.join import Joined
from ..pointwise.kernel import DevicePointwise
from ..pointwise.sums import Scratch
from .frame import TileFrame
from .spec import DeviceGemm
from .tiles import tile_launches


def build_with_stats(gemm: DeviceGemm, stats: DevicePointwise) -> list[Launch]:
    """Those of the GEMM, and the one that joins stripes."""
    own = len(gemm.parameters)
    _, *results = buffers.parameters(stats).values()
    behind = own + len(results)

    def make(parameters: Sequence[tuple[str, int]], threads: int, body: Body) -> Launch:
        """For a body that knows the GEMM's slots and all scratch; results come behind them."""
        shapes = [*parameters[:own], *results, *parameters[own:], *stats.geometry.scratch]

        def reordered(code: DeviceCode, pointers: list[Expr]) -> None:
            body(code, [*pointers[:own], *pointers[behind:], *pointers[own:behind]])

        return launch(shapes, threads, reordered)

    def join(code: DeviceCode, pointers: list[Expr]) -> None:
        rest = len(pointers) - len(results)
        scratch = Scratch(stats.geometry, single=pointers[rest - 1])
        given = [pointers[own - 1], *pointers[rest:]]
        Joined(buffers.frame_of(stats, code, given), code, scratch).run()

    made = tile_launches(TileFrame(gemm, gemm.way.unit), make, stats)
    return [*made, make([*gemm.parameters, *gemm.scratch], THREADS, join)]
