"""One step, several batch sizes and several threads: one arena, whole steps, results to the bit."""

from __future__ import annotations

import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("tvm")

from torch import Tensor, nn  # noqa: E402
from torch.nn.functional import cross_entropy  # noqa: E402

import quatrain  # noqa: E402
from quatrain.runtime.step import Step  # noqa: E402
from quatrain.targets.cpu import threads as cpu_threads  # noqa: E402
from quatrain.targets.plan import state  # noqa: E402
from quatrain.targets.plan.pool import HostMemory  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.tvm]
SIZES = (4, 9, 2, 9, 4, 2, 7)


def made(target: str = "cpu") -> Step:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return quatrain.compile(model, cross_entropy, batch(4), optimizer, target=target)


def batch(size: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(size)
    x = torch.randn(size, 3, 11, 11, generator=generator)
    return x, torch.randint(5, (size,), generator=generator)


def live_bytes() -> int:
    """What ``aligned_bytes`` has allocated and somebody still holds."""
    here = tracemalloc.Filter(True, state.__file__)
    traces = tracemalloc.take_snapshot().filter_traces((here,)).statistics("filename")
    return sum(trace.size for trace in traces)


def test_batch_sizes_share_one_arena() -> None:
    step = made()
    arenas = [arena(step)]
    tracemalloc.start()
    try:
        # Compiling while allocations are traced takes several times as long: one more size.
        for size in (4, 9, 4):
            step(*batch(size))
            step.predict(batch(size)[0])
        arenas += [b.executable.plan.arena for b in step._variants.values()]  # type: ignore[union-attr]
        grown = live_bytes()
    finally:
        tracemalloc.stop()
    assert host(step).bytes == max(arenas) and len(set(arenas)) == 2
    # The hyper-parameters of each size are a cache line or two each.
    assert max(arenas) <= grown < max(arenas) + 4096 < sum(arenas)


def host(step: Step) -> HostMemory:
    memory = step._memory
    assert isinstance(memory, HostMemory)
    return memory


def arena(step: Step) -> int:
    plan = step.executable.plan
    assert plan is not None
    return plan.arena


def test_results_do_not_depend_on_what_the_arena_held() -> None:
    """Beside it the same calls with an arena of garbage ahead of each."""
    first, second = made(), made()
    for size in SIZES:
        host(second).arena(1 << 20)[...] = 0xA5
        x, y = batch(size)
        assert torch.equal(first(x, y), second(x, y))
        host(second).arena(1 << 20)[...] = 0x5A
        assert torch.equal(first.predict(x), second.predict(x))
    assert all(torch.equal(v, second.state[k]) for k, v in first.state.items())


@pytest.mark.parametrize("target", ["cpu", "reference"])
def test_threads_take_turns(target: str) -> None:
    """Each call is whole: the losses and predictions are those of one thread, in some order."""
    calls, workers = 12, 4
    x, y = batch(4)
    alone = made(target)
    losses, predictions = [], [alone.predict(x)]
    for _ in range(calls):
        losses.append(alone(x, y).item())
        predictions.append(alone.predict(x))
    shared, start = made(target), threading.Barrier(workers)

    def work(_: int) -> list[tuple[float, Tensor]]:
        start.wait()
        return [(shared(x, y).item(), shared.predict(x)) for _ in range(calls // workers)]

    with ThreadPoolExecutor(workers) as pool:
        results = [pair for part in pool.map(work, range(workers)) for pair in part]
    assert sorted(loss for loss, _ in results) == sorted(losses)
    assert all(any(torch.equal(p, q) for q in predictions) for _, p in results)
    assert all(torch.equal(v, alone.state[k]) for k, v in shared.state.items())


def most(step: Step) -> int:
    """Threads of the calling thread's crew behind a call."""
    step(*batch(4))
    return cpu_threads._CREWS.crew.most


def test_threads_of_one_step_are_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = made()
    monkeypatch.setenv("QUATRAIN_THREADS", "1")
    single = made()
    everything = cpu_threads.all_threads()
    assert [most(s) for s in (plain, single, plain)] == [everything, 1, everything]
    with ThreadPoolExecutor(1) as pool:
        assert [pool.submit(most, s).result() for s in (single, plain)] == [1, everything]
