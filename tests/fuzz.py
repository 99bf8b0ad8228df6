"""Random networks compared: the reference, the CPU's kernels and PyTorch.

    python -m tests.fuzz --programs 2000 --seed 0
    python -m tests.fuzz --spec 'Spec(...)'

Every kernel of the step equals the reference composition of its ops, bit for bit but for sums of
floats; one step of ``fp32`` equals PyTorch's. A failing network is made smaller as long as it fails
in the same way, then printed in the form that ``--spec`` takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

import quatrain
from quatrain.runtime.step import Step
from quatrain.targets.cpu.info import detect

from .cases import fuzz_networks
from .cases.fuzz_networks import CLASSES, Layer, Spec, build, draw
from .cases.seeds import FAILED, seeded, tell
from .exactness import COMPILED, compare, given

OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, lr=1e-3, eps=1e-3),
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-3, eps=1e-3),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=1e-3, eps=1e-2),
}
# One step from the same state. A ReLU or a maximum that turns on the last bit of a sum moves
# gradients by far more, so a difference counts only if it is there for each of three batches.
CLOSE, BATCHES = 1e-4, 3
CONDITION, LEAST = 10, 1e-3  # times eager's own distance; norms below count as this
MOST_KERNELS = 400  # compiled kernels to keep


def failure(spec: Spec) -> str:
    """What is wrong with a network; empty where nothing is."""
    try:
        return _kernels(spec) or (_beside_torch(spec) if spec.recipe == "fp32" else "")
    except Exception as error:  # whatever it is, it is the finding
        return f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"


def _batch(spec: Spec, turn: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1000 * turn + spec.seed)
    x = torch.randn(spec.batch, *spec.shape, generator=generator)
    return x, torch.randint(CLASSES, (spec.batch,), generator=generator)


def _step(spec: Spec, model: torch.nn.Module, target: str) -> Step:
    optimizer = OPTIMIZERS[spec.optimizer](model.parameters())
    return quatrain.compile(
        model,
        cross_entropy,
        _batch(spec),
        optimizer,
        recipe=spec.recipe,
        options=dict(spec.options),
        target=target,
    )


def _kernels(spec: Spec) -> str:
    step = _step(spec, build(spec), "reference")
    if len(COMPILED) > MOST_KERNELS:
        COMPILED.clear()
    for mismatch in compare(step.program, given(step, _batch(spec)), detect()):
        return f"kernel: {mismatch}"
    return ""


def _beside_torch(spec: Spec) -> str:
    found = ""
    for turn in range(BATCHES):
        found = _one_step(spec, turn)
        if not found:
            break
    return found


def _one_step(spec: Spec, turn: int) -> str:
    model, (x, y) = build(spec), _batch(spec, turn)
    step = _step(spec, model, "cpu")
    value = float(step(x, y))
    eager = _eager(spec, build(spec), x, y)
    made = {"loss": torch.tensor(value), **step.state_dict()}
    far = [name for name, tensor in eager.items() if away(made[name], tensor) > CLOSE]
    if not far:
        return ""
    # Where sums cancel, eager is no yardstick for itself: both are compared with float64. So is
    # float64 with noise as large as f32's rounding, which says where a kink decides.
    exact = _eager(spec, _dense_gradients(build(spec).double()), x.double(), y)
    noisy = _eager(spec, shaken(build(spec).double()), x.double(), y)
    for name in far:
        ours = away(made[name].double(), exact[name])
        theirs = max(away(t[name].double(), exact[name]) for t in (eager, noisy))
        if ours > CLOSE + CONDITION * theirs:
            return f"torch: {name} is {ours:.1e} from float64, eager {theirs:.1e}"
    return ""


def _eager(spec: Spec, model: torch.nn.Module, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """The loss, and parameters and buffers after a step of PyTorch."""
    optimizer = OPTIMIZERS[spec.optimizer](model.parameters())
    loss = cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    return {"loss": loss.detach(), **model.state_dict()}


def _dense_gradients(model: torch.nn.Module) -> torch.nn.Module:
    """``model`` whose layers get gradients in row-major order.

    torch 2.13 sums the wrong numbers in batch norm's gradient where data are row-major and the
    gradient has the order of channels last, such as strides (2, 1, 4, 2) of 1x2x1x2.
    """

    def row_major(_: torch.nn.Module, __: tuple[Tensor, ...], made: Tensor) -> None:
        if made.requires_grad:
            made.register_hook(lambda g: g.clone(memory_format=torch.contiguous_format))

    for module in model.modules():
        module.register_forward_hook(row_major)
    return model


def shaken(model: torch.nn.Module) -> torch.nn.Module:
    """``model`` whose layers err as those of f32 do: each number by a part of 2^-23."""
    noise = torch.Generator().manual_seed(0)

    def shake(_: torch.nn.Module, __: tuple[Tensor, ...], made: Tensor) -> Tensor:
        drawn = torch.randn(made.shape, generator=noise, dtype=made.dtype)
        return made * (1 + 2.0**-23 * drawn)

    for module in model.modules():
        module.register_forward_hook(shake)
    return _dense_gradients(model)


def away(a: Tensor, b: Tensor) -> float:
    return float((a - b).double().norm() / (b.double().norm() + LEAST))


def smaller(spec: Spec) -> Iterator[Spec]:
    """Networks with less in them."""
    for i in range(len(spec.layers)):
        yield replace(spec, layers=spec.layers[:i] + spec.layers[i + 1 :])
    if spec.batch > 1:
        yield replace(spec, batch=spec.batch // 2)
    for i, size in enumerate(spec.shape):
        if size > 1:
            yield replace(spec, shape=(*spec.shape[:i], size // 2, *spec.shape[i + 1 :]))
    for i, (kind, numbers) in enumerate(spec.layers):
        for j, number in enumerate(numbers):
            if number:
                less = (*numbers[:j], number // 2 if number > 12 else 0, *numbers[j + 1 :])
                layer: Layer = (kind, less)
                yield replace(spec, layers=(*spec.layers[:i], layer, *spec.layers[i + 1 :]))


def reduced(spec: Spec, found: str, tries: int = 200) -> tuple[Spec, str]:
    """The smallest network found that fails in the same way."""
    kind = found.split(":")[0]
    for _ in range(tries):
        for candidate in smaller(spec):
            other = failure(candidate)
            if other.startswith(kind):
                spec, found = candidate, other
                break
        else:
            break
    return spec, found


def main() -> None:
    """Draw networks, compare, reduce what fails."""
    parser = seeded(__doc__, "programs", 100)
    parser.add_argument("--spec", help="one network, as printed")
    args = parser.parse_args()
    if args.spec:
        spec = eval(args.spec, {"Spec": fuzz_networks.Spec})
        print(failure(spec) or "equal")
        return
    seeds = range(args.seed, args.seed + args.programs)
    tell("programs", ((seed, _outcome(draw(seed))) for seed in seeds), ["equal"], every=50)


def _outcome(spec: fuzz_networks.Spec) -> str:
    if not (found := failure(spec)):
        return "equal"
    small, why = reduced(spec, found)
    return f"{FAILED}: {found}\n  {why}\n  {small}"


if __name__ == "__main__":
    main()
