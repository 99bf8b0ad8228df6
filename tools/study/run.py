"""Runs a study: trainings handed out, then each recipe's step beside the baseline's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from .. import env
from ..bench.rounds import Racer, race
from ..doctor import cpu_name
from ..progress import perplexity
from .checkpoints import remove, remove_parts
from .entry import Entry, baseline
from .folder import Folder, Result
from .hands import ONE, Hands, hand_out
from .plan import TIME, Script
from .processes import Process
from .progress import StudyProgress
from .results import RecipeRow
from .training import Errand, Outcome


@dataclass(frozen=True, slots=True)
class Study:
    """What is to be found out: ``seeds`` trainings a recipe, ``rounds`` of turns for its time.

    A step, a build or an evaluation that takes over ``limit`` seconds fails; ``retry`` does again
    what failed in an earlier run of the same folder. ``load`` is the system's before it begins,
    ``every`` the steps between two checkpoints of a training, or None: by the clock.
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
    hands: Hands = ONE

    def found(self, entry: Entry, part: str) -> Result | None:
        """What an earlier run has found."""
        result = self.folder.find(entry, part)
        return None if result and result.get("error") and self.retry else result


def run(study: Study) -> list[RecipeRow]:
    """All rows; a recipe that fails is a row that says why, and the others go on.

    Seeds are the outer loop, so that a study that is stopped early has compared all recipes.
    """
    parts = [(entry, seed) for seed in range(study.seeds) for entry in study.entries]
    found: dict[int, Result] = {}
    for number, (entry, seed) in enumerate(parts):
        if (earlier := study.found(entry, _part(seed))) is not None:
            found[number] = earlier
            _tidy(study, entry, seed, earlier)
    wanted = {n: part for n, part in enumerate(parts) if n not in found}
    with StudyProgress(len(wanted) * study.script.steps) as progress:
        found.update(_trained(study, wanted, progress))
        trained: dict[str, list[Result]] = {e.digest: [] for e in study.entries}
        for number, (entry, _) in enumerate(parts):
            trained[entry.digest].append(found[number])
        good = [e for e in study.entries if any(not t.get("error") for t in trained[e.digest])]
        times = _times(study, good, progress) if study.rounds else {}
    return [RecipeRow(e, tuple(trained[e.digest]), times.get(e.digest)) for e in study.entries]


def _tidy(study: Study, entry: Entry, seed: int, result: Result) -> None:
    """Remove the checkpoint that a kill has left between a result and its removal."""
    path = study.folder.checkpoint(entry, _part(seed))
    if path is not None and not result.get("error"):
        remove(path)


def _trained(
    study: Study, wanted: Mapping[int, tuple[Entry, int]], progress: StudyProgress
) -> Iterator[tuple[int, Result]]:
    """The results of trainings by number, as they end, each kept in the study's folder."""
    errands = [_errand(study, number, *wanted[number]) for number in wanted]
    try:
        with closing(hand_out(errands, study.hands, progress)) as outcomes:
            for outcome in outcomes:
                yield outcome.number, _kept(study, outcome, *wanted[outcome.number], progress)
    finally:
        for entry, seed in wanted.values():
            if (path := study.folder.checkpoint(entry, _part(seed))) is not None:
                remove_parts(path)


def _kept(
    study: Study, outcome: Outcome, entry: Entry, seed: int, progress: StudyProgress
) -> Result:
    name, result = _name(entry, seed), outcome.result
    progress.line(f"{name}: {result['error'] or _words(result)}")
    made = study.folder.keep(entry, _part(seed), result)
    path = study.folder.checkpoint(entry, _part(seed))
    if path is not None and outcome.ended:
        remove(path)
    return made


def _errand(study: Study, number: int, entry: Entry, seed: int) -> Errand:
    part = _part(seed)
    path = study.folder.checkpoint(entry, part)
    checkpoint = {"checkpoint": None if path is None else str(path), "every": study.every}
    asked = {**request(study, entry, part, seed), **checkpoint}
    return Errand(number, _name(entry, seed), asked, study.limit)


def _part(seed: int) -> str:
    return f"seed{seed}"


def _name(entry: Entry, seed: int) -> str:
    return f"{entry.label}, seed {seed}"


def _words(facts: dict[str, Any]) -> str:
    """What a training came to."""
    right = f"test accuracy {100 * facts['accuracy']:.1f} %"
    text = "test_loss" in facts
    return f"{right}, perplexity {perplexity(facts['test_loss']):.4g}" if text else right


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
