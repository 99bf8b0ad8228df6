"""From a ``.qtn`` file to a built step: passes, plans, machine code, and the texts about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ...compiler.errors import FileError, InputError
from ...compiler.ir.samples import samples_apart
from ...compiler.ir.text import show
from ...passes.average_weights import AVERAGE
from ...targets.plan.kernel import KernelSpec
from ...targets.plan.pool import HostMemory
from ...targets.plan.state import Unapplied
from ...targets.plan.stored import MachineCode
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
    source, hyper = _source(bundle, path, target)
    chosen = find_target(source.target)
    chosen.check_builds()
    programs = [source.stages(p)[-1][1] for p in (source.train, source.evaluation)]
    kept = kept_of(programs[0])
    try:
        whole = initial_state(programs[0], bundle.state, source.seed)
        state = State(kept, whole, HostMemory()).read()
    except InputError as e:
        raise FileError(f"{path}: state.safetensors: {e}") from None
    options = BindOptions()
    plans = [chosen.plan(p, kept.layout, options) for p in programs]
    planned = [plan for plan in plans if plan is not None]
    code = chosen.build(planned, kept, options)
    built = [BuiltProgram(x, find_checks(p)) for x, p in zip(planned, programs, strict=True)]
    manifest = _manifest(source, code, kept, built, version)
    numbers: dict[KernelSpec, int] = {
        spec: manifest.kernels.index(kernel) for spec, kernel in code.kernels.items()
    }
    texts = {name: show(p).encode() for name, p in zip((PROGRAM, PREDICT), programs, strict=True)}
    carried = {STATE: state_bytes(state, {**manifest.hyper, **hyper})}
    return {MANIFEST: manifest.write(numbers), **texts, **code.files, **carried}


def _source(bundle: Bundle, path: Path, target: str | None) -> tuple[Source, dict[str, float]]:
    """What the step is made from, for ``target``, and its hyper-parameters as they stand."""
    try:
        source = source_of(bundle)
        hyper = {k: float(v) for k, v in mapping(bundle.manifest["hyper"]).items()}
    except (KeyError, TypeError, ValueError) as e:
        raise FileError(f"{path}: manifest.json lacks or garbles {e}") from None
    return replace(source, target=target or source.target), hyper


def _manifest(
    source: Source, code: MachineCode, kept: Unapplied, built: Sequence[BuiltProgram], version: str
) -> Manifest:
    step, predict = built
    averages = {key: name + AVERAGE for key, name in source.model_state.items()}
    rows = samples_apart(source.evaluation, source.evaluation.inputs[0].type.shape[0])
    return Manifest(
        quatrain=version,
        network=source.train.name,
        recipe=source.recipe.name,
        target=find_target(source.target).family,
        machine=dict(code.facts),
        kernels=tuple(dict.fromkeys(code.kernels.values())),
        kept=kept,
        settle=code.settle,
        seed=source.seed,
        hyper=source.optimizer.initial(),
        model_state=source.model_state,
        average_state={k: name for k, name in averages.items() if name in kept.layout.types},
        step=step,
        predict=replace(predict, rows=rows, draws=draws(source.evaluation)),
    )
