"""Interception: while a graph is traced, every layer call ends in an op of ``capture_layers``.

Kernels of ATen's composite ``linear`` and ``conv2d`` are replaced, which is below nn modules, F.*
and user code alike and above autograd. A torch-function mode marks each node with the module path
and the user's line.
"""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as nn_module
from torch.overrides import TorchFunctionMode

from . import capture_layers
from .capture_adapter import marked, override

aten = torch.ops.aten
qtr = capture_layers.qtr
ROOT = "model"  # the layer of what the model calls outside of its modules
LOCK = threading.RLock()
TORCH = f"{Path(torch.__file__).parent}/"
HERE = f"{Path(__file__).parent}/"


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
        self.layer_calls: Counter[str] = Counter()

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

    def layer(self) -> str:
        """Name for the next layer op: the module's path, ``#2`` for the second one, and so on."""
        base = self.stack[-1][0].partition("#")[0]
        self.layer_calls[base] += 1
        return _nth(base, self.layer_calls[base])

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        layer, definition = self.stack[-1]
        with marked((layer, _user_line() or definition)):
            return func(*args, **(kwargs or {}))


def _nth(name: str, n: int) -> str:
    return name if n == 1 else f"{name}#{n}"


def shown(file: str, line: int) -> str:
    """``file:line`` with the path relative to the working directory where it lies below it."""
    path = Path(file)
    cwd = Path.cwd()
    return f"{path.relative_to(cwd) if path.is_relative_to(cwd) else path}:{line}"


def _definition(module: nn.Module) -> str:
    code = getattr(type(module).forward, "__code__", None)
    return shown(code.co_filename, code.co_firstlineno) if code else ""


def _user_line() -> str:
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(HERE):
            return ""
        if not file.startswith((TORCH, "<")):
            return shown(file, frame.f_lineno)
        frame = frame.f_back
    return ""


def _pair(value: int | list[int]) -> list[int]:
    values = [value] if isinstance(value, int) else list(value)
    return values * 2 if len(values) == 1 else values


def _overrides(scope: Scope) -> dict[Any, Callable[..., Tensor]]:
    def linear(x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
        if w.dim() != 2:
            return torch.matmul(x, w) if b is None else torch.matmul(x, w) + b
        flat = x.reshape(-1, x.shape[-1]) if x.dim() != 2 else x
        y: Tensor = qtr.linear(flat, w, b, scope.layer())
        return y.reshape(*x.shape[:-1], w.shape[0]) if x.dim() != 2 else y

    def emit(
        x: Tensor,
        w: Tensor,
        b: Tensor | None,
        stride: list[int],
        padding: list[int],
        dilation: list[int],
        groups: int,
    ) -> Tensor:
        single = x.dim() == 3
        x = x.unsqueeze(0) if single else x
        y: Tensor = qtr.conv(
            x, w, b, _pair(stride), _pair(padding), _pair(dilation), groups, scope.layer()
        )
        return y.squeeze(0) if single else y

    def conv2d(
        x: Tensor,
        w: Tensor,
        b: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Tensor:
        return emit(x, w, b, stride, padding, dilation, groups)

    def conv2d_named(
        x: Tensor,
        w: Tensor,
        b: Tensor | None = None,
        stride: Any = 1,
        padding: str = "valid",
        dilation: Any = 1,
        groups: int = 1,
    ) -> Tensor:
        if padding == "valid":
            return emit(x, w, b, stride, [0], dilation, groups)
        total = [d * (k - 1) for d, k in zip(_pair(dilation), w.shape[2:], strict=True)]
        if any(t % 2 for t in total):  # torch puts the odd element behind
            sides = [side for t in reversed(total) for side in (t // 2, t - t // 2)]
            return emit(torch.constant_pad_nd(x, sides), w, b, stride, [0], dilation, groups)
        return emit(x, w, b, stride, [t // 2 for t in total], dilation, groups)

    return {
        aten.linear.default: linear,
        aten.conv2d.default: conv2d,
        aten.conv2d.padding: conv2d_named,
    }


@contextmanager
def intercept(scope: Scope) -> Iterator[None]:
    """Trace inside this context; dispatcher tables and global hooks are put back when it ends.

    The tables belong to the whole process, hence the lock.
    """
    with LOCK:
        hooks = [
            nn_module.register_module_forward_pre_hook(scope.enter),
            nn_module.register_module_forward_hook(scope.leave, always_call=True),
        ]
        try:
            with override(_overrides(scope)):
                yield
        finally:
            for hook in hooks:
                hook.remove()
