"""The prediction of a workload: what PyTorch would run is captured, nothing is built."""

from __future__ import annotations

from ...compiler.capture.program import capture
from .plan import Contender, Workload
from .predict import PredictedWorkload, predict_step
from .tasks import task


def predict_workload(size: Workload, contender: Contender, target: str) -> PredictedWorkload:
    """See ``predict_step``."""
    job = task(size, fused=False)
    captured = capture(job.model, job.loss, job.example, job.optimizer).train
    return predict_step(size.label, captured, contender.recipe, contender.options, target)
