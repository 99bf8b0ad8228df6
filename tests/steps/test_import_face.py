"""``import quatrain``: what it offers, and that ``targets`` is both a package and a function."""

import subprocess
import sys
from pathlib import Path

import pytest

import quatrain

TOP = Path(__file__).parents[2]


def fresh(code: str) -> str:
    """What ``code`` prints in a process of its own."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=TOP, capture_output=True, text=True, check=True).stdout


def test_it_loads_neither_torch_nor_tvm() -> None:
    code = "import sys, quatrain; print(*sorted({'torch', 'tvm'} & set(sys.modules)))"
    assert fresh(code).strip() == ""


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'compil'"):
        _ = quatrain.compil  # type: ignore[attr-defined]


@pytest.mark.torch
def test_every_public_name_is_there() -> None:
    assert all(getattr(quatrain, name) is not None for name in quatrain.__all__)
    assert set(quatrain.__all__) <= set(dir(quatrain))


@pytest.mark.torch
@pytest.mark.parametrize(
    "first", ["pass", "import quatrain.targets", "import quatrain.tools.driver"]
)
def test_targets_is_a_package_and_a_function(first: str) -> None:
    code = (
        "import quatrain.targets.registry as r; print('cpu' in str(quatrain.targets()), r.__name__)"
    )
    assert fresh(f"import quatrain\n{first}\n{code}").split() == [
        "True",
        "quatrain.targets.registry",
    ]
