"""joblib's backends for a study on a cluster of Ray or Dask.

Those that Ray and joblib bring are not taken as they are. Ray's hands out in turn, so that a long
training holds up those behind it, returns nothing before all are over, and ends all of them with
the first worker that dies; with Dask's, a training that is lost is waited for without end.
"""

from __future__ import annotations

import logging
import os
import re
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from joblib.parallel import ParallelBackendBase

from ...compiler.errors import UsageError
from .. import env
from ..bench.process import LONGEST_REASON
from .training import TRIES, Errand, Outcome

if TYPE_CHECKING:
    from joblib.parallel import BatchedCalls, Parallel

TrainingCall = Callable[[], list[Outcome]]
Submit = Callable[[TrainingCall], "Future[list[Outcome]]"]
ESCAPES = re.compile(r"\x1b\[[0-9;]*m")  # colours
NAMED = re.compile(r"[A-Za-z_.]*(Error|Exception): ")
KNOCK_SECONDS = 10.0
RAY_ADDRESS, DASK_ADDRESS = "RAY_ADDRESS", "DASK_SCHEDULER_ADDRESS"


class FutureBackend(ParallelBackendBase):  # type: ignore[misc]    # joblib has no types
    """joblib on whatever makes futures of calls; one that fails is the outcome of its training."""

    supports_retrieve_callback = True

    def __init__(self, submit: Submit) -> None:
        super().__init__(nesting_level=0)
        self._submit = submit
        self._errands: dict[Future[list[Outcome]], Errand] = {}

    def effective_n_jobs(self, n_jobs: int) -> int:
        """Trainings at a time, as asked for."""
        return n_jobs

    def configure(self, n_jobs: int = 1, parallel: Parallel | None = None, **_: object) -> int:
        """Nothing is started here."""
        self.parallel = parallel
        return n_jobs

    def submit(
        self, func: BatchedCalls, callback: Callable[[Future[list[Outcome]]], None]
    ) -> Future[list[Outcome]]:
        """A call of one training on the cluster."""
        ((_, (errand, *_), _),) = func.items
        future = self._submit(func)
        self._errands[future] = errand
        future.add_done_callback(callback)
        return future

    def retrieve_result_callback(self, out: Future[list[Outcome]]) -> list[Outcome]:
        """What came of it, also where the cluster has lost it."""
        errand = self._errands.pop(out)
        try:
            return out.result()
        except Exception as error:
            why = f"the cluster lost it: {_reason(error)}"
            return [Outcome(errand.number, {"error": why}, ended=False)]

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Those that have not begun will not; leaving the cluster ends the others."""
        for future in list(self._errands):
            future.cancel()


@contextmanager
def connected(name: str, workers: int, threads: int) -> Iterator[FutureBackend]:
    """A backend on the cluster that the variable of its library names, or on one begun here."""
    with {"ray": _ray, "dask": _dask}[name](workers, threads) as submit:
        yield FutureBackend(submit)


@contextmanager
def _ray(workers: int, threads: int) -> Iterator[Submit]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise _missing("ray") from None
    mine = not ray.is_initialized()
    if mine:
        address = os.environ.get(RAY_ADDRESS) or "local"
        here: dict[str, Any] = {"num_cpus": workers * threads, "include_dashboard": False}
        try:
            _knock(address.removeprefix("ray://"))
            ray.init(
                address=address, log_to_driver=False, logging_level=logging.ERROR,
                **(here if address == "local" else {}),
            )  # fmt: skip
        except (OSError, RuntimeError, ValueError) as error:
            raise _unreachable("ray", RAY_ADDRESS, address, error) from None
    try:
        most = max(int(node["Resources"].get("CPU", 0)) for node in ray.nodes())
        if most < threads:
            raise UsageError(f"--threads {threads}: no machine of the Ray cluster has over {most}")
        # A worker that dies is replaced by Ray, which counts the tries.
        gpus = int(env.target().startswith("cuda"))
        task = ray.remote(num_cpus=threads, num_gpus=gpus, max_retries=TRIES - 1)(_called)
        yield lambda call: task.remote(call).future()
    finally:
        if mine:
            ray.shutdown()


def _knock(address: str) -> None:
    """OSError where nobody listens at ``HOST:PORT``: Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if port.isascii() and port.isdigit():
        socket.create_connection((host, int(port)), KNOCK_SECONDS).close()


@contextmanager
def _dask(workers: int, threads: int) -> Iterator[Submit]:
    try:
        from distributed import Client
    except ImportError:
        raise _missing("dask distributed") from None
    address = os.environ.get(DASK_ADDRESS)
    here: dict[str, Any] = {
        "n_workers": workers, "threads_per_worker": 1, "dashboard_address": None,
        "silence_logs": logging.CRITICAL,
    }  # fmt: skip
    try:
        client = Client(address) if address else Client(**here)
    except (OSError, ValueError) as error:
        raise _unreachable("dask", DASK_ADDRESS, address or "", error) from None
    with client:
        executor = client.get_executor(pure=False)
        try:
            yield lambda call: executor.submit(_called, call)
        finally:
            executor.shutdown(wait=False)


def _reason(error: Exception) -> str:
    """One line of what a cluster says: of a traceback from there its last, the error itself."""
    lines = [line for line in ESCAPES.sub("", str(error)).splitlines() if line.strip()]
    named = [line.strip() for line in lines if NAMED.match(line)]
    if named:
        return named[-1][:LONGEST_REASON]
    return f"{type(error).__name__}: {lines[0] if lines else 'it says no more'}"[:LONGEST_REASON]


def _called(call: TrainingCall) -> list[Outcome]:
    return call()


def _missing(packages: str) -> UsageError:
    name = packages.split()[0]
    return UsageError(
        f"--backend {name} needs {name}; install it with: pip install 'quatrain[cluster]'"
    )


def _unreachable(name: str, variable: str, address: str, error: Exception) -> UsageError:
    said = (str(error).strip() or type(error).__name__).splitlines()[0]
    return UsageError(f"--backend {name}: no cluster answers at {address!r} ({variable}): {said}")
