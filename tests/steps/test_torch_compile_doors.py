"""The backend under Accelerate, PyTorch Lightning and Hugging Face's Trainer; the page about it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from runpy import run_path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import quatrain  # noqa: E402
from quatrain.tools.announced import GROUP, NAME, PLACE  # noqa: E402

TOP = Path(__file__).parents[2]
FOLDER = TOP / "examples" / "torch_compile"
PAGE = TOP / "docs" / "torch-compile.md"
SCRIPTS = ("script", "lightning", "trainer")

pytestmark = pytest.mark.torch
# Of these libraries and of torch about them, none about the backend.
loud = pytest.mark.filterwarnings(
    "ignore:Starting from v1.9.0, `tensorboardX`",
    "ignore:.*isinstance.treespec, LeafSpec.. is deprecated",
    "ignore:The '(train|val)_dataloader' does not have many workers",
    "ignore:.*lr_scheduler.step",
    "ignore:'pin_memory' argument is set as true",
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Libraries write here; programs are interpreted, which compiles no kernels."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QUATRAIN_TARGET", "reference")
    torch._dynamo.reset()
    yield


def example(name: str) -> Any:
    """The function ``main`` of an example, as it is with the backend."""
    return run_path(str(FOLDER / f"{name}_in_4_bits.py"))["main"]


def kept(model: Any) -> list[str]:
    """What quantization keeps in a model's state_dict."""
    return [name for name in model.state_dict() if "quatrain_" in name]


def test_a_plain_script(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn")
    path = tmp_path / "digits.pt"
    example("script")(epochs=1, samples=85, width=3, checkpoint=path)
    assert capsys.readouterr().out.startswith("epoch 1: loss 2.")
    state = torch.load(path)["model"]
    assert {"quatrain_step", "deep.quatrain_clip", "deep.quatrain_grad_scale"} < state.keys()
    assert int(state["quatrain_step"]) == 2  # of 64 and of 4 digits


@loud
def test_lightning() -> None:
    pytest.importorskip("sklearn")
    pytest.importorskip("pytorch_lightning", reason="needs pytorch-lightning: quatrain[doors]")
    trainer = example("lightning")(epochs=1, samples=140, width=7)
    net = trainer.model.net
    assert int(net.quatrain_step) == 2 and trainer.global_step == 2
    assert 0 <= trainer.callback_metrics["right"] <= 1
    saved = torch.load(next(Path().rglob("*.ckpt")), weights_only=False)["state_dict"]
    assert torch.equal(saved["net.deep.quatrain_clip"], net.deep.quatrain_clip)
    assert quatrain.compiled(net).graph_breaks == 0


@loud
@pytest.mark.slow
def test_trainer(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="needs transformers: quatrain[doors]")
    pytest.importorskip("accelerate", reason="needs accelerate: quatrain[doors]")
    where = str(tmp_path / "out")
    trainer = example("trainer")(epochs=1, samples=32, width=8, layers=1, folder=where)
    assert trainer.state.global_step == 1 and "eval_loss" in trainer.state.log_history[0]
    assert len(kept(trainer.model)) > 6
    assert quatrain.compiled(trainer.model).graph_breaks == 0


@loud
def test_accelerate(tmp_path: Path) -> None:
    accelerate = pytest.importorskip("accelerate", reason="needs accelerate: quatrain[doors]")
    from torch.utils.data import DataLoader, TensorDataset

    torch.manual_seed(0)
    layers = torch.nn.Sequential(*(torch.nn.Linear(5, 5) for _ in range(3)))
    model = torch.compile(layers, backend="quatrain", options={"recipe": "ultra_low_4bit"})
    accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loader = DataLoader(TensorDataset(torch.randn(8, 5)), batch_size=2)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    before = layers.get_parameter("1.weight").clone()
    for (x,) in loader:
        with accelerator.accumulate(model):
            accelerator.backward(model(x).square().mean())
            optimizer.step()
            optimizer.zero_grad()
    assert not torch.equal(before, layers.get_parameter("1.weight"))
    clip = layers.get_buffer("1.quatrain_clip")
    wanted = clip.clone()
    accelerator.save_state(str(tmp_path / "state"))
    clip.fill_(1.0)
    accelerator.load_state(str(tmp_path / "state"))
    assert torch.equal(clip, wanted) and wanted != 8.0
    assert int(layers.quatrain_step) == 4


def difference(name: str) -> str:
    """What a script changes to train in 4 bits."""
    before, after = (
        (FOLDER / f"{name}{end}.py").read_text(encoding="utf-8").splitlines(keepends=True)
        for end in ("", "_in_4_bits")
    )
    lines = difflib.unified_diff(before, after, f"{name}.py", f"{name}_in_4_bits.py", n=2)
    return "".join(lines)


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_page_shows_what_changes(name: str) -> None:
    shown = re.findall(r"^```diff\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.S | re.M)
    assert difference(name) in shown
    added = [line for line in difference(name).splitlines() if re.match(r"[-+](?![-+])", line)]
    assert len(added) == 1 and added[0].startswith("+")


def test_the_backend_has_a_name_for_torch() -> None:
    places = {found.value for found in entry_points(group=GROUP) if found.name == NAME}
    assert places == {PLACE}
    declared = (TOP / "pyproject.toml").read_text(encoding="utf-8")
    assert f'[project.entry-points.{GROUP}]\n{NAME} = "{PLACE}"\n' in declared
    assert NAME in torch._dynamo.list_backends()
