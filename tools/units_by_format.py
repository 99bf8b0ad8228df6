"""What multiplies in a GEMM of each pair of formats: found out by asking the target to plan one.

The planner that serves compilation answers, so the table says what a compilation does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ..compiler.errors import NoKernelError
from ..compiler.formats import F32, FORMATS, Format
from ..compiler.ir import NO_ATTRS, Attr, Op, Program, Region, Value, attrs
from ..compiler.ir.ops import GEMMS
from ..compiler.types import Scale, TensorType
from .planning import plan_program

# What a GEMM may read: coded formats with a scale, and the carriers.
OPERANDS = tuple(f for f in FORMATS.values() if f.is_carrier or f.is_element)
INTERPRETED = "NumPy"
MISSING = "no kernel"
CONV = attrs(stride=(1, 1), padding=(1, 1), dilation=(1, 1), groups=1)
IMAGE, WEIGHT, MADE = (1, 8, 7, 5), (28, 8, 3, 1), (1, 28, 7, 7)
# Operands and result of each op on small shapes; sums are short, so exact integers fit.
SHAPES = {
    "conv2d": (IMAGE, WEIGHT, MADE),
    "conv2d_input_grad": (MADE, WEIGHT, IMAGE),
    "conv2d_weight_grad": (MADE, IMAGE, WEIGHT),
    "conv2d_transpose": (MADE, WEIGHT, IMAGE),
    "conv2d_transpose_input_grad": (IMAGE, WEIGHT, MADE),
    "conv2d_transpose_weight_grad": (IMAGE, MADE, WEIGHT),
    "linear": ((3, 13), (7, 13), (3, 7)),
    "linear_input_grad": ((3, 7), (7, 13), (3, 13)),
    "linear_weight_grad": ((3, 7), (3, 13), (7, 13)),
    "product": ((2, 3, 13), (2, 13, 7), (2, 3, 7)),
    "product_input_grad": ((2, 3, 7), (2, 13, 7), (2, 3, 13)),
    "product_weight_grad": ((2, 3, 7), (2, 3, 13), (2, 13, 7)),
}
Pairs = list[tuple[str, str]]


def units_by_format(target: str) -> dict[tuple[str, str], Pairs]:
    """The pairs of operand formats by op and unit; pairs without a kernel are under their own."""
    assert set(SHAPES) == GEMMS, "every GEMM has shapes"
    found: dict[tuple[str, str], Pairs] = {}
    for op in SHAPES:
        for a, b in _pairs(op.endswith("_grad")):
            found.setdefault((op, unit(target, op, a, b)), []).append((a.name, b.name))
    return found


def unit(target: str, op: str, a: Format, b: Format) -> str:
    """What multiplies in one GEMM."""
    try:
        plan = plan_program(target, probe(op, a, b))
    except NoKernelError:
        return MISSING
    if plan is None:
        return INTERPRETED
    return next(
        k.kernel.unit.value for k in plan.kernels if any(o.kind == op for o in k.kernel.ops)
    )


def summary(found: Mapping[tuple[str, str], Pairs]) -> list[tuple[list[str], str, list[str]]]:
    """The same in few words: ops that answer alike together, formats that answer alike together."""
    alike: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (op, unit_), pairs in found.items():
        alike.setdefault((unit_, tuple(_words(pairs))), []).append(op)
    return [(ops, unit_, list(words)) for (unit_, words), ops in alike.items()]


def _words(pairs: Pairs) -> list[str]:
    """``int2..4, uint4 x int4, int8``: each left operand with all its right ones."""
    right: dict[str, list[str]] = {}
    for a, b in pairs:
        right.setdefault(a, []).append(b)
    left: dict[tuple[str, ...], list[str]] = {}
    for a, bs in right.items():
        left.setdefault(tuple(bs), []).append(a)
    return [f"{_ranges(a)}  x  {_ranges(b)}" for b, a in left.items()]


def _ranges(names: Sequence[str]) -> str:
    """``int2, int3, int4, bf16`` as ``int2..4, bf16``; ``any code`` for all coded formats."""
    if set(names) == {f.name for f in OPERANDS if f.is_coded}:
        return "any code"
    runs: list[list[str]] = []
    for name in names:
        last = runs[-1][-1] if runs else ""
        if _follows(last, name):
            runs[-1].append(name)
        else:
            runs.append([name])
    return ", ".join(r[0] if len(r) == 1 else f"{r[0]}..{r[-1][-1]}" for r in runs)


def _follows(a: str, b: str) -> bool:
    plain = a[:-1] == b[:-1] and a[:-1] in ("int", "uint")
    return plain and int(b[-1]) == int(a[-1]) + 1


def _pairs(backward: bool) -> Iterator[tuple[Format, Format]]:
    for a in OPERANDS:
        for b in OPERANDS:
            # Passes leave both operands of a product in codes, or both in the same carrier, or a
            # gradient in a carrier beside codes.
            gradient = backward and a.is_carrier and b.is_coded
            if gradient or (a.is_coded and b.is_coded) or a is b:
                yield a, b


def probe(op: str, a: Format, b: Format) -> Program:
    """A program of one GEMM, whose operands are made in the formats ``a`` and ``b``."""
    left, right, made = (TensorType(shape, F32) for shape in SHAPES[op])
    x, w, clip = Value("a", left), Value("b", right), Value("clip", TensorType((), F32))
    first, second = tuple(_operand(x, a, clip)), tuple(_operand(w, b, clip))
    y, options = Value("y", made), CONV if op.startswith("conv2d") else NO_ATTRS
    gemm = Op(op, (first[-1].result, second[-1].result), (y,), options, "probe")
    return Program("probe", (x, w, clip), (), (Region("forward", (*first, *second, gemm)),), (y,))


def _operand(x: Value, f: Format, clip: Value) -> Iterator[Op]:
    """The ops that make ``x.q`` in the format ``f``."""

    def made(kind: str, inputs: tuple[Value, ...], scale: Scale, **attributes: Attr) -> Op:
        result = Value(f"{x.name}.q", TensorType(x.type.shape, f, scale))
        return Op(kind, inputs, (result,), attrs(**attributes), "probe")

    if f.is_carrier:
        yield made("cast" if f is not F32 else "relu", (x,), Scale.NONE)
    elif f.is_integer:
        yield made("quantize", (x, clip), Scale.TENSOR)
    else:
        scaled = Value(f"{x.name}.s", TensorType(x.type.shape, F32, Scale.POW2))
        yield Op("grad_scale", (x, clip), (scaled,), origin="probe")
        if f.is_log:
            yield made("round_log", (scaled,), Scale.POW2, up=1.6, tie="up", underflow="uniform")
        else:
            yield made("cast", (scaled,), Scale.POW2)
