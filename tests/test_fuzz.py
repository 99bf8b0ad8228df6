"""Random networks: a small share of what ``python -m tests.fuzz`` runs, and the fuzzer itself."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
pytest.importorskip("tvm")

from . import fuzz
from .fuzz_networks import Spec, build, draw

pytestmark = pytest.mark.tvm
SEEDS = range(24)


@pytest.mark.parametrize("seed", SEEDS)
def test_random_networks(seed: int) -> None:
    assert not fuzz.failure(draw(seed))


def test_every_part_of_a_network_is_a_network() -> None:
    for seed in range(100):
        spec = draw(seed)
        for less in fuzz.smaller(spec):
            assert build(less) is not None


def test_a_failing_network_is_made_small(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(spec: Spec) -> str:
        kinds = [kind for kind, _ in spec.layers]
        return "kernel: wrong" if "norm" in kinds and spec.batch > 1 else ""

    monkeypatch.setattr(fuzz, "failure", fails)
    spec = next(s for s in map(draw, range(100)) if fails(s) and len(s.layers) > 3)
    small, _ = fuzz.reduced(spec, "kernel: wrong")
    assert [kind for kind, _ in small.layers] == ["norm"]
    assert small.shape == (1, 1, 1)
    assert small.layers[0][1] == (0,) * 7
