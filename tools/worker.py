"""One contender's process: ``python -m quatrain.tools.worker``.

Requests come as lines of JSON on stdin, each is answered by a line on stdout:

    {"do": "build", "job": "step", ...}    {"seconds": ...}      make it ready, with its first step;
                                                                 a step, a layer, or of a study;
                                                                 of a training also "done", "remark"
    {"do": "run", "steps": 3}              {"seconds": [...]}    seconds of each step
    {"do": "facts"}                        memory, bytes kept, operations
    {"do": "peaks"}                        what the machine can do (targets/cpu/peaks.py)
    {"do": "profile", ...}                 each kernel of a step alone

What fails is answered ``{"error": "why, in one line"}``; the end of stdin ends the process.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, SupportsFloat, TextIO

from . import env
from .bench.job import Job, LastingJob

Request = Mapping[str, Any]
Reply = dict[str, object]


class Session:
    """The process between two requests."""

    def __init__(self) -> None:
        self._job: Job | None = None
        self._start_bytes = 0

    def answer(self, request: Request) -> Reply:
        """The reply to one request."""
        actions: dict[str, Callable[[Request], Reply]] = {
            "build": self._build,
            "run": self._run,
            "facts": self._facts,
            "peaks": _peaks,
            "profile": _profile,
        }
        return actions[request["do"]](request)

    def _build(self, request: Request) -> Reply:
        """Seconds to the end of the first step; libraries are loaded before the clock starts."""
        self._job = None
        make, whole = _maker(request), request["job"] != "layer"
        self._start_bytes = peak_bytes()
        start = time.perf_counter()
        self._job = make()
        first = self._job.step()
        seconds = time.perf_counter() - start
        loss = float(first) if isinstance(first, SupportsFloat) and whole else None
        return {"seconds": seconds, "first_loss": loss, **_standing(self._job)}

    def _run(self, request: Request) -> Reply:
        assert self._job is not None, "build comes first"
        return {"seconds": [_seconds(self._job.step) for _ in range(request["steps"])]}

    def _facts(self, _: Request) -> Reply:
        assert self._job is not None, "build comes first"
        # The peak first: what looks for the other facts needs memory of its own.
        memory = {"peak_bytes": peak_bytes(), "start_bytes": self._start_bytes}
        return {**memory, **self._job.facts(), **_standing(self._job)}


def _standing(job: Job) -> Reply:
    """Of a job that may go on from that of another process: where it is."""
    return {"done": job.done, "remark": job.remark} if isinstance(job, LastingJob) else {}


def _maker(request: Request) -> Callable[[], Job]:
    if request["job"] == "layer":
        from .bench.layer_jobs import maker as layer

        return layer(request)
    if request["job"] == "study":
        from .study.jobs import maker as study

        return study(request)
    from .bench.step_jobs import maker as whole

    return whole(request)


def _peaks(_: Request) -> Reply:
    from ..targets.cpu.info import detect, named
    from ..targets.cpu.peaks import measure_peaks
    from ..targets.registry import find_target

    mcpu = find_target(env.target()).mcpu
    cpu = named(mcpu) if mcpu else detect()
    units = [u.value for u in cpu.units]
    return {"mcpu": cpu.mcpu, "units": units, "peaks": measure_peaks(cpu, env.threads())}


def _profile(request: Request) -> Reply:
    from .bench.profile import profile

    return profile(request)


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def peak_bytes() -> int:
    """The most memory that this process ever held (``ru_maxrss``); 0 where nobody counts it."""
    if sys.platform == "win32":
        return 0
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def reason(error: BaseException) -> str:
    """One line: the kind of the error and the first lines of what it says, up to a full thought."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    taken: list[str] = []
    for line in lines:
        taken.append(line)
        if not line.endswith(":"):
            break
    return f"{type(error).__name__}: {' '.join(taken)}".rstrip(": ")


def _private_stdout() -> TextIO:
    """Stdout for replies alone: what libraries print goes to stderr."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return replies


def main() -> int:
    """Answer requests until stdin ends."""
    replies, session = _private_stdout(), Session()
    for line in sys.stdin:
        try:
            reply = session.answer(json.loads(line))
        except Exception as error:
            reply = {"error": reason(error)}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
