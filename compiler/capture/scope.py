"""The scope of a trace: which module of the model runs, in which call, on whose line."""

from __future__ import annotations

import re
import sys
import sysconfig
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as nn_module
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from ..errors import CaptureError
from ..lower.joint import ROOT, place
from .adapter import CallMark, followed, marked
from .repeated import Repeated
from .weights import Weights

TORCH = f"{Path(torch.__file__).parent}/"
SWITCHES = (torch.Tensor.requires_grad_, torch.Tensor.requires_grad.__set__)  # type: ignore[attr-defined]
# Calls that change their first argument.
WRITES = re.compile(
    r"[a-z]\w*[a-z0-9]_|__(setitem|i(add|sub|mul|truediv|floordiv|mod|and|or|xor))__"
)
HERE = f"{Path(__file__).parent.parent}/"
# Python's own files and installed packages, which are not the user's.
LIBRARIES = tuple(
    f"{sysconfig.get_path(name)}/" for name in ("stdlib", "platstdlib", "purelib", "platlib")
)


Instead = Callable[[Any, tuple[Any, ...], Mapping[str, Any], CallMark], Callable[..., Any]]


class Scope(TorchFunctionMode):
    """Knows which module runs and on which line; active while the model's forward is traced."""

    def __init__(self, names: dict[int, str]) -> None:
        super().__init__()
        self.names = names
        self.thread = threading.get_ident()
        self.weights, self.repeated = Weights(), Repeated()
        self.function = ""
        # What to call in the place of a function on some arguments.
        self.instead: Instead = _itself
        self.outside = False  # of the model, in its loss
        self.reset()

    def reset(self) -> None:
        """Forget all counts: torch runs a forward twice, and both runs must give the same names."""
        self.stack: list[tuple[str, str]] = [(ROOT, "")]
        self.module_calls: Counter[str] = Counter()
        self.layer_calls: Counter[tuple[str, str]] = Counter()
        self.weights.forget()
        self.repeated.begin()
        self.failed: CallMark | None = None  # the call that raised last

    def enter(self, module: nn.Module, args: object) -> None:
        """Module hook: a module known to the model becomes the current one, others inherit.

        The hooks are the process's; modules that other threads run are no matter.
        """
        if threading.get_ident() != self.thread:
            return
        name = self.names.get(id(module))
        if name is None:
            self.stack.append(self.stack[-1])
            return
        self.module_calls[name] += 1
        self.stack.append((_nth(name, self.module_calls[name]), _definition(module)))

    def leave(self, module: nn.Module, args: object, output: object) -> None:
        """Module hook: the calling module is the current one again."""
        own = threading.get_ident() == self.thread
        if own and len(self.stack) > 1:  # a reset inside of the root's forward has emptied it
            self.stack.pop()

    @contextmanager
    def inside(self, name: str, line: str | None = None) -> Iterator[None]:
        """Attribute the calls of the context to ``name``, which no module tells.

        With a ``line`` they are of the model, at that line; else outside of it.
        """
        self.stack.append((name, line or ""))
        self.outside = line is None
        try:
            yield
        finally:
            self.stack.pop()
            self.outside = False

    @contextmanager
    def following(self) -> Iterator[None]:
        """Follow which module runs, by global hooks, inside of the context."""
        hooks = [
            nn_module.register_module_forward_pre_hook(self.enter),
            nn_module.register_module_forward_hook(self.leave, always_call=True),
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def now(self) -> tuple[str, str]:
        """The layer and the function of torch that run."""
        return self.stack[-1][0], self.function

    def here(self) -> str:
        """The layer that runs, and the line of the user that calls what asks."""
        layer, definition = self.stack[-1]
        return place(layer, _user_line(3) or definition)

    def layer(self, kind: str = "layer") -> str:
        """Name for the next op of a kind: the module's path, ``#2`` for the second, and so on."""
        base = self.stack[-1][0].partition("#")[0]
        self.layer_calls[kind, base] += 1
        return _nth(base, self.layer_calls[kind, base])

    def product(self) -> str:
        """Name for the next product of activations: the module's path, ``#product``, a number."""
        base = self.stack[-1][0].partition("#")[0]
        self.layer_calls["product", base] += 1
        n = self.layer_calls["product", base]
        return f"{base}#product{n if n > 1 else ''}"

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        layer, definition = self.stack[-1]
        source = _user_line(2) or definition
        if torch.is_autocast_enabled("cpu"):
            raise CaptureError(
                f"{place(layer, source)} runs under torch.autocast; formats are the recipe's: "
                "leave autocast out, and take for example recipe='bf16'"
            )
        if func is torch.Tensor.retain_grad:
            return None
        if func is torch.Tensor.register_hook and not torch.is_grad_enabled():
            return RemovableHandle(OrderedDict())  # no gradient comes
        if func in SWITCHES and self.weights.holds(args[0]):
            on = (*args[1:], *(kwargs or {}).values(), True)[0]
            return _switched(args[0], on, place(layer, source))
        self.function = getattr(func, "__name__", "")
        if WRITES.fullmatch(self.function) and args and type(args[0]) is torch.Tensor:
            raise CaptureError(
                f"{place(layer, source)} writes into a tensor that is no buffer and was not made "
                "in the forward; a step copies such a tensor and keeps it as it is: register it as "
                "a buffer of the model"
            )
        mark, before = (layer, source, self.function), self.layer_calls.total()
        given = args, kwargs or {}
        self.repeated.add(mark, given)
        with marked(mark):
            try:
                made = followed(self.instead(func, *given, mark)(*args, **given[1]))
            except Exception:
                self.failed = mark
                raise
        if self.layer_calls.total() == before:
            self.weights.follow(given, made)
        return made


def _itself(
    function: Callable[..., Any], args: object, options: object, mark: CallMark
) -> Callable[..., Any]:
    """Nothing is called in the place of a function."""
    return function


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


def _switched(weight: torch.Tensor, on: bool, where: str) -> torch.Tensor:
    """A weight whose ``requires_grad`` the forward sets; CaptureError where that changes it."""
    if torch.is_grad_enabled() and on != weight.requires_grad:
        raise CaptureError(
            f"{where} changes requires_grad of a parameter, and a compiled step would keep it as "
            "it was; set it ahead of compile, or use the parameter's detach()"
        )
    return weight


def _user_line(depth: int) -> str:
    """The user's line above the frame at ``depth``, counted from this function."""
    frame: FrameType | None = sys._getframe(depth)
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
