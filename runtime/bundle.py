"""The ``.qtn`` file: captured programs as text, recipe and facts as JSON, state as safetensors.

    manifest.json       version of this layout, target, seed, waivers, optimizer, model keys
    train.qt            the captured f32 training program
    evaluation.qt       the captured f32 evaluation program
    recipe.json         passes with their options
    state.safetensors   everything the step carries

There is no pickle and no code in it; passes run again on load. Two files of the same step are equal
byte for byte.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from ..compiler.errors import FileError, ParseError, VerifyError
from ..compiler.ir import Program
from ..compiler.ir.text import show
from ..compiler.ir.verify import read_program
from ..passes.recipe import Recipe
from .files import write_bytes

LAYOUT_VERSION = 2
ENTRIES = ("manifest.json", "train.qt", "evaluation.qt", "recipe.json", "state.safetensors")
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date a zip knows: equal content gives equal bytes
MAX_ENTRY = 1 << 36
MAKE = "step.save and quatrain compile -o make one"

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Bundle:
    """Contents of a ``.qtn`` file."""

    train: Program
    evaluation: Program
    recipe: Recipe
    manifest: Mapping[str, object]
    state: Arrays = field(default_factory=dict)


def write(bundle: Bundle, path: Path) -> None:
    """Write ``bundle`` to ``path`` whole or not at all; FileError where the folder refuses."""
    write_bytes(path, pack(bundle))


def pack(bundle: Bundle) -> bytes:
    """The contents of the file."""
    manifest = {**bundle.manifest, "layout": LAYOUT_VERSION}
    contents = {
        "manifest.json": _json(manifest),
        "train.qt": show(bundle.train).encode(),
        "evaluation.qt": show(bundle.evaluation).encode(),
        "recipe.json": _json(bundle.recipe.to_dict()),
        "state.safetensors": save_tensors(
            {k: np.asarray(v, order="C") for k, v in bundle.state.items()}
        ),
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for entry, data in contents.items():
            archive.writestr(zipfile.ZipInfo(entry, EPOCH), data)
    return buffer.getvalue()


def check_exists(path: Path, maker: str = "compile ... -o") -> None:
    """Raise FileError where there is no such file: a cheap question ahead of slow ones.

    ``maker`` is the command that would have made it.
    """
    code, _, function = str(path).partition(".py:")
    if function or path.suffix == ".py":
        spec = f"{code.removesuffix('.py')}.py:{function or 'FUNCTION'}"
        raise FileError(
            f"{path} is Python, and a network is a .qtn file; make one with: "
            f"quatrain compile {spec} -o {Path(code).stem}.qtn"
        )
    if path.is_dir():
        raise FileError(f"{path} is a folder; name a .qtn file")
    if not path.is_file():
        raise FileError(f"{path} does not exist; make it with: quatrain {maker} {path}")


def read(path: Path | str, *, state: bool = True) -> Bundle:
    """Read a ``.qtn`` file; ``state=False`` leaves the tensors on disk.

    Raises FileError, with the entry that is wrong, for anything but a whole file of this layout.
    """
    path = Path(path)
    check_exists(path)
    try:
        with zipfile.ZipFile(path) as archive:
            return _read(archive, path, state)
    except OSError as e:
        raise FileError(f"cannot read {path}: {e.strerror or type(e).__name__}") from None
    except (zipfile.BadZipFile, EOFError, ValueError, RuntimeError):
        raise FileError(f"{path} is no .qtn file or was cut short; {MAKE}") from None


def _read(archive: zipfile.ZipFile, path: Path, state: bool) -> Bundle:
    sizes = {i.filename: i.file_size for i in archive.infolist()}
    if set(sizes) != set(ENTRIES) or max(sizes.values()) > MAX_ENTRY:
        raise _foreign(path, sizes.keys())
    manifest = _object(archive, "manifest.json", path)
    if manifest.get("layout") != LAYOUT_VERSION:
        found = manifest.get("layout")
        raise FileError(f"{path} has layout {found!r}; this version reads {LAYOUT_VERSION}")
    programs = [_program(archive, entry, path) for entry in ("train.qt", "evaluation.qt")]
    # A file from before steps counted what they skip gets that with its other passes.
    recipe = Recipe.from_dict(_object(archive, "recipe.json", path)).ending_with("skip_nonfinite")
    tensors: Arrays = {}
    if state:
        try:
            tensors = load_tensors(_entry(archive, "state.safetensors", path))
        except SafetensorError:
            raise _damaged(path, "state.safetensors") from None
    return Bundle(programs[0], programs[1], recipe, manifest, tensors)


def unpack(data: bytes) -> Bundle:
    """What ``pack`` packed."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return _read(archive, Path("the packed step"), state=True)


def _foreign(path: Path, entries: Collection[str]) -> FileError:
    """The error for a zip file that is no step."""
    if any(name.endswith("/data.pkl") for name in entries):
        return FileError(
            f"{path} is a file of torch.save; load it into the model with load_state_dict, and "
            "compile that"
        )
    if lost := [name for name in ENTRIES if name not in entries]:
        return FileError(f"{path} is a zip file without {lost[0]} and no .qtn file; {MAKE}")
    return FileError(f"{path} holds more than a .qtn file does, such as {_first_foreign(entries)}")


def _first_foreign(entries: Collection[str]) -> str:
    return min((name for name in entries if name not in ENTRIES), default="a huge entry")


def _program(archive: zipfile.ZipFile, entry: str, path: Path) -> Program:
    try:
        return read_program(_entry(archive, entry, path).decode())
    except UnicodeDecodeError:
        raise _damaged(path, entry) from None
    except (ParseError, VerifyError) as e:
        raise FileError(f"{path}: {entry} is no valid program: {e}") from None


def _entry(archive: zipfile.ZipFile, entry: str, path: Path) -> bytes:
    try:
        return archive.read(entry)
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError):
        raise _damaged(path, entry) from None


def _damaged(path: Path, entry: str) -> FileError:
    return FileError(f"{path}: {entry} is damaged; take another copy or compile again")


def _object(archive: zipfile.ZipFile, entry: str, path: Path) -> dict[str, object]:
    try:
        data = json.loads(_entry(archive, entry, path))
    except ValueError:
        raise _damaged(path, entry) from None
    if not isinstance(data, dict):
        raise FileError(f"{path}: {entry} must be a JSON object, not {type(data).__name__}")
    return cast(dict[str, object], data)


def _json(data: Mapping[str, object]) -> bytes:
    return (json.dumps(data, indent=1, sort_keys=True) + "\n").encode()
