"""Ops that choose bits from step to step: cycles, range test, stages, and their kernels."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from quatrain.compiler.formats import F32, I64
from quatrain.compiler.types import TensorType
from quatrain.targets.numbers.tensor import Tensor as Stored
from quatrain.targets.reference.evaluate import apply

pytest.importorskip("torch")

from quatrain.runtime.report.cyclic_cost import cyclic as plain_cycle

from ..cases.plain_progressive import Progressive
from ..cases.plain_range_test import least_bits

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
        from ..cases.one_kernel import Group, same, single

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
        from ..cases.one_kernel import Group, same, single

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
        from ..cases.one_kernel import Group, same, single

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
