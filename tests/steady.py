"""Many steps of one compiled network: its memory must stay flat.

    python -m tests.steady --network resnet20 --batch 128 --steps 5000

Resident memory is read after every hundredth step; what the first five hundred allocate once (the
threads' scratch, the allocator's own reserves) is not counted.
"""

from __future__ import annotations

import argparse
import itertools
import time
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy

import quatrain

from .parity import NETWORKS, batches, optimizer

EVERY, WARM_UP = 100, 500
# A page here and there is the allocator's; a leak of one tensor a step would be far more.
MOST_BYTES = 1 << 20
PAGE = 4096


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def main() -> None:
    """Run, print what was seen, and fail where memory grew."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--network", choices=sorted(NETWORKS), default="resnet20")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--recipe", default="ultra_low_4bit")
    args = parser.parse_args()
    torch.manual_seed(0)
    model = NETWORKS[args.network]()
    data = batches(4, args.batch, None)
    step = quatrain.compile(
        model, cross_entropy, data[0], optimizer(model, True), recipe=args.recipe
    )
    seen: list[int] = []
    start = time.monotonic()
    for done, batch in enumerate(itertools.islice(itertools.cycle(data), args.steps), 1):
        loss = step(*batch)
        if done >= WARM_UP and done % EVERY == 0:
            seen.append(resident())
            if done % (5 * EVERY) == 0:
                print(
                    f"step {done}: {seen[-1] / 2**20:.2f} MiB, loss {float(loss):.4f}", flush=True
                )
    grown = max(seen) - seen[0]
    seconds = time.monotonic() - start
    print(f"{args.steps} steps in {seconds:.0f} s: {grown:,} bytes more than at step {WARM_UP}")
    if grown > MOST_BYTES:
        raise SystemExit(f"memory grew by more than {MOST_BYTES:,} bytes")


if __name__ == "__main__":
    main()
