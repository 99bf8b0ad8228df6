"""Tests on other Pythons and PyTorches than .venv has, as far as what they need is at hand.

The oldest and the newest PyTorch that pip finds as a file run capture's tests; the newest Python
runs those that need no PyTorch, unless pip finds one for it. A build from a registry is several GB
and is left out with a line that says so. ``--download`` takes it, every release on every Python:
run that before a release joins ``TRIED`` in compiler/capture/version.py.
"""

import argparse
import ast
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

TOP = Path(__file__).parent.parent
PROJECT = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PYTHON = "Programming Language :: Python :: "
# Tests of kernels know nothing of PyTorch's version and take most of the time.
CAPTURE = (
    *(
        f"tests/steps/test_{name}.py"
        for name in (
            *("capture", "lower", "ways_of_writing_models"),
            *("models", "optimizers", "ops_beside_torch"),
        )
    ),
    *("-k", "not cpu and not kernels and not threads and not clips"),
)
WITHOUT_TORCH = ("tests/plain", "-m", "not torch and not tvm and not slow")
SELF_TEST = ("tests/steps/test_doctor.py", "-m", "tvm")
NEEDED_GB = 12  # a CUDA build, the only one that some releases have, unpacked

SAY_VERSION = "import sys; print('{}.{}'.format(*sys.version_info))"

# A Python and a release of torch, or none.
Pair = tuple[str, str | None]


def pythons() -> dict[str, Path]:
    """Interpreters of the Pythons that pyproject.toml names: by the search path, or pyenv's."""
    root = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser()
    found = {}
    for name in (c.removeprefix(PYTHON) for c in PROJECT["classifiers"] if c.startswith(PYTHON)):
        named = shutil.which(f"python{name}")
        for path in (named, *sorted(root.glob(f"versions/{name}.*/bin/python"))):
            if path and _output(path, "-c", SAY_VERSION) == name:
                found[name] = Path(path)
                break
    return found


def releases() -> tuple[str, ...]:
    """``TRIED``; read as text, so that no package need be installed."""
    text = (TOP / "compiler" / "capture" / "version.py").read_text(encoding="utf-8")
    line = next(x for x in text.splitlines() if x.startswith("TRIED = "))
    return tuple(ast.literal_eval(line.removeprefix("TRIED = ")))


def is_at_hand(python: Path, release: str) -> bool:
    """Whether pip takes this torch from a file; the registry, which has all, is not asked."""
    dry = ("--dry-run", "--report", "-", "--no-deps", "--ignore-installed")
    nowhere = ("--index-url", (TOP / "build" / "no-index").as_uri())
    report = _output(python, "-m", "pip", "install", "-q", *dry, *nowhere, f"torch=={release}.*")
    found = json.loads(report)["install"] if report else []
    return any(f["download_info"]["url"].startswith("file:") for f in found)


def _output(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    return "" if done.returncode else done.stdout.strip()


def own() -> Pair:
    """What this interpreter has: the whole suite runs with it."""
    python = "{}.{}".format(*sys.version_info)
    try:
        return python, ".".join(metadata.version("torch").split(".")[:2])
    except metadata.PackageNotFoundError:
        return python, None


def choose(found: dict[str, Path]) -> list[Pair]:
    """The oldest and the newest torch at hand, and the newest Python; says what is left out."""
    every = [(python, release) for release in releases() for python in found]
    here = [p for p in every if is_at_hand(found[p[0]], p[1])]
    if len(here) < len(every):
        print(
            f"skipped {len(every) - len(here)} of {len(every)} combinations of Python and torch: "
            "no file of that torch is here, and a download is several GB (--download takes it)"
        )
    if here and shutil.disk_usage(tempfile.gettempdir()).free < NEEDED_GB << 30:
        print(f"skipped the other {len(here)} too: they need {NEEDED_GB} GB of disk")
        here = []
    other: list[Pair] = [p for p in here if p != own()]
    chosen = other[:1] + other[1:][-1:]
    newest = max(found, key=lambda name: int(name.partition(".")[2]))
    without = newest not in {own()[0], *(python for python, _ in chosen)}
    return [*([(newest, None)] if without else []), *chosen]


@contextmanager
def environment(python: Path, torch: str | None, deadline: float) -> Iterator[Path]:
    """The interpreter of a virtual environment for a while: what quatrain needs, and ``torch``."""
    with tempfile.TemporaryDirectory() as folder:
        pins = Path(folder) / "constraints.txt"
        lines = (TOP / "constraints.txt").read_text(encoding="utf-8").splitlines()
        pins.write_text("\n".join(x for x in lines if not x.startswith("torch==")))
        subprocess.run([python, "-m", "venv", Path(folder) / "env"], check=True)
        made = next(p for p in Path(folder).glob("env/*/python*") if p.stem == "python")
        packages = [d for d in PROJECT["dependencies"] if not d.startswith("torch")]
        packages += ["hypothesis", "import-linter", "pillow", "pytest"]
        packages += ["scikit-learn", "setuptools>=77"]
        packages += [f"torch=={torch}.*"] if torch else []
        words = [
            "-q",
            "--no-compile",
            "-c",
            str(pins),
            *os.environ.get("PIP_ARGS", "").split(),
            *packages,
        ]
        _run(deadline, made, "-m", "pip", "install", *words)
        yield made


def _run(deadline: float, *command: str | Path) -> None:
    one_thread = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS")}
    left = max(deadline - time.monotonic(), 1)
    subprocess.run(command, cwd=TOP, env={**os.environ, **one_thread}, check=True, timeout=left)


def check(python: Path, torch: str | None, deadline: float) -> None:
    """Run the tests of one combination; CalledProcessError where one fails."""
    with environment(python, torch, deadline) as made:
        for tests in (CAPTURE,) if torch else (WITHOUT_TORCH, SELF_TEST):
            _run(deadline, made, "-m", "pytest", "-p", "no:cacheprovider", *tests)


def main() -> int:
    """Run them; the status is 1 if a test failed, and 0 where the time ran out."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--download", action="store_true", help="every combination; many GB")
    options.add_argument(
        "--minutes", type=float, default=10, help="of all; with --download, of each"
    )
    given = options.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that children and folders go too
    found = pythons()
    every: list[Pair] = [(python, release) for release in releases() for python in found]
    failed, deadline = False, time.monotonic() + 60 * given.minutes
    for python, torch in every if given.download else choose(found):
        name = f"Python {python} with torch {torch}" if torch else f"Python {python} without torch"
        start = time.monotonic()
        deadline = start + 60 * given.minutes if given.download else deadline
        try:
            check(found[python], torch, deadline)
            print(f"{name}: passed in {time.monotonic() - start:.0f} s", flush=True)
        except subprocess.TimeoutExpired:
            print(f"{name}: not finished when {given.minutes:g} minutes were over", flush=True)
        except subprocess.CalledProcessError as error:
            print(f"{name}: FAILED, {error.cmd[:4]} ended with {error.returncode}", flush=True)
            failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
