"""The page of all verdicts: ``docs/models.md``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from statistics import median

from .verdict import NEAR, OWN, RECIPES, Verdict

Rows = dict[str, dict[str, Verdict]]
TITLES = {
    "plain": "Plain PyTorch: networks and losses",
    "timm": "timm: a small model of every family",
    "transformers": "transformers, called as `model(**batch).loss`",
}
HEAD = f"""# Models that people have

Made by `python -m tests.models results.jsonl --page docs/models.md`; a process for each model, one
thread, CPUs of two cores that other work shared. `timm` and `transformers` were
installed beside quatrain. Sizes are small throughout: what is asked is whether a model's calls are
there and right, not how fast a large one is.

| mark | what |
|---|---|
| a number below `fp32` | how far the loss and the gradients of one step are from PyTorch in float64: the worst of all parameters, relative to its norm. It may be {NEAR:g}, or {OWN:g} times as far as PyTorch in float32 is |
| ... with seconds and a factor | the step was built for this CPU: seconds from the model to a step, and the time of a step beside PyTorch's forward and backward (below 1 it is faster; steps this small are calls, not arithmetic). Without: kernels were chosen for `cpu` and for `cuda` and none built, and the numbers are those of the `reference` target, which kernels are compared with elsewhere in the tests |
| numbers below other recipes | the same distance, which here is what the recipe's formats cost; share of MACs with both operands in 4 bits; bytes kept for backward |
| `planned` | captured, through all passes, kernels chosen; too large to be interpreted |
| `draws` | the step draws numbers of its own generator, so that there is nothing to compare |
| **no** | refused; the reason is below the table |
"""


def page(verdicts: Iterable[Verdict]) -> str:
    """The whole page."""
    groups: dict[str, Rows] = {}
    for v in verdicts:
        groups.setdefault(v.group, {}).setdefault(v.model, {})[v.recipe] = v
    order = [g for g in TITLES if g in groups]
    parts = [HEAD, "\n".join(summary({g: groups[g] for g in order}))]
    parts += ["\n".join(table(g, groups[g])) for g in order]
    return "\n\n".join(p.strip("\n") for p in parts) + "\n"


def summary(groups: dict[str, Rows]) -> Iterator[str]:
    """How many of each group compile and agree, and what those that were built cost."""
    compiles = " | ".join(f"`{r}` compiles" for r in RECIPES)
    yield f"| | models | {compiles} | `fp32` agrees | built: seconds | step |"
    yield "|---|---|" + "---|" * (len(RECIPES) + 3)
    for group, rows in groups.items():
        count = [sum(r in v and v[r].compiles for v in rows.values()) for r in RECIPES]
        compared = [v["fp32"].agrees for v in rows.values() if "fp32" in v]
        told = [a for a in compared if a is not None]
        cells = " | ".join(map(str, count))
        agrees = f"{sum(told)} of {len(told)} compared"
        yield f"| {group} | {len(rows)} | {cells} | {agrees} | {cost(rows)} |"


def cost(rows: Rows) -> str:
    """Of the models that were built: medians of seconds to a step, and of its time beside eager."""
    verdicts = [v for row in rows.values() for v in row.values()]
    seconds = [v.seconds for v in verdicts if v.seconds]
    ratios = [v.step / v.eager for v in verdicts if v.step and v.eager]
    return f"{len(seconds)}: {median(seconds):.1f} | {median(ratios):.2f}" if ratios else " | "


def table(group: str, rows: Rows) -> Iterator[str]:
    """A row for each model, and the reasons of those that fail."""
    yield f"## {TITLES[group]}\n"
    yield "| model | ops | " + " | ".join(f"`{r}`" for r in RECIPES) + " |"
    yield "|---|---|" + "---|" * len(RECIPES)
    for name, row in rows.items():
        ops = max(v.ops for v in row.values())
        cells = " | ".join(cell(row.get(r)) for r in RECIPES)
        yield f"| {name} | {ops or ''} | {cells} |"
    reasons = list(failures(rows))
    if reasons:
        yield "\nWhat fails, and why:\n"
        yield from reasons


def failures(rows: Rows) -> Iterator[str]:
    """A line for each reason of each model."""
    for name, row in rows.items():
        reasons: dict[str, list[str]] = {}
        for v in row.values():
            if v.why:
                reasons.setdefault(plainly(v.why), []).append(v.recipe)
            elif v.recipe == "fp32" and v.agrees is False:
                far = f"{v.distance:.1e} from float64, and PyTorch in float32 is {v.own:.1e}"
                reasons.setdefault(far, []).append(v.recipe)
        for why, recipes in reasons.items():
            which = "" if len(recipes) == len(RECIPES) else f" ({', '.join(recipes)})"
            yield f"- {name}{which}: {why}"


def plainly(why: str) -> str:
    """A sentence without the paths of the machine that judged, and safe in a table."""
    words = [
        w.rpartition("/site-packages/")[2] if "/site-packages/" in w else w for w in why.split()
    ]
    words = [w.rpartition("/")[2] if w.startswith("/") else w for w in words]
    return " ".join(words).replace("|", "\\|")


def cell(v: Verdict | None) -> str:
    """What is known of one model under one recipe."""
    if v is None:
        return ""
    if not v.compiles:
        return "**no**"
    return ", ".join(facts(v))


def facts(v: Verdict) -> Sequence[str]:
    """The parts of a cell."""
    known = "draws" if v.draws else "planned" if v.distance is None else f"{v.distance:.1e}"
    wrong = v.recipe == "fp32" and v.agrees is False
    parts = [f"**{known}**" if wrong else known]
    if v.recipe not in ("fp32", "bf16") and v.four_bits:
        parts.append(f"{100 * v.four_bits:.0f} %")
    if v.kept is not None:
        parts.append(size(v.kept))
    if v.seconds is not None and v.step and v.eager:
        parts += [f"{v.seconds:.1f} s", f"{v.step / v.eager:.2f}"]
    return parts


def size(count: int) -> str:
    """Bytes, in three digits or so."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1024  # type: ignore[assignment]
    return f"{count:.3g} GiB"
