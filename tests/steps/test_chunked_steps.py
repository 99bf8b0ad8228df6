"""Whole steps of hfp8 with a 16-bit accumulator."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("tvm")

from torch import Tensor, nn  # noqa: E402
from torch.nn.functional import mse_loss  # noqa: E402

import quatrain  # noqa: E402
from quatrain.compiler.errors import RecipeError  # noqa: E402
from quatrain.compiler.ir.accumulation import accumulation  # noqa: E402
from quatrain.compiler.ir.ops import GEMMS, WEIGHT_GRADS  # noqa: E402
from quatrain.runtime.step import Step  # noqa: E402
from quatrain.targets.plan.kernel import Unit  # noqa: E402

from ..cases.captured import captured_once  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.tvm]


def network() -> nn.Sequential:
    """Without norms, whose sums of floats have an order of the target's."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 7, 3, padding=1, bias=False),
        nn.ReLU(),
        nn.Conv2d(7, 7, 3, stride=2, groups=7, bias=False),
        nn.Conv2d(7, 13, 1, bias=False),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(13 * 16, 5, bias=False),
    )


def batch(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = (4, 3, 9, 9), (4, 5)
    x, y = (torch.randn(s, generator=generator) for s in shapes)
    return x, y


@captured_once("test_chunked_steps")
def compiled(target: str, **options: Any) -> Step:
    model = network()
    sgd = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    return quatrain.compile(
        model, mse_loss, batch(), sgd, recipe="hfp8", options=options, target=target
    )


@pytest.mark.parametrize("name", ["fp16.169", "f16"])
def test_steps_have_the_same_bytes_on_both_targets(name: str) -> None:
    """Every product of the network is one of codes, so that no sum of a GEMM is the target's own."""
    options = {"exempt": "none", "accumulator": name, "chunk": 16}
    one, two = compiled("reference", **options), compiled("cpu", **options)
    for seed in range(3):
        one(*batch(seed)), two(*batch(seed))
        assert one.state.keys() == two.state.keys()
        for key, wanted in one.state.items():
            assert torch.equal(two.state[key], wanted), key
    assert torch.equal(one.predict(batch()[0]), two.predict(batch()[0]))
    other = compiled("reference", exempt="none", accumulator=name, chunk=0)
    other(*batch())
    again = compiled("reference", **options)
    again(*batch())
    assert not torch.equal(other.state["6.weight"], again.state["6.weight"])


def test_gemms_of_codes_have_an_accumulator_and_exempt_ones_none() -> None:
    step = compiled("cpu", accumulator="fp16.169")
    for _, op in step.program.ops():
        if op.kind in GEMMS:
            assert (accumulation(op) is None) == (op.origin in ("0", "6"))
    plan = step.executable.plan
    assert plan is not None
    units = {
        p.kernel.unit
        for p in plan.kernels
        if p.kernel.ops[0].kind in GEMMS and p.kernel.ops[0].origin not in ("0", "6")
    }
    assert units == {Unit.F32}
    assert "f32" in str(step.report())


def test_a_sum_that_overflows_skips_the_step() -> None:
    """dY is finite, its sums in f16 are not: the count looks at dY, which FP8 saturates, and at dW."""
    options = {"exempt": "none", "mode": "static", "carrier": "f32", "init": 2.0**30}
    plain, chunked = compiled("cpu", **options), compiled("cpu", **options, accumulator="f16")
    x, y = batch()
    for step, skipped in ((plain, 0), (chunked, 1)):
        before = step.state["6.weight"]
        step(20 * x, y)
        assert step.skipped == skipped
        assert torch.equal(step.state["6.weight"], before) == bool(skipped)
    tally = next(op for _, op in chunked.program.ops() if op.kind == "tally")
    made = chunked.program.producers()
    seen = set(tally.inputs)
    seen |= {v for r in seen if r in made and made[r].kind == "amax" for v in made[r].inputs}
    for _, op in chunked.program.ops():
        if op.kind in WEIGHT_GRADS:
            codes = made[op.inputs[0]]
            assert codes.kind == "cast" and {op.result, codes.inputs[0]} <= seen


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"accumulator": "fp16"},
            "accumulator of chunked_accumulation must be f32, fp16.169 or f16",
        ),
        ({"chunk": -1}, "chunk=-1 of chunked_accumulation is less than 0"),
        ({"chunk": 1.5}, "chunk of chunked_accumulation must be an integer"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        compiled("reference", **options)
