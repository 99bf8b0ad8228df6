"""The cost of products against BitFusion's published row, by hand, and by laws."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quatrain.compiler.formats import (
    BF16,
    F32,
    FP4_EVEN,
    FP4_R2,
    FP8_152,
    INTS,
    UINT4,
    Format,
)
from quatrain.compiler.ir.nest import Nest, NestSide
from quatrain.runtime.cost.accelerator_file import load_accelerator
from quatrain.runtime.cost.takes import integer_bits, takes
from quatrain.runtime.cost.tiling import StoredBits, Tiling, cycles_of, tiling

from ..cases.published_bitfusion import Published

PAGE = Path(__file__).parents[2] / "docs" / "cost.md"
MACHINE = load_accelerator("bitfusion")
SWITCHES = ("waits_for_ends", "whole_tiles", "reads_first", "wide_result", "one_pass")
FORWARD = (NestSide.X, NestSide.W), NestSide.Y
INPUT_GRAD = (NestSide.Y, NestSide.W), NestSide.X
WEIGHT_GRAD = (NestSide.Y, NestSide.X), NestSide.W


def conv4(bits: int, off: int) -> Published:
    """AlexNet's conv4, half of its filters, batch 16, without the first ``off`` switches."""
    on: dict[str, Any] = {name: i >= off for i, name in enumerate(SWITCHES)}
    return Published(images=16, places=13, channels=192, filters=192, kernel=3, bits=bits, **on)


