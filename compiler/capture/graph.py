"""Tracing: a model, in train mode with its loss or in eval mode, becomes a ``Joint`` graph.

The model is left as it was: flags, parameters, buffers, gradients, hooks and random state.
"""

from __future__ import annotations

import inspect
import re
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from ..errors import CaptureError, QuatrainError, shown
from ..ir import unused
from ..lower.joint import Joint
from ..lower.norm import CUMULATIVE
from . import adapter
from .constants import unkept_buffers
from .intercept import intercept
from .reader import read_graph
from .scope import HERE, Scope, is_library, own_line, relative_place
from .untouched import ForwardRun, untouched
from .values import called_in, needs_value, reads_value
from .world import DrawnMeanwhile, no_draws

Loss = Callable[[Any, Any], torch.Tensor]
TRACED = re.compile(r"\b(Functional|Fake)Tensor\b")  # what a trace puts in a tensor's place
Around = Callable[[], AbstractContextManager[None]]
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class Traced(nn.Module):
    """What is traced: the model alone, or the model and its loss, then with outputs if asked."""

    def __init__(
        self,
        model: nn.Module,
        loss: Loss | None,
        scope: Scope,
        around: Around = nullcontext,
        *,
        outputs: bool = False,
    ) -> None:
        super().__init__()
        self.outputs = outputs
        self.model, self.scope, self.around = model, scope, around
        self.loss_name = unused("loss", {name for name, _ in model.named_children()})
        setattr(self, self.loss_name, loss)
        first: dict[int, str] = {}
        for name, tensor in self.every():
            first.setdefault(id(tensor), name.removeprefix("model."))
        # Name here -> name in the user's model; of a tied tensor always the first one.
        self.plain = {name: first[id(tensor)] for name, tensor in self.every()}

    def forward(self, *batch: torch.Tensor) -> Any:
        """The loss (``batch`` ends with the target), or the model's outputs as a tuple."""
        # What a run caches would be a tensor of its own trace in the next one.
        with untouched(self.model, getattr(self, self.loss_name)):
            return self.run(*batch)

    def run(self, *batch: torch.Tensor) -> Any:
        """One run of the model and its loss."""
        self.scope.reset()
        self.scope.weights.start(self.parameters(), self.buffers())
        loss = getattr(self, self.loss_name)
        run = ForwardRun(self.model, loss)
        with self.around(), adapter.exporting(), adapter.masks_as_given(), self.scope:
            made = self.model(*(batch if loss is None else batch[:-1]))
            outputs: Any = _outputs(made)
            if loss is not None:
                # Without a gradient, and as they are before a loss that writes into them.
                beside = [t.detach().clone() for t in outputs] if self.outputs else []
                with self.scope.inside("loss"):
                    lost = _scalar(loss(made, batch[-1]))
                outputs = (lost, *beside) if self.outputs else lost
        run.check()
        self.scope.repeated.check()
        return outputs

    def __call__(self, *batch: torch.Tensor) -> Any:
        """``forward``, without the global hooks of modules: this is none of the user's."""
        return self.forward(*batch)

    # torch swaps each named tensor for a traced one and puts them back in the same order, which
    # leaves a module that has two names in the model with a traced tensor. So name modules once.

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nn.Parameter]]:
        """All parameters, a tied one under each of its names, a shared module's under one."""
        for path, module in self.named_modules(prefix=prefix):
            for name, parameter in module._parameters.items():
                if parameter is not None:
                    yield f"{path}.{name}", parameter

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, torch.Tensor]]:
        """All buffers, in the same way."""
        for path, module in self.named_modules(prefix=prefix):
            for name, buffer in module._buffers.items():
                if buffer is not None:
                    yield f"{path}.{name}", buffer

    def every(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Parameters and buffers."""
        yield from self.named_parameters()
        yield from self.named_buffers()


def _flat(made: object) -> Iterator[object]:
    """What a tuple holds, and tuples in it: a recurrent module gives (rows, (h, c))."""
    if not isinstance(made, (tuple, list)):
        yield made
        return
    for part in made:
        yield from _flat(part)


def _outputs(made: object) -> tuple[torch.Tensor, ...]:
    if isinstance(made, Mapping):  # as of transformers, which may hold a cache beside tensors
        parts: Sequence[Any] = [v for v in made.values() if isinstance(v, torch.Tensor)]
    else:
        parts = [*_flat(made)]
    if not parts:
        raise CaptureError("the model returns no tensor; return one or a tuple of some")
    tensors = [part for part in parts if isinstance(part, torch.Tensor)]
    if len(tensors) < len(parts):
        other = next(part for part in parts if not isinstance(part, torch.Tensor))
        raise CaptureError(
            f"the model returns a {type(other).__name__}; return a tensor, or a tuple or a "
            "dictionary of tensors"
        )
    return tuple(tensors)


def _scalar(value: object) -> torch.Tensor:
    if not isinstance(value, torch.Tensor):
        raise CaptureError(f"the loss returns a {type(value).__name__}; return a scalar tensor")
    if value.numel() != 1:
        raise CaptureError(
            f"the loss returns a tensor of shape {tuple(value.shape)}; reduce it to a scalar, "
            "for example with reduction='mean'"
        )
    return value.reshape(())


def check_loss(loss: object) -> None:
    """Raise CaptureError unless ``loss`` can be called with an output and a target."""
    if isinstance(loss, type):
        raise CaptureError(f"the loss is the class {loss.__name__}; give {loss.__name__}()")
    if not callable(loss):
        raise CaptureError(f"the loss is {shown(loss)}; give a function loss(output, target)")
    try:
        taken = inspect.signature(loss.forward if isinstance(loss, nn.Module) else loss)
    except (TypeError, ValueError):
        return  # of a builtin, which does not say
    try:
        taken.bind(None, None)
    except TypeError:
        raise CaptureError(
            f"the loss{_defined(loss)} takes ({', '.join(taken.parameters)}), and a step calls "
            "loss(output, target); a third argument is set by functools.partial, or comes from the "
            "model beside its output: loss((output, third), target)"
        ) from None


def _defined(loss: object) -> str:
    """Where a person has written the loss; of a library's its class."""
    if isinstance(loss, nn.Module):
        loss = type(loss).forward
    code = getattr(loss, "__code__", None)
    if code is None or is_library(code.co_filename):
        return f" {getattr(loss, '__qualname__', type(loss).__name__).partition('.')[0]}"
    return f" at {relative_place(code.co_filename, code.co_firstlineno)}"


def state_tensors(model: nn.Module, loss: Loss) -> dict[str, torch.Tensor]:
    """Parameters and buffers of the model, and of a loss that is a module, by qualified name."""
    root = Traced(model, loss, Scope({}))
    return {root.plain[name]: tensor for name, tensor in root.every()}


def scope_of(model: nn.Module) -> Scope:
    """A scope that knows the modules of ``model``."""
    return Scope({id(m): name for name, m in model.named_modules() if name})


def trace_training(
    model: nn.Module,
    loss: Loss,
    batch: tuple[torch.Tensor, ...],
    trained: Set[str],
    *,
    outputs: bool = False,
) -> Joint:
    """Joint graph of one training step with the gradients of the parameters in ``trained``.

    ``batch`` is the model's inputs, then the target; with ``outputs`` the model's come behind the
    loss. A model whose own flag says eval is switched
    to training for the trace; otherwise each module's flag counts as it is.
    """
    with mode(model, loss, training=True), recording():
        joint = _joint(model, loss, _apart(batch), trained, outputs=outputs)
    if not joint.gradients:
        why = "the loss depends on no parameter that the optimizer trains"
        if not any(t.dtype.is_floating_point for t in batch[:-1]):
            why += "; the inputs are integers, which nothing is trained with: give float32"
        raise CaptureError(why)
    return joint


def trace_evaluation(
    model: nn.Module, inputs: tuple[torch.Tensor, ...], written: Set[str] = frozenset()
) -> Joint:
    """Graph of the model's forward in eval mode, without loss and gradients.

    ``written`` are buffers that training writes, which are no constants here either.
    """
    with mode(model, training=False), torch.inference_mode(False), torch.no_grad():
        return _joint(model, None, _apart(inputs), frozenset(), written)


@dataclass(frozen=True, slots=True)
class Titled:
    """How a traced module shows that stands for another: title, names of its state, own scope."""

    title: str
    names: Mapping[str, str]
    scope: Scope


def trace_titled(
    model: nn.Module,
    titled: Titled,
    inputs: tuple[torch.Tensor, ...],
    trained: Set[str],
    *,
    backward: bool,
) -> Joint:
    """Graph of a module that tells the scope itself which layers run.

    With ``backward`` the gradients of ``trained`` and of the inputs that ask for one.
    """
    with torch.random.fork_rng(devices=[]), recording(on=backward):
        return _joint(model, None, inputs, trained, titled=titled)


def _apart(batch: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """The batch as tensors that ask for no gradient."""
    return tuple(t.detach() for t in batch)


@contextmanager
def mode(model: nn.Module, loss: Loss | None = None, *, training: bool) -> Iterator[None]:
    """The model in train or eval mode inside of the context, and behind it as it was."""
    modules = list(model.modules())
    flags = [m.training for m in modules]
    # A momentum of None makes batch norm read its counter as a number, which no trace can follow.
    cumulative = [m for m in modules if isinstance(m, NORMS) and m.momentum is None]
    try:
        if not (training and model.training):
            model.train(training)
        for m in cumulative:
            m.momentum = CUMULATIVE
        with torch.random.fork_rng(devices=[]), untouched(model, loss):
            yield
    finally:
        for m in cumulative:
            m.momentum = None
        for module, flag in zip(modules, flags, strict=True):
            module.training = flag


@contextmanager
def recording(*, on: bool = True) -> Iterator[None]:
    """Autograd is on, or off, inside of the context, however the caller has set it."""
    with torch.inference_mode(False), torch.set_grad_enabled(on):
        yield


def _joint(
    model: nn.Module,
    loss: Loss | None,
    batch: tuple[torch.Tensor, ...],
    trained: Set[str],
    written: Set[str] = frozenset(),
    *,
    outputs: bool = False,
    titled: Titled | None = None,
) -> Joint:
    titled = titled or Titled(type(model).__name__, {}, scope_of(model))
    trace = partial(_trace, model, loss, batch, trained, written, titled, outputs=outputs)
    try:
        return trace(watched=False)
    except DrawnMeanwhile:
        return trace(watched=True)


def _trace(
    model: nn.Module,
    loss: Loss | None,
    batch: tuple[torch.Tensor, ...],
    trained: Set[str],
    written: Set[str],
    titled: Titled,
    *,
    outputs: bool,
    watched: bool,
) -> Joint:
    scope = titled.scope
    root = Traced(model, loss, scope, lambda: no_draws(watched=watched), outputs=outputs)
    try:
        with intercept(scope), adapter.quiet(), adapter.written_functions():
            graph = adapter.joint_graph(root, batch)
    except (QuatrainError, DrawnMeanwhile):
        raise
    except Exception as error:
        if reads_value(error, scope.failed):
            raise needs_value(scope.failed, _place(error, scope)) from error
        if any(words in str(error) for words in adapter.FOREIGN_TENSOR):
            raise CaptureError(
                f"the forward or the loss{_at(error, scope)} uses a tensor that is no parameter, "
                "no buffer and no input; register it as a buffer of the model, or layers that "
                "stand in a list as nn.ModuleList"
            ) from error
        first = TRACED.sub("Tensor", str(error).strip().partition("\n")[0])
        raise CaptureError(
            f"tracing {titled.title}{called_in(scope.failed)}{_at(error, scope)} failed with "
            f"{type(error).__name__}: {first}"
        ) from error
    plain = {key: titled.names.get(name, name) for key, name in root.plain.items()}
    unkept = {k: t for k, t in unkept_buffers(root).items() if plain[k] not in written}
    return read_graph(list(graph.graph.nodes), titled.title, plain, trained, unkept)


def _at(error: BaseException, scope: Scope) -> str:
    place = _place(error, scope)
    return f" at {place}" if place else ""


def _place(error: BaseException, scope: Scope) -> str:
    """The user's line that raised; of a graph without such frames that of the call."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.name != "_trace"]
    inside = [(f.filename, f.lineno or 0) for f in frames if not f.filename.startswith(HERE)]
    return own_line(reversed(inside)) or (scope.failed[1] if scope.failed else "")
