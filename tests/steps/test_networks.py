"""Whole networks: kernels against the reference, units in the assembly, steps against eager."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
pytest.importorskip("tvm")

import torch
from torch.nn.functional import cross_entropy

import quatrain
from quatrain.compiler.ir.ops import GEMMS
from quatrain.targets.cpu.build import compile_kernels
from quatrain.targets.cpu.info import detect
from quatrain.targets.cpu.target import plan_cpu
from quatrain.targets.plan.kernel import Kernel, Unit
from quatrain.targets.plan.state import state_layout

from ..cases.saved_bytes import planned
from ..exactness import compare, example
from ..parity import NETWORKS, batches, optimizer, single_steps

pytestmark = [pytest.mark.torch, pytest.mark.tvm]
INSTRUCTION = {
    Unit.INT8_TILE: "tdpb",
    Unit.BF16_TILE: "tdpbf16ps",
    Unit.BF16_DOT: "vdpbf16ps",
    Unit.INT8_DOT: "vpdpbusd",
    Unit.INT16_DOT: "vpdpwssd",
    Unit.INT32: "vpmulld",
    Unit.F32: "vfmadd",
}
if not detect().vnni:
    INSTRUCTION |= {Unit.INT8_DOT: "vpmaddubsw", Unit.INT16_DOT: "vpmaddwd"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "recipe", "options"),
    [
        ("resnet20", "ultra_low_4bit", {}),
        # Options that change different kernels.
        (
            "bottleneck_resnet",
            "ultra_low_4bit",
            {"sr": True, "recompute": "bn_input", "carrier": "f32"},
        ),
    ],
)
def test_every_kernel_equals_the_reference(
    network: str, recipe: str, options: dict[str, object]
) -> None:
    for program, values in example(network, 3, recipe, options):
        found = [str(m) for m in compare(program, values, detect())]
        assert not found, "\n".join(found)


def gemm_kernels(network: str, recipe: str) -> list[Kernel]:
    """Of a network's GEMM kernels one for each op, unit, window and formats: the way to the
    instruction. Channels and images are other bounds of the same loops."""
    program, _ = next(example(network, 1, recipe, {}))
    plan = plan_cpu(program, state_layout(program), detect())
    gemms = [p.kernel for p in plan.kernels if p.kernel.ops[0].kind in GEMMS]
    return list({_way(kernel): kernel for kernel in gemms}.values())


def _way(kernel: Kernel) -> tuple[object, ...]:
    op = kernel.ops[0]
    types = [value.type for value in (*op.inputs, op.result)]
    window = min(t.shape[2:] for t in types)
    return op.kind, kernel.unit, str(op.attrs), window, *(t.format for t in types)


@pytest.mark.slow
def test_every_gemm_kernel_has_the_instruction_of_its_unit() -> None:
    kernels = gemm_kernels("bottleneck_resnet", "ultra_low_4bit")
    fastest = next(u for u in detect().units if u is not Unit.F32)
    assert fastest in {k.unit for k in kernels}
    for kernel, made in zip(kernels, compile_kernels(kernels, detect()), strict=True):
        found = INSTRUCTION[kernel.unit] in made.assembly
        assert found, f"{kernel.spec.name} declares {kernel.unit.value}"


def test_a_step_is_one_call_into_compiled_code(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(72, 4)
    )
    batch = torch.randn(2, 3, 5, 5), torch.tensor([0, 3])
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    step = quatrain.compile(model, cross_entropy, batch, sgd)
    calls: list[int] = []
    compiled = step.executable._step  # type: ignore[attr-defined]

    class Counted:
        """The compiled step, counted."""

        def __getattr__(self, name: str) -> object:
            return getattr(compiled, name)

        def __call__(self, *args: object) -> None:
            calls.append(len(args))
            compiled(*args)

    monkeypatch.setattr(step.executable, "_step", Counted())
    step(*batch)
    assert len(calls) == 1


@pytest.mark.slow
@pytest.mark.parametrize("network", ["bottleneck_resnet"])  # others: python -m tests.parity
def test_fp32_follows_eager_step_by_step(network: str) -> None:
    """1e-4 is the bound of a single step, and three times eager's own distance to float64.

    In a batch of eight a ReLU that flips between two f32 sums is beyond both: see ``Singles``.
    """
    torch.manual_seed(0)
    model, data = NETWORKS[network](), batches(5, 8, None)
    step = quatrain.compile(model, cross_entropy, data[0], optimizer(model, True), recipe="fp32")
    made = single_steps(step, model, True, data)
    assert made.typical <= 1e-4, made.worst
    assert made.near[0] <= 3 * made.near[1]


@pytest.mark.parametrize(("recompute", "limit"), [("masks", 0.36), ("bn_input", 1 / 6)])
def test_bytes_kept_for_backward(recompute: str, limit: float) -> None:
    plan, kept = planned("resnet20", 32, {"recompute": recompute})
    assert plan.saved_bytes() <= limit * sum(s.bytes for s in kept)