def convolution(makes: tuple[tuple[NestSide, NestSide], NestSide], **sizes: int) -> Nest:
    """16 images of 192 channels at 13 x 13, 3 x 3 taps, unless ``sizes`` say otherwise."""
    given = {"images": 16, "inputs": 192, "outputs": 192, "places": 13, "kernel": 3} | sizes
    kernel, places = given["kernel"], given["places"]
    pad = (kernel // 2,) * 2
    return Nest(
        1, given["images"], given["inputs"], given["outputs"], (places, places),
        (places, places), (kernel, kernel), (1, 1), pad, (1, 1), *makes,
    )  # fmt: skip


def costed(nest: Nest, bits: int, result: int | None = None) -> tuple[int, int, Tiling]:
    """Cycles, those that wait, and tiles at ``bits`` of both operands."""
    stored = {s: result or bits if s is nest.makes else bits for s in NestSide}
    rate = Fraction(64, bits * bits)
    found = tiling(nest, StoredBits(*(stored[s] for s in NestSide)), rate, False, MACHINE)
    assert found is not None
    return (*cycles_of(nest, found, MACHINE), found)


@pytest.mark.parametrize(
    ("off", "expected"),
    [
        # results/bitfusion-eyeriss-sim-sweep.csv: AlexNet, conv4_b/Convolution.
        (0, (2_436_097, 403_969, 352_124_928, 115_605_504)),
        (2, (1_752_192, 0, 190_218_240, 99_680_256)),
    ],
)
def test_the_published_row_and_each_step_to_ours(
    off: int, expected: tuple[int, int, int, int]
) -> None:
    assert conv4(16, off).best() == expected


@pytest.mark.parametrize("bits", [4, 16])
def test_without_the_differences_both_models_agree(bits: int) -> None:
    cycles, waits, found = costed(convolution(FORWARD), bits)
    read = sum(n for _, n in found.read)
    assert (cycles, waits, read, found.written) == conv4(bits, 5).best()


@pytest.mark.parametrize(
    ("bits", "expected"),
    [
        (16, (7_008_768, 0, 173_604_864, 91_373_568)),
        (8, (1_752_192, 0, 78_495_744, 37_380_096)),
        (4, (438_048, 0, 22_634_496, 2_076_672)),
    ],
)
def test_what_docs_cost_md_says_of_that_layer(
    bits: int, expected: tuple[int, int, int, int]
) -> None:
    cycles, waits, found = costed(convolution(FORWARD), bits)
    assert (cycles, waits, sum(n for _, n in found.read), found.written) == expected
    page = PAGE.read_text(encoding="utf-8")
    assert f"| {' | '.join(f'{n:,}' for n in expected)} |" in page


def test_a_1x1_convolution_by_hand() -> None:
    # 2 images of 8 x 8 places, 64 channels to 32: all fits, so that each tensor moves once.
    nest = convolution(FORWARD, images=2, places=8, inputs=64, outputs=32, kernel=1)
    # 128 places x 1 column of filters x 64 channels / 16 rows / 4 products of 4 x 4 bits.
    compute = 128 * 1 * (64 // (16 * 4))
    bits = 128 * 64 * 4 + 64 * 32 * 4 + 128 * 32 * 16
    cycles, waits, found = costed(nest, 4, result=16)
    assert found.moved == bits == 106_496
    assert (cycles, waits) == (-(-bits // 192), -(-bits // 192) - compute)


def test_the_gradients_of_a_linear_layer_by_hand() -> None:
    # 24 rows, 40 features in, 72 out, at 8 bits: rows of 16, columns of 32, a product a cell.
    sizes = {"images": 24, "inputs": 40, "outputs": 72, "places": 1, "kernel": 1}
    _, _, dx = costed(convolution(INPUT_GRAD, **sizes), 8)
    assert dx.passes == 24 * 2 * 5  # 40 results over 32 columns, 72 terms over 16 rows
    _, _, dw = costed(convolution(WEIGHT_GRAD, **sizes), 8)
    assert dw.passes == 40 * 3 * 2  # 72 results over 32 columns, 24 terms over 16 rows
    assert {s: n // 8 for s, n in dw.read} == {
        NestSide.Y: 24 * 72,
        NestSide.X: 24 * 40,
        NestSide.W: 0,
    }
    assert dw.written == 40 * 72 * 8


sizes: st.SearchStrategy[dict[str, int]] = st.builds(
    dict[str, int],
    images=st.integers(1, 33),
    inputs=st.integers(1, 80),
    outputs=st.integers(1, 80),
    places=st.sampled_from([1, 3, 7, 13]),
    kernel=st.sampled_from([1, 3]),
)
made = st.sampled_from([FORWARD, INPUT_GRAD, WEIGHT_GRAD])


@settings(max_examples=40, deadline=None)
@given(made, sizes)
def test_fewer_bits_never_take_longer(
    which: tuple[tuple[NestSide, NestSide], NestSide], given_: dict[str, int]
) -> None:
    nest = convolution(which, **given_)
    cycles = [costed(nest, bits, result=16)[0] for bits in (2, 4, 8, 16)]
    assert cycles == sorted(cycles)


@settings(max_examples=40, deadline=None)
@given(made, sizes)
def test_products_and_traffic_are_never_less_than_there_is(
    which: tuple[tuple[NestSide, NestSide], NestSide], given_: dict[str, int]
) -> None:
    nest = convolution(which, **given_)
    cycles, waits, found = costed(nest, 8)
    assert 16 * 32 * (cycles - waits) >= nest.macs
    read = dict(found.read)
    assert all(read[side] >= 8 * nest.elements(side) for side in (which[0][1],))
    assert found.written >= 8 * nest.elements(which[1])
    m, n, k = nest.matrices
    assert m * n * k * nest.groups == nest.macs


def test_half_the_bits_move_half_of_what_fits() -> None:
    nest = convolution(FORWARD, images=1, inputs=32, outputs=16, places=7)
    eight, four = (costed(nest, bits)[2].moved for bits in (8, 4))
    assert eight == 2 * four == 8 * sum(nest.elements(side) for side in NestSide)


@pytest.mark.parametrize(
    ("f", "bits"), [(INTS[4], 4), (UINT4, 4), (FP4_EVEN, 14), (FP4_R2, 8), (FP8_152, 0), (BF16, 0)]
)
def test_integers_that_hold_the_levels(f: Format, bits: int) -> None:
    assert integer_bits(f) == bits


@pytest.mark.parametrize(
    ("word", "f", "fits"),
    [
        ("int4", INTS[4], True),
        ("int4", INTS[6], False),
        ("int16", FP4_EVEN, True),
        ("int8", FP4_EVEN, False),
        ("log4", FP4_EVEN, True),
        ("log4", UINT4, False),
        ("e5m3", FP8_152, True),
        ("e5m3", BF16, False),
        ("e8m7", BF16, True),
        ("e8m7", FP4_EVEN, True),
        ("e8m7", INTS[8], True),
        ("e8m7", F32, False),
        ("e8m23", F32, True),
    ],
)
def test_what_a_unit_takes(word: str, f: Format, fits: bool) -> None:
    assert takes(word, f) is fits
