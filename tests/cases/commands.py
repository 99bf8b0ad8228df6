"""Commands of ``quatrain`` as tests call them."""

from collections.abc import Callable

import pytest

from quatrain.tools.cli import main

# ``quatrain("run", path, ..., status=2)``: what the fixture of that name gives.
Quatrain = Callable[..., str]


def command(capsys: pytest.CaptureFixture[str]) -> Quatrain:
    """Run a command in this process; returns stdout, or its one line where it ends with 2."""

    def run(*words: object, status: int = 0) -> str:
        found = main([str(w) for w in words])
        out, err = capsys.readouterr()
        assert found == status, err
        if status == 2:
            assert err.startswith("error: ") and err.count("\n") == 1 and not out, err
        return err if status == 2 else out

    return run
