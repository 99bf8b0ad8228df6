"""Damaged .qtn files: one sentence each, in words about the file and not about how it is packed."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from quatrain.compiler.errors import FileError
from quatrain.compiler.ir.text import parse
from quatrain.passes.recipe import load_recipe
from quatrain.runtime.bundle import Bundle, read, write
from tests.cases.bill_programs import CAPTURED


@pytest.fixture
def path(tmp_path: Path) -> Path:
    program = parse(CAPTURED)
    state = {v.name: np.zeros(v.type.shape, np.float32) for v in program.state}
    manifest: dict[str, object] = {"target": "reference", "allow": [], "seed": 0}
    write(Bundle(program, program, load_recipe("fp32"), manifest, state), tmp_path / "net.qtn")
    return tmp_path / "net.qtn"


def edited() -> str:
    """A program by hand whose kernel would read beyond a vector of one number."""
    slice_ = "edge = slice(beta) {dim=0, start=0, step=1} : f32[1]\n  b = batch_norm("
    return CAPTURED.replace("b = batch_norm(", slice_).replace(
        "gamma, beta) {", "gamma, edge) {", 1
    )


def replaced(path: Path, entry: str, content: bytes) -> None:
    """Write the file anew with other content in one entry."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    assert entry in entries
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in (entries | {entry: content}).items():
            archive.writestr(name, data)
    path.write_bytes(buffer.getvalue())


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 and no more"])
def test_what_is_no_qtn_file_is_told_how_to_make_one(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(FileError) as e:
        read(path)
    said = f"{path} is no .qtn file or was cut short; step.save and quatrain compile -o make one"
    assert str(e.value) == said


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        (("m/data.pkl", "m/version"), "is a file of torch.save; load it into the model with"),
        (("word/document.xml",), "is a zip file without manifest.json and no .qtn file"),
        (("manifest.json",), "is a zip file without train.qt and no .qtn file"),
    ],
)
def test_zip_files_of_others_are_no_lists(path: Path, entries: tuple[str, ...], said: str) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for entry in entries:
            archive.writestr(entry, b"")
    with pytest.raises(FileError) as e:
        read(path)
    assert str(e.value).startswith(f"{path} {said}") and "[" not in str(e.value)


def test_more_than_a_step_in_a_file_is_refused(path: Path) -> None:
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("code.py", b"")
    with pytest.raises(FileError, match=r"holds more than a .qtn file does, such as code.py$"):
        read(path)


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("nets/digits.py:digits", "quatrain compile nets/digits.py:digits -o digits.qtn"),
        ("digits.py", "quatrain compile digits.py:FUNCTION -o digits.qtn"),
    ],
)
def test_python_is_no_network(name: str, instead: str) -> None:
    with pytest.raises(FileError) as e:
        read(name)
    said = f"{name} is Python, and a network is a .qtn file; make one with: {instead}"
    assert str(e.value) == said


def test_a_folder_is_no_network(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"is a folder; name a .qtn file$"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("entry", "content", "hint"),
    [
        ("manifest.json", b"{", "manifest.json is damaged; take another copy"),
        ("manifest.json", b"[]", "manifest.json must be a JSON object, not list"),
        ("recipe.json", b"\xff", "recipe.json is damaged"),
        ("train.qt", b"\xff", "train.qt is damaged"),
        ("train.qt", CAPTURED.partition("return")[0].encode(), "no line 'return NAMES'"),
        ("evaluation.qt", CAPTURED.replace("relu(", "rely(", 1).encode(), "no valid program: line"),
        ("evaluation.qt", edited().encode(), "edge is f32[1], but beta of batch_norm is [C] with"),
        ("state.safetensors", b"", "state.safetensors is damaged"),
    ],
)
def test_a_damaged_entry_is_named(path: Path, entry: str, content: bytes, hint: str) -> None:
    replaced(path, entry, content)
    with pytest.raises(FileError) as e:
        read(path)
    assert str(e.value).startswith(f"{path}: {entry} ") and hint in str(e.value)


def test_flipped_bytes_name_the_entry(path: Path) -> None:
    data = path.read_bytes()
    place = data.index(b"program ")
    path.write_bytes(data[:place] + b"pogramm " + data[place + 8 :])
    with pytest.raises(FileError, match=r"train\.qt is damaged; take another copy"):
        read(path)
