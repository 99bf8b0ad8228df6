"""What the script of a page reads on demand, as plain data."""

from __future__ import annotations

from collections.abc import Sequence

from .deltas import Deltas
from .kernels import PageKernel
from .layers import PageLayer
from .lives import MemoryMap
from .shades import shade, stored_shade


def payload(
    stages: Deltas,
    layers: Sequence[PageLayer],
    kernels: Sequence[PageKernel],
    memory: MemoryMap,
    layer_of_step: Sequence[str],
) -> dict[str, object]:
    """Everything that a page shows on demand, as plain data."""
    names = [stages.name, *(d.name for d in stages.others)]
    return {
        "stages": {"names": names, **stages.to_dict()},
        "layers": list(map(_layer, layers)),
        "kernels": list(map(_kernel, kernels)),
        "memory": _memory(memory, layer_of_step),
    }


def _layer(layer: PageLayer) -> dict[str, object]:
    gemms = [
        {
            "direction": g.line.direction,
            "operands": g.line.operands,
            "shades": list(map(shade, g.line.bits)),
            "unit": g.line.unit,
            "macs": g.line.macs,
            "share": g.line.share,
            "by": g.made_by,
            "why": g.why,
        }
        for g in layer.gemms
    ]
    kept = [
        {
            "name": s.name,
            "type": f"{s.format}[{'x'.join(map(str, s.shape))}]",
            "shade": stored_shade(s.format),
            "bytes": s.bytes,
            "kind": s.kind,
        }
        for s in layer.kept
    ]
    return {"name": layer.name, "gemms": gemms, "kept": kept, "torch": layer.torch_bytes}


def _kernel(k: PageKernel) -> dict[str, object]:
    return {
        "name": k.name,
        "region": k.region,
        "layer": k.layer,
        "layers": k.layers,
        "ops": k.ops,
        "unit": k.unit,
        "shade": k.shade,
        "runs": k.runs,
        "reads": k.reads,
        "makes": k.makes,
        "seconds": k.seconds,
    }


def _memory(memory: MemoryMap, layer_of_step: Sequence[str]) -> dict[str, object]:
    lives = [
        {
            "name": life.name,
            "layer": life.layer,
            "type": life.type,
            "shade": stored_shade(life.format) if life.format else 0,
            "bytes": life.bytes,
            "offset": life.offset,
            "first": life.first,
            "last": life.last,
            "kept": life.kept,
        }
        for life in memory.lives
    ]
    most, at = memory.peak
    return {
        "size": memory.size,
        "steps": memory.steps,
        "regions": memory.regions,
        "planned": memory.planned,
        "peak": {"bytes": most, "step": at},
        "layers": list(layer_of_step),
        "lives": lives,
    }
