"""What ``docs/python.md`` says of averages, pickles and weights that overflow."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn.functional import mse_loss  # noqa: E402

import quatrain  # noqa: E402
from quatrain.runtime.step import Step  # noqa: E402

pytestmark = pytest.mark.torch
X, Y = torch.ones(2, 4), torch.ones(2, 3)


def made(lr: float = 0.1, average: float = 0.0) -> Step:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3))
    sgd = torch.optim.SGD(model.parameters(), lr=lr)
    rest = {"recipe": "fp32", "target": "reference", "average": average}
    return quatrain.compile(model, mse_loss, (X, Y), sgd, **rest)  # type: ignore[arg-type]


def test_an_average_starts_at_the_weights_behind_the_first_step() -> None:
    step = made(average=0.9)
    assert not any(v.any() for v in step.state_dict(average=True).values())
    step(X, Y)
    plain, averaged = step.state_dict(), step.state_dict(average=True)
    assert all(torch.equal(v, plain[k]) for k, v in averaged.items())


def test_a_step_that_torch_has_saved_needs_weights_only_to_be_off(tmp_path: Path) -> None:
    step, path = made(), tmp_path / "step.pt"
    torch.save(step, path)
    with pytest.raises(Exception, match=r"[Ww]eights.only"):
        torch.load(path)
    assert torch.equal(torch.load(path, weights_only=False).predict(X), step.predict(X))


def test_weights_that_overflow_count_as_applied_and_no_step_behind_does() -> None:
    step = made(lr=3e38)
    step(9 * X, 9 * Y)
    assert step.skipped == 0 and not step.state["0.weight"].isfinite().all()
    before = step.state
    for n in (1, 2):
        assert not step(X, Y).isfinite() and step.skipped == n
    assert torch.equal(step.state["0.weight"], before["0.weight"])
