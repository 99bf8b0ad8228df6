"""The language models of examples/words.py: shapes, what a score may see, what the loss starts at."""

import math
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from quatrain.tools import factory  # noqa: E402
from quatrain.tools.driver import Task  # noqa: E402

pytestmark = pytest.mark.torch

WORDS = Path(__file__).parents[2] / "examples" / "words.py"


@pytest.mark.parametrize(("name", "time", "size"), [("ptb", 0, 10_000), ("shakespeare", 1, 65)])
@pytest.mark.parametrize("tied", ["0", "1"])
def test_a_score_sees_what_was_before_it(
    name: str, time: int, size: int, tied: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WIDTH", "5")
    monkeypatch.setenv("TIED", tied)
    torch.manual_seed(0)
    task = factory.make(f"{WORDS}:{name}")
    assert isinstance(task, Task)
    x, y = task.example
    tokens = torch.randint(size, x.shape)
    tables = [p for p in task.model.parameters() if p.shape[0] == size and p.dim() == 2]
    assert len(tables) == (1 if name == "ptb" and tied == "1" else 2)
    with torch.no_grad():
        scores = task.model(tokens)
        assert scores.shape == (*x.shape, size) and y.shape == x.shape
        # Scores of weights near zero say next to nothing.
        assert float(task.loss(scores, tokens)) == pytest.approx(math.log(size), abs=0.5)
        other = tokens.clone()
        place = (7, 3) if time == 0 else (3, 7)  # the token at step 7 of example 3
        other[place] = (other[place] + 1) % size
        changed = (task.model(other) != scores).any(-1)
    changed = changed if time == 0 else changed.T
    assert not changed[:7].any() and changed[7, 3]
    # None but that example meets it.
    assert changed.any(0).nonzero().tolist() == [[3]]
