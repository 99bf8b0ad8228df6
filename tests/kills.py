"""Kills ``quatrain run`` at random moments and resumes it; the end must be that of a quiet run.

    python -m tests.kills --kills 50

The network has dropout and Adam, so that the generator and the moments matter; every step writes a
checkpoint.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

STEPS = 40
SOURCE = """
import quatrain, torch
from torch import nn

def task():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(),
        nn.Dropout(0.3), nn.Flatten(), nn.Linear(72, 3),
    )
    example = torch.zeros(5, 1, 7, 7), torch.zeros(5, dtype=torch.int64)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    return quatrain.Task(model, nn.functional.cross_entropy, optimizer, example)
"""


def quatrain(*words: object) -> list[str]:
    """The command line of a call."""
    return [sys.executable, "-m", "quatrain", *map(str, words)]


def prepare(folder: Path) -> tuple[Path, Path]:
    """A compiled network and data."""
    source, network, data = folder / "source.py", folder / "net.qtn", folder / "data.npz"
    source.write_text(SOURCE)
    generator = np.random.default_rng(0)
    y = np.arange(60) % 3
    x = generator.standard_normal((60, 1, 7, 7)).astype(np.float32) + y[:, None, None, None]
    np.savez(data, x_train=x[:43], y_train=y[:43], x_test=x[43:], y_test=y[43:])
    words = (f"{source}:task", "--recipe", "ultra_low_4bit", "--seed", 7, "-o", network)
    subprocess.run(quatrain("compile", *words), check=True, capture_output=True)
    return network, data


def run(network: Path, data: Path, checkpoint: Path, output: Path) -> list[str]:
    """The command line that trains, from the checkpoint where there is one."""
    words = ["run", network, "--data", data, "--steps", STEPS, "-o", output]
    words += ["--checkpoint", checkpoint, "--checkpoint-every", 1]
    words += ["--resume", checkpoint] if checkpoint.exists() else []
    return quatrain(*words)


def killed_run(
    network: Path, data: Path, folder: Path, rng: random.Random, seconds: float, most: int
) -> tuple[bytes, int]:
    """The bytes at the end of a run that was killed up to ``most`` times, and how often it was."""
    checkpoint, output, kills = folder / "part.qtn", folder / "end.qtn", 0
    for path in (checkpoint, output):
        path.unlink(missing_ok=True)
    while True:
        with subprocess.Popen(
            run(network, data, checkpoint, output),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                _, said = process.communicate(
                    timeout=rng.uniform(0, seconds) if kills < most else None
                )
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.communicate()
                kills += 1
                continue
        if process.returncode:
            raise SystemExit(f"a run after {kills} kills ended with {process.returncode}: {said}")
        return output.read_bytes(), kills


def main() -> None:
    """Kill and compare until there were enough kills."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng, kills, runs = random.Random(args.seed), 0, 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        network, data = prepare(folder)
        quiet = folder / "quiet.qtn"
        start = time.monotonic()
        words = run(network, data, folder / "other.qtn", quiet)
        subprocess.run(words, check=True, capture_output=True)
        seconds = 1.3 * (time.monotonic() - start)
        while kills < args.kills:
            end, more = killed_run(network, data, folder, rng, seconds, args.kills - kills)
            kills, runs = kills + more, runs + 1
            same = "the same bytes" if end == quiet.read_bytes() else "OTHER BYTES"
            print(f"run {runs}: {more} kills, {same}", flush=True)
            if end != quiet.read_bytes():
                raise SystemExit("a resumed run differs from the uninterrupted one")
    print(f"{kills} kills in {runs} runs, all resumed to the same bytes")


if __name__ == "__main__":
    main()
