"""TVM's backend for CUDA, which its package does not bring by itself, see ``load_package``."""

from __future__ import annotations

from typing import cast

# Sets TVM's environment before TVM is loaded, so it comes first.
from ..tir.runtime import function  # isort: skip

import tvm
from tvm.backend import cuda
from tvm.tirx.script import builder

cuda.register_backend()
# It asks for machine code where it finds CUDA; what is wanted here is the text.
tvm.register_global_func("tvm_callback_cuda_compile", lambda source: b"none", override=True)

PTX = builder.ptx
"""Instructions by name, as calls in TIR."""


def written(module: tvm.IRModule, target: tvm.target.Target) -> str:
    """The CUDA C of lowered functions."""
    made = cast(tvm.runtime.Module, function("target.build.cuda")(module, target))
    return str(made.inspect_source("cuda"))
