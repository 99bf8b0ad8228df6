"""Prints how large the project is: lines per folder, the longest files, the longest functions."""

import ast
from collections.abc import Iterator
from pathlib import Path

FOLDERS = ("compiler", "passes", "runtime", "targets", "tools", "tests", "examples")
TOP = Path(__file__).parent.parent


def functions(path: Path) -> Iterator[tuple[int, str]]:
    """Length in lines and place of every function of ``path``."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            place = f"{path.relative_to(TOP)}:{node.lineno} {node.name}"
            yield node.end_lineno - node.lineno + 1, place


def main() -> None:
    """Print the report."""
    paths = {folder: sorted((TOP / folder).rglob("*.py")) for folder in FOLDERS}
    lengths = {p: len(p.read_text("utf-8").splitlines()) for ps in paths.values() for p in ps}
    for folder, members in paths.items():
        print(f"{folder:10} {len(members):4} files {sum(lengths[p] for p in members):6} lines")
    print(f"{'all':10} {len(lengths):4} files {sum(lengths.values()):6} lines")
    for path, length in sorted(lengths.items(), key=lambda item: -item[1])[:5]:
        print(f"  {length:5} {path.relative_to(TOP)}")
    for length, place in sorted((f for p in lengths for f in functions(p)), reverse=True)[:5]:
        print(f"  {length:5} {place}")


if __name__ == "__main__":
    main()
