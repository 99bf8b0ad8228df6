"""Windows that slide over pixels: kernel, strides, dilations, padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch.nn.functional as F
from torch import Tensor

from .graph import OnnxNode

SAME = ("SAME_UPPER", "SAME_LOWER")
AUTOMATIC = ("NOTSET", "VALID", *SAME)
Sides = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class NodeWindow:
    """A node's window; ``given`` are its pads, ahead and behind for each dimension."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    given: Sides
    automatic: str
    ceil: bool

    @classmethod
    def of(cls, node: OnnxNode, kernel: Sequence[int] | None = None) -> Self:
        """The window of a node, whose kernel is an attribute or the weight's."""
        sizes = tuple(kernel or node.ints("kernel_shape") or ())
        rank = len(sizes)
        pads = node.ints("pads") or (0,) * (2 * rank)
        automatic = node.word("auto_pad", "NOTSET")
        if automatic not in AUTOMATIC or len(pads) != 2 * rank:
            node.refuse(f"pads by {automatic!r} and {list(pads)} for {rank} dimensions of pixels")
        return cls(
            kernel=sizes,
            stride=node.ints("strides") or (1,) * rank,
            dilation=node.ints("dilations") or (1,) * rank,
            given=tuple(zip(pads[:rank], pads[rank:], strict=True)),
            automatic=automatic,
            ceil=bool(node.whole("ceil_mode", 0)),
        )

    @property
    def reach(self) -> tuple[int, ...]:
        """Pixels from the first to the last that a window reads."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilation, strict=True))

    @property
    def symmetric(self) -> tuple[int, ...] | None:
        """The padding that torch's layers take, where it is the same on both sides and fixed."""
        if self.automatic == "VALID":
            return (0,) * len(self.kernel)
        if self.automatic in SAME or any(before != behind for before, behind in self.given):
            return None
        return tuple(before for before, _ in self.given)

    def sides(self, sizes: Sequence[int]) -> Sides:
        """Padding ahead of and behind images of ``sizes``."""
        if self.automatic not in SAME:
            return ((0, 0),) * len(self.kernel) if self.automatic == "VALID" else self.given
        made = []
        for size, reach, stride in zip(sizes, self.reach, self.stride, strict=True):
            total = max((-(-size // stride) - 1) * stride + reach - size, 0)
            less, more = total // 2, total - total // 2
            made.append((less, more) if self.automatic == "SAME_UPPER" else (more, less))
        return tuple(made)

    def overhang(self, sizes: Sequence[int], sides: Sides) -> Sides:
        """What windows that start inside read beyond the padding, with ``ceil_mode``."""
        made = []
        for size, (before, behind), reach, stride in zip(
            sizes, sides, self.reach, self.stride, strict=True
        ):
            count = -(-(size + before + behind - reach) // stride) + 1
            if (count - 1) * stride >= size + before:
                count -= 1
            end = (count - 1) * stride + reach
            made.append((0, max(end - (size + before + behind), 0) if self.ceil else 0))
        return tuple(made)


def padded(x: Tensor, sides: Sides, value: float = 0.0) -> Tensor:
    """``x`` wider by ``sides`` in its last dimensions."""
    flat = [width for pair in reversed(sides) for width in pair]
    return F.pad(x, flat, value=value) if any(flat) else x
