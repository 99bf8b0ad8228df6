"""What nvcc makes of kernels: registers, spills, shared memory, instructions a product.

    python -m tests.cuda.machine_code sm_90 resnet20:ultra_low_4bit gpt:luq4

compiles all kernels of training programs, prints those that spill, those that take most, and the
loops around products of tensor cores.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from quatrain.targets.cuda.code import Launch
from quatrain.targets.cuda.compiler import EXACT, QUIET
from quatrain.targets.cuda.source import cuda_source

from .sass import MULTIPLY, kernels, loop

NVCC = shutil.which("nvcc")
SHARE = 24  # launches a file


@dataclass(frozen=True, slots=True)
class Usage:
    """Of one kernel; sizes in bytes."""

    registers: int
    spilled: int
    stack: int
    shared: int


def compiled(
    launches: Mapping[str, Launch], arch: str, folder: Path
) -> tuple[bytes, dict[str, Usage]]:
    """The cubin of kernels by name, and what each takes; AssertionError with nvcc's words."""
    assert NVCC is not None
    (folder / "kernels.cu").write_text(cuda_source(launches, arch))
    options = ["-cubin", "-O3", *EXACT, QUIET, f"-arch={arch}", "-Xptxas=-v"]
    done = subprocess.run(
        [NVCC, *options, "kernels.cu", "-o", "kernels.cubin"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    parts = done.stderr.split("Compiling entry function '")[1:]
    usage = {part.split("'")[0]: _usage(part) for part in parts}
    return (folder / "kernels.cubin").read_bytes(), usage


def _usage(text: str) -> Usage:
    def number(pattern: str) -> int:
        found = re.search(pattern, text)
        return int(found[1]) if found else 0

    return Usage(
        registers=number(r"Used (\d+) registers"),
        spilled=number(r"(\d+) bytes spill stores"),
        stack=number(r"(\d+) bytes stack frame"),
        shared=number(r"(\d+) bytes smem"),
    )


def launches_of(programs: list[str], arch: str) -> dict[str, Launch]:
    """The launches of all distinct kernels of ``NETWORK:RECIPE``, by name."""
    from quatrain.passes.recipe import load_recipe
    from quatrain.tools.planning import plan_program

    from ..kernel_digests import captured

    made: dict[str, Launch] = {}
    seen: dict[object, int] = {}
    for program in programs:
        network, _, recipe = program.partition(":")
        train = load_recipe(recipe).apply(captured(network).train)[-1][1]
        plan = plan_program(f"cuda:{arch}", train)
        assert plan is not None
        for planned in plan.kernels:
            spec = planned.kernel.spec
            if spec not in seen:
                number = seen[spec] = len(seen)
                name = re.sub(r"\W", "", spec.name)[:60]
                for j, launch in enumerate(spec.build()):
                    made[f"k{number}_{j}_{name}"] = launch
    return made


def usages(
    launches: Mapping[str, Launch], arch: str
) -> Iterator[tuple[str, Usage, Counter[str] | None]]:
    """What each takes, and the instructions of its loop around products; some at a time."""
    names = list(launches)
    for start in range(0, len(names), SHARE):
        some = {name: launches[name] for name in names[start : start + SHARE]}
        with tempfile.TemporaryDirectory() as folder:
            cubin, usage = compiled(some, arch, Path(folder))
        codes = dict(kernels(cubin))
        yield from ((name, usage[name], loop(codes[name])) for name in usage)


def main() -> None:
    """Print what spills, what takes most registers and shared memory, and loops."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("arch", help="such as sm_90")
    parser.add_argument("programs", nargs="+", metavar="NETWORK:RECIPE")
    args = parser.parse_args()
    found = list(usages(launches_of(args.programs, args.arch), args.arch))
    print(f"{len(found)} launches, {sum(u.spilled > 0 for _, u, _ in found)} spill")
    for name, usage, _ in found:
        if usage.spilled or usage.stack:
            print(f"  {name}: {usage}")
    for what in ("registers", "shared"):
        name, usage, _ = max(found, key=lambda item: getattr(item[1], what))
        print(f"most {what}: {getattr(usage, what)}, {name}")
    for name, _, body in found:
        for product in MULTIPLY:
            if body is not None and body[product]:
                each = body.total() / body[product]
                print(f"{each:.2f} instructions a product, {body[product]} {product}: {name}")


if __name__ == "__main__":
    main()
