"""How long the gradient of the weights is beside the noise that roundings add to it.

"FP4 All the Way: Fully Quantized Training of LLMs" (Chmiel et al., NeurIPS 2025; arXiv 2505.19115):
quantized training stops paying where the gradient is shorter than about sqrt(3) times the noise.

    e = Q(dY) - dY, f = Q(x) - x      what rounding did to the operands of dW
    noise^2 = sum over rows n of |e_n|^2 (|x_n|^2 + |f_n|^2) + |dY_n|^2 |f_n|^2
                                      the mean length^2 of what that does to dW, as roundings of
                                      different numbers are independent and right in the mean
    gradient^2 = max(|dW|^2 - noise^2, 0)
    state gradient_to_noise           their ratio, over all layers whose dW reads codes in blocks

Of a convolution the rows are pixels: of each that a tap of dW multiplies, and of each group. No
product is computed twice: rows' lengths are.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf

from ..compiler.formats import F32
from ..compiler.ir import Attr, Op, Program, Region, Value, unused
from ..compiler.ir.accumulation import NAMES
from ..compiler.ir.analysis import is_training
from ..compiler.ir.ops import BETWEEN_ACTIVATIONS, GEMMS, SCALES_OF, WEIGHT_GRADS
from ..compiler.types import SCALAR, BlockScale, Shape
from .parts.appended import Appended
from .parts.optimized import gradient, updates
from .parts.order import Makes, placed

RATIO = "gradient_to_noise"
# The ratio below which training pays less.
ENOUGH = 3**0.5
KEEPS_NUMBERS = frozenset(("cast", "round_stochastic", "correct_scales"))


@placed(
    after=(Makes.CODES, "carrier", "subsample"),
    before=("recompute", "loss_scale", "accumulate_gradients", "clip_gradients", "over_steps"),
)
def gradient_to_noise(program: Program, *, measure_noise: bool = True) -> Program:
    """Add the state ``gradient_to_noise``, of the last step; infinite before it, and without noise.

    A program without such products stays as it is, and any with ``measure_noise=false``.
    """
    measured = _measured(program) if measure_noise and is_training(program) else {}
    trained = _trained(program, measured)
    if not trained:
        return program.done("gradient_to_noise")
    work = _Noise(program, measured)
    out = program.rewrite(work.rule, by="gradient_to_noise")
    ratio = work.ratio(trained)
    state = Value(unused(RATIO, work.taken), SCALAR)
    out = out.append("update", tuple(work.new.ops)).with_state({state: inf})
    return replace(out, next=(*out.next, (state, ratio)))


@dataclass(frozen=True, slots=True)
class NoisyProduct:
    """A product dW, and what its operands were ahead of scales and rounding."""

    op: Op
    sources: tuple[Value, Value]


def _measured(program: Program) -> Mapping[Value, NoisyProduct]:
    """The products that make gradients of weights from codes in blocks, by their results."""
    makers, found = program.producers(), dict[Value, NoisyProduct]()
    for _, op in program.ops():
        if op.kind in WEIGHT_GRADS - BETWEEN_ACTIVATIONS:
            g, x = (_source(v, makers) for v in op.inputs)
            if g is not None and x is not None:
                found[op.result] = NoisyProduct(op, (g, x))
    return found


def _source(v: Value, makers: Mapping[Value, Op]) -> Value | None:
    """The numbers that codes in blocks were made of."""
    op = makers.get(v)
    while op is not None and op.kind in KEEPS_NUMBERS:
        op = makers.get(op.inputs[0])
    coded = isinstance(v.type.scale, BlockScale) and op is not None and op.kind in SCALES_OF
    return op.inputs[0] if op is not None and coded else None


def _trained(program: Program, measured: Container[Value]) -> tuple[Value, ...]:
    """The gradients that updates read and that are made of such products."""
    makers = program.producers()

    def reaches(g: Value) -> bool:
        todo, seen = [g], {g}
        for v in todo:
            op = makers.get(v)
            if op is not None and op.kind not in GEMMS:
                todo += [i for i in op.inputs if i not in seen]
                seen.update(op.inputs)
        return any(v in measured for v in todo)

    return tuple(g for g in dict.fromkeys(map(gradient, updates(program))) if reaches(g))


def _groups(op: Op) -> int:
    return op.int_attr("groups") if "groups" in op.attrs else 1


class _Noise:
    """The ops made so far, and the lengths of rows of each operand and of what rounding did."""

    def __init__(self, program: Program, measured: Mapping[Value, NoisyProduct]) -> None:
        self.measured, self.taken = measured, program.names()
        self.codes: dict[Value, tuple[Value, set[int]]] = {}
        for p in measured.values():
            for code, source in zip(p.op.inputs, p.sources, strict=True):
                self.codes.setdefault(code, (source, set()))[1].add(_groups(p.op))
        self.rows: dict[tuple[Value, int], tuple[Value, Value]] = {}
        self.parts: list[Value] = []
        self.new = Appended(self.taken, RATIO)

    def rule(self, region: Region, op: Op) -> tuple[Op, ...] | None:
        """Lengths of rows behind codes, their products behind dW."""
        self.new.ops = [op]
        for code in (v for v in op.results if v in self.codes):
            source, cuts = self.codes[code]
            shape = code.type.shape
            numbers = self._op("dequantize", code, "numbers", shape, code)
            error = self._op("sub", code, "error", shape, numbers, source)
            for n in sorted(cuts):
                self.rows[code, n] = self._rows(code, source, n), self._rows(code, error, n)
        if any(v in self.measured for v in op.results):
            (dy, e), (x, f) = (self.rows[v, _groups(op)] for v in op.inputs)
            both = self._op("add", op.inputs[1], "rows", x.type.shape, x, f)
            self.parts += [self._product(op, e, both), self._product(op, dy, f)]
        made, self.new.ops = self.new.ops, []
        return tuple(made) if len(made) > 1 else None

    def ratio(self, gradients: Sequence[Value]) -> Value:
        """The number of all layers."""
        squares = [self._op("mul", g, "square", g.type.shape, g, g) for g in gradients]
        length, noise = self._total("length", squares), self._total("noise", self.parts)
        more = self._one("clamp_min", "more", self._one("sub", "less", length, noise), low=0.0)
        root = self._one("sqrt", "root", self._one("div", "square", more, noise))
        none = self._one("compare_to", "none", noise, relation="eq", value=0.0)
        return self._one("where", "next", none, self._one("constant", "endless", value=inf), root)

    def _rows(self, code: Value, x: Value, groups: int) -> Value:
        """The squares of the lengths of rows: places of a batch, and of an image's groups."""
        shape = x.type.shape
        squares = self._op("mul", code, "squares", shape, x, x)
        if groups > 1:
            shape = (shape[0], groups, shape[1] // groups, *shape[2:])
            squares = self._op("view", code, "groups", shape, squares)
        kept = groups == 1
        made = (shape[0], groups, *shape[2 if kept else 3 :])
        dims = (1,) if kept else (2,)
        return self._op("sum", code, "lengths", made, squares, dims=dims, keepdim=kept)

    def _product(self, op: Op, a: Value, b: Value) -> Value:
        """The sums of products of lengths, for each tap: in a loop the steps' are added up."""
        if op.result.type.shape[2:]:
            shape = a.type.shape[1], 1, *op.result.type.shape[2:]
            how = {k: v for k, v in op.attrs.items() if k not in NAMES}
            return self._op(op.kind, op.result, "noise", shape, a, b, **how)
        each = self._op("mul", op.result, "noise.each", a.type.shape, a, b)
        return self._op("sum_channels", op.result, "noise", (1,), each)

    def _op(self, kind: str, of: Value, name: str, shape: Shape, *x: Value, **more: Attr) -> Value:
        """Append an op that belongs to a value ``of`` the program."""
        return self.new(kind, f"{of.name}.{name}", shape, *x, f=F32, **more)

    def _one(self, kind: str, name: str, *x: Value, **more: Attr) -> Value:
        """Append an op on single numbers."""
        return self.new(kind, f"{RATIO}.{name}", (), *x, f=F32, **more)

    def _total(self, name: str, values: Sequence[Value]) -> Value:
        """The sum of all numbers of all values."""
        total: Value | None = None
        for v in values:
            dims = tuple(range(len(v.type.shape)))
            one = self._one("sum", f"{name}.part", v, dims=dims, keepdim=False)
            total = one if total is None else self._one("add", name, total, one)
        assert total is not None
        return total
