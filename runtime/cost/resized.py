"""An accelerator with an array of another size; everything around the array stays."""

from __future__ import annotations

from dataclasses import replace

from .accelerator import Accelerator

ARRAY = "array"


def resized(machine: Accelerator, inputs: int, outputs: int) -> Accelerator:
    """The machine with ``inputs`` x ``outputs`` cells in each array.

    The area of its array grows with the cells; where area is not known by part, none is.
    """
    array = machine.array
    ratio = inputs * outputs / (array.inputs * array.outputs)
    parts = dict(machine.area)
    area = {**parts, ARRAY: parts[ARRAY] * ratio} if ARRAY in parts else {}
    return replace(
        machine,
        name=f"{machine.name} {inputs}x{outputs}",
        title=f"{machine.title}; here {inputs} x {outputs} cells",
        array=replace(array, inputs=inputs, outputs=outputs),
        area=tuple(area.items()),
    )
