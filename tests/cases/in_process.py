"""Contenders of a bench in this process: what they compute without what starting them takes."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from quatrain.tools.bench.process import ContenderFailed
from quatrain.tools.worker import Session, reason

PLACES = ("bench.layers", "bench.machine", "bench.steps", "commands.bench")


class InProcess:
    """Stands for ``Worker``; requests and replies pass through JSON as between processes."""

    alive = True

    def __init__(
        self, variables: Mapping[str, str] | None = None, folder: Path | None = None
    ) -> None:
        self._variables, self._session = dict(variables or {}), Session()

    def __enter__(self) -> InProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, do: str, limit: float, **details: object) -> dict[str, Any]:
        """The reply to a request, or ContenderFailed; nothing bounds the time."""
        request = json.loads(json.dumps({"do": do, **details}))
        try:
            # What a process says beside its replies is read where it fails, and else forgotten.
            with patch.dict(os.environ, self._variables), redirect_stderr(io.StringIO()):
                reply: dict[str, Any] = json.loads(json.dumps(self._session.answer(request)))
        except Exception as error:
            raise ContenderFailed(reason(error)) from None
        return reply

    def dismiss(self) -> None:
        """Nothing is running."""

    def close(self, patience: float = 0.0) -> None:
        """Nothing is left running."""


def run_in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every contender of a bench run here."""
    for place in PLACES:
        monkeypatch.setattr(f"quatrain.tools.{place}.Worker", InProcess)
