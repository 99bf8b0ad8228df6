"""``FILE.py:FACTORY``: the user's function that makes what is to be compiled."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from ..compiler.errors import CaptureError, UsageError, closest
from .files import factory_file


def make(spec: str) -> object:
    """Call the factory that ``spec`` (``FILE.py:FACTORY``) names and return what it returns.

    Raises ``UsageError`` where the form, the file or the function is wrong, and ``CaptureError``
    with file and line where the user's own code raises.
    """
    path, name = factory_file(spec)
    module = _load(path)
    found = getattr(module, name, None)
    if found is None:
        raise UsageError(f"{path} has no {name!r}; {closest(name, _functions(module))}")
    if not callable(found):
        kind = type(found).__name__
        raise UsageError(f"{path}:{name} is a {kind}; a factory is a function")
    return _guarded(found, path, f"{name}()")


def _load(path: Path) -> ModuleType:
    """Run the file as a module; what lies beside it can be imported, as in ``python FILE.py``."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None, f"{path} has no loader"
    module = importlib.util.module_from_spec(spec)
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    # Registered only where the name is free: classes defined in the file look themselves up.
    sys.modules.setdefault(path.stem, module)
    loader = spec.loader
    _guarded(lambda: loader.exec_module(module), path, "the file")
    return module


def _guarded(call: Callable[[], object], path: Path, what: str) -> object:
    """The result of the user's code; whatever it raises becomes one sentence with its place."""
    try:
        return call()
    except SyntaxError as error:
        place = f"{error.filename or path}:{error.lineno or 0}"
        raise CaptureError(f"{place}: {error.msg}; {path} is not Python") from error
    except SystemExit as error:
        raise CaptureError(f"{path}: {what} exits with {error.code}; it must return") from error
    except Exception as error:
        message = (str(error).splitlines() or ["no message"])[0]
        kind = type(error).__name__
        raise CaptureError(f"{_place(error, path)}: {what} raised {kind}: {message}") from error


def _place(error: Exception, path: Path) -> str:
    """``file:line`` of the raise: the innermost frame in the user's folder, or else in the file."""
    folder = path.resolve().parent
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if Path(f.filename).resolve().is_relative_to(folder)]
    own = [f for f in own if "site-packages" not in f.filename]
    own = own or [f for f in frames if f.filename == str(path)]
    return f"{own[-1].filename}:{own[-1].lineno}" if own else str(path)


def _functions(module: ModuleType) -> list[str]:
    """Names of the functions that the file itself defines."""
    made = vars(module).items()
    own = [n for n, v in made if callable(v) and getattr(v, "__module__", "") == module.__name__]
    return [n for n in own if not n.startswith("_")] or ["no function at all"]
