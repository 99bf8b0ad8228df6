"""Panel of the AMX kernels: the weights of a forward or dX GEMM as B tiles, made once a call.

panel[phase][tile of 16 output channels][tap row][run][chunk][depth / block][16 channels][block]

A *run* is what one A row reads at once: the taps of a row where they are neighbours in scratch, or
one tap. It is cut into ``chunks`` of ``depth`` elements, at most the 64 bytes of a tile's row.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...gemm.geometry import Phase
from ...tir.expr import Index
from ..gemm.vectors import least
from .tiles import COLUMNS, ROW_BYTES


@dataclass(frozen=True, slots=True)
class Runs:
    """How the sum over the taps of one phase is cut; ``pitch`` elements a scratch pixel."""

    phase: Phase
    pitch: int
    element_bytes: int

    @property
    def merged(self) -> bool:
        """Whether the taps of a row are neighbours in scratch."""
        return self.phase.columns.taps > 1 and abs(self.phase.columns.slope) == 1

    @property
    def pixels(self) -> int:
        """Scratch pixels of a run."""
        return self.phase.columns.taps if self.merged else 1

    @property
    def count(self) -> tuple[int, int]:
        """Tap rows, and runs in each."""
        return self.phase.rows.taps, 1 if self.merged else self.phase.columns.taps

    @property
    def elements(self) -> int:
        """Elements of a run."""
        return self.pixels * self.pitch

    @property
    def chunks(self) -> int:
        """Tiles along a run."""
        return -(-self.elements * self.element_bytes // ROW_BYTES)

    @property
    def depth(self) -> int:
        """Elements of a chunk, whole words of four bytes."""
        block = 4 // self.element_bytes
        return -(-self.elements // (self.chunks * block)) * block

    @property
    def turns(self) -> int:
        """Products of tiles in one sum."""
        return self.count[0] * self.count[1] * self.chunks

    def tap(self, place: Index, run: Index) -> Index:
        """Number of the column tap at a pixel of a run."""
        if not self.merged:
            return run
        return place if self.phase.columns.slope > 0 else self.pixels - 1 - place


@dataclass(frozen=True, slots=True)
class AmxPanel:
    """Shape of a panel for ``lanes`` output channels, with the runs of each phase."""

    lanes: int
    runs: tuple[Runs, ...]

    @property
    def tiles(self) -> int:
        """Tiles of output channels; the last ones overlap."""
        return -(-self.lanes // COLUMNS)

    def tile_elements(self, phase: int) -> int:
        """Elements of one B tile."""
        return self.runs[phase].depth * COLUMNS

    def first(self, phase: int) -> int:
        """Where a phase begins."""
        return sum(
            self.tiles * runs.turns * self.tile_elements(p)
            for p, runs in enumerate(self.runs[:phase])
        )

    def at(self, phase: int, tile: Index, turn: Index) -> Index:
        """Where the B tile of a phase begins that a tile of output channels meets at a turn."""
        place = (tile * self.runs[phase].turns + turn) * self.tile_elements(phase)
        return self.first(phase) + place

    @property
    def elements(self) -> int:
        """Elements in all."""
        return self.first(len(self.runs))

    def first_lane(self, tile: Index) -> Index:
        """The first output channel of a tile."""
        return least(tile * COLUMNS, max(0, self.lanes - COLUMNS))
