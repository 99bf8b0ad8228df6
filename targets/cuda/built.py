"""Machine code for a GPU as it was built: loaded with nothing but NVIDIA's driver."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..plan.kernel import KernelSpec
from ..plan.plan import Plan
from ..plan.state import Unapplied
from ..plan.stored import BuiltKernel, StoredCode
from .driver import Device
from .executable import CudaExecutable
from .image import Image, Images, Placed
from .settle import Settle
from .step_memory import StepMemory

if TYPE_CHECKING:
    from ..registry import BindOptions


def load(code: StoredCode, kept: Unapplied, options: BindOptions) -> LoadedImages:
    """See ``BuiltModule``."""
    return LoadedImages(Device(options.device), code)


class LoadedImages:
    """See ``BuiltCode``."""

    def __init__(self, device: Device, code: StoredCode) -> None:
        placed = _placed(code.folder, code.kernels)
        self._images: Images = placed
        settle = None if code.settle is None else placed[code.settle]
        self.memory = BuiltMemory(device, str(code.facts["arch"]), settle)

    def executable(self, plan: Plan) -> CudaExecutable:
        """See ``BuiltCode``."""
        return CudaExecutable(plan, self._images, self.memory)


class BuiltMemory(StepMemory):
    """The memory of a step that needs one kernel itself, to settle steps."""

    def __init__(self, device: Device, arch: str, settle: Placed | None) -> None:
        super().__init__(device, arch, None)
        self._settle = settle

    def images(self, specs: Iterable[KernelSpec]) -> Images:
        """See ``StepMemory``."""
        assert self._settle is not None, "a step that counts what it skips was built with a kernel"
        wanted = list(specs)
        assert all(isinstance(spec, Settle) for spec in wanted), "plans bring their own kernels"
        return dict.fromkeys(wanted, self._settle)


def _placed(folder: Path, kernels: Sequence[BuiltKernel]) -> Mapping[KernelSpec, Placed]:
    """The kernels of each file, in order, as an image."""
    files: dict[str, list[BuiltKernel]] = {}
    for kernel in sorted(kernels, key=lambda k: k.number):
        files.setdefault(kernel.file, []).append(kernel)
    found: dict[KernelSpec, Placed] = {}
    for name, members in files.items():
        image = Image(tuple(k.launches for k in members), (folder / name).read_bytes())
        found |= {kernel: Placed(image, i) for i, kernel in enumerate(members)}
    return found
