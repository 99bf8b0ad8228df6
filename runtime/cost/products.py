"""A GEMM on an accelerator: cycles, bits by level, energy.

What moves on the chip, in each pass of the array:

    the data operand    once for all columns
    the other operand   once for all pixels that a column works for
    sums                in the array while a tile's terms come, read and written at each visit
    memory              every bit of it goes through a buffer
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from ...compiler.errors import UsageError
from ...compiler.formats import Format
from ...compiler.ir import Op
from ...compiler.ir.analysis import Gemm
from ...compiler.ir.nest import Nest, NestSide, nest
from ...compiler.types import BlockScale, TensorType
from .accelerator import Accelerator, Gathers
from .lines import Energy, MadeProducts, MovedBits, OpCost, Role
from .takes import unit_for
from .tiling import StoredBits, Tiling, cycles_of, tiling


@dataclass(frozen=True, slots=True)
class CostedGemm:
    """A GEMM with what the program around it says.

    ``formats`` are those that are multiplied, ``result`` is what its kernel stores. ``times`` it
    runs; of its operands, in their order, those that ``reads_kept`` marks were kept for backward,
    and so with its result. ``reads_batch`` where the batch itself is an operand.
    """

    gemm: Gemm
    formats: tuple[Format, Format]
    result: TensorType
    times: int
    reads_batch: bool
    reads_kept: tuple[bool, bool]
    writes_kept: bool

    @property
    def where(self) -> str:
        """For messages."""
        return f"{self.gemm.op.origin or 'a product'} ({self.gemm.direction})"


def gemm_cost(found: CostedGemm, machine: Accelerator) -> OpCost:
    """What a GEMM takes; UsageError where no unit takes its operands, or no tile fits."""
    op, loops = found.gemm.op, nest(found.gemm.op)
    unit = unit_for(machine, found.formats, found.where)
    gathered = machine.array.gathers is Gathers.ALWAYS or (
        machine.array.gathers is Gathers.BATCH and found.reads_batch
    )
    best = tiling(loops, _stored(found, loops), unit.rate, gathered, machine)
    if best is None:
        raise UsageError(
            f"the buffers of {machine.name} are too small for a single sum of {found.where}"
        )
    cycles, stalled = cycles_of(loops, best, machine)
    bits = _bits(found, loops, best, machine)
    scaling = _scalings(found, loops) * machine.lanes.multiply_pj
    energy = _energy(bits, loops, unit.pj, machine)
    peak = machine.array.cells * unit.rate
    products = MadeProducts(
        found.gemm.macs,
        (found.gemm.operands[0].short, found.gemm.operands[1].short),
        (found.formats[0].bits, found.formats[1].bits),
        unit.name,
        unit.assumed,
        loops.groups,
        loops.matrices,
        float(loops.macs / (peak * cycles)),
        best.tile,
        best.order,
        found.times * scaling,
    )
    role = Role(found.gemm.direction) if found.gemm.direction in list(Role) else Role.PRODUCT
    return _line(op, found, role, (cycles, stalled), bits.total, energy, products)


def _line(
    op: Op,
    found: CostedGemm,
    role: Role,
    cycles: tuple[int, int],
    bits: MovedBits,
    energy: Energy,
    products: MadeProducts,
) -> OpCost:
    n = found.times
    many = MovedBits(*(n * x for x in bits.to_dict().values()))
    spent = Energy(*(n * x for x in energy.to_dict().values()))
    taken = (n * cycles[0], n * cycles[1])
    return OpCost(op.origin, op.kind, found.gemm.region, role, *taken, 0, many, spent, products)


def _stored(found: CostedGemm, loops: Nest) -> StoredBits:
    """Bits of a number of each tensor."""
    bits = {side: f.storage_bits for side, f in zip(loops.reads, found.formats, strict=True)}
    bits[loops.makes] = found.result.format.storage_bits
    return StoredBits(*(bits[side] for side in NestSide))


@dataclass(frozen=True, slots=True)
class _BitsOfGemm:
    """Bits of one run, and of those on the chip what each of the buffers gave and took."""

    total: MovedBits
    given: tuple[int, int, int]  # data, weights, sums
    taken: tuple[int, int, int]


def _bits(found: CostedGemm, loops: Nest, best: Tiling, machine: Accelerator) -> _BitsOfGemm:
    groups, array = loops.groups, machine.array
    read = {side: groups * bits for side, bits in best.read}
    scales = [_scale_bits(t) for t in found.gemm.operands]
    for side, more in zip(loops.reads, scales, strict=True):
        read[side] += more
    written = groups * best.written + _scale_bits(found.result)
    first, second = (f.storage_bits for f in found.formats)
    columns = _made_columns(loops)
    macs = loops.macs
    data = -(-macs // columns) * -(-columns // array.outputs) * first
    other = -(-macs // array.pixels) * second
    sums = groups * loops.elements(loops.makes) * best.visits * machine.sum_bits
    given = (data, other, sums + written)
    taken = (read[loops.reads[0]], read[loops.reads[1]], sums + read[loops.makes])
    kept = sum(
        read[side] for side, is_kept in zip(loops.reads, found.reads_kept, strict=True) if is_kept
    ) + (written if found.writes_kept else 0)
    total = MovedBits(sum(given), sum(taken), sum(read.values()), written, kept)
    return _BitsOfGemm(total, given, taken)


def _made_columns(loops: Nest) -> int:
    """Sums that the columns of an array work for side by side, at most."""
    return loops.inputs if loops.makes is NestSide.X else loops.outputs


def _scale_bits(t: TensorType) -> int:
    """Of the scales that are stored beside the codes of a tensor."""
    if not isinstance(t.scale, BlockScale):
        return 0
    outer = t.scale.outer_grid(t.shape)
    bits = prod(t.scale.grid(t.shape)) * t.scale.format.storage_bits
    return bits + (0 if outer is None else 32 * prod(outer))


def _energy(moved: _BitsOfGemm, loops: Nest, product_pj: float, machine: Accelerator) -> Energy:
    buffers = (machine.data, machine.weights, machine.sums)
    sram = sum(
        given * b.read_pj + taken * b.write_pj
        for b, given, taken in zip(buffers, moved.given, moved.taken, strict=True)
    )
    pj, kept = machine.memory.pj_per_bit, moved.total.kept
    return Energy(loops.macs * product_pj, sram, (moved.total.dram - kept) * pj, kept * pj)


def _scalings(found: CostedGemm, loops: Nest) -> int:
    """Multiplications by scales: one of each result, one of each block that a sum goes through."""
    scales = [t.scale for t in found.gemm.operands]
    blocks = [s for s in scales if isinstance(s, BlockScale)]
    made = loops.groups * loops.elements(loops.makes)
    if blocks:
        return _block_sums(loops, blocks) * made
    return made if any(s.value for s in scales) else 0


def _block_sums(loops: Nest, blocks: Sequence[BlockScale]) -> int:
    """Blocks of each sum, at the shortest of the operands' blocks."""
    length = loops.macs // (loops.groups * loops.elements(loops.makes)) or 1
    shortest = min(max(b.block) for b in blocks)
    return -(-length // shortest)
