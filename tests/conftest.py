"""Fixtures shared by all tests."""

import gc
import logging
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from .cases.commands import Quatrain, command


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite the golden results")
    parser.addoption("--whole", action="store_true", help="run all tests of files that run a share")


class Unheard(logging.Logger):
    """A logger that takes no handler."""

    def addHandler(self, hdlr: logging.Handler) -> None:
        """Forget it."""


def pytest_configure() -> None:
    """Nobody listens to PyTorch's trace, which prints every graph as soon as somebody does.

    pytest would: at each capture, and where a test fails as screens of text.
    """
    logging.setLoggerClass(Unheard)
    logging.getLogger("torch.__trace")
    logging.setLoggerClass(logging.Logger)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of tests that say ``share(n)`` every n-th of a file runs, unless all are asked for."""
    if config.getoption("--whole"):
        return
    seen = Counter[Path]()
    left_out = []
    for item in items:
        if share := item.get_closest_marker("share"):
            seen[item.path] += 1
            if seen[item.path] % share.args[0] != 1:
                left_out.append(item)
    config.hook.pytest_deselected(items=left_out)
    gone = set(left_out)
    items[:] = [item for item in items if item not in gone]


def pytest_collection_finish() -> None:
    """What collection imported stays: the garbage collector need not walk it again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    """Whether the golden files are to be rewritten with what the code says now."""
    return bool(request.config.getoption("--update-golden"))


@pytest.fixture
def quatrain(capsys: pytest.CaptureFixture[str]) -> Quatrain:
    """The command line, in this process."""
    return command(capsys)


@pytest.fixture(autouse=True, scope="session")
def kernel_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One cache of compiled kernels for the session: not the user's, and empty at first.

    Worker processes share it: each of their folders lies in the session's.
    """
    before = os.environ.get("QUATRAIN_CACHE")
    own = tmp_path_factory.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    os.environ["QUATRAIN_CACHE"] = str(shared / "kernels")
    yield
    del os.environ["QUATRAIN_CACHE"]
    if before is not None:
        os.environ["QUATRAIN_CACHE"] = before
