"""Images on a device."""

from __future__ import annotations

from .driver import Device
from .image import Image, Placed
from .module import Function, Module


class DeviceImages:
    """The modules of images, each loaded once."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._modules: dict[Image, Module] = {}

    def launches(self, placed: Placed) -> list[tuple[Function, int, int]]:
        """The functions of a kernel in order, each with grid and threads."""
        image = placed.image
        if image not in self._modules:
            self._modules[image] = Module(self._device, image.cubin)
        module = self._modules[image]
        return [
            (module.function(f"k{placed.number}_{j}"), grid, threads)
            for j, (grid, threads) in enumerate(image.shapes[placed.number])
        ]
