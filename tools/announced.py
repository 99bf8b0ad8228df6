"""``backend="quatrain"`` for torch.compile in a process whose quatrain was not installed.

An installed package says in its metadata where its backend is, which torch reads at the first
``torch.compile``. A clone that is on the path has none, so ``import quatrain`` says it. Neither
loads torch.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.metadata import Distribution

GROUP, NAME = "torch_dynamo_backends", "quatrain"
PLACE = "quatrain.tools.backend:quatrain"
REGISTRY = "torch._dynamo.backends.registry"


class AnnouncedFinder:
    """Among Python's finders of modules and packages: finds this entry point alone."""

    def find_spec(self, *_: object) -> None:
        """No module."""

    def find_distributions(self, context: Any = None) -> Iterator[Distribution]:
        """A package of another name, so that one that is installed is found as well."""
        from importlib.metadata import Distribution

        class Announced(Distribution):
            def read_text(self, filename: str) -> str | None:
                texts = {
                    "METADATA": f"Metadata-Version: 2.1\nName: {NAME}-here\nVersion: 0\n",
                    "entry_points.txt": f"[{GROUP}]\n{NAME} = {PLACE}\n",
                }
                return texts.get(filename)

            def locate_file(self, path: Any) -> Any:
                raise FileNotFoundError(path)

        if getattr(context, "name", None) is None:
            yield Announced()


def announce() -> None:
    """Let torch.compile find the backend, whether it has looked for such already or not."""
    if not any(type(finder).__name__ == AnnouncedFinder.__name__ for finder in sys.meta_path):
        sys.meta_path.append(AnnouncedFinder())
    registry = sys.modules.get(REGISTRY)
    if registry is not None and NAME not in getattr(registry, "_BACKENDS", {}):
        registry.register_backend(compiler_fn=_quatrain, name=NAME)


def _quatrain(graph: Any, example: Any, **settings: object) -> object:
    from .backend import quatrain

    return quatrain(graph, example, **settings)
