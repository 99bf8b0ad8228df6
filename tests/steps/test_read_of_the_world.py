"""Clocks, generators and counters that a forward reads: refused or told, and no other thread's."""

from __future__ import annotations

import os
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from time import perf_counter
from typing import Any

import pytest

pytest.importorskip("torch")

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

import quatrain
from quatrain.compiler.errors import CaptureError

from ..cases.attached import SGD, Body, batch, made, plain, refused

pytestmark = pytest.mark.torch
CALLS = [0]


def counted() -> float:
    CALLS[0] += 1
    return float(CALLS[0])


NUMBERS: dict[str, Callable[[], Any]] = {
    "time": lambda: time.time() % 7,
    "perf_counter": perf_counter,
    "datetime": lambda: datetime.now().timestamp(),
    "urandom": lambda: os.urandom(7)[3] + 256 * os.urandom(7)[2],
    "uuid": lambda: uuid.uuid4().int % 100003,
    "a generator of its own": lambda: np.random.default_rng().normal(),
    "a counter of the module": counted,
    "of NumPy": lambda: np.float32(time.monotonic_ns() % 10007),
}
WAYS: dict[str, Callable[[Tensor, Any], Tensor]] = {
    "product": lambda h, n: h * n,
    "keyword": lambda h, n: torch.add(h, h, alpha=float(n)),
    "tensor": lambda h, n: h + torch.tensor([n, n, n, n], dtype=torch.float32),
    "array": lambda h, n: h + torch.tensor(np.full(4, n, np.float32)),
}


@pytest.mark.parametrize("kind", NUMBERS)
def test_numbers_that_differ_from_run_to_run_are_refused(kind: str) -> None:
    read = NUMBERS[kind]
    refused(
        Body(lambda m, x: plain(m, x) * read()),
        r"mul\(\) in layer 'model' at .*test_read_of_the_world\.py:\d+ takes .* in one run",
    )


@pytest.mark.parametrize("way", WAYS)
def test_in_each_way_that_a_number_is_given(way: str) -> None:
    refused(Body(lambda m, x: WAYS[way](plain(m, x), perf_counter())), "give what a clock")


def test_of_the_loss_and_in_eval_too() -> None:
    model = Body(plain)
    sgd = SGD(model.parameters(), lr=0.1)
    with pytest.raises(CaptureError, match="in layer 'loss' at"):
        loss = lambda o, y: cross_entropy(o, y) * time.time()  # noqa: E731
        quatrain.compile(model, loss, batch(), sgd, recipe="fp32", target="reference")
    refused(Body(lambda m, x: plain(m, x) * (1 if m.training else time.time())), "in one run")


def test_what_is_the_same_in_both_runs_is_taken() -> None:
    def cached(m: Any, x: Tensor) -> Tensor:
        if "scale" not in m.cache:
            torch.ones(3)  # a call that the second run spares
            m.cache["scale"] = 2.5
        made: Tensor = plain(m, x) * m.cache["scale"]
        return made

    made(Body(cached))
    made(Body(lambda m, x: plain(m, x) * np.random.default_rng(0).normal()))
    made(Body(lambda m, x: plain(m, x) * float("nan") * 0))


COARSE: dict[str, Callable[[], bool]] = {
    "time": lambda: time.time() > 1e9,
    "imported": lambda: perf_counter() >= 0,
    "datetime": lambda: datetime.now().year > 2000,
    "localtime": lambda: time.localtime().tm_year > 2000,
    "urandom": lambda: len(os.urandom(3)) == 3,
    "uuid4": lambda: uuid.uuid4().version == 4,
}


@pytest.mark.parametrize("kind", COARSE)
def test_a_clock_that_is_read_is_told(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    made(Body(lambda m, x: plain(m, x) * (2 if COARSE[kind]() else 3)))
    (said,) = [r.getMessage() for r in caplog.records if "while it is traced" in r.getMessage()]
    assert "test_read_of_the_world.py:" in said and "as an input" in said


def test_clocks_that_libraries_read_are_not_told(caplog: pytest.LogCaptureFixture) -> None:
    import logging

    def forward(m: Any, x: Tensor) -> Tensor:
        logging.getLogger("mine").warning("traced")
        return plain(m, x)

    made(Body(forward))
    assert "while it is traced" not in caplog.text and "traced" in caplog.text


@contextmanager
def meanwhile(work: Callable[[], object]) -> Iterator[None]:
    """Another thread that does ``work`` again and again."""
    stop = threading.Event()

    def run() -> None:
        while not stop.is_set():
            work()
            time.sleep(0.0005)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


DRAWS: dict[str, Callable[[], object]] = {
    "random": random.random,
    "choice": lambda: random.choice([1, 2]),
    "shuffle": lambda: random.shuffle([1, 2, 3]),
    "gauss": lambda: random.gauss(0.0, 1.0),
    "rand": lambda: np.random.rand(2),
    "integers": lambda: np.random.randint(7),
    "permutation": lambda: np.random.permutation(5),
}


@pytest.mark.parametrize("kind", DRAWS)
def test_draws_of_other_threads_are_no_matter(kind: str) -> None:
    with meanwhile(DRAWS[kind]):
        step = made(Body(plain))
        step(*(t[:3] for t in batch()))


@pytest.mark.parametrize("others", [random.random, np.random.rand, lambda: None])
@pytest.mark.parametrize("kind", DRAWS)
def test_own_draws_are_found_beside_those_of_others(
    kind: str, others: Callable[[], object]
) -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        DRAWS[kind]()
        return plain(m, x)

    with meanwhile(others):
        refused(Body(forward), "draws from Python's or NumPy's random numbers")
    refused(Body(forward), "draws from Python's or NumPy's random numbers")
