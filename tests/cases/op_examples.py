"""An op of each kind that is well formed, made from its definition; what no signature says is here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from quatrain.compiler.formats import FORMATS, INT15, INT16, Format
from quatrain.compiler.ir import Attr, Op, Value, attrs
from quatrain.compiler.ir.loops import COUNTER
from quatrain.compiler.ir.ops import OPS, PRODUCTS, OpDef, Trait, having
from quatrain.compiler.ir.ops.definition import Attribute, Operand
from quatrain.compiler.ir.text import parse_type
from quatrain.compiler.types import Shape, TensorType

# At the border of a loop, where buffers hold the values of all steps.
BORDERS = {COUNTER} | having(Trait.ENTERS_LOOP) | having(Trait.LEAVES_LOOP)
# Kinds with a kernel of their own, alone or fused: no products, and none that a target composes.
OF_ONE_KERNEL = frozenset(OPS) - PRODUCTS - having(Trait.COMPOSED) - BORDERS
# What the symbols stand for: a convolution of 3 channels, 5x6 pixels and 3x2 taps, for one.
EXTENTS: dict[str, Shape] = {
    **{"N": (2,), "C": (3,), "H": (5,), "W": (6,), "K": (4,), "D": (3,), "R": (3,), "S": (2,)},
    **{"P": (3,), "Q": (5,), "I": (7,), "O": (5,), "B": (2,), "M": (3,), "*S": (2, 3)},
}
BY_INDEX = (
    *("take", "take_grad", "gather", "gather_grad", "scatter"),
    *("order", "argmax", "cumsum"),
)
REPEATING = ("whole", "whole_compare", "whole_where")
OWN_EXTENTS: dict[str, dict[str, Shape]] = {
    **{kind: {"*A": (2, 3, 4), "*B": (2, 4)} for kind in ("sum", "mean", "max")},
    "broadcast": {"*A": (2, 4), "*B": (2, 3, 4)},
    "resample": {"*A": (2, 3), "*B": (2, 2)},
    "view": {"*A": (2, 6), "*B": (3, 4)},
    "permute": {"*A": (2, 3, 4), "*B": (4, 2, 3)},
    "cat": {"?": (2, 3), "*B": (2, 6)},
    "hadamard": {"*A": (2, 6), "*B": (2, 8), "L": (4,)},
    "slice": {"*A": (5, 3), "*B": (2, 3)},
    "slice_grad": {"*A": (2, 3), "*B": (5, 3)},
    "pad": {"*A": (2, 3), "*B": (4, 5)},
    **{kind: {"L": (2,), "R": (3,), "D": (3,), "K": (4,), "*I": (2, 2)} for kind in BY_INDEX},
    **{kind: {"*A": (3,), "*B": (2, 1), "*S": (2, 3)} for kind in REPEATING},
    **{kind: {"N": (2,), "R": (6,)} for kind in ("rows_of_step", "all_steps")},
}
ATTRS: dict[str, Mapping[str, Attr]] = {
    **{kind: {"dims": (1,)} for kind in ("sum", "mean", "max", "broadcast")},
    "resample": {"dim": 1, "starts": (0, 1, 2), "index": (0, 2), "weights": (1.0, 0.5)},
    "permute": {"dims": (2, 0, 1)},
    "cat": {"dim": 1},
    **{kind: {"dim": 0, "start": 1, "step": 2} for kind in ("slice", "slice_grad")},
    "pad": {"before": (1, 0)},
    "table": {"numbers": (0.5, 1.0, 1.5, 2.0, 2.5, 3.0)},
    "place": {"sizes": (3, 4)},
    "whole_table": {"numbers": (1, 2, 3, 4, 5, 6)},
    "round_flag": {"bits": 8},
    "round_fixed": {"bits": 8},
    "plateau": {"eps": (0.1,)},
    "stage_bits": {"bits": (3, 4)},
    "hadamard": {"dim": 1},
    "correct_scales": {"dim": 1, "group": 2},
    "muon": {"ns_coefficients": (3.0, -4.0, 2.0)},
}
LISTS: dict[str, Attr] = {"kernel": (3, 2), "padding": (0, 0)}
CLASSES = {
    **{"float": "f32", "f32": "f32", "gemm": "f32", "mask": "f32", "any": "f32"},
    **{"integer": "uint4*t", "unsigned": "uint8*a", "log": "fp4.even*p", "fp": "fp8.152*s"},
    **{"scaled": "f32*p", "code": "uint4*t", "int": "i64", "uint2": "uint2", "where": "uint8"},
    **{"number": "f32", "plain": "f32", "stored": "uint4*t", "blocks": "f32*b1x2:e8m0"},
    **{"coded": "dyn4", "nested": "fp4.121*b1x2:fp8.143:t"},
}
# Those that may be in any carrier.
CARRIED = ("float", "gemm", "mask", "any", "scaled", "number", "plain")
CODES = ("code", "stored", "coded", "integer", "unsigned", "log", "fp", "nested")
# By op, or by op and operand.
TYPES = {
    "round_stochastic": "int4*p",
    "round_flag": "int15*p",
    "rescale.q": "int4*t",
    "rescale": "int4*c",
    "fit_blocks": "f32*b1x2:f32",
    "scale_blocks_twice": "f32*b1x2:fp8.143:t",
    "scale_blocks_nested": "f32*b1x2:fp8.143:b1x4",
    "adaptive_max_pool2d": "i32",
    "adaptive_max_pool2d_grad": "i32",
}

CODED = [f for f in FORMATS.values() if f.is_coded]
INTEGERS = [f for f in CODED if f.is_integer]
UNSIGNED = [f for f in INTEGERS if not f.signed and not f.midrise]
# The formats that each op can make.
MADE: dict[str, list[Format]] = {
    "cast": CODED,
    "quantize": INTEGERS,
    "quantize_bits": INTEGERS,
    **dict.fromkeys(("quantize_affine", "quantize_affine_stochastic"), UNSIGNED),
    "round_log": [f for f in CODED if f.is_log],
    "round_stochastic": [f for f in CODED if f.is_element],
    "round_flag": [INT15, INT16],
    "squeeze": [f for f in CODED if f.exp and not f.is_exponent],
}


def example(
    kind: str,
    sizes: Mapping[str, Shape] = MappingProxyType({}),
    carriers: tuple[str, str] = ("f32", "f32"),
) -> Op:
    """A well-formed op of this kind; ``carriers`` are those of its operands and its results."""
    definition = OPS[kind]
    given, made = carriers
    operands = tuple(
        Value(f"{o.name}{i}", _type(kind, o, sizes, given))
        for i, o in enumerate(
            (*definition.operands, *definition.operands[-1:][: definition.repeats])
        )
    )
    results = tuple(
        Value(f"{o.name}.made", _type(kind, o, sizes, made)) for o in definition.results
    )
    return Op(kind, operands, results, attrs(**_attributes(definition)), "layer")


def _type(kind: str, operand: Operand, sizes: Mapping[str, Shape], carrier: str) -> TensorType:
    extents = {**EXTENTS, "?": (2, 3), **sizes, **OWN_EXTENTS.get(kind, {})}
    parts = (extents[s] if s in extents else (int(s),) for s in operand.patterns[0])
    shape = tuple(n for part in parts for n in part)
    short = CLASSES[operand.format_class]
    if operand.format_class in CARRIED:
        short = short.replace("f32", carrier)
    if operand.format_class in (*CODES, "where", "blocks"):
        short = TYPES.get(f"{kind}.{operand.name}", TYPES.get(kind, short))
    return replace(parse_type(f"{short}[{'x'.join('1' * len(shape))}]"), shape=shape)


def _attributes(definition: OpDef) -> dict[str, Attr]:
    own = ATTRS.get(definition.kind, {})
    required = (a for name, a in definition.attrs.items() if name in definition.required)
    return {a.name: own.get(a.name, LISTS.get(a.name, _least(a))) for a in required}


def _least(attribute: Attribute) -> Attr:
    """The smallest value that an attribute may have, or 1."""
    match attribute.type:
        case "flag":
            return False
        case "word":
            return attribute.words[0]
        case "format":
            return "fp8.143"
        case "int" | "dim":
            return max(1, int(max(attribute.low, -1)))
        case "float":
            return 1.0
        case "ints":
            return (1,) * (attribute.count or 1)
    return (1.0,)
