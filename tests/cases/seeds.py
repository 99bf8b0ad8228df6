"""What the commands share that draw cases by seed, try each, and tell what comes out."""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Container, Iterable

FAILED = "failed"


def seeded(doc: str | None, what: str, count: int) -> argparse.ArgumentParser:
    """The options of a command with this docstring: how many of ``what``, and from which seed."""
    parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    parser.add_argument(f"--{what}", type=int, default=count)
    parser.add_argument("--seed", type=int, default=0)
    return parser


def tell(what: str, found: Iterable[tuple[int, str]], fine: Container[str], every: int) -> None:
    """Print each outcome that is not ``fine``, and counts of all, by their first word.

    An outcome is a seed and what came of it: ``equal``, ``failed: why``.
    """
    counts, begin, done = Counter[str](), time.monotonic(), 0
    for done, (seed, outcome) in enumerate(found, 1):
        counts[outcome.partition(":")[0]] += 1
        if outcome not in fine:
            print(f"seed {seed}: {outcome}", flush=True)
        if done % every == 0:
            rate = done / (time.monotonic() - begin)
            print(f"{done} {what}: {_words(counts)}; {rate:.2f} a second", flush=True)
    print(f"{done} {what}: {_words(counts)}")


def _words(counts: Counter[str]) -> str:
    return ", ".join(f"{n} {outcome}" for outcome, n in counts.most_common())
