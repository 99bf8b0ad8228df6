"""Options of the 4-bit recipes in whole steps: every kernel equals the reference, bit for bit."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("tvm")

from torch import Tensor, nn  # noqa: E402
from torch.nn.functional import cross_entropy  # noqa: E402

import quatrain  # noqa: E402
from quatrain.runtime.step import Step  # noqa: E402
from quatrain.targets.cpu.info import detect  # noqa: E402

from ..cases.captured import captured_once  # noqa: E402
from ..exactness import compare, given  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.tvm]
CLASSES = 5


def network() -> nn.Sequential:
    """A 3x3 and a 1x1 convolution and a linear layer between exempt ones; odd channels."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 7, 3, padding=1, bias=False),
        nn.BatchNorm2d(7),
        nn.ReLU(),
        nn.Conv2d(7, 13, 3, stride=2, padding=1),
        nn.BatchNorm2d(13),
        nn.ReLU(),
        nn.Conv2d(13, 9, 1),
        nn.BatchNorm2d(9),
        nn.Flatten(),
        nn.Linear(225, 11),  # its data may be negative
        nn.ReLU(),
        nn.Linear(11, CLASSES),
    )


@captured_once("test_recipe_options")
def compiled(recipe: str, target: str, options: dict[str, object]) -> Step:
    model = network()
    sgd = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    return quatrain.compile(
        model, cross_entropy, batch(), sgd, recipe=recipe, options=options, target=target
    )


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(5, 3, 9, 9, generator=generator)
    return x, torch.randint(CLASSES, (5,), generator=generator)


# The formats that a step then multiplies, beside those of the other operands.
OPTIONS: list[tuple[str, dict[str, object], set[str]]] = [
    ("pact_sawb", {"bits": 2}, {"uint2", "int2", "int2.midrise"}),
    ("pact_sawb", {"bits": 3, "sawb_gradient": "sawb"}, {"uint3", "int3", "int3.midrise"}),
    ("pact_sawb", {"carrier": "bf16", "grid": 15}, {"uint4", "int4", "bf16"}),
    ("pact_sawb", {"bits": 8, "pact_plus": True}, {"uint8", "int8", "int8.midrise"}),
    ("ultra_low_4bit", {"bits": 2}, {"uint2", "int2"}),
    ("ultra_low_4bit", {"bits": 3, "grid": 16, "pact_plus": True}, {"uint3", "int3.midrise"}),
    ("ultra_low_4bit", {"bits": 8, "grid": 16}, {"uint8", "int8.midrise"}),
    ("ultra_low_4bit", {"radix": 16, "fp8_on": "none"}, {"fp4.r16.even", "fp4.r16.odd"}),
    ("ultra_low_4bit", {"radix": 8, "single": True, "sr": True}, {"fp4.r8"}),
    ("ultra_low_4bit", {"radix": 2, "single": True, "carrier": "f32"}, {"fp4.r2"}),
    ("ultra_low_4bit", {"log5": True, "fp8_on": "3x3"}, {"fp5.140", "fp8.152"}),
    ("ultra_low_4bit", {"fp8_on": "6"}, {"fp8.152", "fp4.even"}),
    ("ultra_low_4bit", {"fp8_on": "3x3", "fp8_products": "dw"}, {"fp8.152", "fp4.even"}),
    ("ultra_low_4bit", {"grid": 17, "coefficients": "luq"}, {"int5.17"}),
    ("ultra_low_4bit", {"per": "channel"}, {"fp8.152", "fp4.even"}),
    (
        "ultra_low_4bit",
        {"per": "channel", "gradscale": "instant", "carrier": "f32", "grid": 16},
        {"int4.midrise", "fp4.even", "fp4.odd"},
    ),
]


def shown(value: object) -> str:
    """A part of a test's name, the same in every process."""
    return " ".join(sorted(value)) if isinstance(value, set) else str(value)


@pytest.mark.parametrize(("recipe", "options", "formats"), OPTIONS, ids=shown)
def test_every_kernel_of_a_step_equals_the_reference(
    recipe: str, options: dict[str, object], formats: set[str]
) -> None:
    step = compiled(recipe, "reference", options)
    step(*batch())  # now clips, momenta and scales are no longer what they started from
    made = {r.type.format.name for _, op in step.program.ops() for r in op.results}
    assert formats <= made
    found = [str(m) for m in compare(step.program, given(step, batch()), detect())]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("recipe", "options"),
    [
        ("pact_sawb", {"bits": 2}),
        ("ultra_low_4bit", {"per": "channel", "fp8_on": "none"}),
        ("ultra_low_4bit", {"radix": 16}),
        ("ultra_low_4bit", {"log5": True, "fp8_on": "none"}),
        ("ultra_low_4bit", {"single": True, "sr": True, "fp8_on": "3x3"}),
    ],
    ids=str,
)
def test_a_step_learns_its_batch(recipe: str, options: dict[str, object]) -> None:
    step = compiled(recipe, "cpu", options)
    losses = [step(*batch()).item() for _ in range(20)]
    assert losses[-1] < 0.5 * losses[0]
