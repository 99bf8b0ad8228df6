"""Kernels: what a target makes of one op or of a group of ops."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Any, Protocol

from ...compiler.ir import Op, Value


class Unit(Enum):
    """What multiplies: the bill prints it beside the stored formats."""

    INT8_TILE = "int8 tile"  # AMX tdpb*d: 16x64 by 64x16 bytes into 16x16 int32
    BF16_TILE = "bf16 tile"  # AMX tdpbf16ps: 16x32 by 32x16 bf16 into 16x16 f32
    INT8_DOT = "int8 dot"  # vpdpbusd, or vpmaddubsw: uint8 x int8 into int32
    BF16_DOT = "bf16 dot"  # vdpbf16ps: bf16 x bf16 into f32
    INT16_DOT = "int16 dot"  # vpdpwssd, or vpmaddwd: int16 x int16 into int32
    INT4_MMA = "int4 mma"  # tensor cores of sm_80 to sm_89: 16x64 by 64x8 nibbles into int32
    INT8_MMA = "int8 mma"  # a GPU's tensor cores: 16x32 by 32x8 bytes into int32
    BF16_MMA = "bf16 mma"  # the same, 16x16 by 16x8 bf16 into f32
    INT32 = "int32"  # ordinary integer multiplication
    F32 = "f32"  # fused multiply-add
    NONE = "-"  # no GEMM


@dataclass(frozen=True, slots=True)
class Slot:
    """One parameter of a kernel: the data or the scale buffer of a value."""

    value: Value
    scale: bool = False


class KernelSpec(Protocol):
    """All that decides a kernel's code, as frozen data: equal specs share one function.

    ``repr`` of a spec is its identity in the on-disk cache, so it must name every choice.
    """

    @property
    def name(self) -> str:
        """A short identifier: the op kinds and what tells variants apart."""

    def build(self) -> Any:
        """What the target generates code from; it takes a pointer per slot, inputs first."""


class Identity:
    """Specs that are equal where they read alike: 0.0 equals -0.0, but makes another kernel."""

    @cached_property
    def identity(self) -> str:
        """The text of the spec."""
        return repr(self)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self.identity == other.identity

    def __hash__(self) -> int:
        return hash(self.identity)


@dataclass(frozen=True, eq=False, slots=True)
class Kernel:
    """A spec bound to values; ``ops`` are covered by it, ``unit`` multiplies.

    ``scratch`` are sizes in bytes of what it needs while it runs; their pointers come last.
    """

    spec: KernelSpec
    ops: tuple[Op, ...]
    inputs: tuple[Slot, ...]
    outputs: tuple[Slot, ...]
    unit: Unit = Unit.NONE
    scratch: tuple[int, ...] = ()

    @property
    def slots(self) -> tuple[Slot, ...]:
        """All parameters in order."""
        return (*self.inputs, *self.outputs)


def slots_of(values: tuple[Value, ...]) -> tuple[Slot, ...]:
    """Data slot of each value, followed by its scale slot where the type carries one."""
    return tuple(
        slot
        for v in values
        for slot in (Slot(v), *((Slot(v, scale=True),) if v.type.scale.value else ()))
    )
