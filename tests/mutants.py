"""Mutants of programs: each is refused in one sentence, or means the same on both targets.

    python -m tests.mutants --mutants 10000 --seed 0

The text of a golden program is changed in one to three places. What the verifier accepts runs on
the reference, and each of its kernels alone beside that, between pages that nothing may touch. A
child process runs them, so that one that dies is found, named, and the next goes on.
"""

from __future__ import annotations

import random
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from quatrain.compiler.errors import QuatrainError
from quatrain.compiler.formats import FORMATS
from quatrain.compiler.ir import Program, Value
from quatrain.compiler.ir.ops import OPS
from quatrain.compiler.ir.verify import read_program
from quatrain.runtime.taken import Labels, find_checks
from quatrain.targets.cpu.info import detect
from quatrain.targets.numbers.tensor import Tensor

from .cases.gemm_case import tensor
from .cases.seeds import seeded, tell
from .exactness import compare

GOLDEN = Path(__file__).parent / "golden"
BETWEEN = "=" * 72
FINE = ("refused", "equal", "unplanned", "too large")
MOST_ELEMENTS = 1 << 22  # of a program's values together
NAME = r"[A-Za-z_][\w.]*"
Rng = random.Random
Mutation = Callable[[list[str], Rng], None]


def bases() -> list[str]:
    """All programs of the golden files."""
    texts = [path.read_text() for path in sorted(GOLDEN.glob("*.qt"))]
    return [part.strip() + "\n" for text in texts for part in text.split(BETWEEN)]


def _somewhere(lines: list[str], rng: Rng, pattern: str, make: Callable[[str], str]) -> None:
    """Replace one match of ``pattern`` in one line."""
    places = [(i, m) for i, line in enumerate(lines) for m in re.finditer(pattern, line)]
    if places:
        i, m = rng.choice(places)
        lines[i] = lines[i][: m.start()] + make(m.group()) + lines[i][m.end() :]


