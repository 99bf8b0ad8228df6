"""The page of the public names: a directive for each, which Sphinx fills from the docstrings."""

from collections.abc import Iterable
from inspect import getdoc

PAGE = "docs/reference.md"
HEAD = """# Public names

All of them, with their signatures and docstrings, as the code has them. [python.md](python.md)
tells how they go together.
"""
FUNCTIONS = ("compile", "load", "compare", "from_onnx", "attach", "compiled", "recipes", "targets")
# What calls of them return, and what pages say to import.
RETURNED = (
    "quatrain.runtime.step.Step",
    "quatrain.runtime.report.bill.Bill",
    "quatrain.runtime.compiled.record.CompiledModel",
    "quatrain.runtime.built.step.BuiltStep",
)
RECIPES = ("quatrain.passes.recipe.recipe.Recipe", "quatrain.passes.recipe.recipe.PassEntry")
PROGRAMS = (
    *(f"quatrain.compiler.ir.program.{name}" for name in ("Program", "Op", "Value", "Region")),
    "quatrain.compiler.types.TensorType",
    "quatrain.compiler.types.Scale",
)


def reference() -> str:
    """The whole page."""
    return "\n".join(
        [
            HEAD,
            *_section("Functions", [_function(name) for name in FUNCTIONS]),
            *_section("What compile takes", _classes(["quatrain.Task"])),
            *_section("What is returned", [*_made(RETURNED), _loaded()]),
            *_section("Recipes", _classes(RECIPES)),
            *_section("Programs", _classes(PROGRAMS)),
            *_section("Errors", [".. automodule:: quatrain.compiler.errors\n   :members:"]),
        ]
    )


def _section(title: str, directives: Iterable[str]) -> list[str]:
    return [f"## {title}\n", *(f"```{{eval-rst}}\n{d}\n```\n" for d in directives)]


def _function(name: str) -> str:
    if name != "targets":
        return f".. autofunction:: quatrain.{name}"
    from quatrain.tools.driver import targets  # loads torch, which the names of this page do not

    # The package of that name, which can be called: for Sphinx it is a package.
    return f".. py:function:: quatrain.targets()\n\n   {getdoc(targets)}"


def _loaded() -> str:
    return ".. autofunction:: quatrain.runtime.built.step.load"


def _made(names: Iterable[str]) -> list[str]:
    """Classes that nobody makes by a call of their own: without what such a call takes."""
    return [f".. autoclass:: {name}()\n   :members:" for name in names]


def _classes(names: Iterable[str]) -> list[str]:
    return [f".. autoclass:: {name}\n   :members:" for name in names]
