"""Tensors cut into blocks: places in a block and the grid of blocks as dimensions of their own."""

from __future__ import annotations

from dataclasses import dataclass

from ...compiler.ir import Value
from ...compiler.types import BlockScale, Shape
from .composition import Composition


@dataclass(frozen=True, slots=True)
class Cut:
    """How a tensor is cut into its blocks: filled up to ``whole``, then viewed as ``shape``.

    Its dimensions ``within`` are places in a block, the others count the ``grid`` of blocks.
    """

    whole: Shape
    shape: Shape
    within: tuple[int, ...]
    grid: Shape

    @classmethod
    def of(cls, scale: BlockScale, shape: Shape) -> Cut:
        """Dimensions along which blocks are single numbers stay as they are."""
        grid, dims, within = scale.grid(shape), list[int](), list[int]()
        for count, size in zip(grid, scale.block, strict=True):
            dims.append(count)
            if size > 1:
                within.append(len(dims))
                dims.append(size)
        whole = tuple(n * b for n, b in zip(grid, scale.block, strict=True))
        return cls(whole, tuple(dims), tuple(within), grid)


def cut_up(to: Composition, x: Value, cut: Cut) -> Value:
    """Blocks and places in them as dimensions, filled up with 0."""
    shape = x.type.shape
    if cut.whole != shape:
        x = to("pad", "whole", x, shape=cut.whole, before=(0,) * len(shape), value=0.0)
    return to("view", "cut", x, shape=cut.shape)


def spread(to: Composition, s: Value, cut: Cut, shape: Shape) -> Value:
    """The scale of its block at each place."""
    if not cut.within:
        return s
    wide = to("broadcast", "wide", s, shape=cut.shape, dims=cut.within)
    wide = to("view", "each", wide, shape=cut.whole)
    for dim, (whole, size) in enumerate(zip(cut.whole, shape, strict=True)):
        if whole > size:
            kept = (*wide.type.shape[:dim], size, *wide.type.shape[dim + 1 :])
            wide = to("slice", "inside", wide, shape=kept, dim=dim, start=0, step=1)
    return wide


def largest(to: Composition, x: Value, cut: Cut) -> Value:
    """The largest magnitude of each block."""
    size = cut_up(to, to("abs", "size", x, shape=x.type.shape), cut)
    if not cut.within:
        return size
    return to("max", "largest", size, shape=cut.grid, dims=cut.within, keepdim=False)
