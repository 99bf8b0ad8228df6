"""What PyTorch would keep for backward if it ran the same step in f32, from the captured program.

Torch's autograd formulas decide (``derivatives.yaml``): a convolution or linear layer keeps its
input, batch norm its input and two statistics, ReLU its output, max pooling its input and the
winners as int64, average pooling its input, log-softmax its output. Tensors that share a storage
count once; parameters, buffers and the batch are there anyway and do not count.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...compiler.ir import Op, Program, Value
from ...compiler.ir.ops import Trait, has
from ...compiler.types import Shape

# Which operands and which results of an op autograd keeps.
KEEPS: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "conv2d": ((0,), ()),
    "linear": ((0,), ()),
    "batch_norm": ((0,), ()),
    "relu": ((), (0,)),
    "clamp_min": ((0,), ()),
    "mul": ((0, 1), ()),
    "max_pool2d": ((0,), (1,)),
    "adaptive_max_pool2d": ((0,), (1,)),
    "avg_pool2d": ((0,), ()),
    "adaptive_avg_pool2d": ((0,), ()),
    "log_softmax": ((), (0,)),
    "nll_loss": ((0,), (1,)),
    "mse_loss": ((0, 1), ()),
}
INDEX_BYTES, FLOAT_BYTES = 8, 4


@dataclass(frozen=True, slots=True)
class Kept:
    """A storage that PyTorch would keep: who made it, its elements and bytes."""

    name: str
    layer: str
    shape: Shape
    bytes: int


def torch_saved(program: Program) -> tuple[Kept, ...]:
    """The storages that PyTorch keeps between forward and backward of the f32 ``program``."""
    given = {*program.inputs, *program.state}
    base: dict[Value, Value] = {}
    needs_grad = _parameters(program)
    kept: dict[Value, Kept] = {}
    makers = program.producers()
    for op in program.region("forward").ops:
        if has(op, Trait.WINDOW):
            base[op.result] = base.get(op.inputs[0], op.inputs[0])
        if not needs_grad.intersection(op.inputs):
            continue
        needs_grad.update(op.results)
        for value in _kept_by(op, needs_grad):
            storage = base.get(value, value)
            if storage not in given:
                kept.setdefault(storage, _kept(storage, makers.get(storage)))
    return tuple(kept.values())


def _parameters(program: Program) -> set[Value]:
    """State that the update trains, where the captured f32 program reads it."""
    return {op.inputs[0] for op in program.region("update").ops if has(op, Trait.UPDATE)}


def _kept_by(op: Op, needs_grad: set[Value]) -> list[Value]:
    operands, results = KEEPS.get(op.kind, ((), ()))
    values = [op.inputs[i] for i in operands] + [op.results[i] for i in results]
    if op.kind == "batch_norm" and len(op.inputs) > 2:
        values += op.inputs[1:3]
    if op.kind == "mul":
        a, b = op.inputs
        return [v for v, other in ((a, b), (b, a)) if other in needs_grad]
    if op.kind == "linear":
        return values if op.inputs[1] in needs_grad else []
    return values


def _kept(value: Value, maker: Op | None) -> Kept:
    winners = maker is not None and maker.kind.endswith("max_pool2d") and value != maker.result
    width = INDEX_BYTES if winners or value.type.format.is_index else FLOAT_BYTES
    layer = maker.origin if maker else ""
    return Kept(value.name, layer, value.type.shape, value.type.elements * width)
