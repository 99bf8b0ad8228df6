"""The shape of the repository: links, lengths, who imports what, and words that mean unfinished."""

import ast
import re
from fnmatch import fnmatch
from pathlib import Path

import pytest

TOP = Path(__file__).parent.parent
FOLDERS = ("compiler", "passes", "runtime", "targets", "tools")
FILES = sorted(p for f in (*FOLDERS, "tests", "examples") for p in (TOP / f).rglob("*.py"))
LONGEST_FILE = 400
LONGEST_FUNCTION = 40
# A TVM kernel is one nested function by the nature of its script language.
LONGEST_IN = {"tvm_*.py": 60}
TORCH_IS_FINE_IN = ("compiler/capture*", "runtime/inputs.py", "runtime/step.py", "tools/*")
UNFINISHED = re.compile(
    r"\b(TODO|FIXME|XXX|HACK|NotImplementedError|simplified version|for now)\b"
    r"|(?<![\w.~])/(?:home|root|Users|work|mnt)/",
)


def name(path: Path) -> str:
    return path.relative_to(TOP).as_posix()


@pytest.mark.parametrize("folder", FOLDERS)
def test_links_resolve(folder: str) -> None:
    link = TOP / "quatrain" / folder
    assert link.is_symlink() and link.resolve() == TOP / folder, (
        f"quatrain/{folder} must be a symbolic link to ../{folder}; "
        "a copy or archive tool that drops links has been at work, so clone with git instead"
    )


def code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of ``function`` without its docstring, so that explaining costs nothing."""
    last = function.end_lineno or function.lineno
    doc = function.body[0] if ast.get_docstring(function) else None
    return last - function.lineno + 1 - ((doc.end_lineno or 0) - doc.lineno + 1 if doc else 0)


@pytest.mark.parametrize("path", FILES, ids=name)
def test_lengths(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LONGEST_FILE
    limit = next((n for p, n in LONGEST_IN.items() if fnmatch(path.name, p)), LONGEST_FUNCTION)
    long = {
        node.name: length
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if (length := code_lines(node)) > limit
    }
    assert not long, f"functions of more than {limit} lines"


@pytest.mark.parametrize("path", FILES, ids=name)
def test_nothing_is_left_unfinished(path: Path) -> None:
    if path == Path(__file__):
        pytest.skip("this file names the words")
    text = path.read_text(encoding="utf-8")
    assert not UNFINISHED.findall(text)
    assert ast.get_docstring(ast.parse(text)), "say in the first line what the file is"


def imported(path: Path) -> set[str]:
    """Top-level names of the absolute imports anywhere in ``path``, type-checking ones included."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    plain = {a.name for n in nodes if isinstance(n, ast.Import) for a in n.names}
    sources = {n.module or "" for n in nodes if isinstance(n, ast.ImportFrom) and not n.level}
    return {dotted.partition(".")[0] for dotted in plain | sources}


@pytest.mark.parametrize("path", [p for p in FILES if p.parent.name != "tests"], ids=name)
def test_torch_and_tvm_stay_in_their_rooms(path: Path) -> None:
    room = name(path)
    if "torch" in imported(path) and not room.startswith("examples/"):
        assert any(fnmatch(room, p) for p in TORCH_IS_FINE_IN), TORCH_IS_FINE_IN
    if "tvm" in imported(path):
        assert room.startswith("targets/")
