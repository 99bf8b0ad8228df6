"""One step without training beside that of fp32: what a layer that is quantized alone does to all.

Both run on the reference target, on the same batches from the same state, as ``quatrain compare``
runs them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ...compiler.errors import UsageError
from ...compiler.formats import F32
from ...compiler.ir import Program
from ...compiler.ir.analysis import gemms
from ...compiler.ir.ops import BETWEEN_ACTIVATIONS
from ...compiler.types import TensorType
from ...passes.parts.select import last, layers
from ...runtime.report.bill import exempt_layers
from ...targets.numbers.tensor import Tensor
from ..binding import bind_options
from ..compare.align import Ran
from ..compare.batch import named_batches
from ..compare.distance import Gap, distance
from ..compare.network import Named
from ..compare.side import SideWish, given_to, ran, side
from ..compare.start import GivenArray, check_names, read_numbers
from ..dataset import Dataset, Text
from .entry import BASELINE, made_recipe

Values = Mapping[str, Tensor]
GapFigures = dict[str, float | bool | None]


@dataclass(frozen=True, slots=True)
class Looked:
    """The names of what is looked at: by layer its output and the gradient of its weight."""

    outputs: Mapping[str, str]
    gradients: Mapping[str, str]
    scores: str
    loss: str


class Shots:
    """The steps of several rows, a row a call; without rows the layers of the network."""

    def __init__(self, network: Named, data: Dataset | Text, request: Mapping[str, Any]) -> None:
        self._network, self._request = network, request
        self._rows: list[Mapping[str, Any]] = request.get("rows", [])
        state: Mapping[str, GivenArray] = {}
        if request["state"]:
            state = read_numbers(Path(request["state"]))
            check_names(network.train, state, request["state"])
        found = islice(named_batches(data, network, request["seed"]), request["batches"])
        self._given = [{**state, **batch} for batch in found]
        if len(self._given) < request["batches"]:
            raise UsageError(f"the training part has {len(self._given)} batches of this size")
        self._looked = looked(network.train)
        self._plain: list[Values] = []
        self._done, self._found = 0, dict[str, object]()

    def step(self) -> int:
        """Measure the next row."""
        if not self._rows:
            self._found = {"layers": _layers(self._network.train, self._request)}
            return 0
        row = self._rows[self._done]
        self._done += 1
        recipe = made_recipe(row["recipe"], row["options"], row["without"])
        wishes = SideWish(BASELINE), SideWish(passes=recipe.passes)
        a, b = (side(self._network, wish) for wish in wishes)
        seed, made = self._request["seed"], []
        for i, given in enumerate(self._given):
            start = given_to(a, b, given, seed)
            if len(self._plain) == i:
                self._plain.append(_values(ran(a, start.to(a), seed, bind_options())))
            theirs = _values(ran(b, start.to(b), seed, bind_options()))
            made.append(_apart(self._plain[i], _unscaled(theirs, self._looked), self._looked))
        cosines = [m["gradients"]["cosine"] for m in made]
        self._found = {**_mean(made), "batches": len(made), "cosines": cosines}
        return self._done

    def facts(self) -> dict[str, object]:
        """What the last row came to."""
        return self._found


def looked(program: Program) -> Looked:
    """What to look at, of a captured program."""
    known = layers(program)
    outputs = {name: op.result.name for name, op in known.items()}
    backward = [op for op in program.region("backward").ops if op.kind.endswith("weight_grad")]
    end = [name for name in known if name in last(program)][-1]
    gradients = {op.origin: op.result.name for op in backward}
    return Looked(outputs, gradients, outputs[end], program.outputs[0].name)


def _layers(program: Program, request: Mapping[str, Any]) -> list[dict[str, object]]:
    """The layers with weights, in order: share of the forward MACs, and whether they are exempt."""
    recipe = made_recipe(request["recipe"], request["options"], request["without"])
    exempt = exempt_layers(recipe, program)
    forward = {g.op.origin: g.macs for g in gemms(program) if g.region == "forward"}
    whole = max(sum(forward.values()), 1)
    return [
        {"name": n, "op": op.kind, "macs": forward[n] / whole, "exempt": n in exempt}
        for n, op in layers(program).items()
        if op.kind not in BETWEEN_ACTIVATIONS
    ]


def _unscaled(values: Values, at: Looked) -> Values:
    """With gradients of weights as they are of the loss itself, where a recipe scales that."""
    scaled = {name: f"{name}.unscaled" for name in at.gradients.values()}
    return {**values, **{n: values[v] for n, v in scaled.items() if v in values}}


def _values(of: Ran) -> Values:
    return {value.name: tensor for value, tensor in of.seen.values.items()}


def _apart(a: Values, b: Values, at: Looked) -> dict[str, Any]:
    """How far one step is from the other, as plain data."""
    shared = [n for n in at.gradients.values() if n in a and n in b]
    ours, theirs = _joined(a[n] for n in shared), _joined(b[n] for n in shared)
    whole = distance(ours, theirs)
    by_layer = {
        layer: {"y": _gap(a, b, name), "dw": _gap(a, b, at.gradients.get(layer, ""))}
        for layer, name in at.outputs.items()
    }
    return {
        "loss": [float(side[at.loss].real()) for side in (a, b)],
        "outputs": _gap(a, b, at.scores),
        "gradients": _figure(whole),
        "left": _left(ours, theirs),
        "layers": by_layer,
    }


def _left(a: Tensor, b: Tensor) -> float | None:
    """How much of ``a`` is left in its own direction; None where that is no number."""
    x, y = a.real().astype(np.float64), b.real().astype(np.float64)
    with np.errstate(all="ignore"):
        found = float((x * y).sum() / (x * x).sum())
    return found if np.isfinite(found) else None


def _joined(parts: Iterable[Tensor]) -> Tensor:
    """All numbers in one tensor."""
    numbers = np.concatenate([np.asarray(t.real()).ravel() for t in parts])
    return Tensor.from_numbers(TensorType(numbers.shape, F32), numbers)


def _gap(a: Values, b: Values, name: str) -> GapFigures | None:
    """None where a side does not make it."""
    return _figure(distance(a[name], b[name])) if name in a and name in b else None


def _figure(gap: Gap) -> GapFigures:
    found = asdict(gap)
    return {key: found[key] for key in ("equal", "sqnr", "cosine")}


def _mean(values: Sequence[Any]) -> Any:
    """Over the batches, within data alike; None where one of them is, all of them for flags."""
    first = values[0]
    if any(v is None for v in values):
        return None
    if isinstance(first, dict):
        return {key: _mean([v[key] for v in values]) for key in first}
    if isinstance(first, list):
        return [_mean(column) for column in zip(*values, strict=True)]
    return all(values) if isinstance(first, bool) else float(np.mean(values))
