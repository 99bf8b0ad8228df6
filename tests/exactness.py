"""Every kernel of a compiled program against the reference composition of the ops it covers.

    python -m tests.exactness --network resnet20 --recipe ultra_low_4bit --batch 8

The reference interprets the whole program; then each kernel runs alone, on the reference's inputs
and statistics, and its outputs are compared: bit for bit, but for sums of floats.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch.nn.functional import cross_entropy

import quatrain
from quatrain.compiler.ir import Op, Program, Value
from quatrain.compiler.ir.accumulation import accumulation
from quatrain.compiler.ir.analysis import macs
from quatrain.compiler.ir.ops import GEMMS, PRODUCTS
from quatrain.runtime.step import Step
from quatrain.targets.cpu.build import Compiled, compile_kernels
from quatrain.targets.cpu.info import CpuInfo
from quatrain.targets.numbers.integers import integers
from quatrain.targets.numbers.packing import from_memory, to_memory
from quatrain.targets.numbers.tensor import Tensor
from quatrain.targets.plan.blocks import blocks_apart
from quatrain.targets.plan.composed import compose
from quatrain.targets.plan.decode import decode_operands
from quatrain.targets.plan.first_scales import first_scales
from quatrain.targets.plan.kernel import Kernel, KernelSpec, Slot
from quatrain.targets.plan.layout import Layout
from quatrain.targets.plan.plan import Plan
from quatrain.targets.reference.evaluate import evaluate
from quatrain.tools.env import cache_dir

from .cases.guarded import Guarded
from .cases.machine import Cpu, Machine, machine

# Sums of floats, and exp and log: the order of summation is the kernel's own.
FLOAT_SUMS = frozenset(
    [
        "sawb_clip",
        "squeeze_stats",
        "batch_stats",
        "batch_norm_grad_stats",
        "sum_channels",
        "sum",
        "mean",
        "log_softmax",
        "log_softmax_grad",
        "nll_loss",
        "nll_loss_grad",
        "mse_loss",
        "avg_pool2d",
        "avg_pool2d_grad",
        "adaptive_avg_pool2d",
        "adaptive_avg_pool2d_grad",
        "matmul",
        "embedding_grad",
    ]
)
# f32 sums of n terms err by at most n * 2^-24 of the sum of magnitudes; with sums in blocks n is
# the block's length and the error far smaller. 2^-16 of the largest result holds for 256 terms of
# equal size and is below half of a bf16 step.
TOLERANCE = 2.0**-16
# Distance of neighbours in a carrier, relative to numbers that are at least f16's least normal one.
STEPS = {"bf16": 2.0**-7, "f16": 2.0**-10}
F16_NORMAL = 2.0**-14
# Where the terms cancel, the sum of their magnitudes bounds the error: 32 terms in f32, the rest
# in f64.
SUM_TOLERANCE = 32 * 2.0**-24
# Of sums that another order of their terms turns to a neighbour in the carrier, the share of all.
TURNED = 2.0**-3
# Equal specs give equal code; the programs of two steps share all of theirs.
COMPILED: dict[tuple[KernelSpec, CpuInfo], Compiled] = {}


@dataclass(frozen=True)
class Mismatch:
    """An output of a kernel that differs from the reference."""

    kernel: str
    ops: tuple[str, ...]
    value: str
    wrong: int
    of: int
    worst: float

    def __str__(self) -> str:
        ops = "+".join(self.ops)
        return (
            f"{self.kernel} ({ops}): {self.value}: {self.wrong} of {self.of}, by {self.worst:.3g}"
        )


def compare(
    program: Program, given: Mapping[str, Tensor], cpu: CpuInfo, *, at_end: bool | None = None
) -> Iterator[Mismatch]:
    """Run every kernel of ``program`` on the reference's values; yield what differs.

    That is on ``cpu``, unless tests run on another machine, see ``machine``.
    With ``at_end`` each buffer ends at a page that nothing may touch, or, if false, begins there.
    """
    here = machine()
    yield from compare_on(_Steps(cpu, at_end) if isinstance(here, Cpu) else here, program, given)


def compare_on(
    machine: Machine, program: Program, given: Mapping[str, Tensor]
) -> Iterator[Mismatch]:
    """Run every kernel of ``program`` on the reference's values; yield what differs."""
    program = first_scales(blocks_apart(decode_operands(compose(program))))
    values = evaluate(program, given)
    plan = machine.plan(program)
    kernels = [planned.kernel for planned in plan.kernels]
    for kernel, compiled in zip(kernels, machine.compile(kernels), strict=True):
        inputs = [_memory(values, plan, s) for s in kernel.inputs]
        outputs = [np.zeros_like(_memory(values, plan, s)) for s in kernel.outputs]
        compiled(*inputs, *outputs)
        yield from differences(kernel, values, plan, outputs)


