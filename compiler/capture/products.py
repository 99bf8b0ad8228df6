"""Products of tensors: however a model spells them, they are layers.

``x @ w``, ``addmm``, ``einsum``, ``tensordot`` and their kin become ``qtr.linear`` where one
operand is a parameter or computed from parameters alone; many matrices, one for each place of a
batch, become a convolution in groups. Where both operands depend on inputs, as in attention, they
become ``qtr.product``. Other products stay what they are: those of weights and constants, which
compute a weight, of vectors, and those of the loss.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor

from ..errors import CaptureError
from .adapter import in_backward, original
from .labels import einsum_labels
from .layers import qtr
from .scope import Scope

aten = torch.ops.aten
Names = tuple[Hashable, ...]


@dataclass(frozen=True, slots=True)
class Labelled:
    """A tensor with a label for each dimension; dimensions of one label go together."""

    tensor: Tensor
    labels: Names

    def without(self, label: Hashable, *, total: bool) -> Labelled:
        """Without a dimension: its sum, or its first element."""
        dim = self.labels.index(label)
        t = self.tensor.sum(dim) if total else self.tensor.select(dim, 0)
        return Labelled(t, (*self.labels[:dim], *self.labels[dim + 1 :]))

    def size(self, label: Hashable) -> int:
        """Elements along a dimension."""
        return self.tensor.shape[self.labels.index(label)]

    def matrix(self, *parts: Names) -> Tensor:
        """One dimension for each part."""
        order = [self.labels.index(label) for part in parts for label in part]
        sizes = [prod(self.size(label) for label in part) for part in parts]
        return self.tensor.permute(order).reshape(sizes)


class TensorProducts:
    """What products of tensors become while a graph is traced."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.inner = False  # inside of a product that torch decomposes: it is decided on already

    def table(self) -> dict[Any, Callable[..., Tensor]]:
        """The replaced ops."""
        return {
            aten.matmul.default: self.matmul,
            aten.einsum.default: self.einsum,
            aten.tensordot.default: self.tensordot,
            aten.mm.default: self.plain(aten.mm.default, "nc", "ck", "nk"),
            aten.bmm.default: self.plain(aten.bmm.default, "bnc", "bck", "bnk"),
            aten.mv.default: self.plain(aten.mv.default, "nc", "c", "n"),
            aten.dot.default: self.plain(aten.dot.default, "c", "c", ""),
            aten.vdot.default: self.plain(aten.dot.default, "c", "c", ""),
            aten.addmm.default: self.added(aten.addmm.default, "nc", "ck", "nk"),
            aten.baddbmm.default: self.added(aten.baddbmm.default, "bnc", "bck", "bnk"),
            aten.addmv.default: self.added(aten.addmv.default, "nc", "c", "n"),
            aten.linalg_multi_dot.default: self.multi_dot,
            **dict.fromkeys(_grouped_ops(), self.grouped),
        }

    def matmul(self, a: Tensor, b: Tensor) -> Tensor:
        """As torch documents it: dimensions ahead of the matrices are those of a batch."""
        rank = max(a.dim(), b.dim()) - 2
        batch = tuple(range(rank))
        left: Names = ("n", "c")[-a.dim() :] if a.dim() else ()
        right: Names = ("c", "k")[: b.dim()]
        first = Labelled(a, (*batch[rank - max(a.dim() - 2, 0) :], *left))
        second = Labelled(b, (*batch[rank - max(b.dim() - 2, 0) :], *right))
        out = (*batch, *(("n",) if a.dim() > 1 else ()), *(("k",) if b.dim() > 1 else ()))
        made = self.layer(first, second, out)
        return self._plain(aten.matmul.default, a, b) if made is None else made

    def einsum(
        self, equation: str, tensors: Sequence[Tensor], path: Sequence[int] | None = None
    ) -> Tensor:
        """Two by two, from the left, where there may be a layer among them."""
        read = einsum_labels(equation, [t.dim() for t in tensors])
        weights = self.scope.weights
        several = sum(not weights.knows(t) for t in tensors) > 1
        known = several or any(map(weights.holds, tensors))
        if read is None or not known or len(tensors) < 2:
            return self._plain(aten.einsum.default, equation, tensors, path=path)
        operands = [Labelled(t, x) for t, x in zip(tensors, read.operands, strict=True)]
        first, *others = operands
        for i, second in enumerate(others):
            later = {label for o in others[i + 1 :] for label in o.labels} | {*read.out}
            both = tuple(dict.fromkeys((*first.labels, *second.labels)))
            out = tuple(label for label in both if label in later) if others[i + 1 :] else read.out
            made = self.layer(first, second, out)
            if made is None:
                made = self._einsum(first, second, out)
                weights.follow((first.tensor, second.tensor), made)
            first = Labelled(made, out)
        return first.tensor

    def tensordot(self, a: Tensor, b: Tensor, over: list[int], under: list[int]) -> Tensor:
        """Sums over pairs of dimensions."""
        left = [("a", i) for i in range(a.dim())]
        right = [("b", i) for i in range(b.dim())]
        for i, j in zip(over, under, strict=True):
            right[j % b.dim()] = left[i % a.dim()]
        out = tuple(label for label in (*left, *right) if (label in left) != (label in right))
        made = self.layer(Labelled(a, tuple(left)), Labelled(b, tuple(right)), out)
        return self._plain(aten.tensordot.default, a, b, over, under) if made is None else made

    def multi_dot(self, tensors: Sequence[Tensor]) -> Tensor:
        """From the left: torch would take an order that makes products of weights alone."""
        first, *others = tensors
        for second in others:
            first = self.matmul(first, second)
        return first

    def grouped(
        self,
        a: Tensor,
        b: Tensor,
        offs: Tensor | None = None,
        bias: Tensor | None = None,
        out_dtype: torch.dtype | None = None,
    ) -> Tensor:
        """Rows times the matrix of their group: all matrices as one layer, then a choice."""
        if offs is None or a.dim() != 2 or b.dim() != 3:
            raise CaptureError(
                f"a grouped product in layer {self.scope.layer()!r} is of {list(a.shape)} by "
                f"{list(b.shape)}; rows by one matrix for each group are there"
            )
        every = self.einsum("nc,bck->nbk", [a, b])
        group = (torch.arange(len(a))[:, None] >= offs).sum(1, keepdim=True)
        chosen = (group == torch.arange(len(b))).to(a.dtype)
        made = (every * chosen.unsqueeze(-1)).sum(1)
        return made if bias is None else made + bias

    def plain(self, op: Any, first: str, second: str, out: str) -> Callable[..., Tensor]:
        """A product of fixed ranks."""

        def product(a: Tensor, b: Tensor) -> Tensor:
            made = self.layer(Labelled(a, tuple(first)), Labelled(b, tuple(second)), tuple(out))
            return self._plain(op, a, b) if made is None else made

        return product

    def added(self, op: Any, first: str, second: str, out: str) -> Callable[..., Tensor]:
        """``beta`` bias + ``alpha`` product."""

        def product(
            bias: Tensor, a: Tensor, b: Tensor, beta: float = 1, alpha: float = 1
        ) -> Tensor:
            operands = Labelled(a, tuple(first)), Labelled(b, tuple(second))
            plain = alpha == beta == 1
            made = self.layer(*operands, tuple(out), bias if plain else None)
            if made is None:
                return self._plain(op, bias, a, b, beta=beta, alpha=alpha)
            return made if plain else bias * beta + made * alpha

        return product

    def layer(
        self, a: Labelled, b: Labelled, out: Names, bias: Tensor | None = None
    ) -> Tensor | None:
        """The product of what depends on inputs with a weight or with its like, the bias added.

        None of others.
        """
        if in_backward():
            return None
        weights = self.scope.weights
        for x, w in ((a, b), (b, a)):
            if weights.holds(w.tensor) and not weights.knows(x.tensor):
                return self._layer(x, w, out, bias)
        if self.inner or self.scope.outside or any(weights.knows(o.tensor) for o in (a, b)):
            return None
        made = self._between(a, b, out)
        return made if made is None or bias is None else made + bias

    def _between(self, a: Labelled, b: Labelled, out: Names) -> Tensor | None:
        """A product of activations; None where it is none of matrices."""
        if _repeats(a, b) or not a.tensor.is_floating_point():
            return None
        a, b = _reduced(a, b, out)
        shared = {*a.labels} & {*b.labels}
        batch = tuple(label for label in out if label in shared)
        rows = tuple(label for label in out if label not in b.labels)
        columns = tuple(label for label in out if label not in a.labels)
        summed = tuple(label for label in a.labels if label not in out)
        if any(a.size(label) != b.size(label) for label in shared):
            return None  # sizes that torch refuses
        if not (rows and columns and summed):
            return None
        first, second = a.matrix(batch, rows, summed), b.matrix(batch, summed, columns)
        made = qtr.product(first, second, self.scope.product())
        sizes = [*(a.size(n) for n in (*batch, *rows)), *(b.size(n) for n in columns)]
        found = (*batch, *rows, *columns)
        y: Tensor = made.reshape(sizes).permute([found.index(label) for label in out])
        return y.contiguous()  # as torch makes it, so that the model may view it

    def _layer(self, x: Labelled, w: Labelled, out: Names, bias: Tensor | None) -> Tensor | None:
        if _repeats(x, w):
            return None
        x, w = _reduced(x, w, out)
        shared = {*x.labels} & {*w.labels}
        if not shared - {*out} or any(x.size(label) != w.size(label) for label in shared):
            return None  # no sum, or sizes that torch refuses
        columns = tuple(label for label in out if label not in x.labels)
        inside = bias is not None and bias.dim() == 1 and out[-1:] == columns and len(out) == 2
        made = self._product(x, w, out, bias if inside else None)
        return made if bias is None or inside else made + bias

    def _product(self, x: Labelled, w: Labelled, out: Names, bias: Tensor | None) -> Tensor:
        batch = tuple(label for label in out if label in x.labels and label in w.labels)
        rows = tuple(label for label in out if label not in w.labels)
        columns = tuple(label for label in out if label not in x.labels)
        summed = tuple(label for label in w.labels if label not in out)
        sizes = [*(x.size(r) for r in rows), *(x.size(b) for b in batch)]
        sizes += [w.size(c) for c in columns]
        layer = self.scope.layer()
        if batch:
            images = x.matrix(rows, (*batch, *summed), (), ())
            filters = w.matrix((*batch, *columns), summed, (), ())
            groups = prod(x.size(b) for b in batch)
            made = qtr.conv(images, filters, None, [1, 1], [0, 0], [1, 1], groups, layer)
        else:
            made = qtr.linear(x.matrix(rows, summed), w.matrix(columns, summed), bias, layer)
        found = (*rows, *batch, *columns)
        y: Tensor = made.reshape(sizes).permute([found.index(label) for label in out])
        return y.contiguous()  # as torch makes it, so that the model may view it

    def _einsum(self, a: Labelled, b: Labelled, out: Names) -> Tensor:
        """The plain product of two operands."""
        letters = {label: i for i, label in enumerate(dict.fromkeys((*a.labels, *b.labels)))}
        numbers = [[letters[label] for label in labels] for labels in (a.labels, b.labels, out)]
        first, second, made = ("".join(chr(ord("a") + n) for n in listed) for listed in numbers)
        operands = [a.tensor, b.tensor]
        return self._plain(aten.einsum.default, f"{first},{second}->{made}", operands)

    def _plain(self, op: Any, *args: Any, **options: Any) -> Tensor:
        """The op as torch has it."""
        before, self.inner = self.inner, True
        try:
            made: Tensor = original(op, *args, **options)
        finally:
            self.inner = before
        return made


