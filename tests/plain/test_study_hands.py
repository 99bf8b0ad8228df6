"""Trainings of a study handed out: tried again where a process dies, several at a time, stopped."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from joblib import Parallel, delayed
from joblib.parallel import BatchedCalls

from quatrain.compiler.errors import UsageError
from quatrain.tools.bench import process as bench_process
from quatrain.tools.bench.process import (
    ContenderDied,
    ContenderFailed,
    ContenderLate,
    thread_variables,
)
from quatrain.tools.study import processes
from quatrain.tools.study.backends import FutureBackend, connected
from quatrain.tools.study.folder import ABOUT
from quatrain.tools.study.hands import Backend, Hands
from quatrain.tools.study.processes import Process, Squad
from quatrain.tools.study.training import (
    TRIES,
    Errand,
    Outcome,
    SignsNoted,
    Surroundings,
    carry_out,
    carry_out_elsewhere,
)

from ..cases.commands import Quatrain
from ..cases.fake_study import Fake, faked, tiny_data

STEPS = 9
ERRAND = Errand(7, "luq4, seed 1", {"script": {"steps": STEPS, "batch": 4}, "checkpoint": None}, 60)


class Scripted:
    """A process that keeps a checkpoint of every step and fails at some, each time once."""

    faults: list[tuple[int, Exception]]
    kept = 0
    asked: list[dict[str, Any]]

    def __init__(self, *_: object) -> None:
        self.alive, self.at = True, type(self).kept

    def ask(self, do: str, limit: float, **details: Any) -> dict[str, Any]:
        if do == "facts":
            return {"accuracy": 0.5, "peak_bytes": 3, "done": STEPS, "remark": "has no checkpoint"}
        steps = 1 if do == "build" else details["steps"]
        if do == "build":
            self.asked.append(details)
        for step in range(self.at, self.at + steps):
            if self.faults and self.faults[0][0] == step:
                self.alive = False
                raise self.faults.pop(0)[1]
            type(self).kept = step + 1
        self.at += steps
        return {"seconds": [0.5] * steps, "done": self.at, "remark": ""}

    def dismiss(self) -> None:
        pass

    def close(self, patience: float = 0.0) -> None:
        pass


class Steps(SignsNoted):
    """Notes with the sum of the steps."""

    sum = 0

    def advance(self, steps: int, words: str) -> None:
        self.sum += steps


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> type[Scripted]:
    monkeypatch.setattr(processes, "Worker", Scripted)
    Scripted.faults, Scripted.kept, Scripted.asked = [], 0, []
    return Scripted


def carried(*faults: tuple[int, Exception]) -> tuple[Outcome, Steps]:
    Scripted.faults, signs = list(faults), Steps()
    with Process() as process:
        return carry_out(ERRAND, process, signs), signs


def test_a_training_whose_process_dies_goes_on(scripted: type[Scripted]) -> None:
    died = ContenderDied("the process ended with signal 9")
    outcome, signs = carried((0, died), (5, died))
    assert outcome == Outcome(7, {"error": None, "accuracy": 0.5})
    assert len(scripted.asked) == TRIES and signs.sum == STEPS
    again = (
        "luq4, seed 1: the process ended with signal 9; it is tried again, {} more times at most"
    )
    assert signs.lines == [again.format(2), again.format(1), "luq4, seed 1 has no checkpoint"]


def test_one_that_keeps_dying_says_why_and_may_go_on_later(scripted: type[Scripted]) -> None:
    outcome, signs = carried(*[(4, ContenderDied("signal 9"))] * (TRIES + 1))
    assert outcome == Outcome(7, {"error": "signal 9, 3 times"}, ended=False)
    assert len(scripted.asked) == TRIES and signs.sum == STEPS


@pytest.mark.parametrize(
    ("fault", "ended"), [(ContenderFailed("why"), True), (ContenderLate("why"), False)]
)
def test_one_that_fails_by_itself_is_not_tried_again(
    fault: Exception, ended: bool, scripted: type[Scripted]
) -> None:
    outcome, signs = carried((3, fault))
    assert outcome == Outcome(7, {"error": "why"}, ended=ended)
    assert len(scripted.asked) == 1 and signs.sum == STEPS


def test_elsewhere_a_checkpoint_is_kept_where_the_folder_is_seen(
    scripted: type[Scripted], tmp_path: Path
) -> None:
    kept = str(tmp_path / "luq4.seed1.qtn")
    errand = Errand(7, ERRAND.name, {**ERRAND.request, "checkpoint": kept}, 60)
    around = Surroundings({"QUATRAIN_THREADS": "3"}, str(tmp_path / "not there"))
    outcome = carry_out_elsewhere(errand, around)
    assert outcome.result == {"error": None, "accuracy": 0.5}
    assert outcome.remarks == ("luq4, seed 1 has no checkpoint",)
    (tmp_path / ABOUT).write_text("{}")
    scripted.kept = 0
    carry_out_elsewhere(errand, around)
    assert [a["checkpoint"] for a in scripted.asked] == [None, kept]


def test_surroundings_are_plain_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUATRAIN_DATA", "sets")
    monkeypatch.setenv("QUATRAIN_THREADS", "8")
    found = Surroundings.here(2)
    assert found.folder == str(Path.cwd())
    assert dict(found.variables).items() >= {"QUATRAIN_DATA": "sets", **thread_variables(2)}.items()


def test_threads_are_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QUATRAIN_THREADS", raising=False)
    monkeypatch.setattr("quatrain.tools.env.available_threads", lambda: 7)
    assert [Hands(n).threads for n in (1, 2, 3, 20)] == [7, 3, 2, 1]
    monkeypatch.setenv("QUATRAIN_THREADS", "4")
    assert Hands(20).threads == 4


def test_a_cluster_is_told_how_many() -> None:
    assert Hands.of(None, None) == Hands(1)
    for workers in (None, 1):
        with pytest.raises(UsageError, match="--backend ray needs --workers N"):
            Hands.of(workers, Backend.RAY)


@pytest.mark.parametrize("name", ["ray", "dask"])
def test_a_cluster_that_is_not_installed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "distributed", None)
    with (
        pytest.raises(UsageError, match=f"--backend {name} needs .* install 'quatrain.cluster.'"),
        connected(name, 2, 1),
    ):
        pass


def test_a_ray_cluster_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="needs ray: quatrain[cluster]")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with (
        pytest.raises(UsageError, match="no cluster answers at"),
        connected("ray", 2, 1),
    ):
        pass


def test_what_a_cluster_loses_is_an_outcome() -> None:
    lost = threading.Event()

    def work(errand: Errand) -> Outcome:
        if errand.number == 1:
            lost.set()
            raise OSError("no more machine\nat all")
        lost.wait(60)  # the others end behind it, and do end
        return Outcome(errand.number, {"error": None})

    with ThreadPoolExecutor(2) as pool:

        def submit(call: Callable[[], list[Outcome]]) -> Future[list[Outcome]]:
            return pool.submit(call)

        parallel = Parallel(
            2, backend=FutureBackend(submit), return_as="generator_unordered", batch_size=1
        )
        found = list(parallel(delayed(work)(Errand(n, "", {}, 1.0)) for n in range(4)))
    said = "the cluster lost it: OSError: no more machine"
    assert found[0] == Outcome(1, {"error": said}, ended=False)
    assert sorted(o.number for o in found) == [0, 1, 2, 3]


def test_what_a_cluster_says_is_one_line() -> None:
    errand, future = Errand(3, "", {}, 1.0), Future[list[Outcome]]()
    backend = FutureBackend(lambda call: future)
    call = BatchedCalls([(carry_out_elsewhere, (errand,), {})], (backend, 1), None, None)
    backend.submit(call, lambda done: None)
    there = (
        "\x1b[36mray::f()\x1b[39m (pid=1)\nTraceback:\n  File x\nImportError: no such\nit is lost"
    )
    future.set_exception(RuntimeError(there))
    (outcome,) = backend.retrieve_result_callback(future)
    said = "the cluster lost it: ImportError: no such"
    assert outcome == Outcome(3, {"error": said}, ended=False)


def test_trainings_at_the_same_time(
    quatrain: Quatrain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = threading.Barrier(2, timeout=60)

    class Meeting(Fake):
        def ask(self, do: str, limit: float, **details: Any) -> dict[str, Any]:
            if do == "facts":
                both.wait()  # one alone would wait in vain
            return super().ask(do, limit, **details)

    words = (
        "study", "recipes", "--data", tiny_data(tmp_path), "--network", "mlp", "--batch", 4,
        "--recipes", "fp32,luq4", "--seeds", 2, "--rounds", 0, "--json",
    )  # fmt: skip
    for _ in faked(monkeypatch):
        alone = json.loads(quatrain(*words))
        monkeypatch.setattr(processes, "Worker", Meeting)
        assert json.loads(quatrain(*words, "--workers", 2)) == alone


def test_one_step_without_training_has_no_workers(quatrain: Quatrain, tmp_path: Path) -> None:
    words = ("study", "sensitivity", "--data", tiny_data(tmp_path), "--workers", 2)
    assert "--workers is for trainings" in quatrain(*words, status=2)


DULL = """
import sys, time
for _ in sys.stdin:
    time.sleep(0.05)
    print('{"seconds": []}', flush=True)
"""


def test_a_squad_that_is_stopped_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dull.py").write_text(DULL)
    monkeypatch.setattr(bench_process, "MODULE", "dull")
    started, ended = threading.Barrier(3, timeout=60), list[str]()

    def ask(process: Process) -> None:
        worker = process.worker
        worker.ask("build", 60)
        started.wait()
        try:
            while True:
                worker.ask("run", 60)
        except ContenderDied as died:
            ended.append(str(died))

    with Squad(2, {"PYTHONPATH": str(tmp_path)}) as squad:
        threads = [threading.Thread(target=squad.lend, args=(ask,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        started.wait()
    for thread in threads:
        thread.join(60)
    assert [said.startswith("the process ended") for said in ended] == [True, True]
    with pytest.raises(ContenderDied, match="the study was stopped"):
        squad.lend(lambda process: process.worker)
