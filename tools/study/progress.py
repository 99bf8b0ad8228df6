"""How a study shows itself while it runs: a bar with rate and time left, elsewhere lines."""

from __future__ import annotations

from types import TracebackType

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from .. import terminal


class StudyProgress:
    """A bar over ``steps`` training steps in ``with``; no bar where stderr is no terminal."""

    def __init__(self, steps: int) -> None:
        console = terminal.err()
        self._bar: Bar | None = None
        if console.is_terminal and steps:
            self._bar = Bar(
                BarColumn(bar_width=None),
                MofNCompleteColumn(),
                TextColumn("{task.description}"),
                TimeRemainingColumn(),
                console=console,
                transient=True,
            )
            self._task = self._bar.add_task("", total=steps)

    def __enter__(self) -> StudyProgress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def say(self, words: str) -> None:
        """What is being done now."""
        if self._bar is not None:
            self._bar.update(self._task, description=words)

    def advance(self, steps: int, words: str) -> None:
        """So many steps are done."""
        if self._bar is not None:
            self._bar.update(self._task, advance=steps, description=words)

    def line(self, words: str) -> None:
        """A line that stays, above the bar where there is one."""
        if self._bar is not None:
            self._bar.console.print(words)
        else:
            terminal.remark(words)
