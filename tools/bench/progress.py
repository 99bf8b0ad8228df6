"""How a benchmark shows itself while it runs: with the time that is left, elsewhere in lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.status import Status
from rich.text import Text

from .. import terminal


class BenchProgress:
    """Words about the stage, or a bar; where stderr is no terminal a line a stage."""

    def __init__(self) -> None:
        self._console = terminal.err()
        self._status: Status | None = None

    def stage(self, words: str) -> None:
        """Say what is being done now."""
        if not self._console.is_terminal:
            terminal.remark(words)
            return
        if self._status is None:
            self._status = self._console.status(Text(words))
            self._status.start()
        self._status.update(Text(words))

    def done(self) -> None:
        """Take the words away."""
        if self._status is not None:
            self._status.stop()
            self._status = None

    @contextmanager
    def bar(self, title: str) -> Iterator[Callable[[str, float], None]]:
        """A bar; what it yields is to be told who ran and the share of all work that this was."""
        self.done()
        if not self._console.is_terminal:
            yield lambda name, share: None
            return
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
        with Bar(*columns, TimeRemainingColumn(), console=self._console, transient=True) as bar:
            task = bar.add_task(title, total=1.0)
            yield lambda name, share: bar.update(
                task, advance=share, description=f"{title}: {name}"
            )
