"""Who carries out the trainings of a study: so many processes here, or those of a cluster."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from ...compiler.errors import UsageError
from .. import env
from ..bench.process import thread_variables
from .processes import Process, Squad
from .training import Errand, Outcome, Signs, Surroundings, carry_out, carry_out_elsewhere

if TYPE_CHECKING:
    from joblib import Parallel


class Backend(Enum):
    """A cluster by the name of what runs it."""

    RAY = "ray"
    DASK = "dask"


@dataclass(frozen=True, slots=True)
class Hands:
    """So many trainings at a time, each in a process of its own; here, or on a cluster."""

    workers: int = 1
    backend: Backend | None = None

    @classmethod
    def of(cls, workers: int | None, backend: Backend | None) -> Hands:
        """As asked for; UsageError where a cluster is not told how many."""
        if backend is not None and (workers or 1) < 2:
            raise UsageError(
                f"--backend {backend.value} needs --workers N, the trainings at a time: 2 or more"
            )
        return cls(workers or 1, backend)

    @property
    def threads(self) -> int:
        """Of each training."""
        return env.threads_of_each(self.workers)


ONE = Hands()
Outcomes = Generator[Outcome, None, None]


def hand_out(errands: Sequence[Errand], hands: Hands, signs: Signs) -> Outcomes:
    """What came of each errand, as they end."""
    if errands:
        yield from (_here if hands.backend is None else _elsewhere)(errands, hands, signs)


def _here(errands: Sequence[Errand], hands: Hands, signs: Signs) -> Outcomes:
    from joblib import delayed

    with Squad(hands.workers, thread_variables(hands.threads)) as squad:

        def work(errand: Errand) -> Outcome:
            def train(process: Process) -> Outcome:
                return carry_out(errand, process, signs)

            return squad.lend(train)

        # Threads, as all that they do is to ask a process of their own.
        parallel = _parallel(hands, "threading")
        yield from parallel(delayed(work)(errand) for errand in errands)


def _elsewhere(errands: Sequence[Errand], hands: Hands, signs: Signs) -> Outcomes:
    from joblib import delayed

    from .backends import connected

    assert hands.backend is not None
    around = Surroundings.here(hands.threads)
    name = hands.backend.value
    signs.say(f"connect to {name}")
    with connected(name, hands.workers, hands.threads) as backend:
        signs.say(f"{hands.workers} trainings at a time by {name}")
        parallel = _parallel(hands, backend)
        for outcome in parallel(delayed(carry_out_elsewhere)(o, around) for o in errands):
            errand = next(o for o in errands if o.number == outcome.number)
            for words in outcome.remarks:
                signs.line(words)
            signs.advance(errand.steps, errand.name)
            yield outcome


def _parallel(hands: Hands, backend: object) -> Parallel:
    """Outcomes come as trainings end; none waits with a worker while another one is idle."""
    from joblib import Parallel

    return Parallel(
        hands.workers, backend=backend, return_as="generator_unordered",
        pre_dispatch="n_jobs", batch_size=1,
    )  # fmt: skip
