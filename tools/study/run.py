"""Runs a study: each training in its own process, then each recipe's step beside the baseline's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from .. import env
from ..bench.process import ContenderFailed, Worker
from ..bench.rounds import Racer, race
from ..doctor import cpu_name
from ..progress import perplexity
from .checkpoints import remove
from .entry import Entry, baseline
from .folder import Folder, Result
from .plan import TIME, Script
from .progress import StudyProgress
from .results import RecipeRow

# Seconds between two signs of life, and the most steps between them.
SIGN_SECONDS, MOST_STEPS = 1.0, 1000
# Of a training under way: no part of its result.
SAID = ("done", "remark")


@dataclass(frozen=True, slots=True)
class Study:
    """What is to be found out: ``seeds`` trainings a recipe, ``rounds`` of turns for its time.

    A step, a build or an evaluation that takes over ``limit`` seconds fails; ``retry`` does again
    what failed in an earlier run of the same folder. ``load`` is the system's before it begins,
    ``every`` the steps between two checkpoints of a training; None: by the clock.
    """

    script: Script
    entries: tuple[Entry, ...]
    seeds: int
    folder: Folder
    rounds: int
    limit: float
    retry: bool = False
    load: float = 0.0
    every: int | None = None

    def found(self, entry: Entry, part: str) -> Result | None:
        """What an earlier run has found."""
        result = self.folder.find(entry, part)
        return None if result and result.get("error") and self.retry else result


def run(study: Study) -> list[RecipeRow]:
    """All rows; a recipe that fails is a row that says why, and the others go on.

    Seeds are the outer loop, so that a study that is stopped early has compared all recipes.
    """
    trained: dict[str, list[Result]] = {e.digest: [] for e in study.entries}
    parts = [(seed, entry) for seed in range(study.seeds) for entry in study.entries]
    kept = {(s, e.digest): study.found(e, f"seed{s}") for s, e in parts}
    left = sum(not result for result in kept.values())
    for s, e in parts:
        found, path = kept[s, e.digest], study.folder.checkpoint(e, f"seed{s}")
        if found and not found.get("error") and path is not None:
            remove(path)  # a kill came between the result and this
    with StudyProgress(left * study.script.steps) as progress, Process() as process:
        for seed, entry in parts:
            result = kept[seed, entry.digest] or _train(study, entry, seed, process, progress)
            trained[entry.digest].append(result)
        good = [e for e in study.entries if any(not t.get("error") for t in trained[e.digest])]
        times = _times(study, good, progress) if study.rounds else {}
    return [RecipeRow(e, tuple(trained[e.digest]), times.get(e.digest)) for e in study.entries]


class Process:
    """A process for one job after the other, started anew where one has died."""

    def __init__(self) -> None:
        self._worker: Worker | None = None

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        if self._worker is not None:
            self._worker.close()

    @property
    def worker(self) -> Worker:
        """The process, started where there is none."""
        if self._worker is not None and not self._worker.alive:
            self._worker.close()
            self._worker = None
        if self._worker is None:
            self._worker = Worker()
        return self._worker


def _train(
    study: Study, entry: Entry, seed: int, process: Process, progress: StudyProgress
) -> Result:
    """One training from its first step to its accuracy, kept in the study's folder."""
    part, name = f"seed{seed}", f"{entry.label}, seed {seed}"
    script, done = study.script, 0
    kept = study.folder.checkpoint(entry, part)
    progress.say(f"{name}: compile")
    try:
        worker, pace = process.worker, 0.0
        asked = {**request(study, entry, part, seed), **_checkpoint(kept, study.every)}
        begun = worker.ask("build", study.limit, **asked)
        done = begun["done"]
        progress.advance(done, name)
        if said := begun["remark"]:
            progress.line(f"{name} {said}")
        while done < script.steps:
            steps = max(1, min(MOST_STEPS, script.steps - done, _steps(pace)))
            seconds = worker.ask("run", study.limit, steps=steps)["seconds"]
            pace, done = median(seconds), done + steps
            rate = (script.batch or 1) * steps / max(sum(seconds), 1e-9)
            unit = "samples" if script.batch else "steps"
            progress.advance(steps, f"{name}: {rate:.{0 if script.batch else 1}f} {unit}/s")
        facts = worker.ask("facts", study.limit)
    except ContenderFailed as failure:
        progress.advance(script.steps - done, name)
        progress.line(f"{name}: {failure}")
        return study.folder.keep(entry, part, {"error": str(failure)})
    progress.line(f"{name}: {_words(facts)}")
    result = {k: v for k, v in facts.items() if not k.endswith("_bytes") and k not in SAID}
    made = study.folder.keep(entry, part, {"error": None, **result})
    if kept is not None:
        remove(kept)
    return made


def _checkpoint(path: Path | None, every: int | None) -> dict[str, object]:
    return {"checkpoint": None if path is None else str(path), "every": every}


def _words(facts: dict[str, Any]) -> str:
    """What a training came to."""
    right = f"test accuracy {100 * facts['accuracy']:.1f} %"
    text = "test_loss" in facts
    return f"{right}, perplexity {perplexity(facts['test_loss']):.4g}" if text else right


def _steps(pace: float) -> int:
    return round(SIGN_SECONDS / pace) if pace else 1


def _times(study: Study, entries: Sequence[Entry], progress: StudyProgress) -> dict[str, Result]:
    """The time of each recipe's step, with that of the baseline in the same rounds."""
    here = {"cpu": cpu_name(), "threads": env.threads(), "rounds_asked": study.rounds}
    found: dict[str, Result] = {}
    with Process() as first, Process() as second:
        base: Racer | None = None
        for entry in entries:
            earlier = study.found(entry, TIME)
            if earlier and here.items() <= earlier.items():
                found[entry.digest] = earlier
                continue
            progress.say(f"{entry.label}: time of a step beside {baseline().label}")
            if base is None or base.error:
                base = _racer(study, baseline(), first)
            result = _time(study, entry, base, second)
            found[entry.digest] = study.folder.keep(
                entry, TIME, {**here, "load": study.load, **result}
            )
    return found


def _time(study: Study, entry: Entry, base: Racer, process: Process) -> Result:
    """Turns of both, or why there are none."""
    base.rounds.clear()
    same = entry.digest == baseline().digest
    racer = base if same else _racer(study, entry, process)
    if not base.error and not racer.error:
        race([base] if same else [base, racer], study.rounds, study.limit, lambda name, share: None)
    if racer.error:
        return {"error": racer.error}
    if base.error:
        return {"error": f"{base.name}: {base.error}"}
    return {"error": None, "rounds": [*racer.rounds], "baseline_rounds": [*base.rounds]}


def _racer(study: Study, entry: Entry, process: Process) -> Racer:
    """A recipe with its step built, or with the reason why not."""
    racer = Racer(entry.label, process.worker)
    racer.ask("build", study.limit, **request(study, entry, TIME, 0))
    return racer


def request(study: Study, entry: Entry, part: str, seed: int) -> dict[str, Any]:
    """What a process is asked to make ready for one part of a row."""
    return {
        "job": "study", "part": part, "script": entry.script(study.script).to_dict(), "seed": seed,
        **entry.to_dict(),
    }  # fmt: skip
