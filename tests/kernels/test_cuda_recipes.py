"""Every kernel of every recipe on the ``cuda`` target, in the emulator beside the reference."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
pytest.importorskip("tvm")

from quatrain.passes.recipe.recipe import recipe_names

from ..cases.recipe_checks import kernels_equal_the_reference
from ..steps.test_gates import test_kernels_equal_the_reference as gated

pytestmark = [
    pytest.mark.torch,
    pytest.mark.tvm,
    pytest.mark.slow,
    pytest.mark.usefixtures("emulated"),
]
# Of networks with residual blocks, and nearly the same kernels, which are built once.
GATED = ("dfq", "fractrain")


@pytest.mark.share(2)
@pytest.mark.parametrize("recipe", [r for r in recipe_names() if r not in GATED])
def test_kernels_equal_the_reference(recipe: str) -> None:
    kernels_equal_the_reference(recipe, {})


def test_kernels_of_gated_recipes_equal_the_reference() -> None:
    for recipe in GATED:
        gated(recipe)
