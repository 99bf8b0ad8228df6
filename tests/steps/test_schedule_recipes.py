"""Recipes whose bits change: bases, resuming, both targets, prediction, refusals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from quatrain.compiler.errors import RecipeError
from quatrain.passes.recipe import load_recipe

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402
from torch.nn.functional import cross_entropy, mse_loss  # noqa: E402

import quatrain  # noqa: E402
from quatrain.runtime.step import Step  # noqa: E402

from ..cases.captured import captured_once  # noqa: E402

pytestmark = pytest.mark.torch


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 5, 3, bias=False),
        nn.BatchNorm2d(5),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(125, 3),
    )


def batch(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(7) % 3
    return torch.randn(7, 1, 7, 7, generator=generator) + y[:, None, None, None], y


@captured_once("test_schedule_recipes")
def compiled(recipe: str, options: Mapping[str, object], target: str = "reference") -> Step:
    model = network()
    sgd = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    return quatrain.compile(
        model, cross_entropy, batch(), sgd, recipe=recipe, options=options, target=target
    )


INT4: dict[str, object] = {"base": "int4", "exempt": "none"}
SAWB: dict[str, object] = {"base": "pact_sawb", "exempt": "none"}
CASES: list[tuple[str, dict[str, object], str, list[float]]] = [
    ("cpt", {"steps": 12, "cycles": 2}, "schedule.bits", [3, 3, 4, 6, 7, 8, 3, 3]),
    ("cpt", INT4 | {"steps": 4, "cycles": 1, "low": 2, "high": 4}, "schedule.bits", [2, 2, 3, 4]),
    (
        "cpt",
        {"steps": 20, "cycles": 1, "range_test": True, "range_test_iters": 1}
        | {"range_test_threshold": 1.5},
        "schedule.bits",
        [2, 3, 4, 5, 6, 7, 8, 0],
    ),
    (
        "pfq",
        {"eval_every": 1, "eps": 50, "gradient_bits": 16, "backward_stages": "6,8,12,16"},
        "schedule.plateau",
        [0, 0, 0, 0, 1, 1, 1, 1],
    ),
]


@pytest.mark.tvm
@pytest.mark.parametrize("target", ["reference", "cpu"])
@pytest.mark.parametrize(
    ("recipe", "options", "name", "want"), CASES, ids=["cpt", "int4", "test", "pfq"]
)
def test_a_schedule_goes_on_where_it_was_saved(
    recipe: str,
    options: dict[str, object],
    name: str,
    want: list[float],
    target: str,
    tmp_path: Path,
) -> None:
    """Byte for byte, from every step; the bits are those of the schedule, 0 where they follow."""
    step = compiled(recipe, options, target)
    for t, bits in enumerate(want):
        step.save(tmp_path / "before")
        again = quatrain.load(tmp_path / "before")
        for s, file in ((step, "a"), (again, "b")):
            s(*batch(t))
            s.save(tmp_path / file)
        assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
        if bits or recipe == "pfq":
            assert step.state[name].ravel()[0].item() == bits
        assert torch.equal(step.predict(batch()[0]), again.predict(batch()[0]))


@pytest.mark.tvm
def test_both_targets_walk_the_same_way() -> None:
    """Codes of few values; the sums of floats between them agree to f32."""
    for recipe, options, name, want in CASES:
        one, other = (compiled(recipe, options, target) for target in ("reference", "cpu"))
        for t in range(len(want)):
            # The losses of a few steps drift apart as rounding errors grow: far below a code.
            assert one(*batch(t)).item() == pytest.approx(other(*batch(t)).item(), rel=1e-3)
            if recipe == "cpt":
                assert torch.equal(one.state[name], other.state[name])


@pytest.mark.tvm
@pytest.mark.parametrize(
    ("base", "options"),
    [
        ("int4", {"low": 2, "high": 4}),
        ("ultra_low_4bit", {"low": 2, "high": 4, "per": "channel"}),
        ("pact_sawb", {"high": 4, "recompute": "bn_input"}),
        ("pact_sawb", {"bits": 8, "grid": 15}),
        ("dorefa", {}),
        ("wageubn", {}),
        ("luq4", {"low": 2, "high": 4}),
    ],
)
def test_a_clipped_base_has_its_own_codes_at_its_own_bits(
    base: str, options: dict[str, object]
) -> None:
    """A schedule that stays at the bits of the base changes nothing; below, kernels agree."""
    from quatrain.targets.cpu.info import detect

    from ..exactness import compare, given

    both = {k: v for k, v in options.items() if k not in ("low", "high")} | {"exempt": "none"}
    high = options.get("high", 8)
    same = both | {"base": base, "low": high, "high": high, "steps": 9, "cycles": 1}
    static, still = compiled(base, both), compiled("cpt", same)
    for t in range(2):
        assert torch.equal(static(*batch(t)), still(*batch(t)))
    for name, tensor in static.state.items():
        assert torch.equal(tensor, still.state[name])
    lower = compiled("cpt", same | {"low": options.get("low", 3)})
    for t in range(2):
        found = [str(m) for m in compare(lower.program, given(lower, batch(t)), detect())]
        assert not found, "\n".join(found)
        lower(*batch(t))
    assert not torch.equal(lower.state["0.weight"], static.state["0.weight"])


def test_prediction_has_the_bits_of_the_last_step() -> None:
    """The last step of a cycle has the most; one bit changes the outputs."""
    x, _ = batch()
    step = compiled("cpt", {"steps": 6, "cycles": 1})
    for t in range(6):
        step(*batch(t))
    assert step.state["schedule.bits"].item() == 8
    fine = step.predict(x)
    step.load_state({"schedule.bits": torch.tensor(7.0)})
    assert not torch.equal(step.predict(x), fine)


def test_a_range_test_counts_the_right_answers_of_the_batch() -> None:
    """Each image has one class with the largest number, so over all labels it is right once."""
    options = {"range_test": True, "range_test_iters": 2, "steps": 100, "cycles": 1}
    x, y = batch()
    counts = []
    for labels in range(3):
        again = compiled("cpt", options)
        again(x, torch.full_like(y, labels))
        counts.append(again.state["schedule.test.hits"].item())
    assert sum(counts) == len(y)


def test_a_base_is_any_static_recipe_with_bits_as_operands(tmp_path: Path) -> None:
    (tmp_path / "weights.toml").write_text('[[passes]]\npass = "affine_weights"\nbits = 4\n')
    mine = load_recipe("cpt").with_options(
        {"base": str(tmp_path / "weights.toml"), "high": 4, "exempt": "first"}
    )
    own = ("cyclic_precision", "depthwise_bits", "count_bit_operations")
    assert mine.labels == ("affine_weights", *own)
    assert mine.settings["exempt"] == "first" and mine.settings["bits"] == 4
    assert mine.options["base"].endswith("weights.toml")
    published = load_recipe("cpt")
    assert published.labels[-5:] == (*own, "recompute", "canonicalize")
    assert published.settings["exempt"] == "last" and published.settings["range_bn"] is False


@pytest.mark.parametrize(
    ("recipe", "options", "message"),
    [
        ("cpt", {"base": "fp32"}, "the recipe that it follows has no integer format; set base to"),
        ("pfq", {"base": "fp32"}, "progressive_precision changes the bits of integers, and"),
        ("cpt", {"base": "hfp8", "exempt": "none"}, "the recipe that it follows has no integer"),
        ("cpt", {"base": "dfp16"}, "has integers without a range, whose step is a power of two"),
        (
            "cpt",
            INT4,
            "low=3 and high=8: 8 bits do not fit the int4 codes of layer 0; ask for 4 at most",
        ),
        (
            "pfq",
            INT4,
            "forward_stages=3,4,6,8: 8 bits do not fit the int4 codes of layer 0; ask for",
        ),
        ("cpt", INT4 | {"high": 4, "gradient_high": 4}, "have no effect: the base's gradients are"),
        ("cpt", {"gradient_low": 4}, "gradient_low=4 of cyclic_precision has no effect without"),
        ("cpt", {"steps": 31}, "32 cycles do not fit 31 steps; set cycles to 31 at most"),
        (
            "cpt",
            {"steps": 100, "cycles": 1, "range_test": True, "range_test_iters": 20},
            "a range test of 7 numbers of bits, range_test_iters=20 steps each, does not fit the",
        ),
        ("cpt", {"range_test": True, "range_test_threshold": -1}, "threshold=-1 is not above 0"),
        ("cpt", SAWB | {"pact_plus": True}, "constant; set pact_plus=false"),
        (
            "cpt",
            {"base": "luq4", "exempt": "none", "grid": 17, "low": 2, "high": 4},
            "the codes of layer 0 are int5.17; set grid=15 and luq_act_range=clip",
        ),
        ("cpt", {"base": "pfq"}, "recipe pfq has a base of its own; give a static recipe"),
        ("sbm8", {"base": "cpt"}, "recipe sbm8 has no base"),
        ("cpt", {"high": 9}, "low=3 and high=9: 9 bits do not fit the uint8 codes of layer 0; ask"),
        ("cpt", {"bits": 4}, "8 bits do not fit the uint4 codes of layer 0; ask for 4 at most, or"),
        ("cpt", {"low": 1}, "low=1 and high=8 do not rise from at least 2 bits"),
        ("cpt", {"low": 6, "high": 5}, "low=6 and high=5 do not rise from at least 2 bits"),
        (
            "cpt",
            {"gradient_low": 6, "gradient_high": 12},
            "12 bits do not fit the uint8 codes of layer 0; ask for 8 at most, or for wider codes "
            "by gradient_bits",
        ),
        ("cpt", {"cycles": 0}, "cycles=0 of cyclic_precision is not at least 1"),
        ("cpt", {"steps": -1}, "steps=-1 of cyclic_precision is not at least 0"),
        (
            "pfq",
            {"backward_stages": "6,8,12,16"},
            "backward_stages=6,8,12,16: 16 bits do not fit the uint8 codes of layer",
        ),
        ("pfq", {"forward_stages": "3,4"}, "forward_stages=3,4 and backward_stages=6,6,8,8 differ"),
        ("pfq", {"forward_stages": "8"}, "forward_stages=8 of progressive_precision has no second"),
        (
            "pfq",
            {"forward_stages": "8,6,4,3"},
            "forward_stages=8,6,4,3 of progressive_precision falls",
        ),
        ("pfq", {"forward_stages": "3-8"}, "is no list of bits, such as 3,4,6,8"),
        ("pfq", {"eps": 0}, "eps=0 and alpha=0.3 of progressive_precision must be positive"),
    ],
)
def test_refusals(recipe: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError) as e:
        compiled(recipe, options)
    assert message in str(e.value) and "\n" not in str(e.value)


def test_a_range_test_needs_answers_and_stages_a_loss() -> None:
    model = network()
    sgd = torch.optim.SGD(model.parameters(), lr=0.05)
    x, y = batch()[0], torch.zeros(7, 3)
    with pytest.raises(RecipeError, match="this loss is no cross entropy; set low instead"):
        quatrain.compile(model, mse_loss, (x, y), sgd, recipe="cpt", options={"range_test": True})
    program = compiled("sbm8", {}).source.train
    nameless = replace(program, outputs=program.region("forward").ops[0].results)
    with pytest.raises(RecipeError, match="watches the loss from step to step"):
        load_recipe("pfq").apply(nameless)
