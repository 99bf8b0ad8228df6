"""The scope of a trace: which module of the model runs, in which call, on whose line."""

from __future__ import annotations

import sys
import sysconfig
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from ..lower.joint import ROOT
from .adapter import CallMark, marked

TORCH = f"{Path(torch.__file__).parent}/"
HERE = f"{Path(__file__).parent.parent}/"
# Python's own files and installed packages, which are not the user's.
LIBRARIES = tuple(
    f"{sysconfig.get_path(name)}/" for name in ("stdlib", "platstdlib", "purelib", "platlib")
)


class Scope(TorchFunctionMode):
    """Knows which module runs and on which line; active while the model's forward is traced."""

    def __init__(self, names: dict[int, str]) -> None:
        super().__init__()
        self.names = names
        self.reset()

    def reset(self) -> None:
        """Forget all counts: torch runs a forward twice, and both runs must give the same names."""
        self.stack: list[tuple[str, str]] = [(ROOT, "")]
        self.module_calls: Counter[str] = Counter()
        self.layer_calls: Counter[tuple[str, str]] = Counter()
        self.failed: CallMark | None = None  # the call that raised last

    def enter(self, module: nn.Module, args: object) -> None:
        """Module hook: a module known to the model becomes the current one, others inherit."""
        name = self.names.get(id(module))
        if name is None:
            self.stack.append(self.stack[-1])
            return
        self.module_calls[name] += 1
        self.stack.append((_nth(name, self.module_calls[name]), _definition(module)))

    def leave(self, module: nn.Module, args: object, output: object) -> None:
        """Module hook: the calling module is the current one again."""
        if len(self.stack) > 1:  # a reset inside of the root's forward has emptied it
            self.stack.pop()

    @contextmanager
    def inside(self, name: str) -> Iterator[None]:
        """Attribute the calls of the context to ``name``, which is no module of the model."""
        self.stack.append((name, ""))
        try:
            yield
        finally:
            self.stack.pop()

    def layer(self, kind: str = "layer") -> str:
        """Name for the next op of a kind: the module's path, ``#2`` for the second, and so on."""
        base = self.stack[-1][0].partition("#")[0]
        self.layer_calls[kind, base] += 1
        return _nth(base, self.layer_calls[kind, base])

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        layer, definition = self.stack[-1]
        mark = layer, _user_line() or definition, getattr(func, "__name__", "")
        with marked(mark):
            try:
                return func(*args, **(kwargs or {}))
            except Exception:
                self.failed = mark
                raise


def _nth(name: str, n: int) -> str:
    return name if n == 1 else f"{name}#{n}"


def relative_place(file: str, line: int) -> str:
    """``file:line`` with the path relative to the working directory where it lies below it."""
    path = Path(file)
    cwd = Path.cwd()
    return f"{path.relative_to(cwd) if path.is_relative_to(cwd) else path}:{line}"


def _definition(module: nn.Module) -> str:
    code = getattr(type(module).forward, "__code__", None)
    return relative_place(code.co_filename, code.co_firstlineno) if code else ""


def _user_line() -> str:
    frame: FrameType | None = sys._getframe(2)
    lines: list[tuple[str, int]] = []
    while frame is not None and not frame.f_code.co_filename.startswith(HERE):
        lines.append((frame.f_code.co_filename, frame.f_lineno))
        frame = frame.f_back
    return own_line(lines)


def own_line(lines: Iterable[tuple[str, int]]) -> str:
    """The place, of those from the innermost out, that is the user's own.

    Of a library's where no file is the user's; empty where all are torch's.
    """
    known = [(file, line) for file, line in lines if not file.startswith((TORCH, "<"))]
    own = [(file, line) for file, line in known if not is_library(file)]
    return relative_place(*(own or known)[0]) if known else ""


def is_library(file: str) -> bool:
    """Whether a file came with Python or with a package."""
    return file.startswith(LIBRARIES)
