"""What a person may give by mistake: success, or one sentence of a class of quatrain's own.

Only calls that Python itself refuses, for a keyword that no function has, end otherwise.
"""

import copy
import io
import math
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

import quatrain
from quatrain.compiler.errors import shown
from quatrain.runtime.step import Step

pytestmark = pytest.mark.torch
Change = Callable[[nn.Module, torch.optim.Optimizer], object]
X, Y = torch.ones(2, 4), torch.ones(2, 3)
# Longer sentences are not read; paths are as long as they are.
LONGEST = 420


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3))


def sgd(model: nn.Module, **settings: Any) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), **{"lr": 0.1, **settings})


def made(**given: Any) -> Step:
    """A step of the reference, compiled with some arguments replaced."""
    model = given.pop("model", None) or net()
    given.setdefault("optimizer", sgd(model) if isinstance(model, nn.Module) else sgd(net()))
    rest = {"loss": mse_loss, "example": (X, Y), "recipe": "fp32", "target": "reference"}
    return quatrain.compile(model=model, **{**rest, **given})


def outcome(call: Callable[[], object]) -> str:
    """The sentence of a call that is refused; empty where it is not."""
    try:
        call()
    except quatrain.QuatrainError as error:
        text = str(error)
        assert "\n" not in text and 10 < len(text) <= LONGEST, text
        return text
    return ""


