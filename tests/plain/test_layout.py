"""The shape of the repository: links, lengths, who imports what, and words that mean unfinished."""

import ast
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

from ..rooms import rooms, table

TOP = Path(__file__).parents[2]
FOLDERS = ("compiler", "passes", "runtime", "targets", "tools")
FILES = {
    path.relative_to(TOP).as_posix(): path.read_text(encoding="utf-8")
    for folder in (*FOLDERS, "tests", "examples")
    for path in sorted((TOP / folder).rglob("*.py"))
}
TREES = {path: ast.parse(text) for path, text in FILES.items()}
LONGEST_FILE = 400
COMMAND_LINE = ("Option", "Argument")
LONGEST_FUNCTION = 40
# A TVM kernel is one nested function by the nature of its script language.
LONGEST_KERNEL, KERNELS = 60, ("targets/tir/*", "targets/cpu/*")
EDGES = (
    *(f"runtime/{name}.py" for name in ("edge", "inputs", "evaluation", "step")),
    *(f"runtime/compiled/{name}.py" for name in ("bound", "graph", "held", "record")),
)
TORCH_IS_FINE_IN = ("compiler/capture/*", *EDGES, "tools/*")
UNFINISHED = re.compile(
    r"\b(TODO|FIXME|XXX|HACK|NotImplementedError|simplified version|for now)\b"
    r"|(?<![\w.~])/(?:home|root|Users|work|mnt)/",
)


@pytest.mark.parametrize("folder", FOLDERS)
def test_links_resolve(folder: str) -> None:
    link = TOP / "quatrain" / folder
    assert link.is_symlink() and link.resolve() == TOP / folder, (
        f"quatrain/{folder} must be a symbolic link to ../{folder}; "
        "an archive tool that drops links has been at work, or git where it may make none, so clone "
        "with git -c core.symlinks=true"
    )


def matches(path: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch(path, p) for p in patterns)


def code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of ``function`` without its docstring, so that explaining costs nothing."""
    last = function.end_lineno or function.lineno
    doc = function.body[0] if ast.get_docstring(function) else None
    return last - function.lineno + 1 - ((doc.end_lineno or 0) - doc.lineno + 1 if doc else 0)


def long_functions() -> Iterator[str]:
    for path, tree in TREES.items():
        limit = LONGEST_KERNEL if matches(path, KERNELS) else LONGEST_FUNCTION
        for node in ast.walk(tree):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            if (length := code_lines(node)) > limit:
                yield f"{path}:{node.lineno} {node.name}: {length} lines of {limit}"


def test_no_file_is_long() -> None:
    lengths = {path: len(text.splitlines()) for path, text in FILES.items()}
    assert not {path: n for path, n in lengths.items() if n > LONGEST_FILE}


def test_no_function_is_long() -> None:
    assert not list(long_functions())


def test_nothing_is_left_unfinished() -> None:
    own = Path(__file__).relative_to(TOP).as_posix()  # it names the words
    found = {path: UNFINISHED.findall(text) for path, text in FILES.items() if path != own}
    assert not {path: words for path, words in found.items() if words}


def test_every_file_says_what_it_is() -> None:
    assert not [path for path, tree in TREES.items() if not ast.get_docstring(tree)]


def meanings(path: str) -> Iterator[tuple[str, str]]:
    """Names of the classes and of the aliases of types that a file defines, each with its meaning.

    Annotations of the command line are aliases too, one for each option of a command.
    """
    for node in TREES[path].body:
        if isinstance(node, ast.ClassDef):
            yield node.name, path
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            if name[0].isupper() and not name.isupper() and not name.endswith(COMMAND_LINE):
                yield name, ast.dump(node.value)


def test_a_class_name_means_one_thing() -> None:
    found: dict[str, set[str]] = {}
    for path in (p for p in FILES if p.startswith(FOLDERS)):
        for name, meaning in meanings(path):
            found.setdefault(name, set()).add(meaning)
    assert not {name: where for name, where in found.items() if len(where) > 1}


def imported(tree: ast.Module) -> set[str]:
    """Top-level names of the absolute imports anywhere in a file, type-checking ones included."""
    nodes = list(ast.walk(tree))
    plain = {a.name for n in nodes if isinstance(n, ast.Import) for a in n.names}
    sources = {n.module or "" for n in nodes if isinstance(n, ast.ImportFrom) and not n.level}
    return {dotted.partition(".")[0] for dotted in plain | sources}


def test_torch_and_tvm_stay_in_their_rooms() -> None:
    packages = {
        p: imported(t) for p, t in TREES.items() if not p.startswith(("tests/", "examples/"))
    }
    assert not [p for p, n in packages.items() if "torch" in n and not matches(p, TORCH_IS_FINE_IN)]
    assert not [p for p, n in packages.items() if "tvm" in n and not p.startswith("targets/")]
    reads = ("targets/onnx/write.py", "tools/from_onnx/*")
    assert not [p for p, n in packages.items() if "onnx" in n and not matches(p, reads)]


def test_the_page_about_rooms_is_what_the_imports_say() -> None:
    graph = rooms()
    assert table(graph) in (TOP / "docs" / "rooms.md").read_text(encoding="utf-8")
