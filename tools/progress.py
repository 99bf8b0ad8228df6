"""How a training run shows itself: a bar on terminals, a line per epoch elsewhere, or JSON."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from ..passes.gradient_to_noise import ENOUGH, RATIO
from . import terminal
from .dataset import CHARACTERS

if TYPE_CHECKING:
    from .batches import Measured
    from .train import Progress, Run

Report = Callable[["Progress"], None]
LARGEST = 700.0  # the largest float is e to the 709


@contextmanager
def reporter(run: Run, as_json: bool, *, lines: bool = True) -> Iterator[Report]:
    """What is to be called after every step; without ``lines`` no epoch leaves one behind."""
    console = terminal.err()
    if as_json:
        yield lambda at: _json(run, at)
    elif console.is_terminal:
        with _bar(console) as bar:
            task = bar.add_task("", total=run.last - run.first, text="")
            yield lambda at: _move(run, at, bar, task, lines)
    else:
        yield lambda at: _line(run, at, lines)


def words(run: Run, at: Progress) -> str:
    """One epoch as a line: its number, the mean loss, the accuracy, the precision, the speed."""
    epoch = run.epoch(at.done)
    last = max(run.epoch(run.last), epoch)
    right = "" if at.test is None else f"  accuracy {100 * at.test.accuracy:.1f} %"
    right = f"{_of_loss(run, at.loss)}{right}{words_of_text(run, at.test)}"
    stands = "".join(_stands(k, v) for k, v in at.precision.items())
    return f"epoch {epoch}/{last}  loss {at.loss:.4f}{right}{stands}  {at.speed:.0f} samples/s"


def _stands(name: str, number: float) -> str:
    """One number of precision, and whether gradients are too short beside their noise."""
    low = f" (below {ENOUGH:.2f})" if name == RATIO and number < ENOUGH else ""
    return f"  {name.replace('_', ' ')} {number:g}{low}"


def perplexity(loss: float | None) -> float:
    """Of a mean cross entropy in nats: as many tokens that are equally likely would have it.

    Infinity for one that is no number, None in files.
    """
    return math.exp(loss) if loss is not None and loss < LARGEST else math.inf


def _of_loss(run: Run, loss: float) -> str:
    """A loss in the units of text."""
    if run.tokens is None:
        return ""
    bits = f", {loss / math.log(2):.3f} bits a character" if run.tokens == CHARACTERS else ""
    return f" (perplexity {perplexity(loss):.4g}{bits})"


def words_of_text(run: Run, test: Measured | None) -> str:
    """What is known of text beside the accuracy: the loss on the test part."""
    if run.tokens is None or test is None:
        return ""
    return f"  test loss {test.loss:.4f}{_of_loss(run, test.loss)}"


def text_numbers(run: Run, test: Measured | None) -> dict[str, float | None]:
    """The same by name."""
    if run.tokens is None or test is None:
        return {}
    found = {"test_loss": finite(test.loss), "test_perplexity": finite(perplexity(test.loss))}
    bits = {"test_bits_per_character": finite(test.loss / math.log(2))}
    return found | (bits if run.tokens == CHARACTERS else {})


def words_of_skipped(at: Progress) -> str:
    """One step that was not applied as a line."""
    return f"step {at.done} was not applied: {at.skipped}"


def finite(loss: float) -> float | None:
    """The loss as JSON can say it."""
    return loss if math.isfinite(loss) else None


def _json(run: Run, at: Progress) -> None:
    if at.skipped:
        terminal.write_json({"step": at.done, "skipped": at.skipped}, indent=None)
    if at.epoch_ends:
        found = {
            "epoch": run.epoch(at.done),
            "step": at.done,
            "loss": finite(at.loss),
            "accuracy": at.test and at.test.accuracy,
        }
        found |= text_numbers(run, at.test)
        found |= {"samples_per_second": round(at.speed, 1), **at.precision}
        terminal.write_json(found, indent=None)
    if at.epoch_ends or at.skipped:
        sys.stdout.flush()


def _line(run: Run, at: Progress, lines: bool) -> None:
    if at.skipped:
        terminal.remark(words_of_skipped(at))
    if at.epoch_ends and lines:
        terminal.line(words(run, at))
        sys.stdout.flush()


def _bar(console: Console) -> Bar:
    return Bar(
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[text]}"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )


def _move(run: Run, at: Progress, bar: Bar, task: int, lines: bool) -> None:
    text = words(run, at)
    bar.update(task, completed=at.done - run.first, text=text)  # type: ignore[arg-type]
    if at.skipped:
        bar.console.print(words_of_skipped(at))
    if at.epoch_ends and lines:
        bar.console.print(text)
