"""What no step can do: one sentence with the call, the layer, the user's line and what to do."""

import copy
import importlib.util
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from torch import Tensor, nn

from quatrain.compiler.capture import scope
from quatrain.compiler.capture.adapter import COMPOSITES
from quatrain.compiler.capture.functions import Functions
from quatrain.compiler.capture.intercept import Layers
from quatrain.compiler.capture.program import capture
from quatrain.compiler.capture.scope import Scope
from quatrain.compiler.errors import CaptureError, UnsupportedOpError
from quatrain.compiler.lower.builder import known_as
from quatrain.compiler.lower.instead import INSTEAD, OUTSIDE, PAGE, instead
from quatrain.compiler.lower.programs import supported

pytestmark = pytest.mark.torch
Use = Callable[[Tensor], Any]
FILE = Path(__file__).stem
TEXT = (Path(__file__).parents[2] / PAGE).read_text(encoding="utf-8")
# Longer sentences are not read to their end.
LONGEST = 420


class Using(nn.Module):
    """A layer, and behind it whatever a test wants."""

    def __init__(self, use: Use) -> None:
        super().__init__()
        self.fc, self.use = nn.Linear(4, 4), use

    def forward(self, x: Tensor) -> Any:
        return self.use(self.fc(x))


def taken(use: Use) -> None:
    """Capture ``use``, or a model that uses it."""
    model = use if isinstance(use, nn.Module) else Using(use)
    batch = torch.ones(4, 4), torch.ones(4, 4)
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    capture(model, lambda o, y: o.float().mean() * y.mean(), batch, sgd)


def refused(use: Use) -> str:
    """The sentence that refuses the model."""
    with pytest.raises(CaptureError) as caught:
        taken(use)
    text = str(caught.value)
    assert "\n" not in text and len(text) <= LONGEST
    return text


LACKING: dict[str, tuple[Use, str]] = {
    "mode": (lambda h: h.mode(0)[0], "find places"),
    "cummax": (lambda h: h.cummax(0)[0], "cumprod and logcumsumexp are there"),
    "fft_fft": (lambda h: torch.fft.fft(h).abs(), "all numbers of a step are real"),
    "linalg_svd": (lambda h: torch.linalg.svd(h)[1], "decomposes no matrices"),
    "inverse": (lambda h: torch.inverse(h), "decomposes no matrices"),
    "poisson": (lambda h: h * torch.poisson(h.exp()), "rand, randn, bernoulli"),
    "masked_scatter": (lambda h: h.masked_scatter(h > 0, h), "torch.where"),
    "sinc": (lambda h: h.sinc(), "once at compile"),
    "adaptive_max_pool3d": (
        lambda h: nn.functional.adaptive_max_pool3d(h[None, None, None], 1),
        "max_pool3d without its places",
    ),
    "renorm": (lambda h: h.renorm(2, 0, 1.0), "compute it outside"),
}


@pytest.mark.parametrize("name", LACKING)
def test_a_function_that_is_not_there(name: str) -> None:
    use, advice = LACKING[name]
    text = refused(use)
    assert re.match(
        rf"(\w+ )?{name.strip()}( \(its \w+\))? in layer 'model' at .*{FILE}\.py:\d+ ", text
    )
    assert re.search(advice, text)
    assert text.endswith(f"{PAGE} lists what is")


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layers_and_cells_are_there(kind: Any) -> None:
    layer: Any = Using(lambda h: layer.inner(h)[0])
    layer.inner = kind(4, 4)
    taken(layer)
    cell: Any = Using(lambda h: cell.inner(h)[0])
    cell.inner = getattr(nn, f"{kind.__name__}Cell")(4, 4)
    taken(cell)


def test_the_closest_name_where_no_kind_fits() -> None:
    assert instead(["log_softmax2d"], supported()) == "the closest that there is, is log_softmax"
    assert instead(["xyzzy"], supported()) == OUTSIDE


