"""``quatrain doctor``: what is installed, what this machine can do, and what is missing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import typer
from rich.table import Table
from rich.text import Text

from .. import env, terminal
from ..arguments import CacheDirOption, DataDirOption, JsonOption, ThreadsOption

if TYPE_CHECKING:
    from ..doctor import Finding

SIGNS = {"ok": ("✓", "green"), "note": ("–", "yellow"), "broken": ("✗", "red")}
BROKEN_STATUS = 1
# Most checks wait for a process of their own.
AT_ONCE = 2


def command(
    as_json: JsonOption = False,
    threads: ThreadsOption = None,
    cache_dir: CacheDirOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Check the installation and the machine; status 1 if something is broken."""
    from ..doctor import CHECKS, Mark
    from ..stages import stage

    found: list[Finding] = []
    variables = env.chosen(threads=threads, cache=cache_dir, data=data_dir)
    with variables, ThreadPoolExecutor(AT_ONCE) as pool:
        for check, begun in [(check, pool.submit(check)) for check in CHECKS]:
            with stage(check.__name__.replace("_", " "), quiet=True):
                found.append(begun.result())
            if not as_json:
                terminal.show(_line(found[-1]))
    if as_json:
        terminal.write_json([{"what": f.what, "mark": f.mark.value, "text": f.text} for f in found])
    if any(f.mark is Mark.BAD for f in found):
        raise typer.Exit(BROKEN_STATUS)


def _line(finding: Finding) -> Table:
    sign, colour = SIGNS[finding.mark.value]
    if not terminal.can_say(sign):
        sign = finding.mark.value
    row = Table.grid(padding=(0, 1))
    row.add_column(width=1 if len(sign) == 1 else max(map(len, SIGNS)))
    row.add_column(width=16)
    row.add_column(overflow="fold")
    row.add_row(Text(sign, colour), finding.what, Text(finding.text))
    return row