def _grouped_ops() -> list[Any]:
    """Grouped products by torch's name and by that of transformers, where that is loaded."""
    found = [aten._grouped_mm.default] if hasattr(aten, "_grouped_mm") else []
    other = getattr(torch.ops.transformers, "grouped_mm_fallback", None)
    return found if other is None else [*found, other.default]


def _reduced(x: Labelled, w: Labelled, out: Names) -> tuple[Labelled, Labelled]:
    """Without what broadcasts, and without dimensions that are summed in one operand alone."""
    for label in [label for label in x.labels if label in w.labels]:
        again = _repeated(w, label) and label in out and w.size(label) == x.size(label)
        if w.size(label) == 1 != x.size(label) or again:
            w = w.without(label, total=False)
        elif x.size(label) == 1 != w.size(label):
            x = x.without(label, total=False)
    mine, known = {*x.labels}, {*w.labels, *out}
    for label in [label for label in x.labels if label not in known]:
        x = x.without(label, total=True)
    for label in [label for label in w.labels if label not in mine and label not in out]:
        w = w.without(label, total=True)
    return x, w


def _repeated(w: Labelled, label: Hashable) -> bool:
    """Whether the elements along a dimension are one, as ``expand`` makes them."""
    return w.size(label) > 1 and w.tensor.stride(w.labels.index(label)) == 0


def _repeats(*operands: Labelled) -> bool:
    """Whether a label stands for two dimensions of one operand: a diagonal."""
    return any(len({*o.labels}) < len(o.labels) for o in operands)
