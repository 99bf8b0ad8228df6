"""Hands over to ``quatrain/``: what ``import quatrain`` finds in the folder that holds a clone.

A clone is a folder called quatrain, as the package in it is. A program beside the clone finds the
clone first; without this file as a namespace package, which is empty and hides an editable install.
"""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path


def _hand_over() -> None:
    """Put the package of that name in this module's place, as if it had been found itself."""
    inner = Path(__file__).parent / __name__
    spec = spec_from_file_location(
        __name__, inner / "__init__.py", submodule_search_locations=[str(inner)]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"there is no package in {inner}")
    sys.modules[__name__] = module = module_from_spec(spec)
    spec.loader.exec_module(module)


if __name__ == "quatrain":  # pytest looks in here under other names, and so may other tools
    _hand_over()
