"""The table of roles: in which format each operand of each product runs, by class of layer.

Nothing here is written down twice: the recipe is applied to a small network that has one layer of
each class, and the operand types are read out of the result. A product of activations has its
second operand where others have a weight.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...compiler.ir import Op, Program
from ...compiler.ir.ops import GEMMS
from ...compiler.ir.text import parse
from ...compiler.ir.verify import verify
from ..parts.select import LAYER_OPTIONS, SIZE, is_name, kernel_sizes, terms_of
from .recipe import Recipe
from .roles_example import CHANNELS, LAYERS, PRODUCT, text

# Role: end of the op's kind, operand.
ROLES = {
    "activation into forward": ("", 0),
    "weight into forward": ("", 1),
    "dY into dX": ("_input_grad", 0),
    "weight into dX": ("_input_grad", 1),
    "dY into dW": ("_weight_grad", 0),
    "activation into dW": ("_weight_grad", 1),
}
ORDINARY, ABSENT = "ordinary", "-"
COLUMNS = {ORDINARY: "ordinary", "pointwise": "1x1 convolution"}


@dataclass(frozen=True, slots=True)
class Roles:
    """A table as plain text: each row is a role and one format per column."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def roles(recipe: Recipe) -> Roles:
    """The table of a recipe.

    Terms that name layers or kernel sizes which the example lacks are left out.
    """
    final = example(recipe)
    columns = (*COLUMNS, PRODUCT, *(layer for layer in LAYERS if layer not in COLUMNS))
    rows = [
        (role, *(_operand(final, layer, end, i) for layer in columns))
        for role, (end, i) in ROLES.items()
    ]
    rows.append(("weight in the update", *(_updated(final, layer) for layer in columns)))
    return Roles(("role", *(COLUMNS.get(c, c) for c in columns)), tuple(rows))


def example(recipe: Recipe, *, channels: int = CHANNELS) -> Program:
    """The small network as the recipe transforms it, whose layers have so many channels."""
    program = verify(parse(text(channels)))
    stages = _general(recipe, program).apply(program)
    return stages[-1][1] if stages else program


def products(program: Program) -> list[Op]:
    """The products of an ordinary layer in an example: forward, dX, dW."""
    found = (_gemm(program, ORDINARY, end) for end in dict.fromkeys(e for e, _ in ROLES.values()))
    return [op for op in found if op is not None]


def _general(recipe: Recipe, program: Program) -> Recipe:
    """Without names of layers: those of a person's own network are none of the example."""
    sizes = {"x".join(map(str, size)) for size in kernel_sizes(program).values()}
    changes = {}
    for label, entry in zip(recipe.labels, recipe.passes, strict=True):
        for key in LAYER_OPTIONS & entry.settings.keys():
            words = [w for w in terms_of(str(entry.settings[key])) if not is_name(w)]
            words = [w for w in words if w in sizes or not SIZE.fullmatch(w)]
            changes[f"{label}.{key}"] = ",".join(words) or "none"
    return recipe.with_options(changes)


def _gemm(program: Program, layer: str, end: str) -> Op | None:
    kinds = {kind for kind in GEMMS if kind.endswith(end) and (end or not kind.endswith("_grad"))}
    found = (op for _, op in program.ops() if op.kind in kinds and op.origin == layer)
    return next(found, None)


def _operand(program: Program, layer: str, end: str, i: int) -> str:
    op = _gemm(program, layer, end)
    return op.inputs[i].type.short if op else ABSENT


def _updated(program: Program, layer: str) -> str:
    return next((v.type.short for v in program.state if v.name == f"{layer}.w"), ABSENT)
