"""GPUs that kernels are made for: what their makers publish, for plans and for estimates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ...compiler.errors import TargetError, closest
from ..plan.kernel import Unit

TENSOR_CORES = (Unit.INT4_MMA, Unit.INT8_MMA, Unit.BF16_MMA)


@dataclass(frozen=True, slots=True)
class Gpu:
    """An architecture, and the published numbers of one of its GPUs.

    ``bandwidth`` is bytes a second; ``products`` are multiply-adds a second of each unit, dense.
    ``mma`` is the share (0..1) of the tensor cores' peak that ``mma.sync`` reaches, the instruction
    of our kernels.
    """

    arch: str
    example: str
    bandwidth: float
    products: Mapping[Unit, float]
    mma: float = 1.0

    def reach(self, unit: Unit) -> float:
        """Multiply-adds a second of a unit as our kernels use it, at most."""
        return self.products[unit] * (self.mma if unit in TENSOR_CORES else 1.0)


def _gpu(
    arch: str,
    example: str,
    gigabytes_a_second: float,
    tera: tuple[float, ...],
    mma: float = 1.0,
) -> Gpu:
    """``tera`` are operations a second, two a multiply-add: in f32, in bf16, int8 and int4 tiles.

    Where there is no number the GPU has no such tensor cores.
    """
    f32, *tiles = (x * 1e12 / 2 for x in tera)
    # 64 integer lanes a multiprocessor everywhere; of f32 GA100 has as many, the others 128.
    int32 = f32 if arch == "sm_80" else f32 / 2
    units = (Unit.BF16_MMA, Unit.INT8_MMA, Unit.INT4_MMA)
    products = {Unit.F32: f32, Unit.INT32: int32, **dict(zip(units, tiles, strict=False))}
    return Gpu(arch, example, gigabytes_a_second * 1e9, products, mma)


# On Hopper mma.sync reaches 62.9 % of the peak on average (65.3 % in FP16), wgmma 96 %, on an H800:
# Luo et al., "Dissecting the NVIDIA Hopper Architecture", arXiv 2501.12084, section 6.2, table 7.
HOPPER_MMA = 0.629
# No paper measures it on B200. m16n8k16 in bf16, as those who tried it report: 8.5 cycles on each
# quarter of a multiprocessor, or 605 of 2250 TFLOP/s on the whole GPU. That is A100's rate a cycle.
BLACKWELL_MMA = 0.25

# Without sparsity; of bf16 with sums in f32.
GPUS = {
    gpu.arch: gpu
    for gpu in (
        # NVIDIA A100 Tensor Core GPU, data sheet; int4: its architecture's white paper.
        _gpu("sm_80", "A100 SXM 80 GB", 2039, (19.5, 312, 624, 1248)),
        # NVIDIA Ampere GA102 GPU Architecture, appendix A.
        _gpu("sm_86", "RTX 3090", 936, (35.6, 71, 284, 568)),
        # NVIDIA Ada GPU Architecture, appendix A; L40S, of the same cores, has by its data
        # sheet no more in int4 than in int8.
        _gpu("sm_89", "RTX 4090", 1008, (82.6, 165.2, 660.6, 1321.2)),
        # NVIDIA H100 Tensor Core GPU, data sheet (its tensor numbers, with sparsity, are twice).
        _gpu("sm_90", "H100 SXM", 3350, (67, 989, 1979), HOPPER_MMA),
        # NVIDIA Blackwell Architecture Technical Brief, HGX B200, an eighth; later sheets say 75
        # in f32, and some 8000 GB/s.
        _gpu("sm_100", "B200", 7700, (80, 2250, 4500), BLACKWELL_MMA),
        # NVIDIA RTX Blackwell GPU Architecture, appendix A.
        _gpu("sm_120", "RTX 5090", 1792, (104.8, 209.5, 838)),
    )
}


def named(arch: str) -> Gpu:
    """The GPU of an architecture; TargetError where kernels are made for no such."""
    if arch not in GPUS:
        raise TargetError(f"cuda makes kernels for no {arch!r}; {closest(arch, GPUS)}")
    return GPUS[arch]
