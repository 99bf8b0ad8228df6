"""A step takes the threads that come in time; a fake clock and fake threads say when they do."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from quatrain.targets.cpu.crew import LATE, LOOPS, MOST_PATIENCE, PATIENCE, PAUSE, Crew


class Machine:
    """``in_time`` threads are there at once, a loop of more waits for a turn."""

    def __init__(self, threads: int) -> None:
        self.now, self.threads, self.in_time = 100.0, threads, threads
        self.loops, self.used = 0, list[int]()
        self.crew = Crew(threads, self.use, self.loop, lambda: self.now)

    def use(self, count: int) -> None:
        self.threads = count
        self.used.append(count)

    def loop(self) -> None:
        self.loops += 1
        self.now += 1e-6 if self.threads <= self.in_time else 5 * LATE

    def steps(self, seconds: float, each: float = 1e-3) -> None:
        end = self.now + seconds
        while self.now < end:
            self.crew.look()
            self.now += each


def counted(call: Callable[[], None], machine: Machine) -> int:
    before = machine.loops
    call()
    return machine.loops - before


def test_threads_that_come_are_kept_and_seldom_looked_at() -> None:
    machine = Machine(8)
    looked = counted(lambda: machine.steps(10), machine)
    assert machine.crew.count == 8 and not machine.used
    assert looked <= LOOPS * (10 / PAUSE + 1)


def test_half_of_them_go_until_the_rest_comes_in_time() -> None:
    machine = Machine(8)
    machine.in_time = 3
    machine.crew.look()
    assert machine.used == [4, 2] and machine.crew.count == 2


def test_they_come_back_when_the_others_have_gone() -> None:
    machine = Machine(4)
    machine.in_time = 1
    machine.crew.look()
    assert machine.crew.count == 1
    machine.in_time = 4
    machine.steps(PATIENCE + 3 * PAUSE)
    assert machine.crew.count == 4 and machine.used == [2, 1, 2, 4]


def test_on_a_machine_that_stays_busy_more_are_tried_ever_less_often() -> None:
    machine = Machine(2)
    machine.in_time = 1
    machine.steps(20 * MOST_PATIENCE)
    assert machine.crew.count == 1
    tries = machine.used.count(2)
    assert 20 <= tries <= 20 + MOST_PATIENCE / PATIENCE
    late = machine.used.count(1) + tries
    assert late * LOOPS * 5 * LATE < 0.01 * 20 * MOST_PATIENCE  # seconds lost by trying


def test_a_single_thread_is_never_timed() -> None:
    machine = Machine(4)
    machine.crew.limit(1)
    assert machine.threads == 1
    assert counted(lambda: machine.steps(5), machine) == 0


FORKED = """
import multiprocessing as mp, torch, quatrain
from quatrain.compiler.errors import TargetError
model = torch.nn.Linear(8, 4)
batch = torch.randn(8, 8), torch.arange(8) % 4
sgd = torch.optim.SGD(model.parameters(), lr=0.1)
loss = torch.nn.functional.cross_entropy
step = quatrain.compile(model, loss, batch, sgd, recipe="fp32", target="cpu")
step(*batch)
def run():
    try:
        step(*batch)
    except TargetError as error:
        assert "forked" in str(error) and "spawn" in str(error)
        raise SystemExit(7)
child = mp.get_context("fork").Process(target=run)
child.start()
child.join(60)
print(child.exitcode)
"""


@pytest.mark.torch
@pytest.mark.tvm
def test_a_forked_process_is_told_to_be_spawned() -> None:
    """The threads stayed with the parent: a step would wait for them for ever."""
    pytest.importorskip("torch")
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one CPU, one thread")
    command = [sys.executable, "-W", "ignore", "-c", FORKED]
    top = Path(__file__).parents[2]
    made = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True, cwd=top)
    assert made.stdout.split()[-1] == "7", made.stderr
