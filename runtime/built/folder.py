"""The folder of a built step, written whole or not at all, and read with what may be wrong of it.

manifest.json           see ``manifest``
program.txt             the training program after all passes and the target's own stages
predict.txt             the program of ``predict``, likewise
kernels-DIGEST.cubin    machine code; or .so, with libtvm_runtime.so beside
state.safetensors       everything the step carries, and its hyper-parameters as a note
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...compiler.errors import FileError
from ...targets.tir.store import digest
from .manifest import FORMAT, Manifest

MANIFEST, STATE = "manifest.json", "state.safetensors"
PROGRAM, PREDICT, RUNTIME = "program.txt", "predict.txt", "libtvm_runtime.so"
NAMES = (MANIFEST, STATE, PROGRAM, PREDICT, RUNTIME)
KERNELS = re.compile(r"kernels-([0-9a-f]{32})\.(so|cubin)")
MAKE = "quatrain build NET.qtn -o"


def check_place(path: Path) -> None:
    """Raise FileError unless a build may be written to ``path``: nothing is there, or another."""
    parent = path.absolute().parent
    if not parent.is_dir():
        raise FileError(f"cannot write {path}: {parent} is no folder; make it first")
    if not os.access(parent, os.W_OK):
        raise FileError(f"cannot write {path}: {parent} is not writable; name another folder")
    if not path.exists() and not path.is_symlink():
        return
    if path.is_symlink() or not path.is_dir():
        raise FileError(f"cannot write {path}: it is no folder, and a build is one; name another")
    names = sorted(entry.name for entry in path.iterdir())
    foreign = [name for name in names if name not in NAMES and not KERNELS.fullmatch(name)]
    if foreign or (names and MANIFEST not in names):
        other = f"it holds {foreign[0]}" if foreign else f"it has no {MANIFEST}"
        raise FileError(
            f"{path} exists and is no build ({other}), so it stays as it is; name another folder"
        )


def write_folder(path: Path, contents: Mapping[str, bytes]) -> None:
    """Put files into a new folder ``path``; a build that is there gives way when all is written."""
    check_place(path)
    place = path.absolute()
    try:
        scratch = Path(tempfile.mkdtemp(prefix=f".{place.name[:100]}.", dir=place.parent))
    except OSError as error:
        raise _refused(path, error) from error
    try:
        draft = scratch / "new"
        draft.mkdir()
        for name, data in contents.items():
            _write(draft / name, data)
        if place.exists():
            place.replace(scratch / "old")
        _move(draft, place, scratch / "old")
    except OSError as error:
        raise _refused(path, error) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _move(draft: Path, place: Path, before: Path) -> None:
    try:
        draft.replace(place)
    except OSError:
        if before.exists():
            before.replace(place)
        raise


def _refused(path: Path, error: OSError) -> FileError:
    return FileError(f"cannot write {path}: {error.strerror or error}; it is as it was before")


def read_manifest(path: Path) -> Manifest:
    """The manifest of a build; FileError for anything else."""
    if not path.exists():
        raise FileError(f"{path} does not exist; make it with: {MAKE} {path}")
    if not path.is_dir():
        raise FileError(f"{path} is a file, and a build is a folder; make one with: {MAKE} DIR")
    if not (path / MANIFEST).is_file():
        raise FileError(f"{path} is no build: it has no {MANIFEST}; make one with: {MAKE} DIR")
    data = _object(path)
    if (found := data.get("format")) != FORMAT:
        raise FileError(
            f"{path} is a build of format {found!r}, this version reads {FORMAT}; build it again"
        )
    try:
        manifest = Manifest.read(data)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise FileError(f"{path}: {MANIFEST} lacks or garbles {error}; build it again") from None
    _check_kernels(path, manifest)
    return manifest


def _object(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(read_file(path, MANIFEST))
    except ValueError:
        data = None
    if not isinstance(data, dict):
        raise FileError(f"{path}: {MANIFEST} is damaged; build it again")
    return data


def _check_kernels(path: Path, manifest: Manifest) -> None:
    """Machine code that is damaged would end the process, or compute anything."""
    for name in sorted({kernel.file for kernel in manifest.kernels}):
        known = KERNELS.fullmatch(name)
        if known is None or digest(read_file(path, name)) != known[1]:
            raise FileError(f"{path}: {name} is damaged; build it again")


def read_file(path: Path, name: str) -> bytes:
    """A file of a build."""
    try:
        return (path / name).read_bytes()
    except FileNotFoundError:
        raise FileError(f"{path} lacks {name}; build it again") from None
    except OSError as error:
        raise FileError(f"cannot read {path / name}: {error.strerror}") from None
