"""What a program starts from where nobody says: numbers drawn by a seed, and those of files.

What is drawn depends on the seed, on the name of a value and on what its readers take it for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from math import prod, sqrt
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors

from ...compiler.errors import FileError, InputError, QuatrainError, closest
from ...compiler.ir import SEED, Op, Program, Value
from ...compiler.ir.ops import OPS
from ...compiler.ir.updates import COUNT, KINDS
from ...runtime.bundle import read
from ...runtime.state import stored_seed
from ...runtime.taken import Bounds, Labels, find_checks
from ...targets.numbers.packing import from_stored
from ...targets.numbers.tensor import Tensor, dtype_of

GivenArray = NDArray[Any]
QTN = ".qtn"
# Hyper-parameters that a text does not say; all others are small.
HYPER = {"lr": 0.01, "momentum": 0.9, "one_minus_beta1": 0.1, "one_minus_beta2": 0.001}
HYPER |= {"eps": 1e-8, "weight_decay": 0.0, "dampening": 0.0, "alpha": 0.99, "etaminus": 0.5}
HYPER |= {"etaplus": 1.2, "step_size_max": 50.0, "one_minus_rho": 0.1}
SMALL = 0.01
KEPT = "kept"  # beside a parameter, by its optimizer
POSITIVE = {"var", "gamma", "old"}


def start(
    program: Program, given: Mapping[str, GivenArray], seed: int
) -> tuple[dict[str, Tensor], list[str]]:
    """All inputs and state of a program, and the names of those that were drawn.

    ``given`` comes first, then the program's own numbers. InputError for one of another shape.
    """
    found = find_checks(program)
    for check in found:
        if check.value.name in given:
            check.check(np.asarray(given[check.value.name]))
    checks = {c.value.name: c for c in reversed(found)}
    roles = _roles(program)
    values: dict[str, Tensor] = {}
    drawn = []
    for v in (*program.inputs, *program.state):
        if v.name in given:
            values[v.name] = _as_typed(v, given[v.name])
        elif v.name in program.initial:
            numbers = np.full(v.type.shape, program.initial[v.name])
            values[v.name] = Tensor.from_numbers(v.type, numbers)
        elif v.name == SEED:
            values[v.name] = Tensor.from_numbers(v.type, stored_seed(seed))
        else:
            drawn.append(v.name)
            generator = np.random.default_rng((seed, crc32(v.name.encode())))
            numbers = _draw(v, v in program.inputs, roles[v], checks.get(v.name), generator)
            values[v.name] = Tensor.from_numbers(v.type, numbers)
    return values, drawn


def fitting(program: Program, numbers: Mapping[str, GivenArray]) -> dict[str, GivenArray]:
    """The numbers that a program has a place of that shape for."""
    shapes = {v.name: v.type.shape for v in (*program.inputs, *program.state)}
    return {k: x for k, x in numbers.items() if np.shape(x) == shapes.get(k)}


def said_of_drawn(names: Sequence[str], of: int, seed: int) -> str:
    """What was drawn, in a line."""
    some = ", ".join(names[:3]) + (" ..." if len(names) > 3 else "")
    return f"{len(names)} of {of} inputs and states are drawn by seed {seed}: {some}"


def read_numbers(path: Path) -> dict[str, GivenArray]:
    """Numbers by the name of their value, of a safetensors file or of the state of a ``.qtn``."""
    if path.suffix == QTN:
        return numbers_of(read(path).state, read(path, state=False).manifest)
    check_exists_as_tensors(path)
    try:
        return dict(load_tensors(path.read_bytes()))
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror}") from error
    except (SafetensorError, KeyError, ValueError) as error:
        raise FileError(f"{path} is no whole safetensors file: {error}") from error


def check_exists_as_tensors(path: Path) -> None:
    """Raise FileError unless there is such a file."""
    if not path.is_file():
        raise FileError(f"there is no file {path}; name a .safetensors file or a .qtn")


def numbers_of(
    state: Mapping[str, GivenArray], manifest: Mapping[str, object]
) -> dict[str, GivenArray]:
    """State, and the hyper-parameters that a manifest holds, as inputs by name."""
    hyper = manifest.get("hyper")
    numbers = hyper if isinstance(hyper, dict) else {}
    return {**state, **{str(k): np.asarray(v, np.float32) for k, v in numbers.items()}}


def check_names(program: Program, given: Mapping[str, object], where: str) -> None:
    """Raise InputError where nothing in a file is of the program."""
    known = [v.name for v in (*program.inputs, *program.state)]
    if given and not set(known) & given.keys():
        first = next(iter(given))
        raise InputError(
            f"{where} holds no input and no state of {program.name}: {first} is none; "
            f"{closest(first, known)}"
        )


def _as_typed(v: Value, numbers: GivenArray) -> Tensor:
    """Numbers, or the bits of a 16-bit float, as a tensor of the value's type."""
    array = np.asarray(numbers)
    if array.shape != v.type.shape:
        raise InputError(
            f"{v.name} is given with shape {list(array.shape)}; the program takes {v.type}"
        )
    if array.dtype.itemsize == dtype_of(v.type.format).itemsize and array.dtype == np.uint16:
        return from_stored(v.type, array)
    try:
        return Tensor.from_numbers(v.type, array)
    except QuatrainError as error:
        raise InputError(f"{v.name}: {error}") from error


def _roles(program: Program) -> Mapping[Value, set[str]]:
    """What ops read an input or a state as: the names of their operands."""
    found: dict[Value, set[str]] = {v: set() for v in (*program.inputs, *program.state)}
    for _, op in program.ops():
        for v, role in zip(op.inputs, _operands(op), strict=False):
            if v in found:
                found[v].add(role)
    return found


def _operands(op: Op) -> list[str]:
    if op.kind in KINDS:
        kept = {k.theirs for k in KINDS[op.kind].kept}
        return [KEPT if n in kept else n for n in KINDS[op.kind].operands]
    definition = OPS[op.kind]
    return [definition.operand(i).name for i in range(len(op.inputs))]


def _draw(
    v: Value,
    is_input: bool,
    roles: Set[str],
    check: Labels | Bounds | None,
    generator: np.random.Generator,
) -> GivenArray:
    """Numbers as a network might have them there."""
    shape, hyper = v.type.shape, HYPER.keys() & {*roles, v.name.rpartition(".")[2]}
    if isinstance(check, Labels):
        return np.asarray(generator.integers(check.low, check.classes, shape))
    if isinstance(check, Bounds):
        return np.asarray(generator.uniform(check.low, check.high, shape))
    if v.type.format.is_index or roles & {KEPT, COUNT}:
        return np.zeros(shape)
    if not shape:
        return np.asarray(HYPER[min(hyper)] if hyper else SMALL)
    if roles & POSITIVE:
        return np.asarray(generator.uniform(0.5, 1.5, shape))
    numbers = generator.standard_normal(shape)
    return np.asarray(numbers if is_input else numbers / sqrt(prod(shape[1:]) or 1))
