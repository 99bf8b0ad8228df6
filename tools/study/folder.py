"""A study's folder: what it is about, and one JSON file a result, written whole or not at all.

study.json                       the script that all results share
NAME-DIGEST.seed0.json           one training
NAME-DIGEST.time.json            the time of a step beside the baseline's
NAME-DIGEST.layers.json          the layers that the network has
NAME-DIGEST.seed0.qtn            the checkpoint of a training under way
NAME-DIGEST.oneshot.json         one step without training beside fp32's, layer by layer
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...compiler.errors import FileError, UsageError
from ..files import make_folder, read_text, write_text
from .checkpoints import checkpoint_file
from .entry import Entry
from .plan import TIME, Script

ABOUT = "study.json"
Result = dict[str, Any]
LAYERS, SHOT = "layers", "oneshot"
# What each part found, where it did not fail; any other part is a training.
TRAINED = {"accuracy", "loss", "bill"}
NEEDED = {
    TIME: {"rounds", "baseline_rounds"},
    LAYERS: {"layers"},
    SHOT: {"batches", "state", "loss", "outputs", "gradients", "layers"},
}


@dataclass(frozen=True, slots=True)
class Folder:
    """Results by recipe and part (``seed0``, ``time``); without a ``path`` nothing is kept."""

    path: Path | None = None

    def find(self, entry: Entry, part: str) -> Result | None:
        """A result of an earlier run; FileError for a file that is damaged."""
        file = self._file(entry, part)
        if file is None or not file.exists():
            return None
        found = read_result(file)
        if found.get("digest") != entry.digest or found.get("part") != part or not whole(found):
            raise FileError(f"{file} is no result of {entry.label}; remove it to do it again")
        return found

    def keep(self, entry: Entry, part: str, result: Result) -> Result:
        """Write a result; it comes back with the recipe that it is of."""
        about = {"recipe": " ".join(entry.words), "entry": entry.to_dict()}
        kept = {**about, "digest": entry.digest, "part": part, **result}
        file = self._file(entry, part)
        if file is not None:
            write_text(file, json.dumps(kept, indent=1, allow_nan=False) + "\n")
        return kept

    def checkpoint(self, entry: Entry, part: str) -> Path | None:
        """Where the checkpoint of a training lies, wherever it is looked for from."""
        file = self._file(entry, part)
        return None if file is None else checkpoint_file(file).absolute()

    def _file(self, entry: Entry, part: str) -> Path | None:
        return None if self.path is None else self.path / f"{entry.stem}.{part}.json"


def open_folder(path: Path | None, script: Script) -> Folder:
    """The folder for the results of ``script``, made if it is missing.

    Raises UsageError where it holds those of another script, or other files.
    """
    if path is None:
        return Folder()
    about = make_folder(path) / ABOUT
    said = script.to_dict()
    if not about.exists():
        if any(path.iterdir()):
            raise UsageError(f"{path} holds other files and no {ABOUT}; name an empty folder")
        write_text(about, json.dumps(said, indent=1) + "\n")
        return Folder(path)
    before = read_result(about)
    for key in said.keys() | before.keys():
        if before.get(key) != said.get(key):
            raise UsageError(
                f"{path} holds a study with {key} {before.get(key)}, not {said.get(key)}; "
                "go on with the same options, or name another folder"
            )
    return Folder(path)


def whole(found: Result) -> bool:
    """Whether a result has all that it needs: why it failed, or what its part found."""
    needed = set() if found.get("error") else NEEDED.get(str(found.get("part")), TRAINED)
    return {"error", "part", "recipe", "digest", *needed} <= found.keys()


def read_result(file: Path) -> Result:
    """A file of a folder; FileError where it is damaged."""
    try:
        found = json.loads(read_text(file))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise FileError(f"{file} is no result of a study; remove it to do it again")
    return found
