"""Lion, which torch has not: a class of that name is taken if its own steps are those of the rule.

Packages spell it alike and some add to it: a mask, another decay, what an attribute says and no
setting does. So the class is tried: a copy of the optimizer takes steps on a few numbers in f64,
under its settings and changed ones, beside the rule that a compiled step runs.
"""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Callable, Sequence
from copy import copy

import torch
from torch import Tensor

from ..errors import CaptureError, shown
from ..ir.rule import Act, RuleStep, write
from ..ir.updates import COUNT, KINDS, Options

NAME, KIND = "Lion", "lion"
FUNCTIONS: dict[Act, Callable[..., Tensor]] = {
    Act.ADD: torch.add,
    Act.SUB: torch.sub,
    Act.MUL: torch.mul,
    Act.NEGATE: torch.neg,
    Act.ABOVE: lambda a, b, yes, no: torch.where(a > b, yes, no),
}
ELEMENTS = 13
# Of f64, with sums in another order; a step of Lion moves a weight by its whole rate.
TOLERANCE = 1e-12


def is_lion(optimizer: object) -> bool:
    """Whether it is an optimizer of a class with that name."""
    return isinstance(optimizer, torch.optim.Optimizer) and type(optimizer).__name__ == NAME


def check_lion(optimizer: torch.optim.Optimizer) -> None:
    """Raise CaptureError unless steps of each group are those of the rule."""
    where = f"{type(optimizer).__module__}.{NAME}"
    for index, group in enumerate(optimizer.param_groups):
        try:
            same = _agrees(optimizer, group)
        except Exception as error:  # whatever a class of a user's raises
            raise CaptureError(
                f"a step of {where} on some numbers under the settings of parameter group {index} "
                f"raises {shown(error)}; give a Lion that trains f64 on the CPU"
            ) from error
        if not same:
            raise CaptureError(
                f"steps of {where} under the settings of parameter group {index} are not those of "
                "Lion (w (1 - lr weight_decay) - lr sign(average)), and a compiled step would not "
                "run what it adds; leave out the options that add it"
            )


def _agrees(optimizer: torch.optim.Optimizer, group: Options) -> bool:
    generator = torch.Generator().manual_seed(0)

    def drawn() -> Tensor:
        return torch.randn(ELEMENTS, dtype=torch.float64, generator=generator)

    theirs, ours, average = torch.nn.Parameter(drawn()), drawn(), torch.zeros(ELEMENTS).double()
    ours.copy_(theirs.detach())
    twin = _twin(optimizer, {**group, "params": [theirs]})
    for lr, decay, share in ((1.0, 0.0, 1.0), (0.5, 0.25, 0.9), (3.0, 0.5, 0.7), (1.0, 0.0, 1.0)):
        betas = tuple(float(beta) * share for beta in group["betas"])
        changed = {
            "lr": float(group["lr"]) * lr,
            "weight_decay": float(group["weight_decay"]) + decay,
            "betas": betas,
        }
        twin.param_groups[0].update(changed)
        theirs.grad = drawn()
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            inspect.unwrap(type(optimizer).step)(twin)
            ours, average = _step({**group, **changed}, ours, theirs.grad, average)
        kept = twin.state[theirs].get(KINDS[KIND].kept[0].theirs)
        if kept is None or not (_near(theirs.detach(), ours) and _near(kept, average)):
            return False
    return True


def _near(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=TOLERANCE, atol=TOLERANCE)


def _twin(optimizer: torch.optim.Optimizer, group: Options) -> torch.optim.Optimizer:
    """The optimizer with one group and nothing kept; what its attributes say holds."""
    twin = object.__new__(type(optimizer))
    for name, value in vars(optimizer).items():
        vars(twin)[name] = copy(value) if isinstance(value, list | dict | set) else value
    twin.state, twin.param_groups = defaultdict(dict), [dict(group)]
    return twin


def _step(group: Options, w: Tensor, dw: Tensor, average: Tensor) -> tuple[Tensor, ...]:
    """A step of the rule."""
    kind = KINDS[KIND]
    assert kind.formula is not None
    rule = write(kind.formula, kind.operands, COUNT, kind.fixed(group))
    numbers = [torch.tensor(n.read(group), dtype=w.dtype) for n in kind.numbers.values()]
    operands = (w, dw, average, *numbers)

    def take(step: RuleStep, of: Sequence[Tensor]) -> Tensor:
        if step.act is Act.READ:
            return operands[step.operand]
        if step.act is Act.CONSTANT:
            return torch.tensor(step.value, dtype=w.dtype)
        return FUNCTIONS[step.act](*of)

    return tuple(rule.run(take))
