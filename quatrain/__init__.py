"""Compile a PyTorch training step to low-bit kernels.

    step = quatrain.compile(model, loss, (x, y), optimizer, recipe="ultra_low_4bit")
    value = step(x, y)

The public names are loaded at first use, so that ``import quatrain`` brings in neither torch nor
TVM. The sub-packages are the five folders beside this one (``compiler``, ``passes``, ...), reached
by links; where a checkout lost these (a zip unpacked, git on Windows), by the search path.
"""

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .compiler.errors import QuatrainError
    from .runtime.compiled.held import attach
    from .runtime.compiled.record import compiled
    from .tools.compare.steps import compare
    from .tools.driver import Task, compile, load, recipes, targets
    from .tools.from_onnx import from_onnx

__version__ = "0.1.0"
__all__ = [
    "QuatrainError",
    "Task",
    "__version__",
    "attach",
    "compare",
    "compile",
    "compiled",
    "from_onnx",
    "load",
    "recipes",
    "targets",
]

_HOME = {
    "QuatrainError": ".compiler.errors",
    "Task": ".tools.driver",
    "attach": ".runtime.compiled.held",
    "compare": ".tools.compare.steps",
    "compile": ".tools.driver",
    "compiled": ".runtime.compiled.record",
    "from_onnx": ".tools.from_onnx",
    "load": ".tools.driver",
    "recipes": ".tools.driver",
}
FOLDERS = ("compiler", "passes", "runtime", "targets", "tools")


def _search_path(here: Path) -> list[str]:
    """Where the sub-packages are looked for; ImportError where links to them lead nowhere."""
    lost = [name for name in FOLDERS if not (here / name).is_dir()]
    if lost and all((here.parent / name / "__init__.py").is_file() for name in lost):
        return [str(here), str(here.parent)]
    if broken := [n for n in lost if (here / n).is_symlink() or (here / n).is_file()]:
        raise ImportError(
            f"in {here} the links to {', '.join(broken)} lead nowhere: the folders of these names "
            "belong beside it, so use a whole clone, or install that with pip"
        )
    return [str(here)]


__path__ = _search_path(Path(__file__).parent)


class _CallablePackage(ModuleType):
    """The sub-package ``quatrain.targets``, which is also the function ``quatrain.targets()``."""

    def __call__(self) -> object:
        return import_module(".tools.driver", __name__).targets()


class _Face(ModuleType):
    """This module; it makes ``targets`` callable, however early the import system binds it."""

    def __setattr__(self, name: str, value: object) -> None:
        if name == "targets" and type(value) is ModuleType:
            value.__class__ = _CallablePackage
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Face
import_module(".tools.announced", __name__).announce()

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name == "targets":
            return import_module(".targets", __name__)
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        with import_module(".tools.collector", __name__).put_off():
            value = globals()[name] = getattr(import_module(_HOME[name], __name__), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
