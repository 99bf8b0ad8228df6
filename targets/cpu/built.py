"""Machine code for a CPU as it was built: opened without TVM's compiler and its Python package.

It needs the package apache-tvm-ffi, and TVM's small library, which lies beside the kernels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...compiler.errors import TargetError
from ..plan.state import Unapplied
from ..plan.stored import StoredCode
from .info import check_features

if TYPE_CHECKING:
    from ..registry import BindOptions
    from .opened import OpenedLibraries


def load(code: StoredCode, kept: Unapplied, options: BindOptions) -> OpenedLibraries:
    """See ``BuiltModule``; TargetError where this machine lacks something."""
    features = frozenset(map(str, code.facts["features"]))
    advice = "build it for a CPU whose features this machine has, such as cpu:x86-64-v3"
    check_features(str(code.facts["cpu"]), features, advice)
    try:
        from .opened import OpenedLibraries
    except ModuleNotFoundError as error:
        if error.name != "tvm_ffi":
            raise
        raise TargetError(
            "kernels for a CPU are called through TVM's foreign functions: pip install "
            "apache-tvm-ffi, which is small"
        ) from None
    return OpenedLibraries(code.folder, code.kernels, kept.layout.bytes, options.threads)