@dataclass(frozen=True)
class _Steps(Cpu):
    """A CPU whose kernels come from the cache of the steps, guarded if asked."""

    at_end: bool | None

    def compile(self, kernels: Sequence[Kernel]) -> Sequence[Callable[..., None]]:
        """See ``Machine``."""
        compile_all(kernels, self.info)
        made = [COMPILED[kernel.spec, self.info] for kernel in kernels]
        if self.at_end is None:
            return made
        counts = [len(kernel.inputs) for kernel in kernels]
        pairs = zip(made, counts, strict=True)
        return [partial(_run_guarded, kernel, n, self.at_end) for kernel, n in pairs]


def compile_all(kernels: Sequence[Kernel], cpu: CpuInfo) -> None:
    """Put what is new of ``kernels`` into COMPILED: together, and from the cache of the steps.

    A kernel is compiled apart from the step that calls it, so that a step's are these.
    """
    new = {(k.spec, cpu): k for k in kernels if (k.spec, cpu) not in COMPILED}
    made = compile_kernels(list(new.values()), cpu, cache_dir())
    COMPILED.update(zip(new, made, strict=True))


def compare_kernel(
    kernel: Kernel,
    values: Mapping[Value, Tensor],
    plan: Plan,
    cpu: CpuInfo,
    *,
    at_end: bool | None = None,
) -> Iterator[Mismatch]:
    """One kernel, run alone."""
    inputs = [_memory(values, plan, s) for s in kernel.inputs]
    outputs = [np.zeros_like(_memory(values, plan, s)) for s in kernel.outputs]
    (compiled,) = _Steps(cpu, at_end).compile([kernel])
    compiled(*inputs, *outputs)
    yield from differences(kernel, values, plan, outputs)


def differences(
    kernel: Kernel, values: Mapping[Value, Tensor], plan: Plan, outputs: Sequence[np.ndarray]
) -> Iterator[Mismatch]:
    """Where what a kernel made of the reference's values is not what the reference has."""
    makers = {r: op for op in kernel.ops for r in op.results}
    scales = {s.value: o for s, o in zip(kernel.outputs, outputs, strict=True) if s.scale}
    for slot, made in zip(kernel.outputs, outputs, strict=True):
        wanted = values[slot.value]
        if slot.scale:
            found, scale = made.ravel(), np.asarray(wanted.scale).ravel()
            wrong = (found != scale) & ~(np.isnan(found) & np.isnan(scale))
            with np.errstate(invalid="ignore"):
                worst = float(np.abs(found - scale).max())
        else:
            got = from_memory(made, plan.layouts[slot.value], scales.get(slot.value))
            maker = makers[slot.value]
            bound = SUM_TOLERANCE * _sums_of_magnitudes(maker, values, wanted)
            bound += _of_turned(kernel.ops, maker, values)
            wrong, worst = _differs(exact(kernel.ops, slot.value), bound, got, wanted)
        if wrong.any():
            kinds = tuple(op.kind for op in kernel.ops)
            name = slot.value.name + (" scale" if slot.scale else "")
            yield Mismatch(kernel.spec.name, kinds, name, int(wrong.sum()), wrong.size, worst)


def _run_guarded(kernel: Compiled, count: int, at_end: bool, *arrays: np.ndarray) -> None:
    """Run on guarded copies; the first ``count`` arrays are operands."""
    held = [Guarded(a, at_end=at_end) for a in arrays]
    inputs, outputs = arrays[:count], arrays[count:]
    kernel.run(*(g.array for g in held))
    if not all(g.whole for g in held):
        raise AssertionError("a kernel wrote behind a buffer")
    if not all(
        np.array_equal(g.array.view(np.uint8), np.ascontiguousarray(a).ravel().view(np.uint8))
        for g, a in zip(held, inputs, strict=False)
    ):
        raise AssertionError("a kernel wrote into an operand")
    for array, g in zip(outputs, held[count:], strict=True):
        array[...] = g.array.reshape(array.shape)


def _memory(values: Mapping[Value, Tensor], plan: Plan, slot: Slot) -> np.ndarray:
    tensor = values[slot.value]
    if slot.scale:
        return np.asarray(tensor.scale, np.float32).reshape(-1)
    return to_memory(tensor, Layout(slot.value.type, plan.layouts[slot.value].order))


def _differs(bitwise: bool, bound: float, got: Tensor, wanted: Tensor) -> tuple[np.ndarray, float]:
    a, b = got.numbers.astype(np.float64), wanted.numbers.astype(np.float64)
    with np.errstate(invalid="ignore"):  # infinities that agree
        worst = float(np.max(np.nan_to_num(np.abs(a - b)), initial=0.0))
    if bitwise:
        made, right = (np.ascontiguousarray(t.data).ravel() for t in (got, wanted))
        bits = f"u{made.dtype.itemsize}"
        neither = np.isnan(a).ravel() & np.isnan(b).ravel()  # which of the NaNs it is, is free
        return (made.view(bits) != right.view(bits)) & ~neither, worst
    with np.errstate(invalid="ignore"):
        step = STEPS.get(wanted.type.format.name, 0.0) * np.maximum(np.abs(b), F16_NORMAL)
        far = np.abs(a - b) > TOLERANCE * np.abs(b).max() + bound + step
    return far | (np.isnan(a) != np.isnan(b)), worst


