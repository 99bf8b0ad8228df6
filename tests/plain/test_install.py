"""``import quatrain`` beside a clone, in it and away from it: not installed, editable, plain.

Each case is a copy of the repository in a folder of its own, and an interpreter that does not see
the repository of these tests.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

import quatrain

TOP = Path(__file__).parents[2]
FOLDERS = quatrain.FOLDERS
BUILD = ("setup.py", "pyproject.toml", "README.md", "LICENSE")
IMPORTS = """
import sys, site
if len(sys.argv) > 1:
    site.addsitedir(sys.argv[1])  # what a virtual environment does with its own folder
import quatrain
from quatrain.passes.recipe import recipe_names
assert quatrain.__spec__.origin == quatrain.__file__, quatrain.__spec__
assert "ultra_low_4bit" in recipe_names() and quatrain.targets.__name__ == "quatrain.targets"
from quatrain.runtime.page import frame
from quatrain.tools.compare import page
assert (frame.TEMPLATES / "page.html").is_file() and (page.TEMPLATES / "compare.html").is_file()
assert "compile" in dir(quatrain) and not {"torch", "tvm"} & set(sys.modules)
print(quatrain.__file__)
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone in a folder called quatrain."""
    place = tmp_path / "beside" / "quatrain"
    place.mkdir(parents=True)
    for name in ("__init__.py", *BUILD):
        shutil.copy(TOP / name, place)
    for name in ("quatrain", *FOLDERS):
        unwanted = shutil.ignore_patterns("__pycache__")
        shutil.copytree(TOP / name, place / name, symlinks=True, ignore=unwanted)
    return place


def lose_links(clone: Path, how: str) -> None:
    """What an archive tool does with links, or git where it may not make any."""
    for folder in FOLDERS:
        link = clone / "quatrain" / folder
        if how != "kept":
            link.unlink()
        if how == "text":
            link.write_text(f"../{folder}")
        if how == "copies":
            shutil.copytree(clone / folder, link)


def imported(cwd: Path, *options: str, site: Path | None = None) -> Path:
    """Where an interpreter in ``cwd`` finds quatrain; it sees only dependencies and ``site``."""
    installed = (str(site),) if site else ()
    done = _python(cwd, *(options or ("-c", IMPORTS)), *installed, first=installed)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


def _python(
    cwd: Path, *words: str, first: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """Python with the dependencies; without what site's .pth files add, editable installs.

    ``first`` comes before them: two editable installs have finders of one name.
    """
    packages = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    others = set(os.environ.get("PYTHONPATH", "").split(os.pathsep)) - {"", str(TOP)}
    path = os.pathsep.join([*first, *sorted(others | packages)])
    command = [sys.executable, "-S", *words]
    env = {**os.environ, "PYTHONPATH": path}
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True)


@pytest.mark.parametrize("links", ["kept", "text", "gone", "copies"])
def test_a_clone_that_is_not_installed(clone: Path, links: str) -> None:
    lose_links(clone, links)
    inner = clone / "quatrain" / "__init__.py"
    assert imported(clone) == inner
    assert imported(clone.parent) == inner
    script = clone.parent / "mine.py"
    script.write_text(IMPORTS)
    assert imported(TOP.parent, str(script)) == inner


@pytest.mark.parametrize("links", ["kept", "text"])
def test_the_command_line_beside_a_clone(clone: Path, links: str) -> None:
    lose_links(clone, links)
    done = _python(clone.parent, "-m", "quatrain", "recipes", "--help")
    assert done.returncode == 0 and "Usage" in done.stdout, done.stderr


@pytest.mark.torch
def test_a_step_can_be_compiled_beside_a_clone(clone: Path) -> None:
    code = "import quatrain; print(quatrain.compile.__module__, len(quatrain.recipes()) > 9)"
    assert _python(clone.parent, "-c", code).stdout.split() == ["quatrain.tools.driver", "True"]


@pytest.mark.parametrize("links", ["kept", "text"])
def test_an_editable_install(clone: Path, tmp_path: Path, links: str) -> None:
    lose_links(clone, links)
    site = install(clone, tmp_path, "build_editable")
    for cwd in (tmp_path, clone.parent, clone):
        assert imported(cwd, site=site) == clone / "quatrain" / "__init__.py"


@pytest.mark.parametrize("links", ["kept", "text"])
def test_a_plain_install(clone: Path, tmp_path: Path, links: str) -> None:
    lose_links(clone, links)
    site = install(clone, tmp_path, "build_wheel")
    assert imported(tmp_path, site=site) == site / "quatrain" / "__init__.py"
    # As for any package: what lies in the folder of the program comes before what is installed.
    assert imported(clone.parent, site=site) == clone / "quatrain" / "__init__.py"
    assert not list(site.rglob("tests"))


def install(clone: Path, tmp_path: Path, hook: str) -> Path:
    """What pip does with the clone, without pip: a folder of packages, made by the build's hook."""
    wheels, site = tmp_path / "wheels", tmp_path / "site"
    wheels.mkdir()
    code = f"import setuptools.build_meta as b; b.{hook}({str(wheels)!r})"
    done = subprocess.run([sys.executable, "-c", code], cwd=clone, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = wheels.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(site)
    return site


@pytest.mark.parametrize("links", ["kept", "text"])
def test_links_that_lead_nowhere_are_refused_in_a_sentence(clone: Path, links: str) -> None:
    lose_links(clone, links)
    shutil.rmtree(clone / "tools")
    done = _python(clone, "-c", "import quatrain")
    last = done.stderr.splitlines()[-1]
    named = "tools" if links == "kept" else "compiler, passes, runtime, targets, tools"
    assert last.startswith("ImportError: in ") and f"the links to {named} lead nowhere" in last
    assert "use a whole clone" in last


def test_a_clone_of_another_name_is_no_quatrain(clone: Path) -> None:
    clone.rename(clone.with_name("other"))
    done = _python(clone.parent, "-c", "import other; print(hasattr(other, 'compile'))")
    assert done.stdout.strip() == "False", done.stderr
