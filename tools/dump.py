"""The IR text after every pass, as files: ``00-lower.qt``, ``01-PASS.qt`` ..."""

from __future__ import annotations

import difflib
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from pathlib import Path

from ..compiler.errors import FileError, UsageError, closest
from ..compiler.ir import Program, unused
from ..compiler.ir.text import show
from ..runtime.page.source import CAPTURED
from . import env, terminal
from .files import check_writable, make_folder, read_text, write_text

FIRST = CAPTURED
# How a dump begins: a remark of this file's or of reproducer's, or the program at once.
MARK = "# the pass "
BEGINNINGS = (MARK.encode(), b"program ")
HISTORY = re.compile(r"^after .*\n", re.MULTILINE)
DUMPED = re.compile(r"(?:\d\d+|failed)-[A-Za-z0-9_.#-]+\.qt")
Stages = Sequence[tuple[str, Program]]


def stages(captured: Program, applied: Iterable[tuple[str, Program]]) -> list[tuple[str, Program]]:
    """The captured program as ``lower``, then each pass; a repeated pass is ``name#2``."""
    taken = {FIRST}
    return [(FIRST, captured), *((unused(name, taken), p) for name, p in applied)]


def find(made: Stages, name: str) -> int:
    """The place of the stage ``name``; UsageError with the closest name where there is none."""
    names = [n for n, _ in made]
    if name not in names:
        raise UsageError(f"no pass {name!r} made this program; {closest(name, names)}")
    return names.index(name)


def named_folder() -> Path | None:
    """The folder for the text after every pass, made if need be; None where none is named.

    Asked ahead of long work, so that a name that cannot be written to is found before it.
    """
    folder = env.dump_dir()
    if folder is not None:
        check_writable(make_folder(folder) / FIRST)
    return folder


def observer(folder: Path, captured: Program) -> Callable[[str, Program], None]:
    """Writes ``captured`` at once, and each stage that it is called with; see ``Recipe.apply``.

    So the files of the passes that ran are there even where a later one fails. Those of an earlier
    compile are removed first. A pass that changed nothing is marked in the first line of its file.
    """
    _remove_stages(make_folder(folder))
    texts = [show(captured)]
    write_stage(folder, 0, FIRST, texts[0])

    def see(name: str, program: Program) -> None:
        texts.append(show(program))
        same = idle([("", texts[-2]), (name, texts[-1])])
        mark = f"{MARK}{name} changed nothing\n" if same else ""
        write_stage(folder, len(texts) - 1, name, mark + texts[-1])

    return see


def place(folder: Path, index: int, name: str) -> Path:
    """Where ``write_stage`` puts a stage: ``NN-NAME.qt``."""
    return folder / f"{index:02}-{plain(name)}.qt"


def plain(name: str) -> str:
    """The name of a pass, as that of a file."""
    return re.sub(r"[^A-Za-z0-9_.#-]", "_", name)


def write_stage(folder: Path, index: int, name: str, text: str) -> Path:
    """Write one stage."""
    path = place(make_folder(folder), index, name)
    write_text(path, text)
    return path


def kept_text(path: Path) -> Path:
    """A copy of a text that outlives its folder, among temporary files."""
    handle, name = tempfile.mkstemp(prefix="quatrain-", suffix=f"-{path.name}")
    os.close(handle)
    write_text(Path(name), read_text(path))
    return Path(name)


def _remove_stages(folder: Path) -> None:
    """Remove what ``write_stage`` wrote there before, by its name and first word, and no more."""
    for path in folder.iterdir():
        try:
            if DUMPED.fullmatch(path.name) and path.is_file() and _is_program(path):
                path.unlink()
        except OSError as error:
            raise FileError(f"cannot remove {path}: {error.strerror}") from error


def _is_program(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(max(map(len, BEGINNINGS))).startswith(BEGINNINGS)


def idle(texts: Iterable[tuple[str, str]]) -> list[str]:
    """The stages whose text, but for the line ``after``, is that of the stage ahead of them."""
    bodies = [(name, HISTORY.sub("", text, count=1)) for name, text in texts]
    return [name for (_, old), (name, new) in pairwise(bodies) if old == new]


def idle_programs(made: Stages) -> list[str]:
    """The stages that changed nothing of the program."""
    return idle((name, show(program)) for name, program in made)


def remark_idle(texts: Iterable[tuple[str, str]], but: str = "") -> None:
    """Say on standard error which passes changed nothing, if any ``but`` those of that name."""
    if names := [n for n in idle(texts) if n.partition("#")[0] != but]:
        terminal.remark(f"{', '.join(names)} changed nothing")


def diff(made: Stages, name: str) -> list[str]:
    """The unified diff of the texts before and after the stage ``name``."""
    after = find(made, name)
    if after == 0:
        raise UsageError(f"{name!r} is the first stage; use --after {name}")
    (old_name, old), (new_name, new) = made[after - 1 : after + 1]
    texts = show(old).splitlines(), show(new).splitlines()
    return list(difflib.unified_diff(*texts, old_name, new_name, lineterm=""))
