"""The example of docs/writing-a-pass.md does what the page says."""

import re
from pathlib import Path

import pytest

from quatrain.compiler.errors import RecipeError
from quatrain.passes.recipe import load_recipe, recipe_names
from quatrain.passes.recipe.roles import roles
from tests.cases.residual import resnet

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "writing-a-pass.md").read_text(encoding="utf-8")


def block(start: str) -> str:
    """The fenced block whose content starts with ``start``."""
    blocks = re.findall(r"^```\w+\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
    (found,) = (b for b in blocks if b.startswith(start))
    return str(found)


def test_the_users_pass_moves_one_layer_to_fp8(tmp_path: Path) -> None:
    (tmp_path / "my_pass.py").write_text(block('"""The gradients of some layers'), encoding="utf-8")
    path = tmp_path / "my_recipe.toml"
    text = block('title = "4 bits').replace("stages.1.0.body.0", "layer1.0.conv1")
    path.write_text(text, encoding="utf-8")
    recipe = load_recipe(path)
    program = recipe.apply(resnet())[-1][1]
    kinds = ("conv2d_input_grad", "conv2d_weight_grad")
    formats = {
        (op.origin, op.inputs[0].type.format.name)
        for _, op in program.ops()
        if op.kind in kinds and op.inputs[0].type.format.is_coded
    }
    others = ("layer1.0.conv2", "layer2.0.conv1", "layer2.0.conv2")
    four_bit = {(n, f) for n in others for f in ("fp4.even", "fp4.odd")}
    assert formats == four_bit | {("layer1.0.conv1", "fp8.152")}
    tops = {op.origin: op.attrs["top"] for _, op in program.ops() if "top" in op.attrs}
    assert tops == dict.fromkeys(others, 64.0) | {"layer1.0.conv1": 57344.0}
    assert roles(recipe).rows
    moved = recipe.with_options({"layer": "layer2.0.conv1"})
    assert moved.digest != recipe.digest
    with pytest.raises(RecipeError, match=r"did you mean 'layer1\.0\.conv1'"):
        recipe.with_options({"layer": "layer1.0.conf1"}).apply(resnet())


@pytest.mark.torch
def test_the_layer_of_the_example_exists() -> None:
    resnet20 = pytest.importorskip("quatrain.tools.models").resnet20
    names = dict(resnet20().named_modules())
    assert "stages.1.0.body.0" in names and "stages.1.0.body.0" in block("title")


def test_the_recipe_of_the_example_is_ours_with_one_pass_more() -> None:
    entries = re.findall(r'^pass = "(.*)"', block("title"), flags=re.MULTILINE)
    own = [e for e in entries if ".py:" not in e]
    assert own == list(load_recipe("ultra_low_4bit").labels) and len(entries) == len(own) + 1


def test_each_recipe_has_a_page_that_lists_its_options() -> None:
    for name in recipe_names():
        page = (DOCS / "recipes" / f"{name}.md").read_text(encoding="utf-8")
        for option, value in load_recipe(name).settings.items():
            shown = f"{value:g}" if isinstance(value, float) else str(value).lower()
            row = next(line for line in page.splitlines() if line.startswith(f"| `{option}` |"))
            default = row.split("|")[2].strip(" `")
            same = default == shown or (isinstance(value, float) and float(default) == value)
            assert same, row
