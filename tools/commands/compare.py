"""``quatrain compare``: two programs on one batch from one state, and where their numbers part."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from ...compiler.errors import UsageError
from ...targets.registry import find_target
from .. import env, terminal
from ..arguments import CacheDirOption, DataDirOption, JsonOption, ThreadsOption, pairs
from ..binding import bind_options
from ..compare.align import Comparison, Ran, compare_ran
from ..compare.batch import first_batch
from ..compare.bisect import Bisected, RunSide, bisect, bisect_tables
from ..compare.network import named
from ..compare.side import REFERENCE, ComparedSide, Given, SideWish, given_to, ran, side
from ..compare.start import check_names, read_numbers
from ..compare.tables import tables
from ..dump import FIRST
from ..page_of_file import check_page, said_of_page
from .opt import parse_pass

One = tuple[str | None, str | None, str | None]  # of both sides, of A, of B
Several = tuple[list[str] | None, list[str] | None, list[str] | None]
WORDS = "NET.qtn, FILE.py:FACTORY or PROGRAM.qt"

FirstArgument = Annotated[str, typer.Argument(metavar="A", help=f"What is right: {WORDS}.")]
SecondArgument = Annotated[
    str | None, typer.Argument(metavar="[B]", help="What to hold against it (A, made otherwise).")
]


def _option(word: str, metavar: str, help_: str) -> object:
    return typer.Option(f"--{word}", metavar=metavar, help=help_)


def _sided(word: str, metavar: str, help_: str, which: str) -> object:
    panel = f"Side {which.upper()} alone"
    return typer.Option(f"--{word}-{which}", metavar=metavar, help=help_, rich_help_panel=panel)


RECIPE = ("recipe", "NAME|FILE.toml", "The recipe, in place of the network's own.")
SET = ("set", "KEY=VALUE", "An option of the recipe.")
PASS = ("pass", "NAME[:key=value,...]", "A pass, in place of a recipe; may repeat.")
TARGET = ("target", "NAME", "Where it runs: reference (default), cpu, cuda.")
AFTER = ("after", "PASS", "The program after this pass.")
RecipeOption = Annotated[str | None, _option(*RECIPE)]
RecipeAOption = Annotated[str | None, _sided(*RECIPE, "a")]
RecipeBOption = Annotated[str | None, _sided(*RECIPE, "b")]
SetOption = Annotated[list[str] | None, _option(*SET)]
SetAOption = Annotated[list[str] | None, _sided(*SET, "a")]
SetBOption = Annotated[list[str] | None, _sided(*SET, "b")]
PassOption = Annotated[list[str] | None, _option(*PASS)]
PassAOption = Annotated[list[str] | None, _sided(*PASS, "a")]
PassBOption = Annotated[list[str] | None, _sided(*PASS, "b")]
WhereOption = Annotated[str | None, _option(*TARGET)]
WhereAOption = Annotated[str | None, _sided(*TARGET, "a")]
WhereBOption = Annotated[str | None, _sided(*TARGET, "b")]
AfterOption = Annotated[str | None, _option(*AFTER)]
AfterAOption = Annotated[str | None, _sided(*AFTER, "a")]
AfterBOption = Annotated[str | None, _sided(*AFTER, "b")]
ToleranceOption = Annotated[
    float,
    typer.Option(min=0, help="Error over the largest number that is none (0: any difference)."),
]
SeedOption = Annotated[int, typer.Option(min=0, help="Draws the batch, and state nobody gives.")]
NumbersOption = Annotated[
    Path | None,
    typer.Option("--state", metavar="FILE.safetensors|NET.qtn", help="Batch and state by name."),
]
BatchOfOption = Annotated[
    str | None,
    typer.Option("--data", metavar="NAME|PATH", help="Take its first batch (docs/data.md)."),
]
EvaluationOption = Annotated[bool, typer.Option("--eval", help="The programs of predict.")]
BisectOption = Annotated[
    bool, typer.Option("--bisect", help="Find the pass after which results first differ.")
]
AllOption = Annotated[bool, typer.Option("--all", help="All rows, also of what agrees.")]
PageOption = Annotated[
    Path | None,
    typer.Option("--html", metavar="FILE.html", help="Draw it too, with both programs: one page."),
]


def command(
    first: FirstArgument,
    second: SecondArgument = None,
    recipe: RecipeOption = None,
    recipe_a: RecipeAOption = None,
    recipe_b: RecipeBOption = None,
    settings: SetOption = None,
    settings_a: SetAOption = None,
    settings_b: SetBOption = None,
    passes: PassOption = None,
    passes_a: PassAOption = None,
    passes_b: PassBOption = None,
    target: WhereOption = None,
    target_a: WhereAOption = None,
    target_b: WhereBOption = None,
    after: AfterOption = None,
    after_a: AfterAOption = None,
    after_b: AfterBOption = None,
    tolerance: ToleranceOption = 0.0,
    seed: SeedOption = 0,
    state: NumbersOption = None,
    data: BatchOfOption = None,
    data_dir: DataDirOption = None,
    evaluation: EvaluationOption = False,
    bisect_: BisectOption = False,
    every: AllOption = False,
    html: PageOption = None,
    as_json: JsonOption = False,
    threads: ThreadsOption = None,
    cache_dir: CacheDirOption = None,
) -> None:
    """Run two programs on one batch from one state; status 1 where their numbers part.

    Values are aligned by name; codes are compared bit for bit, all else by real numbers.
    """
    _check_page(html, bisect=bisect_)
    one = (recipe, recipe_a, recipe_b), (target, target_a, target_b), (after, after_a, after_b)
    a, b = _wishes(*one, (settings, settings_a, settings_b), (passes, passes_a, passes_b))
    a = _told_apart(a, b, bisect=bisect_) if second in (None, first) else a
    with env.chosen(threads=threads, cache=cache_dir, data=data_dir):
        sides, given = _sides((first, second or first), (a, b), seed, (state, data), evaluation)
        run = partial(_run, given=given, seed=seed)
        made = bisect(*sides, tolerance, run) if bisect_ else _compare(*sides, tolerance, run)
    _show(made, given.said(seed), html, as_json=as_json, every=every)


def _check_page(html: Path | None, *, bisect: bool) -> None:
    """UsageError or FileError ahead of long work."""
    if html is None:
        return
    if bisect:
        raise UsageError(
            "--bisect gives a table; for the page of a pass compare with --after-b PASS --html"
        )
    check_page(html)


def _wishes(
    recipe: One, target: One, after: One, settings: Several, passes: Several
) -> tuple[SideWish, SideWish]:
    """What is said of A and of B; of a side alone outranks what is said of both."""
    made = []
    for i in (1, 2):
        options = pairs(settings[0] or (), "--set") | pairs(settings[i] or (), "--set")
        entries = tuple(parse_pass(word) for word in passes[i] or passes[0] or ())
        own = (given[i] or given[0] for given in (target, after))
        made.append(SideWish(recipe[i] or recipe[0], options, entries, *own))
    return made[0], made[1]


def _told_apart(a: SideWish, b: SideWish, *, bisect: bool) -> SideWish:
    """A, or to bisect what was captured; UsageError where one network is given twice alike."""
    if a != b:
        return a
    if not bisect:
        raise UsageError(
            "A and B are the same; name another B, or what differs: --recipe-b fp32, "
            "--set-b carrier=f32, --target-b cpu, --after-a lower"
        )
    return replace(a, after=FIRST)


def _sides(
    words: tuple[str, str],
    wishes: tuple[SideWish, SideWish],
    seed: int,
    files: tuple[Path | None, str | None],
    evaluation: bool,
) -> tuple[tuple[ComparedSide, ComparedSide], Given]:
    """Both sides, and what each starts from: what is given, then A's numbers, then its own."""
    for wish in wishes:
        find_target(wish.target or REFERENCE)
    state, data = files
    numbers = read_numbers(state) if state is not None else {}
    a = named(words[0], seed)
    b = a if words[1] == words[0] else named(words[1], seed)
    made = side(a, wishes[0], evaluation=evaluation), side(b, wishes[1], evaluation=evaluation)
    if state is not None:
        check_names(a.train, numbers, str(state))
    if data is not None:
        numbers = {**first_batch(data, None, a, seed), **numbers}
    return made, given_to(*made, numbers, seed)


def _run(of: ComparedSide, given: Given, seed: int) -> Ran:
    return ran(of, given.to(of), seed, bind_options())


def _compare(a: ComparedSide, b: ComparedSide, tolerance: float, run: RunSide) -> Comparison:
    return compare_ran(run(a), run(b), tolerance)


def _show(
    made: Comparison | Bisected, said: str, html: Path | None, *, as_json: bool, every: bool
) -> None:
    """Draw and print it, with a remark behind all that may be refused; status 1 where it parts."""
    if html is not None and isinstance(made, Comparison):
        said_of_page(html, made.html())
    if said:
        terminal.remark(said)
    if as_json:
        terminal.write_json(made.to_dict())
    elif isinstance(made, Bisected):
        terminal.show(bisect_tables(made))
    else:
        terminal.show(tables(made, every=every))
    if made.found if isinstance(made, Bisected) else made.first:
        raise typer.Exit(1)
