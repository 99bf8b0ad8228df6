"""Recurrent layers in whole steps: beside PyTorch, in every form, by recipe and by target."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402
from torch.nn.functional import cross_entropy, mse_loss  # noqa: E402
from torch.nn.utils.rnn import pack_padded_sequence  # noqa: E402

import quatrain  # noqa: E402
from quatrain.compiler.errors import CaptureError  # noqa: E402
from quatrain.runtime.step import Step  # noqa: E402

from ..cases.recurrent import (  # noqa: E402
    FORMS,
    LENGTHS,
    SAMPLES,
    STEPS,
    WIDE,
    WORDS,
    Decoder,
    Packed,
    Tagger,
    words,
)
from ..cases.resumed import goes_on  # noqa: E402
from ..cuda.device import device  # noqa: E402
from ..cuda.emulate import has_compiler  # noqa: E402

pytestmark = pytest.mark.torch


def both(made: Any, target: Tensor) -> Tensor:
    """The loss of one output or of two."""
    rows, last = made if isinstance(made, tuple) else (made, made.new_zeros(()))
    total: Tensor = mse_loss(rows, target) + last.square().mean()
    return total


def compiled(model: nn.Module, *batch: Tensor, target: str = "reference", **more: Any) -> Step:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    settings = {"recipe": "fp32", "loss": both, **more}
    made: Step = quatrain.compile(
        model=model, example=batch, optimizer=optimizer, target=target, **settings
    )
    return made


@pytest.mark.parametrize("form", FORMS)
def test_two_steps_are_those_of_torch_in_float64(form: str) -> None:
    torch.manual_seed(0)
    model, inputs = FORMS[form]()
    exact = copy.deepcopy(model).double()
    wide = [x.double() if x.is_floating_point() else x for x in inputs]
    like = exact(*wide)
    target = torch.randn_like(like[0] if isinstance(like, tuple) else like)
    step = compiled(model, *inputs, target.float())
    optimizer = torch.optim.SGD(exact.parameters(), lr=0.5)
    for _ in range(2):
        optimizer.zero_grad()
        lost = both(exact(*wide), target)
        lost.backward()
        optimizer.step()
        # f32's rounding, some hundred times over.
        assert float(step(*inputs, target.float())) == pytest.approx(lost.item(), rel=1e-5)
    for name, wanted in exact.state_dict().items():
        found = step.state_dict()[name].double()
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5, msg=name)
    made = step.predict(*inputs)
    pairs = (
        zip(made, exact(*wide), strict=True) if isinstance(made, tuple) else ((made, exact(*wide)),)
    )
    for one, other in pairs:
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-5)


def language_step(recipe: str, target: str, steps: int = STEPS, **more: Any) -> tuple[Step, Tensor]:
    """Two layers that guess each word's class."""
    torch.manual_seed(0)
    model = Tagger(nn.LSTM, num_layers=2)
    x = torch.randint(WORDS, (steps, SAMPLES))

    def loss(made: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(made.flatten(0, 1), y.flatten() % 3)

    return compiled(model, x, x, recipe=recipe, target=target, loss=loss, **more), x


@pytest.mark.tvm
@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["ultra_low_4bit", "sbm8", "luq4", "quartet2"])
def test_a_step_is_that_of_the_reference(recipe: str) -> None:
    (step, x), (other, _) = (language_step(recipe, target) for target in ("cpu", "reference"))
    for _ in range(3):
        # Codes are alike to the bit; the loss is a sum of floats.
        assert float(step(x, x)) == pytest.approx(float(other(x, x)), rel=1e-6)
    assert step.skipped == 0
    for name, value in other.state.items():
        torch.testing.assert_close(step.state[name], value, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.tvm
@pytest.mark.slow
@pytest.mark.skipif(not has_compiler(), reason="the emulator needs g++")
def test_a_step_on_a_gpu_is_that_of_the_reference() -> None:
    with device():
        (step, x), (other, _) = (
            language_step("ultra_low_4bit", target) for target in ("cuda", "reference")
        )
        for _ in range(2):
            # The same codes; sums of floats in the first and the last layer.
            assert float(step(x, x)) == pytest.approx(float(other(x, x)), rel=1e-6)


def test_noise_of_a_recurrent_layer_is_that_of_all_steps() -> None:
    step, _ = language_step("fp4_all_the_way", "reference")
    sums = [op for _, op in step.program.ops() if op.result.name.endswith(".noise.with")]
    assert sums and {op.kind for op in sums} == {"add"}


def test_a_program_does_not_grow_with_the_sequence() -> None:
    few, many = (language_step("ultra_low_4bit", "reference", steps=n)[0] for n in (3, 33))
    assert len([*few.program.ops()]) == len([*many.program.ops()])
    macs = [sum(g.macs for g in step.report().gemms) for step in (few, many)]
    assert macs[1] == 11 * macs[0]


def test_products_of_the_gates_are_layers() -> None:
    step, _ = language_step("ultra_low_4bit", "reference")
    lines = {(g.layer, g.direction): g.formats for g in step.report().gemms}
    assert lines["rnn.hh_l0", "forward"] == lines["rnn.ih_l1", "forward"] == "int4 x int4"
    assert lines["rnn.hh_l0", "dX"] == "fp4.even x int4"
    assert lines["rnn.hh_l0", "dW"] == "fp4.odd x int4"
    # Nothing with products is ahead of the first layer's inputs, or behind the last layer.
    assert lines["rnn.ih_l0", "forward"] == lines["out", "forward"] == "bf16 x bf16"


@pytest.mark.parametrize(("kind", "start"), [(nn.LSTM, 1.0), (nn.GRU, 1.0), (nn.RNN, 1.0)])
def test_clips_start_where_what_is_carried_ends(kind: Any, start: float) -> None:
    torch.manual_seed(0)
    model, x = Tagger(kind, num_layers=2), words()
    step = compiled(model, x, torch.randn(STEPS, SAMPLES, 3), recipe="ultra_low_4bit")
    # The inputs of the second layer and what both carry; of others nobody knows an end.
    clips = {n: v.item() for n, v in step.state.items() if n.endswith(".clip")}
    assert clips == dict.fromkeys(("rnn.hh_l0.clip", "rnn.ih_l1.clip", "rnn.hh_l1.clip"), start)


def test_clips_of_what_has_no_end_start_as_ever() -> None:
    model = Decoder()
    batch = torch.randn(STEPS, SAMPLES, 5), torch.randn(1, SAMPLES, WIDE)
    options = {"exempt": "none"}
    step = compiled(model, *batch, recipe="ultra_low_4bit", options=options)
    assert step.state["rnn.hh_l0.clip"].item() == 8.0  # it begins with what a layer makes


def test_what_steps_keep_for_backward_is_of_the_batch() -> None:
    step, _ = language_step("ultra_low_4bit", "reference")
    kept = {line.name: (line.kind, line.bytes) for line in step.report().saved}
    # Codes of 4 bits, their scale, for each sample and step: rows begin with whole bytes.
    assert kept["rnn.hh_l0.xq"] == ("activation", STEPS * (SAMPLES * 4 + 4))
    assert kept["rnn.l0.c.before"] == ("activation", STEPS * SAMPLES * WIDE * 4)
    assert not [name for name in kept if name.endswith(".t")]


def test_a_recurrent_module_may_be_the_model() -> None:
    torch.manual_seed(0)
    model, x = nn.LSTM(3, 4), torch.randn(STEPS, SAMPLES, 3)

    def loss(made: Any, target: Tensor) -> Tensor:
        rows, (_, c) = made
        total: Tensor = mse_loss(rows, target) + c.mean()
        return total

    step = compiled(model, x, torch.randn(STEPS, SAMPLES, 4), loss=loss)
    rows, (h, c) = model(x)
    for made, wanted in zip(step.predict(x), (rows, h, c), strict=True):
        torch.testing.assert_close(made, wanted, rtol=1e-5, atol=1e-6)


def test_layers_of_a_recurrent_module_are_chosen_like_others() -> None:
    asked: list[tuple[str, str]] = []

    def exempt(module: nn.Module, name: str) -> bool:
        asked.append((type(module).__name__, name))
        return name.endswith("hh_l1")

    step, _ = language_step("ultra_low_4bit", "reference", options={"exempt": exempt})
    lines = {(g.layer, g.direction): g.formats for g in step.report().gemms}
    assert lines["rnn.hh_l1", "forward"] == "bf16 x bf16"
    assert lines["rnn.hh_l0", "forward"] == "int4 x int4"
    assert ("LSTM", "rnn.ih_l0") in asked and ("LSTM", "rnn.hh_l1") in asked


def test_a_saved_step_goes_on_with_the_same_bytes(tmp_path: Path) -> None:
    step, x = language_step("luq4", "reference")
    step(x, x)
    goes_on(step, [(x, x)], tmp_path)


USES = {
    "sum": lambda packed: packed.data.sum(0),
    "cat": lambda packed: torch.cat([packed.data, packed.data]),
    "softmax": lambda packed: torch.softmax(input=packed.data, dim=0),
    "numel": lambda packed: packed.data * packed.batch_sizes.numel(),
}


@pytest.mark.parametrize("name", USES)
def test_the_data_of_a_packed_sequence_is_for_recurrent_layers(name: str) -> None:
    class Uses(Packed):
        def forward(self, x: Tensor, lengths: Tensor) -> Any:  # type: ignore[override]
            packed = pack_padded_sequence(self.words(x), lengths, enforce_sorted=False)
            return USES[name](self.rnn(packed)[0])

    with pytest.raises(
        CaptureError, match=rf"test_recurrent.py:\d+ calls {name} on the data of a p"
    ):
        compiled(Uses(nn.GRU), words(), torch.tensor(LENGTHS), torch.zeros(WIDE))


def test_later_steps_of_a_packed_sequence_have_no_fixed_size() -> None:
    class Sizes(Packed):
        def forward(self, x: Tensor, lengths: Tensor) -> Any:  # type: ignore[override]
            packed = pack_padded_sequence(self.words(x), lengths, enforce_sorted=False)
            return self.rnn(packed)[1][:, : packed.batch_sizes[1]]

    with pytest.raises(CaptureError, match="in a later step depends on its lengths"):
        compiled(Sizes(nn.GRU), words(), torch.tensor(LENGTHS), torch.zeros(WIDE))
