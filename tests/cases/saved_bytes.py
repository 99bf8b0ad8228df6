"""Bytes kept from forward to backward: buffers of the compiled plan beside PyTorch's saved tensors.

    python -m tests.cases.saved_bytes --network resnet20 --batch 128 [--list]

PyTorch's list comes from saved-tensor hooks, every storage once, parameters, buffers and the batch
excluded; quatrain's from the offsets and lifetimes of the planned arena.
"""

from __future__ import annotations

import argparse

import torch
from torch.nn.functional import cross_entropy

import quatrain
from quatrain.compiler.capture.saved import kept_by_torch
from quatrain.compiler.saved import Kept
from quatrain.runtime.step import Step
from quatrain.targets.cpu.info import detect
from quatrain.targets.cpu.target import plan_cpu
from quatrain.targets.plan.plan import Plan
from quatrain.targets.plan.state import state_layout

from ..parity import NETWORKS, batches, optimizer


def planned(network: str, size: int, options: dict[str, object]) -> tuple[Plan, tuple[Kept, ...]]:
    """The plan of a network's step, and what PyTorch keeps for the same."""
    torch.manual_seed(0)
    model = NETWORKS[network]()
    (batch,) = batches(1, size, None)
    step: Step = quatrain.compile(
        model, cross_entropy, batch, optimizer(model, True), options=options, target="reference"
    )
    plan = plan_cpu(step.program, state_layout(step.program), detect())
    owned = (*model.parameters(), *model.buffers(), *batch)
    kept = kept_by_torch(lambda: cross_entropy(model(batch[0]), batch[1]), owned)
    return plan, kept


def main() -> None:
    """Print both sums and their ratio, and on demand both lists."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--network", choices=sorted(NETWORKS), default="resnet20")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--list", action="store_true")
    args = parser.parse_args()
    for recompute in ("masks", "bn_input"):
        plan, kept = planned(args.network, args.batch, {"recompute": recompute})
        theirs = sum(s.bytes for s in kept)
        ours = plan.saved_bytes()
        print(
            f"{args.network} batch {args.batch} recompute={recompute}: quatrain {ours:,} bytes, "
            f"PyTorch {theirs:,}, ratio {ours / theirs:.4f}"
        )
        if args.list:
            for slot, place in sorted(plan.saved(), key=lambda p: -p[1].bytes):
                print(f"  {place.bytes:12,} {slot.value.name} : {slot.value.type}")
    if args.list:
        print("PyTorch keeps")
        for storage in sorted(kept, key=lambda s: -s.bytes):
            print(f"  {storage.bytes:12,} {list(storage.shape)}")


if __name__ == "__main__":
    main()
