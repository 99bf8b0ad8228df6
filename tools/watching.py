"""What ``quatrain run --watch`` does beside the training: a watcher, and a table at the end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from ..compiler.errors import UsageError
from ..runtime.watched.worst import worst
from . import terminal
from .watch_table import watch_table

if TYPE_CHECKING:
    from ..runtime.watching.watcher import Watcher
    from .train import Trained

EVERY = 50


@dataclass(frozen=True, slots=True)
class RunWatch:
    """What the options ask for; without ``tensors`` nothing."""

    tensors: str | None
    every: int
    to: Path | None

    @classmethod
    def of(cls, network: Path, tensors: str | None, every: int | None, to: Path | None) -> RunWatch:
        """UsageError for options that do not fit together."""
        if tensors is None and (every is not None or to is not None):
            word = "--watch-every" if every is not None else "--watch-to"
            raise UsageError(f"{word} needs --watch PATTERN: what to look at, such as --watch dy")
        if tensors is not None and network.is_dir():
            raise UsageError(
                f"{network} was built ahead of time and cannot be watched; run the .qtn file"
            )
        return cls(tensors, every or EVERY, to)

    @contextmanager
    def watching(self, step: Trained) -> Iterator[Watcher | None]:
        """The watcher of a step until the block ends; None where nothing is watched."""
        if self.tensors is None:
            yield None
            return
        # Here, as a step that was built ahead of time runs without torch.
        from ..runtime.step import Step

        assert isinstance(step, Step), "a built step is refused"
        if self.to is not None and find_spec("tensorboardX") is None:
            terminal.remark(
                f"{self.to} gets watch.jsonl alone: files for TensorBoard need tensorboardX, which "
                "pip install 'quatrain[watch]' brings"
            )
        with step.watch(self.tensors, every=self.every, to=self.to) as watcher:
            yield watcher


def say_watched(watcher: Watcher, as_json: bool) -> None:
    """The worst tensors of the last step that was looked at."""
    rows = watcher.rows()
    if not rows:
        terminal.remark(f"no step was looked at: none of this run is a multiple of {watcher.every}")
        return
    found = {why: [row.name for row in some] for why, some in worst(rows).items()}
    if as_json:
        terminal.write_json({"watched": rows[-1].step, "worst": found}, indent=None)
    elif not found:
        terminal.remark("nothing that was looked at is rounded to codes, or far from f32")
    else:
        terminal.show(watch_table(rows))
