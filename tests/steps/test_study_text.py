"""``quatrain study recipes`` on text: windows of the network's own, perplexities, curves."""

import json
from pathlib import Path

import numpy as np
import pytest

from quatrain.tools.study import processes

from ..cases.commands import Quatrain
from ..cases.in_process import InProcess

SOURCE = """
import quatrain, torch
from torch import nn

class Summed(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.hidden, self.scores = nn.Embedding(7, 5), nn.Linear(5, 5), nn.Linear(5, 7)
    def forward(self, x):
        return self.scores(self.hidden(torch.cumsum(self.table(x), 0)))

def task():
    model, x = Summed(), torch.zeros(2, 3, 4, dtype=torch.int64)
    loss = lambda scores, y: nn.functional.cross_entropy(scores.flatten(0, 1), y.flatten())
    return quatrain.Task(model, loss, torch.optim.SGD(model.parameters(), 0.5), (x[0], x[1]))
"""


@pytest.mark.torch
def test_a_study_of_text_compares_perplexities(
    quatrain: Quatrain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "Worker", InProcess)
    (tmp_path / "net.py").write_text(SOURCE)
    (tmp_path / "letters.txt").write_text("abcdefg" * 20)
    words = (
        "study", "recipes", "--data", tmp_path / "letters.txt", "--recipes", "fp32,bf16",
        "--seeds", 1, "--rounds", 0, "--target", "reference", "--train-samples", 100,
    )  # fmt: skip
    own = ("--network", f"{tmp_path / 'net.py'}:task")
    kept = ("-o", tmp_path / "kept")
    found = json.loads(quatrain(*words, *own, *kept, "--steps", 17, "--json"))
    assert found["script"]["tokens"] == "characters" and found["script"]["samples"] == 100
    for row in found["recipes"]:
        assert row["failures"] == [] and 1 < row["perplexities"][0] < 7
        (curve,) = row["curves"]
        # Seven letters that are equally likely at the start; four streams of 24 in windows of 3.
        assert len(curve) == 17 and curve[-1] < curve[0] == pytest.approx(np.log(7), abs=1)
        assert row["loss"] == pytest.approx(np.mean(curve[-8:]), rel=1e-3)
    flat = " ".join(quatrain(*words, *own, *kept, "--steps", 17).split())
    assert "100 training characters, 17 steps, its own optimizer" in flat
    assert f"fp32 {found['recipes'][0]['perplexities'][0]:.4g}" in flat and "perplexity" in flat
    for more, message in (
        (("--steps", 17), "is text, and resnet20 takes images; name FILE.py:FACTORY"),
        ((*own, "--epochs", 2), "of which the network says the windows; give --steps"),
        ((*own, "--steps", 2, "--batch", 4), "--batch is for examples; of text the batch is that"),
        ((*own, "--steps", 2, "--train-samples", 127), "letters has 126"),
    ):
        assert message in quatrain(*words, *more, status=2)
