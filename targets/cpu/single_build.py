"""The kernel of one op that is no fused group."""

from __future__ import annotations

from tvm.tirx import PrimFunc

from ..tir.expr import Code, Expr
from ..tir.single.rules import RULES, buffers, parameters
from ..tir.single.spec import Single
from .dialect import function
from .exponents import exponents
from .loops import CpuLoops
from .scatter import embedding_grad

BUILDERS = {**RULES, "embedding_grad": embedding_grad, "exponents": exponents}


def build(spec: Single) -> PrimFunc:
    """The private function, see ``KernelSpec``."""

    def body(code: Code, given: list[Expr]) -> None:
        BUILDERS[spec.kind](buffers(CpuLoops(code), spec, given), spec)

    return function(list(parameters(spec).values()), body)
