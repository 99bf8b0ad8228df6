"""Did this refactoring change a kernel? A digest of the TIR of every kernel, recipe by recipe.

    python -m tests.kernel_digests before.txt                        # on the code of before
    python -m tests.kernel_digests after.txt --against before.txt    # on the code of after

Each line of a file is one kernel of one training program for one CPU: recipe, network, CPU, the
kernel's name, the digest of its text; the last line of a program has the order of the calls and the
place of every buffer. Nothing is compiled, so that any CPU can be named.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Iterator
from difflib import unified_diff
from pathlib import Path

import torch

from quatrain.compiler.capture.program import Capture, capture
from quatrain.passes.recipe import load_recipe
from quatrain.targets.cpu.module import kernel_names
from quatrain.targets.plan.kernel import KernelSpec
from quatrain.targets.plan.plan import Plan
from quatrain.tools.planning import plan_program

from .cases.networks import NETWORKS

RECIPES = ["fp32", "bf16", "ultra_low_4bit", "luq4", "sbm8", "s2fp8", "dfp16", "wageubn"]
SHOWN = ["resnet20", "mobilenetv2", "unet", "gpt"]
# AMX; AVX-512 VNNI with dots of bf16; AVX2.
CPUS = ["sapphirerapids", "znver4", "haswell"]


def captured(network: str) -> Capture:
    """The f32 programs of a network, its loss and SGD with momentum."""
    torch.manual_seed(0)
    made = NETWORKS[network]
    model = made.make()
    sgd = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return capture(model, made.loss, made.batch(), sgd)


def digests(plan: Plan, known: dict[KernelSpec, str]) -> Iterator[str]:
    """Name and digest of each distinct kernel of a plan, and of the calls."""
    names = kernel_names(plan)
    for spec, name in names.items():
        if spec not in known:
            known[spec] = digest(str(spec.build()))
        yield f"{name} {known[spec]}"
    calls = [
        (names[p.kernel.spec], slot.value.name, slot.scale, plan.places[slot])
        for p in plan.kernels
        for slot in p.kernel.slots
    ]
    yield f"calls {digest(repr((plan.arena, calls)))}"


def digest(text: str) -> str:
    """The first 64 bits of a SHA-256 in hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def lines(recipes: list[str], networks: list[str], cpus: list[str]) -> Iterator[str]:
    """All lines of a file; a program that has no kernels of its formats says why."""
    known: dict[KernelSpec, str] = {}
    for network in networks:
        program = captured(network).train
        for recipe in recipes:
            made = load_recipe(recipe).apply(program)[-1][1]
            for cpu in cpus:
                plan = plan_program(f"cpu:{cpu}", made)
                assert plan is not None
                for line in digests(plan, known):
                    yield f"{recipe} {network} {cpu} {line}"


def main() -> int:
    """Write a file of digests; with ``--against`` show what differs, exit status 1 if anything."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--against", type=Path, metavar="FILE")
    parser.add_argument("--recipes", nargs="+", default=RECIPES)
    parser.add_argument("--networks", nargs="+", default=SHOWN, choices=sorted(NETWORKS))
    parser.add_argument("--cpus", nargs="+", default=CPUS)
    args = parser.parse_args()
    found = list(lines(args.recipes, args.networks, args.cpus))
    args.file.write_text("".join(f"{line}\n" for line in found))
    programs = len(args.recipes) * len(args.networks) * len(args.cpus)
    print(f"{len(found)} kernels of {programs} programs")
    if args.against is None:
        return 0
    changed = list(unified_diff(args.against.read_text().splitlines(), found, n=0, lineterm=""))
    print("\n".join(changed[2:] or ["no kernel changed"]))
    return bool(changed)


if __name__ == "__main__":
    sys.exit(main())
