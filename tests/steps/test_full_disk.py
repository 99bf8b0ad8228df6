"""Disks that are full and folders that may not be written: one sentence, the old file whole."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import numpy as np
import pytest

from quatrain.compiler.errors import FileError
from quatrain.runtime.files import write_bytes
from quatrain.tools.cli import main
from quatrain.tools.files import check_writable

SOURCE = """
import quatrain, torch
from torch import nn

def task():
    model = nn.Sequential(nn.Flatten(), nn.Linear(49, 30), nn.ReLU(), nn.Linear(30, 3))
    example = torch.zeros(4, 1, 7, 7), torch.zeros(4, dtype=torch.int64)
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
    return quatrain.Task(model, nn.functional.cross_entropy, optimizer, example)
"""
LIMIT = 4096  # bytes; a network of this file takes more
OLD = b"what was here before"
Full = Callable[[], AbstractContextManager[None]]


@contextmanager
def limited() -> Iterator[None]:
    """No file of this process may grow beyond ``LIMIT``: a write stops in the middle."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture(params=["limit", "disk"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Path, Full, str]]:
    """A folder with a file ``old.qtn`` in it, how to fill it up, and what the system says then."""
    if request.param == "limit":
        (tmp_path / "old.qtn").write_bytes(OLD)
        yield tmp_path, limited, os.strerror(errno.EFBIG)
        return
    place = tmp_path / "disk"
    place.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(place)]
    try:
        mounted = subprocess.run(words, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("this user cannot mount a small disk")
    try:
        (place / "old.qtn").write_bytes(OLD)
        with (place / "filling").open("wb", buffering=0) as file, pytest.raises(OSError):
            while True:
                file.write(bytes(4096))
        yield place, nullcontext, os.strerror(errno.ENOSPC)
    finally:
        subprocess.run(["umount", str(place)], check=True)


@pytest.fixture
def network(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A compiled network and data for it, on another disk."""
    pytest.importorskip("torch")
    place = tmp_path_factory.mktemp("network")
    source, path, data = place / "wide_source.py", place / "net.qtn", place / "data.npz"
    source.write_text(SOURCE)
    words = ("compile", f"{source}:task", "--recipe", "fp32", "--target", "reference")
    assert main([*words, "-o", str(path)]) == 0
    assert path.stat().st_size > LIMIT
    x, y = np.zeros((9, 1, 7, 7), np.float32), np.arange(9) % 3
    np.savez(data, x_train=x, y_train=y, x_test=x, y_test=y)
    return path, data


@pytest.mark.torch
@pytest.mark.parametrize("words", ["run --checkpoint", "run --output", "compile --output"])
def test_a_full_disk_is_one_sentence_and_the_old_file_stays(
    words: str,
    folder: tuple[Path, Full, str],
    network: tuple[Path, Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    place, full, said = folder
    (path, data), old = network, place / "old.qtn"
    before = sorted(p.name for p in place.iterdir())
    command, option = words.split()
    start = ["run", str(path), "--data", str(data), "--steps", "2"]
    if command == "compile":
        source = path.with_name("wide_source.py")
        start = ["compile", f"{source}:task", "--recipe", "fp32", "--target", "reference"]
    capsys.readouterr()
    with full():
        status = main([*start, option, str(old)])
    err = capsys.readouterr().err
    wanted = f"error: cannot write {old}: {said}; what it held before is still there\n"
    assert (status, err.splitlines()[-1]) == (2, wanted.strip())
    assert old.read_bytes() == OLD
    assert sorted(p.name for p in place.iterdir()) == before


@pytest.mark.torch
def test_saving_a_step_to_a_full_disk(
    folder: tuple[Path, Full, str], network: tuple[Path, Path]
) -> None:
    from quatrain.tools import driver

    place, full, said = folder
    step = driver.load(network[0])
    with full(), pytest.raises(FileError, match=said):
        step.save(place / "old.qtn")
    with full(), pytest.raises(FileError) as e:
        step.save(place / "new.qtn")
    assert str(e.value) == f"cannot write {place / 'new.qtn'}: {said}"
    assert (place / "old.qtn").read_bytes() == OLD and not (place / "new.qtn").exists()


def refuse(*words: object, **more: object) -> tuple[int, str]:
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def test_a_folder_that_refuses_new_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a folder does that lost its permission after the run began."""
    path = tmp_path / "old.qtn"
    path.write_bytes(OLD)
    monkeypatch.setattr(tempfile, "mkstemp", refuse)
    with pytest.raises(FileError) as e:
        write_bytes(path, b"new")
    said = "Permission denied; what it held before is still there"
    assert str(e.value) == f"cannot write {path}: {said}"
    assert path.read_bytes() == OLD and list(tmp_path.iterdir()) == [path]


@pytest.mark.torch
@pytest.mark.parametrize("option", ["--checkpoint", "--output"])
def test_a_read_only_folder_is_found_before_the_training(
    option: str,
    network: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place, (path, data) = tmp_path / "closed", network
    place.mkdir(mode=0o500)
    if os.access(place, os.W_OK):  # root may write everywhere: say no in the system's place
        monkeypatch.setattr(os, "access", lambda p, mode: Path(p) != place)
    capsys.readouterr()
    words = ["run", str(path), "--data", str(data), "--steps", "1", option, str(place / "a.qtn")]
    assert main(words) == 2
    said = f"error: cannot write {place / 'a.qtn'}: {place} is not writable; name another folder\n"
    assert capsys.readouterr() == ("", said)
    assert not list(place.iterdir())


def test_devices_are_not_replaced() -> None:
    """Root could: a rename onto /dev/null would make a plain file of it for everybody."""
    for check in (check_writable, lambda path: write_bytes(path, b"")):
        with pytest.raises(FileError, match="cannot write /dev/null: it is a device or a pipe"):
            check(Path("/dev/null"))
    assert Path("/dev/null").is_char_device()


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    real, link = tmp_path / "real" / "a.qtn", tmp_path / "link.qtn"
    real.parent.mkdir()
    link.symlink_to(real)
    for data in (b"one", b"two"):
        check_writable(link)
        write_bytes(link, data)
        assert link.is_symlink() and real.read_bytes() == data
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a.qtn", "link.qtn", "real"]
