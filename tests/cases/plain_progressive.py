"""Progressive precision: bits go up a stage whenever the loss stops falling.

Fu et al., FracTrain: Fractionally Squeezing Bit Savings Both Temporally and Spatially for Efficient
DNN Training, NeurIPS 2020, section 3.1 (PFQ) and the authors' ``train_pfq.py``. The state is plain
numbers, so that a checkpoint can hold it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from quatrain.compiler.errors import UsageError


@dataclass(frozen=True, slots=True)
class Progress:
    """What the indicator remembers: its stage (from 0), losses and the tolerance in force.

    ``norm`` is the mean of the first epochs' losses, ``epochs`` the number of them that are over,
    ``window`` the latest; ``total`` and ``iterations`` are of the epoch that is under way.
    """

    eps: float
    stage: int = 0
    norm: float = 0.0
    epochs: int = 0
    window: tuple[float, ...] = ()
    total: float = 0.0
    iterations: int = 0

    def to_dict(self) -> dict[str, object]:
        """Plain numbers and a list of them; ``from_dict`` reads it back to the same bits."""
        return {**asdict(self), "window": list(self.window)}

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> Progress:
        """Read back what ``to_dict`` wrote; UsageError for anything else."""
        kinds = {"eps": float, "norm": float, "total": float}
        whole = {"stage": int, "epochs": int, "iterations": int}
        window = data.get("window")
        ok = data.keys() == {*kinds, *whole, "window"} and isinstance(window, list | tuple)
        if not ok or not all(isinstance(data[k], t) for k, t in {**kinds, **whole}.items()):
            raise UsageError("the saved progress of the precision is damaged; start a new run")
        assert isinstance(window, list | tuple)
        return cls(**{**data, "window": tuple(map(float, window))})  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Progressive:
    """The indicator. Defaults are those of the authors' README.

    A turning point is an epoch after which none of the ``window - 1`` losses before differs from
    the last by more than ``eps`` times the norm; ``alpha`` then makes the tolerance smaller, but
    not at the last of ``turns`` turning points, after which nothing changes any more. An epoch is
    ``every`` iterations.
    """

    eps: float = 0.05
    alpha: float = 0.3
    turns: int = 3
    window: int = 5
    norm_epochs: int = 10
    every: int = 400

    def __post_init__(self) -> None:
        if min(self.turns, self.norm_epochs, self.every) < 1 or self.window < 2 or self.eps < 0:
            raise UsageError(
                "a progressive precision has at least one turning point, a window of two losses, "
                "an epoch of one iteration, and a tolerance eps of 0 or more"
            )

    def start(self) -> Progress:
        """The state before the first iteration."""
        return Progress(self.eps)

    def after_iteration(
        self, state: Progress, loss: float, per_epoch: int | None = None
    ) -> Progress:
        """The state after one iteration's loss; every ``every`` of them are an epoch.

        The epoch's loss is their sum over ``per_epoch``, which the authors set to the number of
        batches of the data; ``every`` where None.
        """
        state = replace(state, total=state.total + loss, iterations=state.iterations + 1)
        if state.iterations < self.every:
            return state
        mean = state.total / (per_epoch or self.every)
        return self.after_epoch(replace(state, total=0.0, iterations=0), mean)

    def after_epoch(self, state: Progress, loss: float) -> Progress:
        """The state after one epoch's loss."""
        if state.stage >= self.turns:
            return state
        state = replace(self._with_norm(state, loss), window=(*state.window, loss)[-self.window :])
        *earlier, last = state.window
        full = len(state.window) == self.window
        norm = state.norm or 1.0
        # A loss that is no number differs from all others.
        if not full or not all(abs(one - last) / norm <= state.eps for one in earlier):
            return state
        stage = state.stage + 1
        eps = state.eps * self.alpha if stage < self.turns else state.eps
        return replace(state, stage=stage, eps=eps, window=())

    def _with_norm(self, state: Progress, loss: float) -> Progress:
        if state.epochs >= self.norm_epochs:
            return state
        epochs = state.epochs + 1
        return replace(state, epochs=epochs, norm=state.norm + (loss - state.norm) / epochs)


@dataclass(frozen=True, slots=True)
class Stages:
    """Bits of weights and activations, and of gradients, at each stage."""

    forward: Sequence[int] = (3, 4, 6, 8)
    backward: Sequence[int] = (6, 6, 8, 8)

    def __post_init__(self) -> None:
        if len(self.forward) != len(self.backward) or not self.forward:
            raise UsageError(
                f"{len(self.forward)} stages of forward bits and {len(self.backward)} of backward "
                "bits; give one of each for every stage"
            )

    def bits(self, stage: int) -> tuple[int, int]:
        """Forward and backward bits; the last stage goes on for ever."""
        i = min(stage, len(self.forward) - 1)
        return self.forward[i], self.backward[i]
