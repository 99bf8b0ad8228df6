"""The environment variables of quatrain, read here and nowhere else; each is an option as well.

    QUATRAIN_THREADS   --threads     threads of a step (default: all CPUs this process may use)
    QUATRAIN_TARGET    --target      what to compile for (default: cpu)
    QUATRAIN_DUMP      --dump-dir    folder for the IR text after every pass (default: no dump)
    QUATRAIN_DATA      --data-dir    folder of data sets
    QUATRAIN_CACHE     --cache-dir   folder of compiled kernels (default: the user's cache folder)

A variable of quatrain that is none of these is told once, as it was most likely misspelt.

An option wins over its variable. ``chosen`` hands options on as variables, so that the command line
and a Python program take the same road.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from ..compiler.errors import UsageError, closest
from ..runtime.telling import LOG

THREADS, TARGET, DUMP, DATA, CACHE = (
    f"QUATRAIN_{word}" for word in ("THREADS", "TARGET", "DUMP", "DATA", "CACHE")
)
NAMES = (THREADS, TARGET, DUMP, DATA, CACHE)
DEFAULT_TARGET = "cpu"
MOST_THREADS = 4096


@contextmanager
def chosen(**options: str | int | Path | None) -> Iterator[None]:
    """Set the variables of the given options (``threads=4``) for a while; None leaves one alone."""
    names = {f"QUATRAIN_{key.upper()}": value for key, value in options.items()}
    before = {name: os.environ.get(name) for name in names}
    os.environ.update({name: str(v) for name, v in names.items() if v is not None})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def check_names() -> None:
    """Warn of variables that begin as quatrain's own and mean nothing."""
    for name in sorted(os.environ):
        if name.startswith("QUATRAIN_") and name not in NAMES:
            _warn_of(name)


@cache
def _warn_of(name: str) -> None:
    LOG.warning("%s is no variable of quatrain and is ignored; %s", name, closest(name, NAMES))


def target() -> str:
    """The target's name."""
    return os.environ.get(TARGET) or DEFAULT_TARGET


def threads() -> int:
    """Number of threads, 1 .. 4096; by default as many as this process may use."""
    text = os.environ.get(THREADS)
    if not text:
        return available_threads()
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MOST_THREADS:
        raise UsageError(
            f"the number of threads ({THREADS} or --threads) is {text!r}; "
            f"it is a whole number of 1 .. {MOST_THREADS}"
        )
    return int(text)


def threads_of_each(processes: int) -> int:
    """Threads of each of several processes: as many as were asked for, or an equal share of all."""
    return threads() if os.environ.get(THREADS) else max(1, available_threads() // processes)


def available_threads() -> int:
    """CPUs that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def dump_dir() -> Path | None:
    """The folder that every pass's text is written to, if one was named."""
    return _folder(DUMP)


def data_dir() -> Path | None:
    """The folder of data sets, if one was named."""
    return _folder(DATA)


def cache_dir() -> Path:
    """The folder of compiled kernels; it need not exist yet."""
    return _folder(CACHE) or user_cache() / "quatrain"


def user_cache() -> Path:
    """Where this system keeps what programs can make again."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def _folder(variable: str) -> Path | None:
    text = os.environ.get(variable)
    return Path(text).expanduser() if text else None
