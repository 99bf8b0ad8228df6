"""Single instructions of PTX, which TVM writes as they are."""

from __future__ import annotations

from collections.abc import Sequence

from tvm import tirx as tir
from tvm.tirx import stmt as st

from ..tir.expr import Expr, Index, i32, load
from .backend import PTX
from .code import DeviceCode

WARP = 32


def u32(value: int) -> Expr:
    """A constant of 32 bits."""
    return tir.const(value, "uint32")


def ptx(code: DeviceCode, instruction: str, *operands: Index) -> None:
    """One instruction, operands in its order; results are elements of local arrays."""
    code.add(st.Evaluate(PTX[instruction](*operands)))


def keep(code: DeviceCode, value: Expr, dtype: str) -> Expr:
    """The value in a register, computed once: TVM copies what a name stands for."""
    register = code.local(dtype, 1)
    code.store(register, i32(0), value)
    return load(register, i32(0))


def permuted(code: DeviceCode, a: Expr, b: Expr, selector: int | Expr) -> Expr:
    """Each nibble of the selector picks one of eight bytes, with its upper bit set the sign of one.

    Not by CUDA's ``__byte_perm``, which clears these bits.
    """
    register = code.local("uint32", 1)
    pick = u32(selector) if isinstance(selector, int) else selector
    ptx(code, "prmt.b32", load(register, i32(0)), a, b, pick)
    return load(register, i32(0))


def address(buffer: Expr, index: Index) -> Expr:
    """Of an element."""
    return tir.address_of(load(buffer, index))


def copy_async(
    code: DeviceCode, size: int, target: Expr, source: Expr, inside: Expr | None, *, again: bool
) -> None:
    """Start to copy ``size`` bytes to shared memory; zeros, and no read, where not ``inside``.

    With ``again`` they are kept in the first-level cache, as this block will read them again.
    """
    name = f"cp.async.{'cg' if size == 16 and not again else 'ca'}.shared.global"
    given = [] if inside is None else [tir.Select(inside, u32(size), u32(0))]
    ptx(code, name, target, source, size, *given)


def commit(code: DeviceCode) -> None:
    """All copies since the last one are a group."""
    ptx(code, "cp.async.commit_group")


def await_groups(code: DeviceCode, left: int) -> None:
    """Wait for all but the newest groups of this thread's copies."""
    ptx(code, "cp.async.wait_group", left)


def load_matrices(code: DeviceCode, place: Expr, *, transposed: bool) -> list[Expr]:
    """Four matrices of 8 by 16 bytes of shared memory, of which each lane points to one row."""
    words = code.local("uint32", 4)
    made = [load(words, i32(i)) for i in range(4)]
    form = "trans." if transposed else ""
    ptx(code, f"ldmatrix.sync.aligned.m8n8.x4.{form}shared.b16", *made, place)
    return made


def multiply(
    code: DeviceCode, kinds: tuple[str, str], sums: Expr, a: Sequence[Expr], b: Sequence[Expr]
) -> None:
    """Add the product of 16 rows and 8 columns of 32 bytes to four sums of each lane."""
    d = [load(sums, i32(i)) for i in range(4)]
    first, second = kinds
    depth, made = (16, "f32") if first == "bf16" else (256 // int(first[1:]), "s32")
    name = f"mma.sync.aligned.m16n8k{depth}.row.col.{made}.{first}.{second}.{made}"
    ptx(code, name, *d, *a, *b, *d)
