"""The passes that kernels go through do what TVM's own list does, which has more of them."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import quatrain
from quatrain.targets.cpu.codegen import lower, tvm_target
from quatrain.targets.cpu.generate import exported
from quatrain.targets.cpu.info import named
from quatrain.targets.plan.kernel import KernelSpec
from quatrain.targets.plan.state import state_layout
from quatrain.targets.registry import BindOptions, find_target

import tvm  # isort: skip
import tvm_ffi  # isort: skip
from tvm import tirx as tir  # isort: skip

pytestmark = pytest.mark.tvm
CPUS = ("sapphirerapids", "znver4", "haswell")


def kernels(recipe: str, cpu: str) -> list[KernelSpec]:
    """The kernels of a small network with a branch, for a CPU that need not be this one."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 3, padding=1)
            self.norms = nn.ModuleList([nn.BatchNorm2d(16), nn.BatchNorm2d(16)])
            self.last = nn.Linear(16, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = torch.relu(self.norms[0](self.first(x)))
            x = torch.relu(x + self.norms[1](self.second(x)))
            return torch.as_tensor(self.last(x.mean((2, 3))))

    model = Net()
    sgd = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    batch = torch.randn(16, 3, 9, 7), torch.randint(10, (16,))
    step = quatrain.compile(model, cross_entropy, batch, sgd, recipe=recipe, target="reference")
    layout = state_layout(step.program)
    plan = find_target(f"cpu:{cpu}").plan(step.program, layout, BindOptions())
    assert plan is not None
    return list(dict.fromkeys(planned.kernel.spec for planned in plan.kernels))


CASES = [*(("ultra_low_4bit", cpu) for cpu in CPUS), ("dfp16", "haswell")]


@pytest.mark.share(2)
@pytest.mark.parametrize(("recipe", "cpu"), CASES)
def test_both_lists_make_the_same(recipe: str, cpu: str) -> None:
    target = tvm_target(named(cpu))
    # TVM marks the only function of a module as its entry, so there are always two.
    other = kernels("fp32", cpu)[0].build()
    for spec in kernels(recipe, cpu):
        functions = {"k": spec.build(), "other": other}
        module = tvm.IRModule(
            {tvm.ir.GlobalVar(name): exported(f, name) for name, f in functions.items()}
        )
        bound = tir.transform.BindTarget(target.with_host(target))(module)
        pipeline, finalize, _ = tir.get_default_tir_pipeline(target)
        wanted = finalize()(pipeline(bound))
        got = lower(module, named(cpu))
        assert tvm_ffi.structural_equal(got, wanted, map_free_vars=True), spec.name
