"""Batches on their way in: checked against the program, and laid out as kernels need them.

With ``step`` and ``evaluation`` the edges of the runtime, which know torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..compiler.errors import InputError
from ..compiler.ir import Op, Program, Value
from ..compiler.ir.ops import OPS, Trait, has
from ..compiler.ir.ops.shapes import bind
from ..targets.plan.checks import Check
from ..targets.plan.memory import ALIGNMENT

DTYPES = {"f32": torch.float32, "i64": torch.int64}


@dataclass(frozen=True, slots=True)
class Labels:
    """An input that holds numbers 0 .. classes - 1 (or ``ignore``): labels, rows of a table."""

    value: Value
    classes: int
    ignore: int | None
    word: str

    def asked(self) -> Check:
        """As a device is asked."""
        return Check(self.value.name, 0, self.classes - 1, self.ignore)

    def words(self) -> str:
        """What is wrong with a batch that fails."""
        return f"{self.value.name} held a {self.word} outside of 0 .. {self.classes - 1}"

    def check(self, given: torch.Tensor) -> None:
        """Raise InputError where a number lies outside of 0 .. classes - 1."""
        wrong = (given < 0) | (given >= self.classes)
        if self.ignore is not None:
            wrong &= given != self.ignore
        if bool(wrong.any()):
            first, name, top = int(given[wrong][0]), self.value.name, self.classes - 1
            raise InputError(f"{name} holds the {self.word} {first}; {self.word}s are 0 .. {top}")


@dataclass(frozen=True, slots=True)
class Bounds:
    """An input of whose numbers a layer takes those from ``low`` to ``high`` alone."""

    value: Value
    low: float
    high: float
    layer: str

    def asked(self) -> Check:
        """As a device is asked."""
        return Check(self.value.name, self.low, self.high)

    def words(self) -> str:
        """What is wrong with a batch that fails."""
        return f"{self.value.name} held numbers outside of {self.low:g} .. {self.high:g}"

    def check(self, given: torch.Tensor) -> None:
        """Raise InputError where a number lies outside."""
        wrong = (given < self.low) | (given > self.high)
        if bool(wrong.any()):
            first, name = float(given[wrong][0]), self.value.name
            taken = f"{self.low:g} .. {self.high:g}"
            raise InputError(f"{name} holds {first:g}; {self.layer!r} takes numbers of {taken}")


Taken = Labels | Bounds


def find_checks(program: Program) -> tuple[Taken, ...]:
    """What inputs may hold that a loss or a table reads, also through views and casts.

    One for each reader that takes other numbers: two losses may ignore different labels.
    """
    source = {v: v for v in program.inputs}
    found: dict[Taken, None] = {}
    for _, op in program.ops():
        if (has(op, Trait.WINDOW) or op.kind == "cast") and op.inputs[0] in source:
            source[op.result] = source[op.inputs[0]]
        if op.kind == "within" and op.inputs[0] in source:
            bounds = op.float_attr("low"), op.float_attr("high")
            found[Bounds(source[op.inputs[0]], *bounds, op.origin)] = None
        found |= dict.fromkeys(_labels(op, source))
    return tuple(found)


def _labels(op: Op, source: Mapping[Value, Value]) -> Iterator[Labels]:
    definition = OPS[op.kind]
    for operand, v in zip(definition.operands, op.inputs, strict=False):
        if operand.names and v in source:
            (count,) = bind(definition, op)[operand.names]
            ignore = op.int_attr("ignore_index") if "ignore_index" in op.attrs else None
            word = "row" if operand.name == "index" else "label"
            yield Labels(source[v], count, ignore, word)


def check_batch(
    batch: Sequence[object], wanted: Sequence[Value], devices: Sequence[str] = ("cpu",)
) -> list[torch.Tensor]:
    """The batch as tensors that kernels can read; a tensor that already fits is not copied.

    Raises InputError where the number of tensors, a shape, dtype or device differs, or where one of
    the host holds NaN or infinity.
    """
    if len(batch) != len(wanted):
        names = ", ".join(v.name for v in wanted)
        raise InputError(f"the step takes {len(wanted)} tensors ({names}), not {len(batch)}")
    return [_check(given, v, devices) for given, v in zip(batch, wanted, strict=True)]


def check_dense(name: str, given: torch.Tensor) -> None:
    """Raise InputError for a tensor whose numbers do not lie in memory one behind another."""
    if given.is_nested or given.layout is not torch.strided:
        kind = "nested" if given.is_nested else str(given.layout).removeprefix("torch.")
        raise InputError(f"{name} is {kind}; give a dense tensor")
    if is_traced(given):
        raise InputError(
            f"{name} is traced or transformed by torch, as vmap, torch.func, torch.jit and "
            "torch.export do; a step is compiled kernels that they cannot look into: call it "
            "outside of them, with plain tensors"
        )


def is_traced(given: torch.Tensor) -> bool:
    """Whether torch follows a tensor through what it computes, with other numbers or none in it."""
    followed = type(given).__torch_dispatch__ != torch.Tensor.__torch_dispatch__
    tracing: bool = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    if followed or tracing:
        return True
    # torch.compile gives tensors of numbers, and warns of the question.
    return not torch.compiler.is_compiling() and torch.func.debug_unwrap(given) is not given


def _check(given: object, value: Value, devices: Sequence[str]) -> torch.Tensor:
    want, name = value.type, value.name
    if not isinstance(given, torch.Tensor):
        raise InputError(f"{name} is a {type(given).__name__}; give a torch tensor")
    check_dense(name, given)
    if given.device.type not in devices:
        here = "the CPU" if len(devices) == 1 else " or ".join(devices)
        raise InputError(f"{name} is on {given.device}; this step takes tensors of {here}")
    dtype = DTYPES[want.format.name]
    if given.dtype is not dtype:
        raise InputError(f"{name} is {given.dtype}; the step was compiled for {dtype}")
    if tuple(given.shape) != want.shape:
        shapes = f"{list(given.shape)}; the step was compiled for {list(want.shape)}"
        raise InputError(f"{name} has shape {shapes}")
    ready = given.detach().resolve_neg().contiguous()
    on_host = ready.device.type == "cpu"
    if on_host and ready.is_floating_point() and not _finite(ready.numpy()):
        raise InputError(
            f"{name} holds NaN or infinity, which spoils what is computed from it; drop it"
        )
    return ready.clone() if ready.data_ptr() % ALIGNMENT else ready


def _finite(array: np.ndarray) -> bool:
    """Whether all numbers are finite: their sum says so, but for one that overflows.

    NumPy, because torch would wake threads that then spin while the step's kernels run.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(array.sum()) or np.isfinite(array).all())


def check_numbers(
    batch: Sequence[torch.Tensor], wanted: Sequence[Value], checks: Sequence[Taken]
) -> None:
    """Raise InputError where an input of the host holds a number that its reader does not take."""
    places = list(wanted)
    for check in checks:
        given = batch[places.index(check.value)]
        if given.device.type == "cpu":
            check.check(given)


def to_torch(array: np.ndarray, value: Value) -> torch.Tensor:
    """An output of a program as a float32 or int64 tensor of its own memory."""
    if value.type.format.name == "bf16":
        wide = array.view(np.uint16).astype(np.uint32) << 16
        array = wide.view(np.float32)
    elif value.type.format.name == "f16":
        array = array.astype(np.float32)
    return torch.from_numpy(np.ascontiguousarray(array)).reshape(value.type.shape)
