"""What happens between products on an accelerator: groups of ops that run over memory once.

A group is what ``targets/plan/fuse.py`` makes one kernel of; it reads what is made outside of it,
writes what is read outside, and takes the longer of its bits over the port of memory and its
operations over the lanes. The op that reads or writes a value is charged with it, and the cycles of
the group are shared out by what each op would take alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from ...compiler.ir import Op, Value
from ...compiler.ir.ops import Trait, has
from ...compiler.types import BlockScale
from ...targets.plan.fuse import Group
from ..report.operations import Operations, moves_nothing, operations
from .accelerator import Accelerator
from .lines import Energy, MovedBits, OpCost, Role

# Ops that decide scales, clips and bits; what converts numbers is a part of its own.
SCALES = frozenset(
    {
        "amax", "amax_first", "amax_init", "block_scale", "channel_scales", "clip_region",
        "cyclic_bits", "extremes", "fit_blocks", "fit_scale", "grad_scale", "grad_scale_init",
        "grad_scale_step", "hadamard", "inner_factor", "inner_scale", "loss_scale_step",
        "normalize", "outer_encoding", "outer_scale", "pact_grad", "pact_plus_grad", "plateau",
        "range_test", "rescale", "sawb_clip", "scale_blocks", "scale_blocks_twice",
        "squeeze_stats", "stage_bits",
    }
)  # fmt: skip


def role_of(op: Op, region: str) -> Role:
    """Which part of a step an op between products belongs to."""
    if has(op, Trait.CONVERTS):
        return Role.CONVERSION
    if op.kind in SCALES:
        return Role.SCALE
    return Role.OPTIMIZER if region == "update" else Role.ARITHMETIC


def bits_of(v: Value) -> int:
    """Bits of a value in memory: codes, and the scales beside them."""
    t = v.type
    if isinstance(t.scale, BlockScale):
        return 8 * t.bytes
    scales = 0 if not t.scale.value else t.shape[0] if t.scale.per_channel and t.shape else 1
    return t.elements * t.format.storage_bits + 32 * scales * (1 if t.scale.is_factor else 2)


def behind_product(group: Group, machine: Accelerator) -> list[OpCost]:
    """What a product's kernel does to its sums, a bias: they are not moved again, nor wait."""
    rest = Group(group.ops[1:], (), group.region, group.loop)
    lines = group_cost(rest, machine, {}, set(), set(group.ops[0].results))
    return [replace(line, cycles=0.0, stalled=0.0) for line in lines]


def group_cost(
    group: Group,
    machine: Accelerator,
    kept_reads: Mapping[Value, bool],
    later_only: set[Value],
    at_hand: Collection[Value] = (),
) -> list[OpCost]:
    """The ops of a group that is no product.

    ``kept_reads`` are values that were kept for this region, ``later_only`` those that only
    backward reads, ``at_hand`` those that need no read.
    """
    inside = {r for op in group.ops for r in op.results}.union(at_hand)
    read: set[Value] = set()
    times = group.loop.count if group.loop else 1
    parts = []
    for op in group.ops:
        fresh = _moved_by(op) - inside - read
        read |= fresh
        ins = sum(map(bits_of, fresh))
        out = [r for r in op.results if r in group.outputs] if _moved_by(op) else []
        kept = sum(bits_of(v) for v in fresh if kept_reads.get(v))
        kept += sum(bits_of(v) for v in out if v in later_only)
        parts.append((op, ins, sum(map(bits_of, out)), kept, operations(op)))
    port, lanes = machine.memory.bits_per_cycle, machine.lanes.lanes
    moving = sum(ins + out for _, ins, out, _, _ in parts) / port
    working = sum(done.count for *_, done in parts) / lanes
    longer = max(moving, working)
    alone = [max((ins + out) / port, done.count / lanes) for _, ins, out, _, done in parts]
    share = longer / sum(alone) if sum(alone) else 0.0
    waits = (longer - working) / longer if longer else 0.0
    return [
        _line(part, group.region, machine, times, single * share, waits)
        for part, single in zip(parts, alone, strict=True)
    ]


def _moved_by(op: Op) -> set[Value]:
    """What an op reads: nothing where PyTorch and a kernel make no copy."""
    return set() if moves_nothing(op) else set(op.inputs)


def _line(
    part: tuple[Op, int, int, int, Operations],
    region: str,
    machine: Accelerator,
    times: int,
    cycles: float,
    waits: float,
) -> OpCost:
    op, ins, out, kept, done = part
    data, sums, pj = machine.data, machine.sums, machine.memory.pj_per_bit
    # Through a buffer on the way in and on the way out.
    sram = ins * (data.write_pj + data.read_pj) + out * (sums.write_pj + sums.read_pj)
    lanes = machine.lanes
    compute = (
        done.adds * lanes.add_pj
        + done.multiplies * lanes.multiply_pj
        + done.functions * lanes.function_pj
        + done.randoms * lanes.random_pj
    )
    energy = (compute, sram, (ins + out - kept) * pj, kept * pj)
    bits = (ins + out, ins + out, ins, out, kept)
    return OpCost(
        op.origin,
        op.kind,
        region,
        role_of(op, region),
        times * cycles,
        times * cycles * waits,
        times * done.count,
        MovedBits(*(times * b for b in bits)),
        Energy(*(times * e for e in energy)),
    )
