"""From a ``.qtn`` file to a built step: passes, plans, machine code, and the texts about them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ...compiler.errors import FileError, InputError
from ...compiler.ir.samples import samples_apart
from ...compiler.ir.text import show
from ...passes.average_weights import AVERAGE
from ...targets.plan.kernel import KernelSpec
from ...targets.plan.pool import HostMemory
from ...targets.registry import BindOptions, find_target
from ..bundle import Bundle
from ..fresh import draws
from ..initial import initial_state, kept_of
from ..source import Source, mapping, source_of
from ..state import State
from ..taken import find_checks
from .folder import MANIFEST, PREDICT, PROGRAM, STATE
from .manifest import BuiltProgram, Manifest
from .step import state_bytes


def make(bundle: Bundle, path: Path, target: str | None, version: str) -> dict[str, bytes]:
    """The files of a built step by name; ``path`` is where ``bundle`` was read, for errors.

    Raises TargetError where nothing here makes machine code for ``target``.
    """
    try:
        source = source_of(bundle)
        hyper = {k: float(v) for k, v in mapping(bundle.manifest["hyper"]).items()}
    except (KeyError, TypeError, ValueError) as e:
        raise FileError(f"{path}: manifest.json lacks or garbles {e}") from None
    source = replace(source, target=target or source.target)
    chosen = find_target(source.target)
    chosen.check_builds()
    programs = [source.stages(p)[-1][1] for p in (source.train, source.evaluation)]
    kept = kept_of(programs[0])
    whole = initial_state(programs[0], bundle.state, source.seed)
    try:
        state = State(kept, whole, HostMemory()).read()
    except InputError as e:
        raise FileError(f"{path}: state.safetensors: {e}") from None
    options = BindOptions()
    plans = [chosen.plan(p, kept.layout, options) for p in programs]
    train, evaluation = (plan for plan in plans if plan is not None)
    code = chosen.build([train, evaluation], kept, options)
    kernels = tuple(dict.fromkeys(code.kernels.values()))
    numbers: dict[KernelSpec, int] = {s: kernels.index(k) for s, k in code.kernels.items()}
    manifest = Manifest(
        quatrain=version,
        network=source.train.name,
        recipe=source.recipe.name,
        target=chosen.name.partition(":")[0],
        machine=dict(code.facts),
        kernels=kernels,
        kept=kept,
        settle=code.settle,
        seed=source.seed,
        hyper=source.optimizer.initial(),
        model_state=source.model_state,
        average_state=_averages(source, set(kept.layout.types)),
        step=BuiltProgram(train, find_checks(programs[0])),
        predict=BuiltProgram(
            evaluation,
            find_checks(programs[1]),
            rows=samples_apart(source.evaluation, source.evaluation.inputs[0].type.shape[0]),
            draws=draws(source.evaluation),
        ),
    )
    texts = {PROGRAM: show(programs[0]).encode(), PREDICT: show(programs[1]).encode()}
    carried = {STATE: state_bytes(state, {**manifest.hyper, **hyper})}
    return {MANIFEST: manifest.write(numbers), **texts, **code.files, **carried}


def _averages(source: Source, state: set[str]) -> dict[str, str]:
    names = {key: name + AVERAGE for key, name in source.model_state.items()}
    return {key: name for key, name in names.items() if name in state}