class Using(nn.Module):
    """A layer, and behind it what a test wants."""

    def __init__(self, use: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.fc, self.use = nn.Linear(4, 3), use

    def forward(self, x: Tensor) -> object:
        return self.use(self.fc(x))


ODD: dict[str, object] = {
    **{"none": None, "int": 3, "float": 1.5, "word": "nope", "empty": "", "bytes": b"x"},
    **{"list": [1], "words": ["x"], "dict": {"a": 1}, "set": {1}, "array": np.ones(2)},
    **{"tensor": X, "object": object(), "class": int, "function": outcome, "negative": -1},
    **{"nan": math.nan, "huge": 10**30, "flag": True, "null": "a\0b", "lines": "a\nb"},
    **{"path": Path("nope.toml"), "stream": io.BytesIO(), "long": "x" * 300},
}
ARGUMENTS = (
    "recipe options target seed allow clip_norm clip_value accumulate average loss adam_states"
)
FINE = {
    *("options none", "target none", "seed int", "seed negative", "allow words"),
    *(f"{name} {kind}" for name in ("clip_norm", "clip_value") for kind in ("int", "float")),
    *("clip_norm huge", "clip_value huge", "accumulate int"),
}


@pytest.mark.parametrize("argument", [*ARGUMENTS.split(), "example", "optimizer", "model"])
def test_arguments_of_odd_kinds(argument: str) -> None:
    for kind, value in ODD.items():
        if argument == "model" and value is not None:
            continue
        said = outcome(lambda value=value: made(**{argument: value}))  # type: ignore[misc]
        if argument in ARGUMENTS.split():
            assert (said == "") == (f"{argument} {kind}" in FINE), (kind, said)


MODELS: dict[str, tuple[nn.Module, str]] = {
    "meta": (nn.Linear(4, 3, device="meta"), "on meta"),
    "double": (nn.Linear(4, 3).double(), "float64"),
    "half": (nn.Linear(4, 3).half(), "float16"),
    "complex": (nn.Linear(4, 3, dtype=torch.complex64), "complex64"),
    "no parameters": (nn.ReLU(), "model.parameters"),
    "lazy": (nn.LazyLinear(3), "model.parameters"),
    "frozen": (nn.Linear(4, 3).requires_grad_(False), "unfreeze"),
    "a list": (nn.ModuleList([nn.Linear(4, 3)]), "forward"),
    "wrong size": (nn.Linear(5, 3), "takes 5 features"),
    "wrong outputs": (nn.Linear(4, 7), "layer 'loss'"),
    "dict": (Using(lambda y: {"a": y}), "layer 'loss'"),
    "nothing": (Using(lambda y: None), "returns a NoneType"),
    "no outputs": (Using(lambda y: ()), "returns no tensor"),
    "nested outputs": (Using(lambda y: (y, ({},))), "returns a dict"),
    "raises": (Using(lambda y: 1 / 0), "test_mistakes.py"),
    "integers": (Using(lambda y: torch.zeros(2, 3, dtype=torch.int64)), "depends on no parameter"),
    "no init": (nn.Linear.__new__(nn.Linear), "super().__init__"),
    "two inputs": (nn.Bilinear(4, 4, 3), "missing 1 required"),
}


@pytest.mark.parametrize("case", MODELS)
def test_models(case: str) -> None:
    model, said = MODELS[case]
    own = sgd(model) if case not in ("no parameters", "lazy", "no init") else sgd(net())
    batch = {"loss": mse_loss, "example": (X, Y), "recipe": "fp32", "target": "reference"}
    assert said in outcome(lambda: quatrain.compile(model, optimizer=own, **batch))  # type: ignore[arg-type]


LOSSES: dict[str, tuple[object, str]] = {
    "class": (nn.MSELoss, "give MSELoss()"),
    "word": ("mse", "a function loss(output, target)"),
    "number": (lambda o, y: 1.0, "returns a float"),
    "vector": (lambda o, y: o - y, "reduce it"),
    "detached": (lambda o, y: mse_loss(o.detach(), y), "depends on no parameter"),
    "no arguments": (lambda: 1, "takes (), and a step calls loss(output, target)"),
    "three": (lambda o, y, w: o.mean(), "takes (o, y, w), and a step calls loss(output, target)"),
    "keyword": (lambda o, y, *, w: o.mean(), "test_mistakes.py:"),
    "triplets": (nn.TripletMarginLoss(), "the loss TripletMarginLoss takes (anchor, positive, neg"),
    "no output": (lambda y: y.mean(), "takes (y), and"),
    "tuple": (lambda o, y: (mse_loss(o, y),), "returns a tuple"),
    "array": (lambda o, y: np.float32(1), "returns a float32"),
    "item": (lambda o, y: mse_loss(o, y).item(), "item()"),
    "complex": (lambda o, y: (o * 1j).sum(), "complex64"),
    "backward": (lambda o, y: mse_loss(o, y).backward(), "layer 'loss'"),
}


@pytest.mark.parametrize("case", LOSSES)
def test_losses(case: str) -> None:
    loss, said = LOSSES[case]
    assert said in outcome(lambda: made(loss=loss))


def changed(change: Change, batch: tuple[Tensor, Tensor] = (X, Y)) -> str:
    """What a step says after its model or optimizer has changed."""
    model = net()
    optimizer = sgd(model)
    step = made(model=model, optimizer=optimizer)
    change(model, optimizer)
    return outcome(lambda: step(*batch))


GROUPS: dict[str, tuple[Change, str]] = {
    "a word": (lambda m, o: o.param_groups[0].update(lr="x"), "lr of parameter group 0"),
    "nothing": (lambda m, o: o.param_groups[0].update(lr=None), "is None; it is a number"),
    "numbers": (lambda m, o: o.param_groups[0].update(momentum=torch.ones(2)), "momentum of"),
    "no lr": (lambda m, o: o.param_groups[0].pop("lr"), "has no lr"),
    "no flag": (lambda m, o: o.param_groups[0].pop("nesterov"), ""),
    "no groups": (lambda m, o: o.param_groups.clear(), "has 0 parameter groups"),
    "another group": (lambda m, o: o.add_param_group({"params": [nn.Parameter(X)]}), "has 2"),
}


@pytest.mark.parametrize("case", GROUPS)
def test_groups_of_the_optimizer(case: str) -> None:
    change, said = GROUPS[case]
    assert said in changed(change)


MODEL_CHANGES: dict[str, Change] = {
    "replaced": lambda m, o: setattr(m, "0", nn.Linear(4, 5)),
    "double": lambda m, o: m.double(),
    "meta": lambda m, o: m.to("meta"),
    "gone": lambda m, o: delattr(m, "0"),
    "no forward": lambda m, o: setattr(m, "forward", None),
}


@pytest.mark.parametrize("case", MODEL_CHANGES)
def test_a_changed_model_and_another_batch_size(case: str) -> None:
    assert changed(MODEL_CHANGES[case], (torch.ones(7, 4), torch.ones(7, 3)))


OPTIMIZERS: dict[str, tuple[Callable[[nn.Module], object], str]] = {
    "class": (lambda m: torch.optim.SGD, "the optimizer is"),
    "scheduler": (lambda m: torch.optim.lr_scheduler.StepLR(sgd(m), 1), "StepLR"),
    "of another model": (lambda m: sgd(net()), "model.parameters()"),
    "subclass": (lambda m: type("Mine", (torch.optim.SGD,), {})(m.parameters()), "Mine"),
    "betas": (lambda m: with_group(torch.optim.Adam(m.parameters()), betas=3), "a number twice"),
    "lr of a word": (lambda m: with_group(sgd(m), lr="x"), "lr of parameter group 0"),
    "emptied": (lambda m: SimpleNamespace(param_groups=[]), "SimpleNamespace"),
}


def with_group(optimizer: torch.optim.Optimizer, **settings: object) -> torch.optim.Optimizer:
    optimizer.param_groups[0].update(settings)
    return optimizer


@pytest.mark.parametrize("case", OPTIMIZERS)
def test_optimizers(case: str) -> None:
    make, said = OPTIMIZERS[case]
    model = net()
    assert said in outcome(lambda: made(model=model, optimizer=make(model)))


BATCHES: dict[str, Any] = {
    "none": (),
    "one": (X,),
    "three": (X, Y, Y),
    "nothings": (None, None),
    "arrays": (X.numpy(), Y.numpy()),
    "lists": ([[1.0] * 4] * 2, [[1.0] * 3] * 2),
    "words": ("a", "b"),
    "pair": ((X, Y),),
    "nan": (X * math.nan, Y),
    "infinity": (X / 0, Y),
    "double": (X.double(), Y),
    "integers": (X.long(), Y),
    "flags": (X > 0, Y),
    "complex": (X + 1j, Y),
    "meta": (X.to("meta"), Y.to("meta")),
    "sparse": (X.to_sparse(), Y),
    "mkldnn": (X.to_mkldnn(), Y) if torch.backends.mkldnn.is_available() else (X.to_sparse(), Y),
    "nested": (torch.nested.nested_tensor([X[0], X[1]], layout=torch.jagged), Y),
    "empty": (X[:0], Y[:0]),
    "unequal": (X, torch.ones(3, 3)),
    "wide": (torch.ones(2, 5), Y),
    "deep": (X[..., None], Y),
    "scalar": (torch.tensor(1.0), Y),
}
FITS = {
    "negated": (torch._neg_view(-X), Y),
    "conjugated": (torch.conj(X + 1j).real, Y),
    "turned": (torch.ones(4, 2).T, Y),
    "expanded": (X[:1].expand(2, 4), Y),
    "parameter": (nn.Parameter(X), Y),
}


@pytest.fixture(scope="module")
def step() -> Step:
    return made()


@pytest.mark.parametrize("case", BATCHES)
def test_batches(step: Step, case: str) -> None:
    before = step.state
    assert outcome(lambda: step(*BATCHES[case]))
    assert all(torch.equal(v, before[k]) for k, v in step.state.items())
    said = outcome(lambda: step.predict(*(BATCHES[case][:1] or ())))
    assert said or case in ("one", "three", "empty", "unequal")


@pytest.mark.parametrize("case", FITS)
def test_views_of_a_batch_train_as_the_batch(case: str) -> None:
    whole, viewed = made(), made()
    assert torch.equal(whole(X, Y), viewed(*FITS[case]))
    assert torch.equal(whole.predict(X), viewed.predict(FITS[case][0]))


@pytest.fixture(scope="module")
def saved(step: Step, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "net.qtn"
    step.save(path)
    return path


HYPER: dict[str, tuple[object, str]] = {
    "word": ({"group0.lr": "0.1"}, "group0.lr is '0.1'"),
    "nothing": ({"group0.lr": None}, "group0.lr is None"),
    "nan": ({"group0.lr": math.nan}, "group0.lr is nan"),
    "numbers": ({"group0.lr": torch.ones(3)}, "group0.lr is"),
    "complex": ({"group0.lr": 1j}, "group0.lr is 1j"),
    "huge": ({"group0.lr": 10**400}, "group0.lr is"),
    "misspelt": ({"lr": 0.1}, "step.hyper has no 'lr'"),
    "number": ({3: 0.1}, "step.hyper has no 3"),
}


@pytest.mark.parametrize("case", HYPER)
def test_hyper_parameters_of_a_loaded_step(saved: Path, case: str) -> None:
    values, said = HYPER[case]
    loaded = quatrain.load(saved)
    before = loaded.state
    loaded.hyper.update(values)  # type: ignore[call-overload]
    assert said in outcome(lambda: loaded(X, Y))
    assert all(torch.equal(v, before[k]) for k, v in loaded.state.items())


def test_hyper_parameters_that_are_no_dictionary(saved: Path) -> None:
    loaded = quatrain.load(saved)
    for value in ODD.values():
        loaded.hyper = value  # type: ignore[assignment]
        assert outcome(lambda: loaded(X, Y)).startswith("step.hyper ")


@pytest.mark.parametrize("kind", ODD)
def test_state_of_odd_kinds(kind: str) -> None:
    step, value = made(), ODD[kind]
    before = step.state
    assert outcome(lambda: step.load_state(value))  # type: ignore[arg-type]
    assert outcome(lambda: step.load_state({"0.bias": value}))  # type: ignore[dict-item]
    assert outcome(lambda: step.load_state({kind: X}))
    assert all(torch.equal(v, before[k]) for k, v in step.state.items())


STATES: dict[str, tuple[Mapping[Any, Any], str]] = {
    "meta": ({"0.bias": torch.ones(3, device="meta")}, "0.bias is"),
    "complex": ({"0.bias": torch.ones(3) + 1j}, "complex64"),
    "short": ({"0.bias": torch.ones(2)}, "shape"),
    "no count": ({"step": 1.5}, "i64"),
    "huge": ({"step": 2**70}, "step is"),
    "number": ({3: 1}, "carries no"),
}


@pytest.mark.parametrize("case", STATES)
def test_states(step: Step, case: str) -> None:
    values, said = STATES[case]
    assert said in outcome(lambda: step.load_state(values))


@pytest.mark.parametrize("kind", ODD)
def test_names_of_odd_kinds(
    step: Step, saved: Path, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    value: Any = ODD[kind]
    if kind != "none":
        assert outcome(lambda: step.ir(after=value))
        assert outcome(lambda: quatrain.load(saved, target=value))
    assert (outcome(lambda: step.state_dict(average=value)) == "") is False
    assert outcome(lambda: quatrain.load(value))
    if not isinstance(value, str | Path):
        assert outcome(lambda: step.save(value))


def test_odd_places(step: Step, saved: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("a file, no folder")
    for place in (tmp_path, tmp_path / "no" / "x.qtn", blocked / "x.qtn", tmp_path / ("a" * 300)):
        assert outcome(lambda place=place: step.save(place))  # type: ignore[misc]
        assert outcome(lambda place=place: quatrain.load(place))  # type: ignore[misc]
    assert outcome(lambda: quatrain.load(blocked))
    for name in ("", "a\0b", "x" * 300):
        assert outcome(lambda name=name: step.save(name))  # type: ignore[misc]


def test_a_pattern_alone_allows_nothing() -> None:
    """``*`` of one text would allow each layer in float, without a word."""
    said = outcome(lambda: made(allow="0*"))
    assert said == (
        "allow is '0*'; it is a list of patterns of layers, such as ['fc*'], or a function "
        "(module, name) -> bool"
    )


COPIES: dict[str, Callable[[Step], Step]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda step: pickle.loads(pickle.dumps(step)),
}


@pytest.mark.parametrize("recipe", ["fp32", "luq4"])
@pytest.mark.parametrize("how", COPIES)
def test_copies_are_steps_of_their_own(how: str, recipe: str) -> None:
    model = net()
    step = made(model=model, optimizer=sgd(model, momentum=0.9), recipe=recipe, seed=7)
    step(X, Y)
    other = COPIES[how](step)
    assert repr(other) == repr(step) and other.hyper == step.hyper
    before = other.state
    losses = [step(X, Y) for _ in range(3)]
    assert all(torch.equal(v, other.state[k]) for k, v in before.items())
    assert all(torch.equal(loss, other(X, Y)) for loss in losses)
    assert all(torch.equal(v, other.state[k]) for k, v in step.state.items())
    assert torch.equal(step.predict(X), other.predict(X))


def test_what_a_sentence_shows_of_a_value() -> None:
    assert shown(0.1) == "0.1" and shown("a") == "'a'"
    assert shown(X) == "a Tensor" and shown("x" * 300) == "a str"
