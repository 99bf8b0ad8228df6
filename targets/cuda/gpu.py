"""GPUs that kernels are made for: what their makers publish, for plans and for estimates."""

from __future__ import annotations

from dataclasses import dataclass

from ...compiler.errors import TargetError, closest
from ..plan.kernel import Unit


@dataclass(frozen=True, slots=True)
class Gpu:
    """An architecture, and the published numbers of one of its GPUs.

    ``bandwidth`` is bytes a second; ``products`` are multiply-adds a second of each unit, dense.
    """

    arch: str
    example: str
    multiprocessors: int
    memory: int
    bandwidth: float
    products: dict[Unit, float]


def _gpu(
    arch: str,
    example: str,
    multiprocessors: int,
    gigabytes: int,
    gigabytes_a_second: float,
    tera: tuple[float, float, float],
) -> Gpu:
    """``tera`` are operations a second, two a multiply-add: in f32, in bf16 and in int8 tiles."""
    f32, _, _ = (x * 1e12 / 2 for x in tera)
    products = {Unit.F32: f32, Unit.INT32: f32 / 2}
    return Gpu(
        arch,
        example,
        multiprocessors,
        gigabytes * 10**9,
        gigabytes_a_second * 1e9,
        products,
    )


GPUS = {
    gpu.arch: gpu
    for gpu in (
        _gpu("sm_80", "A100 SXM 80 GB", 108, 80, 2039, (19.5, 312, 624)),
        _gpu("sm_86", "RTX 3090", 82, 24, 936, (35.6, 71, 284)),
        _gpu("sm_89", "RTX 4090", 128, 24, 1008, (82.6, 165.2, 660.6)),
        _gpu("sm_90", "H100 SXM", 132, 80, 3350, (67, 989, 1979)),
        _gpu("sm_100", "B200", 148, 180, 7700, (80, 2250, 4500)),
        _gpu("sm_120", "RTX 5090", 170, 32, 1792, (104.8, 209.5, 838)),
    )
}


def named(arch: str) -> Gpu:
    """The GPU of an architecture; TargetError where kernels are made for no such."""
    if arch not in GPUS:
        raise TargetError(f"cuda makes kernels for no {arch!r}; {closest(arch, GPUS)}")
    return GPUS[arch]
