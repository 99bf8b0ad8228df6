"""A machine whose products cost their bit operations, in pJ; nothing else costs any energy."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from quatrain.runtime.cost.accelerator import Accelerator, CostedUnit
from quatrain.runtime.cost.accelerator_file import load_accelerator

PATH = Path(__file__).parent / "bit_machine.toml"
WIDTHS = range(2, 17)


def bit_machine() -> Accelerator:
    """Integers of 2 to 16 bits by each other, and f32 at 1024."""
    return replace(load_accelerator(str(PATH)), units=tuple(_units()))


def _units() -> list[CostedUnit]:
    pairs = ((a, b) for a in WIDTHS for b in WIDTHS if a >= b)
    found = [_unit(f"int{a}", f"int{b}", a * b) for a, b in pairs]
    return [*found, _unit("e8m23", "e8m23", 32 * 32)]


def _unit(first: str, second: str, cost: int) -> CostedUnit:
    return CostedUnit(
        f"{first} x {second}", (first, second), Fraction(1024, cost), cost, False, "the test"
    )
