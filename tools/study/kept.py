"""What a study's folder holds, read back without the command that made it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ...compiler.errors import FileError, UsageError
from .entry import Entry
from .folder import ABOUT, LAYERS, SHOT, read_result, whole
from .plan import TIME, Script
from .results import RecipeRow

SEED = re.compile(r"seed\d+")


@dataclass(frozen=True, slots=True)
class KeptShot:
    """One step with a layer quantized: SQNR in dB of scores and gradients; None if no number."""

    name: str
    outputs: float | None
    gradients: float | None

    @classmethod
    def of(cls, name: str, result: Mapping[str, Any]) -> KeptShot:
        """Of a result that did not fail."""
        return cls(name, result["outputs"]["sqnr"], result["gradients"]["sqnr"])


@dataclass(frozen=True, slots=True)
class KeptStudy:
    """All of a folder: the script, rows that were trained, and steps without training."""

    script: Script
    rows: tuple[RecipeRow, ...]
    shots: tuple[KeptShot, ...]


def read_folder(path: Path) -> KeptStudy:
    """The results in a folder; UsageError where it is none of a study, FileError for damage."""
    if not (path / ABOUT).is_file():
        raise UsageError(
            f"{path} is no folder of a study: it has no {ABOUT}; name one that -o made"
        )
    said = read_result(path / ABOUT)
    if not said.keys() <= {f.name for f in fields(Script)}:
        raise FileError(f"{path / ABOUT} is of another version of quatrain")
    try:
        script = Script(**said)
    except TypeError:
        raise FileError(f"{path / ABOUT} is damaged; it lacks parts of the script") from None
    files = [f for f in sorted(path.glob("*.json")) if f.name != ABOUT]
    found: dict[str, list[Mapping[str, Any]]] = {}
    for file in files:
        result = read_result(file)
        if not whole(result):
            raise FileError(f"{file} is no result of a study; remove it to do it again")
        found.setdefault(str(result["digest"]), []).append(result)
    rows = [row for parts in found.values() if (row := _row(parts)) is not None]
    if not rows and not any(p["part"] == SHOT for parts in found.values() for p in parts):
        raise UsageError(f"{path} has no results yet; train something into it first")
    return KeptStudy(script, tuple(rows), tuple(_shots(found.values())))


def _entry(result: Mapping[str, Any]) -> Entry:
    said = result.get("entry", {"recipe": result["recipe"]})
    return Entry(
        said["recipe"], said.get("options", {}), result["digest"], said.get("own", {}),
        tuple(said.get("without", ())),
    )  # fmt: skip


def _row(parts: Sequence[Mapping[str, Any]]) -> RecipeRow | None:
    """None where a recipe was not trained."""
    trained = sorted(
        (dict(p) for p in parts if SEED.fullmatch(str(p["part"]))), key=lambda p: int(p["part"][4:])
    )
    time = next((dict(p) for p in parts if p["part"] == TIME), None)
    return RecipeRow(_entry(trained[0]), tuple(trained), time) if trained else None


def _shots(found: Any) -> list[KeptShot]:
    """In order of the network, with no layer ahead and the recipe's own behind."""
    parts = [p for some in found for p in some]
    order = [x["name"] for p in parts if p["part"] == LAYERS for x in p.get("layers", ())]
    made = []
    for p in parts:
        if p["part"] == SHOT and not p["error"]:
            name = _shot_name(_entry(p))
            place = order.index(name) if name in order else (-1 if name == "no layer" else 10**6)
            made.append((place, name, p))
    made.sort(key=lambda m: m[:2])
    return [KeptShot.of(name, result) for _, name, result in made]


def _shot_name(entry: Entry) -> str:
    exempt = entry.options.get("exempt", "")
    if exempt == "*":
        return "no layer"
    return exempt.removeprefix("*,!") if exempt.startswith("*,!") else entry.label
