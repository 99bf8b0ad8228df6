"""Bits that change from step to step: the ops, cycles, range test, stages, resuming, refusals."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from quatrain.compiler.errors import RecipeError
from quatrain.compiler.formats import F32, I64
from quatrain.compiler.types import TensorType
from quatrain.passes.recipe import load_recipe
from quatrain.targets.reference import apply
from quatrain.targets.tensor import Tensor as Stored

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402
from torch.nn.functional import cross_entropy, mse_loss  # noqa: E402

import quatrain  # noqa: E402
from quatrain.runtime.cyclic_precision import cyclic as plain_cycle  # noqa: E402
from quatrain.runtime.step import Step  # noqa: E402

from .plain_progressive import Progressive  # noqa: E402
from .plain_range_test import least_bits  # noqa: E402

pytestmark = pytest.mark.torch
NUMBER, COUNT = TensorType((), F32), TensorType((), I64)
VECTOR = TensorType((11,), F32)


def stored(*numbers: float, count: int = 0) -> list[Stored]:
    """The first ``count`` numbers as integers, the others as f32."""
    return [
        Stored.from_numbers(COUNT if i < count else NUMBER, np.asarray(n))
        for i, n in enumerate(numbers)
    ]


def cyclic(step: int, total: int, low: int, high: int, cycles: int = 1, iters: int = 1) -> int:
    inputs = stored(step, total, low, count=2)
    (made,) = apply("cyclic_bits", inputs, [NUMBER], high=high, cycles=cycles, iters=iters)
    return int(made.numbers)


def test_the_published_cycle() -> None:
    counts = Counter(cyclic(t, 2000, 3, 8) for t in range(2000))
    assert [counts[b] for b in range(3, 9)] == [410, 329, 261, 262, 329, 409]
    assert [cyclic(t, 2000, 3, 8) for t in (0, 1000, 1999)] == [3, 6, 8]


@pytest.mark.parametrize("length", [1, 7, 97, 1000, 2000])
@pytest.mark.parametrize(("low", "high"), [(2, 8), (3, 8), (3, 6), (3, 4), (4, 8), (5, 6), (6, 6)])
def test_the_cycle_is_the_formula_of_the_paper(low: int, high: int, length: int) -> None:
    """No length is a multiple of 3, where a cosine of 1/2 lies halfway but for its last bit."""
    for t in range(0, 2 * length, max(1, length // 500)):
        angle = np.pi * (t % length) / length + np.pi
        want = np.rint(low + 0.5 * (high - low) * (1 + np.cos(angle)))
        assert cyclic(t, 3 * length + 1, low, high, cycles=3) == want, t
        assert plain_cycle(low, high, 3 * length + 1, 3).bits(t) == want


def test_where_a_cycle_has_no_length_the_bits_are_high() -> None:
    assert cyclic(5, 0, 3, 8) == cyclic(5, 31, 3, 8, cycles=32) == 8


def test_behind_the_last_whole_cycle_the_bits_are_high() -> None:
    """A run of 390 steps in 4 cycles ends with two of them, and not in a fifth cycle."""
    bits = [cyclic(t, 390, 3, 8, cycles=4) for t in (291, 387, 388, 389, 390, 10_000)]
    assert bits == [3, 8, 8, 8, 8, 8]


def test_halfway_goes_to_the_even_number() -> None:
    """From 2 to 8 bits a third of a cycle is 3.5, two thirds are 6.5."""
    assert [cyclic(t, 300, 2, 8) for t in (99, 100, 101)] == [3, 4, 4]
    assert [cyclic(t, 300, 2, 8) for t in (199, 200, 201)] == [6, 6, 7]


def range_tests(right: list[int], iters: int, fallback: int) -> list[int]:
    """The lower bound after each step, with batches of 10."""
    how = {"high": 5, "iters": iters, "batch": 10, "threshold": 0.01, "fallback": fallback}
    state, found = stored(0, 0, 0), []
    for t, n in enumerate(right):
        inputs = [*stored(t, n, count=1), *state]
        state = list(apply("range_test", inputs, [NUMBER] * 3, **how))
        found.append(int(state[0].numbers))
    return found


def test_a_range_test_takes_the_first_bits_that_gain() -> None:
    assert range_tests([1, 1, 1, 1, 2, 2, 9], 2, 3) == [0, 0, 0, 0, 0, 4, 4]
    assert least_bits({2: 0.1, 3: 0.1, 4: 0.15}) == 4
    # 2 bits have nothing to gain over; what gains nothing at all takes the fallback.
    assert range_tests([9, 9, 9, 9, 9], 1, 3) == [0, 0, 0, 3, 3]
    assert range_tests([1, 2, 9], 1, 3) == [0, 3, 3]


def watched(losses: list[float], state: np.ndarray, every: int = 1) -> list[int]:
    """The stage after each loss."""
    now, stages = Stored.from_numbers(VECTOR, state), []
    for loss in losses:
        inputs = [*stored(loss), now]
        (now,) = apply("plateau", inputs, [VECTOR], every=every, eps=(0.05, 0.015, 0.0045))
        stages.append(int(now.numbers[0]))
    return stages


def test_the_published_indicator() -> None:
    """With norm held at 1: the tenth epoch is over."""
    held = np.zeros(11)
    held[1:3] = 10, 1
    losses = [2.0, 1.5, 1.2, 1.09, 1.08, 1.06, 1.05, 1.05]
    assert watched(losses, held) == [0, 0, 0, 0, 0, 0, 0, 1]


@pytest.mark.parametrize("every", [1, 4])
def test_the_indicator_through_a_whole_training(every: int) -> None:
    rng = np.random.default_rng(0)
    means = 0.5 + 2 * np.exp(-np.arange(120) / 12) + rng.normal(size=120) * 1e-3
    each = (means[:, None] + rng.normal(size=(120, every)) * 0.01).astype(np.float32)
    plain, want = Progressive(every=every), []
    state = plain.start()
    for loss in each.ravel():
        state = plain.after_iteration(state, float(loss))
        want.append(state.stage)
    assert watched(each.ravel().tolist(), np.zeros(11), every) == want and want[-1] == 3


@pytest.mark.tvm
class TestKernels:
    """Against the reference, bit for bit, along states that follow from each other."""

    @pytest.mark.parametrize(("cycles", "iters", "high"), [(1, 1, 8), (32, 100, 8), (3, 7, 4)])
    def test_cyclic_bits(self, cycles: int, iters: int, high: int) -> None:
        pytest.importorskip("tvm")
        from .one_kernel import Group, same, single

        group = Group()
        inputs = [
            group.input("step", COUNT),
            group.input("total", COUNT),
            group.input("low", NUMBER),
        ]
        (bits,) = group.op("cyclic_bits", inputs, [NUMBER], cycles=cycles, iters=iters, high=high)
        for total in (0, 5, 300, 64_000, 10**12):
            for step in (0, 1, 99, 100, 200, 1999, 10**9 + 7):
                for low in (0, 2, 3, high):
                    given = stored(step, total, low, count=2)
                    named = {v.name: t for v, t in zip(inputs, given, strict=True)}
                    got, want = single(group, named)
                    same(got[bits.name], want[bits.name])

    @pytest.mark.parametrize("threshold", [0.01, 0.3])
    def test_range_test(self, threshold: float) -> None:
        pytest.importorskip("tvm")
        from .one_kernel import Group, same, single

        group, rng = Group(), np.random.default_rng(0)
        inputs = [group.input("step", COUNT)]
        inputs += [group.input(n, NUMBER) for n in ("right", "low", "hits", "before")]
        results = group.op(
            "range_test", inputs, [NUMBER] * 3, high=8, iters=3, batch=7, threshold=threshold,
            fallback=4,
        )  # fmt: skip
        state = stored(0, 0, 0)
        for t in range(25):
            given = [*stored(t, int(rng.integers(8)), count=1), *state]
            named = {v.name: x for v, x in zip(inputs, given, strict=True)}
            got, want = single(group, named)
            for r in results:
                same(got[r.name], want[r.name])
            state = [want[r.name] for r in results]

    def test_plateau_and_its_bits(self) -> None:
        pytest.importorskip("tvm")
        from .one_kernel import Group, same, single

        rng = np.random.default_rng(0)
        group, reader = Group(), Group()
        inputs = [group.input("loss", NUMBER), group.input("s", VECTOR)]
        (after,) = group.op("plateau", inputs, [VECTOR], every=2, eps=(0.05, 0.015, 0.0045))
        (bits,) = reader.op("stage_bits", [reader.input("s", VECTOR)], [NUMBER], bits=(3, 4, 6, 8))
        state, seen = Stored.from_numbers(VECTOR, np.zeros(11)), set()
        for t in range(100):
            (loss,) = stored(0.5 + 2 * math.exp(-t / 12) + rng.normal() * 1e-3)
            got, want = single(group, {"loss": loss, "s": state})
            same(got[after.name], want[after.name])
            state = want[after.name]
            got, want = single(reader, {"s": state})
            same(got[bits.name], want[bits.name])
            seen.add(int(want[bits.name].numbers))
        assert seen == {3, 4, 6, 8}


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
    from quatrain.targets.cpu_info import detect

    from .exactness import compare, given

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
    own = ("cyclic_precision", "count_bit_operations")
    assert mine.labels == ("affine_weights", *own)
    assert mine.settings["exempt"] == "first" and mine.settings["bits"] == 4
    assert mine.options["base"].endswith("weights.toml")
    published = load_recipe("cpt")
    assert published.labels[-4:] == (*own, "recompute", "canonicalize")
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
        ("cpt", {"steps": -1}, "steps=-1 of cyclic_precision is below 0"),
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
