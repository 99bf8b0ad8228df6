"""A contender's process, seen from the command: requests and replies as lines of JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from types import TracebackType
from typing import Any

from .. import env

MODULE = "quatrain.tools.worker"
FAREWELL_SECONDS = 5.0
LONGEST_REASON = 300


class ContenderFailed(Exception):
    """A contender cannot go on; the message is the reason, in one line."""


class ContenderDied(ContenderFailed):
    """Its process ended before it had replied."""


class ContenderLate(ContenderFailed):
    """It took longer than it may."""


class Worker:
    """One process; leaving the ``with`` ends it.

    ``variables`` are set in its environment beside the number of threads of each library; it runs
    in ``folder``, or where this one does.
    """

    def __init__(
        self, variables: Mapping[str, str] | None = None, folder: Path | None = None
    ) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        self._process = subprocess.Popen(
            [sys.executable, "-m", MODULE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**_environment(), **(variables or {})},
            text=True,
            cwd=folder,
            # Ctrl-C is for this process, which ends the others when they have written to the end.
            process_group=0,
        )
        self._replies: SimpleQueue[str] = SimpleQueue()
        Thread(target=self._read, daemon=True).start()

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        if kind is not None:
            self._process.kill()
        self.close()

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""
        return self._process.poll() is None

    def ask(self, do: str, limit: float, **details: object) -> dict[str, Any]:
        """Send one request; the reply within ``limit`` seconds, or ContenderFailed."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **details}) + "\n")
            self._process.stdin.flush()
            line = self._replies.get(timeout=limit)
        except Empty:
            self._process.kill()
            raise ContenderLate(f"{do} took longer than {limit:g} s") from None
        except (OSError, ValueError):  # ValueError: another thread has closed it
            line = ""
        if not line:
            raise ContenderDied(self._epitaph())
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise ContenderFailed(str(reply["error"])[:LONGEST_REASON])
        return reply

    def dismiss(self) -> None:
        """Ask the process to end when it has done what it does now."""
        process = self._process
        if process.stdin is not None and not process.stdin.closed:
            try:
                process.stdin.close()
            except OSError:
                process.kill()

    def close(self, patience: float = FAREWELL_SECONDS) -> None:
        """Ask the process to end; end it if it does not in so many seconds."""
        self.dismiss()
        process = self._process
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._errors.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._replies.put(line)
        self._replies.put("")

    def _epitaph(self) -> str:
        """Why the process ended: its status and the last thing that it said."""
        status = self._process.wait()
        how = f"signal {-status}" if status < 0 else f"status {status}"
        if self._errors.closed:
            return f"the process ended with {how}"
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace").strip().splitlines()
        return f"the process ended with {how}" + (f": {said[-1].strip()}" if said else "")


def _environment() -> dict[str, str]:
    """The variables of this process, the same number of threads for all, and the package's place.

    What the user says about waiting threads (``OMP_WAIT_POLICY``) holds for all alike.
    """
    from ... import __file__ as package

    paths = [str(Path(package).parent.parent), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        **thread_variables(env.threads()),
    }


def thread_variables(count: int) -> dict[str, str]:
    """The variables by which each library learns the number of threads."""
    return dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", env.THREADS), str(count))
