"""Which layer loses: rows of one layer at a time, and one step of each beside that of fp32."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatchcase
from hashlib import sha256
from pathlib import Path
from typing import Any

from ...compiler.errors import FileError, UsageError, closest
from ...passes.parts.select import escaped
from ...passes.recipe import load_recipe
from ...passes.recipe.recipe import Settings
from ..bench.process import ContenderFailed
from .entry import BASELINE, Entry, distinct, entry
from .folder import LAYERS, SHOT, Result
from .processes import Process
from .progress import StudyProgress
from .run import Study, request

EXEMPT = "exempt"
FIGURES = ("outputs", "gradients")


class How(Enum):
    """What is done with one layer at a time."""

    ONE_SHOT = "one-shot"  # quantized alone, in one step without training
    ALONE = "alone"  # quantized alone, and trained
    EXEMPT = "exempt"  # exempt where the recipe quantizes it and quantized where it does not


@dataclass(frozen=True, slots=True)
class StudiedLayer:
    """A layer with a weight: its name, its share (0..1) of the forward MACs, what the recipe does.

    ``exempt`` is of the recipe as it stands.
    """

    name: str
    op: str
    macs: float
    exempt: bool


@dataclass(frozen=True, slots=True)
class Shot:
    """One row of a one-shot study; ``layer`` is None of the rows with no layer and with all."""

    entry: Entry
    layer: StudiedLayer | None
    result: Result


@dataclass(frozen=True, slots=True)
class Start:
    """Where one step begins: so many batches, and numbers of a file in place of new weights."""

    batches: int
    state: Path | None = None

    @property
    def digest(self) -> str:
        """Of the file; FileError where it cannot be read."""
        if self.state is None:
            return ""
        try:
            return sha256(self.state.read_bytes()).hexdigest()
        except OSError as error:
            raise FileError(f"cannot read {self.state}: {error.strerror}") from error


def layer_rows(
    name: str, options: Mapping[str, str], layers: Sequence[StudiedLayer], how: How
) -> list[Entry]:
    """A row for each layer, in their order."""
    known = load_recipe(name).with_options(options).settings
    return [_row(name, options, known, layer, how) for layer in layers]


def _row(
    name: str, options: Mapping[str, str], known: Settings, layer: StudiedLayer, how: How
) -> Entry:
    term = escaped(layer.name)
    if how is not How.EXEMPT:
        return entry(name, {**_others(options), EXEMPT: f"*,!{term}"}, f"only {layer.name}")
    changed, extra = dict(options), f"!{term}" if layer.exempt else term
    for key, value in known.items():
        if key.rpartition(".")[2] == EXEMPT:
            changed[key] = extra if value == "none" else f"{value},{extra}"
    return entry(name, changed, f"{layer.name} {'quantized' if layer.exempt else 'exempt'}")


def frame_rows(name: str, options: Mapping[str, str], how: How) -> list[Entry]:
    """What rows of single layers stand beside: fp32, the recipe with no layer, and with its own.

    UsageError where the recipe has no option to exempt layers.
    """
    known = load_recipe(name).settings
    if not any(key.rpartition(".")[2] == EXEMPT for key in known):
        raise UsageError(f"recipe {name} has no option to exempt layers; study one that has")
    none = entry(name, {**_others(options), EXEMPT: "*"}, "no layer")
    whole = entry(name, options)
    plain = entry(BASELINE, {})
    return {
        How.ONE_SHOT: [none, whole],
        How.ALONE: [plain, none, whole],
        How.EXEMPT: [plain, whole],
    }[how]


def _others(options: Mapping[str, str]) -> dict[str, str]:
    """Options without those that exempt layers."""
    return {k: v for k, v in options.items() if k.rpartition(".")[2] != EXEMPT}


def check_batches(study: Study, start: Start) -> None:
    """UsageError where the data have fewer batches than one step each is to be taken of."""
    most = study.script.per_epoch if study.script.batch else start.batches
    if start.batches > most:
        raise UsageError(f"--batches {start.batches}: the training part has {most} of this size")


def layers_of(study: Study, of: Entry, patterns: Sequence[str], start: Start) -> list[StudiedLayer]:
    """The layers of the network whose names fit; UsageError for a pattern that fits none."""
    check_batches(study, start)
    kept = study.found(of, LAYERS) if start.state is None else None
    if kept is None or kept.get("error"):
        with Process() as process:
            try:
                process.worker.ask("build", study.limit, **_asked(study, of, LAYERS, start))
                facts = process.worker.ask("facts", study.limit)
            except ContenderFailed as failure:
                why = re.sub(r"^\w+Error: ", "", str(failure))
                raise UsageError(f"{study.script.network} cannot be looked into: {why}") from None
        kept = study.folder.keep(of, LAYERS, {"error": None, "layers": facts["layers"]})
    found = [StudiedLayer(**layer) for layer in kept["layers"]]
    names = [layer.name for layer in found]
    for pattern in patterns:
        if not any(fnmatchcase(n, pattern) for n in names):
            raise UsageError(f"--layers: no layer is called {pattern!r}; {closest(pattern, names)}")
    return [x for x in found if not patterns or any(fnmatchcase(x.name, p) for p in patterns)]


def _asked(study: Study, of: Entry, part: str, start: Start) -> dict[str, Any]:
    state = None if start.state is None else str(start.state)
    return {**request(study, of, part, 0), "batches": start.batches, "state": state}


def shots(study: Study, rows: Sequence[Entry], start: Start) -> list[Result]:
    """What each row came to, kept in the study's folder; one that fails says why."""
    where = {"batches": start.batches, "state": start.digest}
    found = {row.digest: _kept(study, row, where) for row in rows}
    left = [row for row in distinct(rows) if found[row.digest] is None]
    with StudyProgress(len(left)) as progress, Process() as process:
        fresh = True
        for i, row in enumerate(left):
            progress.say(row.label)
            try:
                if fresh:
                    asked = _asked(study, row, SHOT, start)
                    asked["rows"] = [r.to_dict() for r in left[i:]]
                    process.worker.ask("build", study.limit, **asked)
                else:
                    process.worker.ask("run", study.limit, steps=1)
                facts = process.worker.ask("facts", study.limit)
                result = {k: v for k, v in facts.items() if not k.endswith("_bytes")}
                fresh = False
            except ContenderFailed as failure:
                result, fresh = {"error": str(failure)}, True
            found[row.digest] = study.folder.keep(row, SHOT, {"error": None, **result, **where})
            progress.advance(1, row.label)
            progress.line(f"{row.label}: {_words(result)}")
    return [made for row in rows if (made := found[row.digest]) is not None]


def _kept(study: Study, row: Entry, where: Mapping[str, object]) -> Result | None:
    kept = study.found(row, SHOT)
    return kept if kept and where.items() <= kept.items() else None


def _words(result: Result) -> str:
    if result.get("error"):
        return str(result["error"])
    gap = result["gradients"]
    return (
        "equal"
        if gap["equal"]
        else f"gradients {_decibel(gap)}, outputs {_decibel(result['outputs'])}"
    )


def _decibel(gap: Mapping[str, Any]) -> str:
    return (
        "equal" if gap["equal"] else "no number" if gap["sqnr"] is None else f"{gap['sqnr']:.1f} dB"
    )
