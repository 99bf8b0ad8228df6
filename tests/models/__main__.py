"""Models that people have, judged one by one: which compile, which agree, what they cost.

    python -m tests.models results.jsonl --page docs/models.md
    python -m tests.models results.jsonl --group plain --only unet gpt --recipe fp32 --again

A process for each model, with a limit of time and of memory; what is in the file of results is not
judged again, so that a run may be stopped and go on. ``timm`` and ``transformers`` are no
dependencies: install them beside quatrain (``pip install timm transformers``) to judge theirs.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import multiprocessing
import resource
import sys
import time
import warnings
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from .given import Make
from .judge import judge
from .page import page
from .verdict import RECIPES, Verdict, lines, read

GROUPS = {"plain": "plain", "timm": "timm_families", "transformers": "hugging"}
TABLES = {"plain": "PLAIN", "timm": "TIMM", "transformers": "HUGGING"}
GIB = 2**30


def models(group: str) -> dict[str, Make]:
    """The models of a group by name."""
    found: dict[str, Make] = getattr(
        importlib.import_module(f".{GROUPS[group]}", __package__), TABLES[group]
    )
    return found


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("results", type=Path, help="a file of results, a line of JSON each")
    parser.add_argument("--group", nargs="*", choices=list(GROUPS), default=list(GROUPS))
    parser.add_argument("--only", nargs="*", help="names of models")
    parser.add_argument("--recipe", nargs="*", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--again", action="store_true", help="also what is in the results")
    parser.add_argument("--seconds", type=float, default=300.0, help="for one model")
    parser.add_argument("--gib", type=float, default=4.0, help="of memory for one model")
    parser.add_argument("--page", type=Path, help="write the page of all results")
    parser.add_argument(
        "--build", type=int, default=700, help="fp32 of up to so many ops is built and timed"
    )
    return parser.parse_args()


def main() -> None:
    """Judge what is asked for and not known, then write the page."""
    args = arguments()
    torch.set_num_threads(1)
    for group in args.group:
        if group != "plain" and importlib.util.find_spec(group) is None:
            print(f"{group} is not installed: pip install {group}", file=sys.stderr)
        else:
            judge_group(group, args)
    if args.page:
        args.page.write_text(page(read(args.results).values()), encoding="utf-8")


def judge_group(group: str, args: argparse.Namespace) -> None:
    """All models of a group that are asked for."""
    for name in models(group):
        known = {} if args.again else read(args.results)
        missing = [r for r in args.recipe if (group, name, r) not in known]
        if not missing or (args.only and name not in args.only):
            continue
        with args.results.open("a", encoding="utf-8") as file:
            for line in in_process(group, name, missing, args):
                print(line, file=file, flush=True)
                print(line, flush=True)


def in_process(group: str, name: str, recipes: list[str], args: argparse.Namespace) -> list[str]:
    """The verdicts of one model; of what takes too long or dies a sentence that says so."""
    context = multiprocessing.get_context("fork")  # which has torch and the models' library already
    ours, theirs = context.Pipe(duplex=False)
    given = (group, name, tuple(recipes), args.gib, args.build, theirs)
    child = context.Process(target=judge_one, args=given)
    child.start()
    theirs.close()
    made: dict[str, Verdict] = {}
    until, why = time.monotonic() + args.seconds, "the process that judged it died"
    try:
        while len(made) < len(recipes):
            if not ours.poll(max(0.0, until - time.monotonic())):
                why = f"not judged within {args.seconds:.0f} s"
                break
            verdict: Verdict = ours.recv()
            made.setdefault(verdict.recipe, verdict)
    except EOFError:
        pass
    child.kill()
    child.join()
    missing = [Verdict(group, name, r, why=why) for r in recipes if r not in made]
    return list(lines([*made.values(), *missing]))


def judge_one(
    group: str, name: str, recipes: tuple[str, ...], gib: float, build: int, told: Connection
) -> None:
    """In a process of its own; a verdict is sent as soon as it is known."""
    most = int(gib * GIB)
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    warnings.simplefilter("ignore")
    try:
        for verdict in judge(group, name, models(group)[name], recipes, build):
            told.send(verdict)
    except Exception as error:
        said = f"{type(error).__name__}: {error}".partition("\n")[0]
        for recipe in recipes:
            told.send(Verdict(group, name, recipe, why=said))


if __name__ == "__main__":
    main()
