"""An image: kernels as machine code.

It is stored as one line of JSON, for each kernel the grid and the threads of its launches, and a
cubin in which launch j of kernel i is called ``k<i>_<j>``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from ..plan.kernel import KernelSpec


@dataclass(frozen=True, eq=False, slots=True)
class Image:
    """Machine code; ``shapes`` are grid and threads of each launch of each kernel."""

    shapes: tuple[tuple[tuple[int, int], ...], ...]
    cubin: bytes

    def write(self) -> bytes:
        """As it is stored."""
        return json.dumps(self.shapes).encode() + b"\n" + self.cubin

    @classmethod
    def read(cls, data: bytes) -> Image:
        """What ``write`` gave; ValueError where it did not."""
        line, _, cubin = data.partition(b"\n")
        made = json.loads(line)
        return cls(tuple(tuple((int(g), int(t)) for g, t in kernel) for kernel in made), cubin)


@dataclass(frozen=True, slots=True)
class Placed:
    """A kernel, by its number in an image."""

    image: Image
    number: int


Images = Mapping[KernelSpec, Placed]