def exact(ops: tuple[Op, ...], result: Value) -> bool:
    """Whether a result of a kernel that covers ``ops`` must equal the reference bit for bit."""
    first = ops[0]
    of_gemm = result in {r for op in ops if op.kind in (*GEMMS, "add_bias") for r in op.results}
    if first.kind in GEMMS and of_gemm:
        if accumulation(first) is not None:
            return True
        # Scales of rows that are summed over join the numbers, which are multiplied in f32 then.
        rows = first.kind.endswith("input_grad") and first.inputs[1].type.scale.per_channel
        return not rows and all(integers(v.type.format) is not None for v in first.inputs)
    (op,) = (o for o in ops if result in o.results)
    if op.kind in ("pact_grad", "pact_plus_grad"):
        return bool(result.type.shape)
    return op.kind not in FLOAT_SUMS


def _sums_of_magnitudes(op: Op, values: Mapping[Value, Tensor], result: Tensor) -> float:
    """An upper bound of the sum of magnitudes behind each element of a reduction; else 0."""
    if op.kind in PRODUCTS:
        tops = [float(np.abs(values[v].numbers).max(initial=0.0)) for v in op.inputs]
        tops += [float(np.abs(s).max()) for v in op.inputs if (s := values[v].scale) is not None]
        return macs(op) / max(1, op.result.type.elements) * math.prod(tops)
    if op.kind in ("batch_stats", "mean"):
        largest = float(np.abs(values[op.inputs[0]].numbers).max(initial=0.0))
        return max(largest, largest**2)
    if op.kind not in ("sum_channels", "batch_norm_grad_stats", "pact_grad", "pact_plus_grad"):
        return 0.0
    terms = np.abs(values[op.inputs[0]].numbers.astype(np.float64))
    largest = max(1.0, *(float(np.abs(values[v].numbers).max()) for v in op.inputs[1:]), 1.0)
    return float(terms.sum()) * largest


def _of_turned(ops: tuple[Op, ...], maker: Op, values: Mapping[Value, Tensor]) -> float:
    """How far the statistics of sums of floats that the same kernel makes may be off."""
    if maker.kind != "batch_stats":
        return 0.0
    x = maker.inputs[0]
    if not any(x in op.results for op in ops) or exact(ops, x):
        return 0.0
    largest = float(np.abs(values[x].numbers).max(initial=0.0))
    return TURNED * STEPS.get(x.type.format.name, 0.0) * max(largest, 2 * largest**2)


def example(
    network: str, batch: int, recipe: str, options: Mapping[str, object]
) -> Iterator[tuple[Program, dict[str, Tensor]]]:
    """The training program of a network after all passes, with values: at the first step and later."""
    from .parity import NETWORKS, batches, optimizer

    torch.manual_seed(0)
    model = NETWORKS[network]()
    data = batches(2, batch, None)
    sgd = optimizer(model, True)
    step = quatrain.compile(
        model, cross_entropy, data[0], sgd, recipe=recipe, options=options, target="reference"
    )
    yield step.program, given(step, data[0])
    step(*data[0])
    yield step.program, given(step, data[1])


def given(step: Step, batch: tuple[torch.Tensor, torch.Tensor]) -> dict[str, Tensor]:
    """All inputs and state of the training program."""
    program = step.program
    names = [v for v in program.inputs if v.name not in step.hyper]
    arrays = {v.name: t.numpy() for v, t in zip(names, batch, strict=True)}
    arrays |= {k: np.asarray(v, np.float32) for k, v in step.hyper.items()}
    arrays |= {k: t.numpy() for k, t in step.state.items()}
    return {
        v.name: Tensor(v.type, np.asarray(arrays[v.name]), None)
        for v in (*program.inputs, *program.state)
    }


def main() -> None:
    """Compare all kernels of a network and print what differs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--network", default="resnet20")
    parser.add_argument("--recipe", default="ultra_low_4bit")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--batch", type=int, default=4)
    args = parser.parse_args()
    from quatrain.targets.cpu.info import detect

    options = dict(item.split("=", 1) for item in args.set)
    for program, values in example(args.network, args.batch, args.recipe, options):
        count = 0
        for mismatch in compare(program, values, detect()):
            print(mismatch, flush=True)
            count += 1
        print(f"{args.network} {args.recipe}: {count} outputs differ", flush=True)


if __name__ == "__main__":
    main()
