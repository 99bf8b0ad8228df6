"""Random networks: a small share of what ``python -m tests.fuzz`` runs, and the fuzzer itself."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
pytest.importorskip("tvm")

from .. import fuzz
from ..cases.fuzz_networks import Spec, build, draw

pytestmark = pytest.mark.tvm
SEEDS = range(8)


@pytest.mark.parametrize("seed", SEEDS)
def test_random_networks(seed: int) -> None:
    assert not fuzz.failure(draw(seed))


ZEROS = (0,) * 6
# What long runs found: strides of a single pixel, torch's own sums of such a gradient, and a kink
# behind a normalized constant.
FOUND = (
    Spec(
        1, (1, 13, 1), (("pixels", (301, *ZEROS)), ("conv", (870, 0, 44, 159, 0, 0, 323))), "adam"
    ),
    Spec(1, (2, 1, 2), (("norm", (436, *ZEROS)), ("pixels", (433, *ZEROS))), "adamw", seed=20292),
    Spec(
        7,
        (3, 1, 27),
        (
            ("conv", (122, 534, 84, 790, 894, 879, 863)),
            ("norm", (989, 947, 921, 563, 748, 680, 212)),
            ("transposed", (346, 978, 160, 454, 720, 271, 261)),
            ("norm", (125, 369, 641, 910, 16, 865, 135)),
            ("activation", (597, 533, 792, 745, 354, 975, 763)),
            ("activation", (803, 170, 302, 735, 857, 315, 706)),
        ),
        "adam",
        seed=30627,
    ),
)


@pytest.mark.tvm
@pytest.mark.parametrize("spec", FOUND, ids=lambda spec: str(spec.seed))
def test_what_was_found_stays_mended(spec: Spec) -> None:
    assert not fuzz.failure(spec)


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
