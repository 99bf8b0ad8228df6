"""One kernel of the cpu target alone, with buffers of its own: for timing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...compiler.ir import Value
from ...targets.plan.kernel import Kernel, Slot
from ...targets.plan.layout import Layout, Order

if TYPE_CHECKING:
    from ...targets.cpu.info import CpuInfo

Array = NDArray[Any]


class Alone:
    """A compiled kernel on noise; ``run`` calls it, ``bytes`` are what it reads and writes.

    ``sizes`` are the bytes of its buffers, where those are not of one value each: at the border of
    a loop a buffer has the values of all steps.
    """

    def __init__(
        self,
        kernel: Kernel,
        orders: Mapping[Value, Order],
        cpu: CpuInfo,
        sizes: Sequence[int] | None = None,
    ) -> None:
        from ...targets.cpu.build import compile_kernel

        rng = np.random.default_rng(0)
        arrays = [noise(s, Layout(s.value.type, orders[s.value]), rng) for s in kernel.slots]
        if sizes is not None:
            pairs = zip(arrays, sizes, strict=True)
            arrays = [np.resize(a, size // a.itemsize) for a, size in pairs]
        self.bytes = sum(a.nbytes for a in arrays)
        self._compiled = compile_kernel(kernel, cpu)
        self._copies = self._compiled.copies(*arrays)

    def run(self) -> None:
        """Run it once."""
        self._compiled.run(*self._copies)


def noise(slot: Slot, layout: Layout, rng: np.random.Generator) -> Array:
    """Contents for a buffer: normal floats, any codes, scales of one.

    Indices and masks are zero: a kernel may use them as places. So are integers.
    """
    if slot.scale:
        return np.ones(layout.scales, np.float32)
    count, name = layout.rows * layout.cell, layout.type.format.name
    if name in ("f32", "f16"):
        return rng.standard_normal(count, np.float32).astype(layout.dtype)
    if name == "bf16":
        return (rng.standard_normal(count, np.float32).view(np.uint32) >> 16).astype(np.uint16)
    if layout.type.format.is_coded and layout.type.scale.value:
        dtype = np.dtype(layout.dtype)
        return rng.integers(0, np.iinfo(dtype).max, count, dtype, endpoint=True)
    return np.zeros(count, layout.dtype)