def _number(lines: list[str], rng: Rng) -> None:
    """A size or an attribute is another."""

    def other(text: str) -> str:
        n = int(text)
        near = (n + 1, n - 1, 2 * n, n // 2, -n, 0, 1, 2, 3, 7, 33, 64)
        return str(rng.choice((*near, 10**6, 2**31, 2**40) if rng.random() < 0.05 else near))

    _somewhere(lines, rng, r"(?<![\w.#])\d+(?![\w.])|(?<=x)\d+(?=[x\]])|(?<=\[)\d+(?=x)", other)


def _real(lines: list[str], rng: Rng) -> None:
    """A real number of an attribute is another."""
    values = ("0.0", "-1.0", "1e30", "nan", "inf", "-inf", "1e-45", "0.5", "3.0", "-0.0")
    _somewhere(lines, rng, r"\d+\.\d+(e-?\d+)?|\d+e-\d+", lambda _: rng.choice(values))


def _format(lines: list[str], rng: Rng) -> None:
    """A format is another."""
    names = sorted(FORMATS)
    _somewhere(lines, rng, r"(?<=: )[a-z]+[\w.]*(?=[*\[])", lambda _: rng.choice(names))


def _scale(lines: list[str], rng: Rng) -> None:
    """How a scale is attached is another."""
    ways = ("", "*t", "*c", "*p", "*a", "*ac", "*s")
    _somewhere(lines, rng, r"(\*[a-z]+)?(?=\[[\dx]*\])", lambda _: rng.choice(ways))


def _shape(lines: list[str], rng: Rng) -> None:
    """A shape is that of another value."""
    shapes = re.findall(r"\[[\dx]*\]", "\n".join(lines))
    _somewhere(lines, rng, r"\[[\dx]*\]", lambda _: rng.choice(shapes))


def _operand(lines: list[str], rng: Rng) -> None:
    """An operand is another value, or the same twice."""
    names = re.findall(rf"^\s*(?:input |state )?({NAME}) (?:=|:)", "\n".join(lines), re.MULTILINE)
    _somewhere(lines, rng, rf"(?<=[(, ]){NAME}(?=[,)])", lambda _: rng.choice(names))


def _kind(lines: list[str], rng: Rng) -> None:
    """An op is another op."""
    _somewhere(lines, rng, r"(?<== )\w+(?=\()", lambda _: rng.choice(sorted(OPS)))


def _words(lines: list[str], rng: Rng) -> None:
    """A word of an attribute is another."""
    words = ("true", "false", "mean", "sum", "none", "eq", "lt", "median", "xyz", "7", "[1,1]")
    _somewhere(lines, rng, r"(?<==)[a-z]+(?=[,}])", lambda _: rng.choice(words))


def _less(lines: list[str], rng: Rng) -> None:
    """A line, an operand or an attribute is missing."""
    if rng.random() < 0.3:
        del lines[rng.randrange(len(lines))]
    else:
        _somewhere(lines, rng, rf"({NAME}, )|([a-z_]+=[^,{{}}]+, )", lambda _: "")


def _twice(lines: list[str], rng: Rng) -> None:
    """A line stands twice, or elsewhere."""
    line = lines[rng.randrange(len(lines))]
    if rng.random() < 0.5:
        lines.remove(line)
    lines.insert(rng.randrange(len(lines) + 1), line)


def _ends(lines: list[str], rng: Rng) -> None:
    """What is returned, or is the next state, is another value."""
    names = re.findall(rf"^\s*(?:input |state )?({NAME}) (?:=|:)", "\n".join(lines), re.MULTILINE)
    places = [i for i, line in enumerate(lines) if line.startswith(("return", "next"))]
    if places:
        i = rng.choice(places)
        head, _, _ = lines[i].rpartition(" ")
        lines[i] = f"{head} {rng.choice(names)}"


MUTATIONS: tuple[Mutation, ...] = (
    *(_number, _number, _real, _format, _scale, _shape),
    *(_operand, _operand, _operand, _kind, _words, _less, _twice, _ends),
)


def mutant(seed: int, texts: list[str]) -> str:
    """The text of a mutant; a change that finds no place in it is followed by another."""
    rng = Rng(seed)
    before = rng.choice(texts).splitlines()
    lines = [*before]
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        rng.choice(MUTATIONS)(lines, rng)
    while lines == before:
        rng.choice(MUTATIONS)(lines, rng)
    return "\n".join(lines) + "\n"


def values_of(program: Program, seed: int) -> dict[str, Tensor]:
    """Random numbers for inputs and state that has no initial number.

    Labels are within their classes, as the runtime demands.
    """
    rng = np.random.default_rng(seed)
    classes: dict[Value, int] = {}
    for found in find_checks(program):
        if isinstance(found, Labels):
            classes[found.value] = min(found.classes, classes.get(found.value, found.classes))
    made = {}
    for v in (*program.inputs, *program.state):
        if v.name in program.initial:
            start = np.full(v.type.shape, program.initial[v.name], np.float32)
            made[v.name] = Tensor.from_numbers(v.type, start)
        elif v.type.format.is_index:
            data = rng.integers(0, max(1, classes.get(v, 5)), v.type.shape)
            made[v.name] = Tensor(v.type, np.asarray(data), None)
        else:
            made[v.name] = tensor(v.type, rng)
    return made


def outcome(seed: int, texts: list[str], *, at_end: bool = True) -> str:
    """``refused``, ``too large``, ``unplanned`` or ``equal``; else what is wrong."""
    try:
        program = read_program(mutant(seed, texts))
    except QuatrainError:
        return "refused"
    values = [v for _, op in program.ops() for v in op.results]
    if sum(v.type.elements for v in (*program.inputs, *program.state, *values)) > MOST_ELEMENTS:
        return "too large"
    try:
        for mismatch in compare(program, values_of(program, seed), detect(), at_end=at_end):
            return f"differs: {mismatch}"
    except QuatrainError:
        return "unplanned"
    return "equal"


def child(seeds: range) -> None:
    """Print a line for each mutant, ahead of it and behind it."""
    texts = bases()
    for seed in seeds:
        print(f"{seed} starts", flush=True)
        try:
            found = outcome(seed, texts, at_end=seed % 2 == 0)
        except Exception as error:
            found = f"raised {type(error).__name__}: {str(error).splitlines()[:1]}"
        print(f"{seed} {found}", flush=True)


def run(seeds: range) -> Iterator[tuple[int, str]]:
    """Outcome of each mutant; a child that dies is followed by another."""
    start = seeds.start
    while start < seeds.stop:
        words = ["--child", "--seed", str(start), "--mutants", str(seeds.stop - start)]
        command = [sys.executable, "-m", "tests.mutants", *words]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                number, _, found = line.rstrip("\n").partition(" ")
                start = int(number)
                if found != "starts":
                    yield start, found
                    start += 1
        if process.returncode:
            yield start, f"died: exit status {process.returncode}"
            start += 1


def main() -> None:
    """Run mutants and print what is wrong."""
    parser = seeded(__doc__, "mutants", 1000)
    parser.add_argument("--child", action="store_true")
    parser.add_argument("--show", action="store_true", help="print the text of the first mutant")
    args = parser.parse_args()
    seeds = range(args.seed, args.seed + args.mutants)
    if args.child:
        child(seeds)
    elif args.show:
        print(mutant(args.seed, bases()))
    else:
        tell("mutants", run(seeds), FINE, every=500)


if __name__ == "__main__":
    main()