READING: dict[str, tuple[Use, str, str]] = {
    "branch": (lambda h: h if h.sum() > 0 else -h, "a branch on a tensor", "torch.where"),
    "item": (lambda h: h * h.sum().item(), "a branch on a tensor, its .* item()", "0 dimensions"),
    "float": (lambda h: h * float(h.sum()), r"float\(\)", "a tensor, of 0 dimensions"),
    "loop": (lambda h: sum(h for _ in range(int(h.sum()))), r"int\(\)", "when the model is made"),
    "equal": (lambda h: h if torch.equal(h, h + 1) else -h, r"equal\(\)", "torch.where"),
    "mask": (lambda h: h[h > 0].sum(), r"x\[mask\] with a result", "multiply by a mask"),
    "select": (lambda h: h.masked_select(h > 0), r"masked_select\(\)", "multiply by a mask"),
    "nonzero": (lambda h: h.nonzero(), r"nonzero\(\)", "outside of the step"),
    "numpy": (lambda h: torch.tensor(h.detach().numpy()) + h, r"numpy\(\)", "0 dimensions"),
    "f-string": (lambda h: (h, f"{h.mean():.3f}")[0], "a format such as f'", "print what the step"),
    "format": (lambda h: (h, "{:8.1f}".format(h.sum()))[0], "a format", "print what the step"),  # noqa: UP032
    "copy": (lambda h: copy.deepcopy(h.detach()) + h, r"deepcopy\(\)", "clone()"),
    "pointer": (lambda h: h * h.data_ptr(), r"data_ptr\(\)", "detach()"),
}


@pytest.mark.parametrize("case", READING)
def test_the_value_of_a_tensor(case: str) -> None:
    use, call, advice = READING[case]
    text = refused(use)
    assert re.match(rf"{call}.* in layer 'model' at .*{FILE}\.py:\d+ needs the value", text)
    assert advice in text


def library(folder: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module that counts as installed, with a function that no step has and one that branches."""
    path = folder / "some_library.py"
    path.write_text(
        "def lacks(h):\n    return h.renorm(2, 0, 1.0)\ndef reads(h):\n    return h if h.sum() else -h\n"
    )
    spec = importlib.util.spec_from_file_location("some_library", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(scope, "LIBRARIES", (*scope.LIBRARIES, f"{folder}/"))
    return module


def test_the_line_is_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = library(tmp_path, monkeypatch)
    for use in (lambda h: found.lacks(h), lambda h: found.reads(h)):
        text = refused(use)
        assert f"{FILE}.py:" in text and "some_library" not in text


def test_a_librarys_line_where_no_line_is_the_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = library(tmp_path, monkeypatch)
    monkeypatch.setattr(scope, "LIBRARIES", (*scope.LIBRARIES, __file__))
    assert "some_library.py:2 is not supported" in refused(found.lacks)
    text = refused(found.reads)
    assert "some_library.py:4 needs the value" in text and "an argument that takes" in text


# Of these only the forward is made of what there is, or only a part.
WITHOUT = {"addcdiv", "safe_softmax"}


def named(section: str) -> list[str]:
    """The names that a section of the page has in its tables."""
    body = TEXT.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    rows = [line for line in body.splitlines() if line.startswith("| ")]
    return re.findall(r"`(\w+)`", "\n".join(rows))


def test_the_page_lists_each_supported_function_once() -> None:
    assert sorted(named("Functions")) == supported()
    own = {
        known_as(str(op)) for op in {**Functions(Scope({})).table(), **Layers(Scope({})).table()}
    }
    torchs = {known_as(f"aten.{n}") for n in COMPOSITES.split() if "backward" not in n}
    made = {n.removesuffix("_kernel") for n in own | torchs if n not in supported()} - WITHOUT
    assert sorted(named("Functions that are made of these")) == sorted(made)


def test_the_page_says_what_to_write_instead() -> None:
    rows = re.findall(r"^\| [^|]+ \| ([^|]+) \|$", TEXT.partition("## What to write")[2], re.M)
    assert rows[1:] == [advice for _, advice in INSTEAD]


def test_refusals_keep_their_class() -> None:
    model = Using(lambda h: h.renorm(2, 0, 1.0))
    with pytest.raises(UnsupportedOpError):
        sgd = torch.optim.SGD(model.parameters(), lr=0.1)
        capture(model, nn.MSELoss(), (torch.ones(2, 4), torch.ones(2, 4)), sgd)
    assert "some_library" not in sys.modules
