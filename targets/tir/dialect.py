"""What a target says in words of its own, while kernels are built from the same statements."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Literal, Protocol

from tvm.ir import Expr
from tvm.tirx import stmt as st

# Functions of floats that every target has, correctly rounded; rint breaks ties to even, and
# fma(a, b, c) is a * b + c, rounded once where there is an instruction for it.
Rounded = Literal["sqrt", "rint", "floor", "fma"]


class Statements(Protocol):
    """The function that the words go into: see ``expr.Code``."""

    def add(self, statement: st.Stmt) -> None:
        """Append a statement."""

    def name(self, prefix: str) -> str:
        """A name not used before."""

    def loop(self, extent: int, kind: int) -> AbstractContextManager[Expr]:
        """A loop of one of TVM's kinds."""

    def link(self, text: str) -> None:
        """Have a text of the target's own at hand, see ``Dialect.link``."""


class Dialect(Protocol):
    """The words; ``code`` is the function that they go into."""

    # Results of at least so many bytes are stored past the caches.
    streamed_bytes: int
    # Bytes that a workspace may have; what needs more is computed where it is read.
    workspace_bytes: int

    def fence(self, value: Expr, vector: str) -> Expr:
        """A float of type ``vector`` that is not contracted with what reads it."""

    def constant(self, number: float, dtype: str) -> Expr:
        """A number as the target's language says it, to the bit."""

    def call(self, function: Rounded, vector: str, *numbers: Expr) -> Expr:
        """A function of floats of type ``vector``."""

    def where(self, condition: Expr, a: Expr, b: Expr) -> Expr:
        """Lane by lane a where the condition holds, else b."""

    def blocks(self, code: Statements, count: int) -> AbstractContextManager[Expr]:
        """Turns 0 .. count - 1 in any order, shared by all that compute; done when it ends."""

    def spread(self, code: Statements, count: int) -> AbstractContextManager[Expr]:
        """Turns that those share who share a workspace; all is there for all when it ends."""

    def workspace(self, code: Statements, dtype: str, size: int) -> AbstractContextManager[Expr]:
        """Memory that lives until the ``with`` ends; its contents are undefined at first."""

    def table(
        self, code: Statements, dtype: str, numbers: Sequence[float]
    ) -> AbstractContextManager[Callable[[Expr], Expr]]:
        """Constants by number, or by a vector of numbers."""

    def stream(self, code: Statements, buffer: Expr, index: Expr, value: Expr, lanes: int) -> None:
        """Store f32 numbers past the caches; ``index`` is a multiple of ``lanes``."""

    def link(self, texts: Iterable[str], body: st.Stmt) -> st.Stmt:
        """``body`` with the target's own texts that its calls refer to."""
