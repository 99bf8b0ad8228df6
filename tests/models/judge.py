"""One model judged: captured, taken through recipes, planned, run and compared with float64."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from quatrain.compiler.capture.program import Capture, capture
from quatrain.compiler.errors import QuatrainError
from quatrain.compiler.ir import Program
from quatrain.compiler.ir.analysis import gemms
from quatrain.compiler.ir.optimizers import kept_name
from quatrain.passes.recipe import load_recipe
from quatrain.runtime.source import Source
from quatrain.runtime.step import Step
from quatrain.targets.plan.state import state_layout
from quatrain.targets.registry import find_target
from quatrain.tools.driver import bind_options
from quatrain.tools.update import Update

from .given import Given, Make
from .verdict import Verdict

# Targets that a step is planned for where none is built.
PLANNED = ("cpu", "cuda:sm_90")
# Larger steps are not interpreted, so that the whole table stays affordable.
RUN_UP_TO, RUN_MACS = 4000, 3e8
DRAWING = ("random_uniform", "random_mask", "initialize")
ROUNDS = 5
# A parameter whose gradient is a smaller part of all has only rounding in it.
NOTHING = 1e-3


def judge(
    group: str, name: str, make: Make, recipes: tuple[str, ...], build: int
) -> Iterator[Verdict]:
    """A verdict for each recipe; ``fp32`` of up to ``build`` ops is built and timed."""
    start = Verdict(group, name, recipes[0])
    try:
        given = made(make)
        sgd = torch.optim.SGD(given.model.parameters(), lr=0.1, momentum=0.9)
        began = time.perf_counter()
        captured = capture(given.model, given.loss, given.batch, sgd)
        spent = time.perf_counter() - began
    except QuatrainError as error:
        yield from (replace(start, recipe=r, why=str(error)) for r in recipes)
        return
    truth, near = gradients(make, given, torch.float64), gradients(make, given, torch.float32)
    for recipe in recipes:
        case = replace(start, recipe=recipe, own=distance(near, truth))
        yield judged(case, captured, given, truth, spent, build)


def made(make: Make) -> Given:
    """The model and its batch, without dropout: another generator draws other masks."""
    torch.manual_seed(0)
    given = make()
    for module in given.model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
        for name in ("dropout", "attention_dropout", "activation_dropout", "dropout_p"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
    given.model.train()
    return given


def gradients(make: Make, given: Given, dtype: torch.dtype) -> dict[str, Tensor]:
    """Loss and gradients of PyTorch in a type, of the same weights and batch."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        again = made(make)
        model = again.model.to(dtype)
        model.load_state_dict(given.model.state_dict())
        batch = [t.to(dtype) if t.is_floating_point() else t for t in given.batch]
        loss = again.loss(model(*batch[:-1]), batch[-1])
        loss.backward()
    finally:
        torch.set_default_dtype(before)
    found = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    return {"": loss.detach().reshape(()), **found}


def distance(of: Mapping[str, Tensor], truth: Mapping[str, Tensor]) -> float:
    """The largest of those of the loss and of each parameter's gradient, relative to its size."""
    sizes = {name: float(t.double().norm()) for name, t in truth.items()}
    whole = sum(size**2 for name, size in sizes.items() if name) ** 0.5
    worst = 0.0
    for name, wanted in truth.items():
        gap = float((of[name].double() - wanted.double()).norm())
        least = NOTHING * whole if name else NOTHING
        worst = max(worst, gap / max(sizes[name], least, 1e-30)) if gap == gap else float("inf")
    return worst


def judged(
    case: Verdict,
    captured: Capture,
    given: Given,
    truth: Mapping[str, Tensor],
    spent: float,
    up_to: int,
) -> Verdict:
    """One recipe."""
    ops = sum(1 for _ in captured.train.ops())
    build = case.recipe == "fp32" and ops <= up_to
    began = time.perf_counter()
    sgd = torch.optim.SGD(given.model.parameters(), lr=0.1, momentum=0.9)
    try:
        recipe = Update(0.0, 0.0, 1, 0.0).after(load_recipe(case.recipe), captured.train)
        source = Source(
            *(captured.train, captured.evaluation, recipe, captured.optimizer),
            captured.model_state,
            target="cpu" if build else "reference",
            torch_saved=captured.torch_saved,
        )
        step = Step(source, captured.state, bind_options(), optimizers=(sgd,))
        seconds = time.perf_counter() - began + spent
        if not build:
            planned(step.program)
    except QuatrainError as error:
        return replace(case, ops=ops, why=str(error))
    bill = step.report()
    draws = any(op.kind in DRAWING for _, op in captured.train.ops())
    case = replace(case, ops=ops, four_bits=bill.four_bit_share, draws=draws, level="planned")
    kept = bill.planned_bytes
    case = replace(case, kept=sum(s.bytes for s in bill.saved) if kept is None else kept)
    macs = sum(g.macs for g in gemms(step.program))
    if not build and (ops > RUN_UP_TO or macs > RUN_MACS):
        return case
    return ran(replace(case, seconds=seconds if build else None), step, given, truth)


def planned(program: Program) -> None:
    """Kernels chosen for targets, without building any."""
    for name in PLANNED:
        target = find_target(name)
        stages = target.lower(program)
        last = stages[-1][1] if stages else program
        target.plan(last, state_layout(last), bind_options())


def ran(case: Verdict, step: Step, given: Given, truth: Mapping[str, Tensor]) -> Verdict:
    """One step beside float64; of a built one the times, beside PyTorch's."""
    loss = step(*given.batch)
    state, names = step.state, step.source.model_state
    found = {"": loss}
    for name, wanted in truth.items():
        if name:
            buffer = state.get(kept_name(names[name], "momentum"))
            found[name] = torch.zeros_like(wanted) if buffer is None else buffer
    level = "reference" if case.seconds is None else "built"
    case = replace(case, level=level)
    if not case.draws:
        case = replace(case, distance=distance(found, truth))
    if case.seconds is None:
        return case
    return replace(case, step=timed(lambda: step(*given.batch)), eager=timed(lambda: eager(given)))


def eager(given: Given) -> None:
    """One step of PyTorch without its update, which is a small part."""
    given.model.zero_grad()
    given.loss(given.model(*given.batch[:-1]), given.batch[-1]).backward()


def timed(run: object) -> float:
    """The median of some rounds, in seconds."""
    assert callable(run)
    spent = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        run()
        spent.append(time.perf_counter() - began)
    return statistics.median(spent)
