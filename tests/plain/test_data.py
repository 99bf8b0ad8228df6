"""Data sets: what they hold, and how wrong files are refused."""

import io
import lzma
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from quatrain.compiler.errors import DataError
from quatrain.tools.data import load_data

Arrays = dict[str, np.ndarray]


def test_digits_are_split_by_class() -> None:
    data = load_data("digits")
    assert len(data.x_train) + len(data.x_test) == 1797
    assert data.x_train.dtype == np.float32 and data.x_train.shape[1:] == (1, 8, 8)
    assert data.x_train.min() == 0 and data.x_train.max() == 1 and data.classes == 10
    train, test = (np.bincount(y) for y in (data.y_train, data.y_test))
    assert np.array_equal(test, (train + test) // 5)
    assert not {x.tobytes() for x in data.x_test} & {x.tobytes() for x in data.x_train}


def fake_cifar(rows: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(rows)
    images = generator.integers(0, 256, (rows, 3, 32, 32), np.uint8)
    return images, generator.integers(0, 10, rows)


def write_pickles(folder: Path, protocol: int, *, text_keys: bool = False) -> None:
    folder.mkdir(parents=True)
    for index, name in enumerate([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]):
        images, labels = fake_cifar(index + 2)
        batch = {
            b"batch_label": b"part",
            b"data": images.reshape(-1, 3072),
            b"labels": labels.tolist(),
        }
        keyed = {k.decode(): v for k, v in batch.items()} if text_keys else batch
        (folder / name).write_bytes(pickle.dumps(keyed, protocol))


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("text_keys", [False, True])
def test_torchvision_layout(tmp_path: Path, protocol: int, text_keys: bool) -> None:
    write_pickles(tmp_path / "cifar-10-batches-py", protocol, text_keys=text_keys)
    data = load_data("cifar10", tmp_path)
    parts = [fake_cifar(rows) for rows in range(2, 7)]
    assert np.array_equal(data.x_train, np.concatenate([x for x, _ in parts]))
    assert np.array_equal(data.y_train, np.concatenate([y for _, y in parts]))
    assert np.array_equal(data.x_test, fake_cifar(7)[0])


class Hostile:
    def __init__(self, call: Callable[..., object], *arguments: object) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call, self.arguments


@pytest.mark.parametrize("protocol", [0, 2, 5])
@pytest.mark.parametrize("hidden", [False, True])
def test_a_pickle_runs_no_code(tmp_path: Path, protocol: int, hidden: bool) -> None:
    folder, mark = tmp_path / "cifar-10-batches-py", tmp_path / "mark"
    write_pickles(folder, protocol)
    hostile: object = Hostile(os.mkdir, str(mark))
    content = {b"data": [hostile], b"labels": []} if hidden else hostile
    (folder / "data_batch_3").write_bytes(pickle.dumps(content, protocol))
    with pytest.raises(DataError, match=r"data_batch_3 is refused: it asks for \w+.mkdir"):
        load_data("cifar10", tmp_path)
    assert not mark.exists()


@pytest.mark.parametrize(
    "call",
    [Hostile(eval, "1"), Hostile(getattr, "x", "upper"), Hostile(np.load, "x"), np.float64(1)],
)
def test_only_array_constructors_are_admitted(tmp_path: Path, call: object) -> None:
    (tmp_path / "data_batch_1").write_bytes(pickle.dumps(call, 2))
    with pytest.raises(DataError, match="refused"):
        load_data("cifar10", tmp_path)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ([1, 2], "lacks data or labels"),
        ({b"data": np.zeros((2, 3072), np.float32), b"labels": [0, 1]}, "an array of 'f4'"),
        ({b"data": np.zeros((2, 3071), np.uint8), b"labels": [0, 1]}, r"data is \[2, 3071\]"),
        ({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0]}, "2 images with 1 labels"),
        ({b"data": np.zeros((1, 3072), np.uint8), b"labels": [10]}, "CIFAR-10's are 0..9"),
        ({b"data": np.zeros((1, 3072), np.uint8), b"labels": ["1"]}, "else than integers"),
    ],
)
def test_a_wrong_batch_is_refused(tmp_path: Path, batch: object, message: str) -> None:
    (tmp_path / "data_batch_1").write_bytes(pickle.dumps(batch, 2))
    with pytest.raises(DataError, match=message):
        load_data("cifar10", tmp_path)


def test_a_truncated_pickle_is_refused(tmp_path: Path) -> None:
    write_pickles(tmp_path / "whole", 2)
    whole = (tmp_path / "whole" / "data_batch_1").read_bytes()
    for length in (0, 1, 57, len(whole) // 2, len(whole) - 1):
        (tmp_path / "data_batch_1").write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"data_batch_1 is (damaged|refused)"):
            load_data("cifar10", tmp_path)


def test_packed_layout(tmp_path: Path) -> None:
    for part, rows in (("train", 7), ("test", 3)):
        images, labels = fake_cifar(rows)
        with lzma.open(tmp_path / f"cifar10_{part}_images.npy.xz", "wb") as file:
            np.save(file, images.transpose(0, 2, 3, 1))
        np.save(tmp_path / f"cifar10_{part}_labels.npy", labels.astype(np.uint8))
    before = sorted(p.name for p in tmp_path.iterdir())
    data = load_data("cifar10", tmp_path)
    assert np.array_equal(data.x_train, fake_cifar(7)[0]) and data.x_train.flags.c_contiguous
    assert np.array_equal(data.y_test, fake_cifar(3)[1]) and data.y_test.dtype == np.int64
    assert sorted(p.name for p in tmp_path.iterdir()) == before
    (tmp_path / "cifar10_test_images.npy.xz").write_bytes(b"not xz")
    with pytest.raises(DataError, match="cifar10_test_images"):
        load_data("cifar10", tmp_path)


@pytest.mark.slow
def test_cifar10_itself() -> None:
    folder = os.environ.get("QUATRAIN_DATA")
    if not folder:
        pytest.skip("QUATRAIN_DATA names no data folder")
    data = load_data("cifar10", folder)
    assert data.x_train.shape == (50000, 3, 32, 32) and data.x_test.shape == (10000, 3, 32, 32)
    assert set(np.bincount(data.y_train)) == {5000} and set(np.bincount(data.y_test)) == {1000}
    # The published constants have five digits.
    assert np.allclose(data.x_train.mean((0, 2, 3)) / 255, data.mean, atol=5e-6)
    assert np.allclose(data.x_train.std((0, 2, 3)) / 255, data.std, atol=5e-6)


def test_absent_data_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QUATRAIN_DATA", raising=False)
    with pytest.raises(DataError, match="set QUATRAIN_DATA"):
        load_data("cifar10")
    with pytest.raises(DataError, match="is no folder"):
        load_data("cifar10", tmp_path / "absent")
    monkeypatch.setenv("QUATRAIN_DATA", str(tmp_path))
    with pytest.raises(DataError, match="there is no CIFAR-10 in"):
        load_data("cifar10")
    with pytest.raises(DataError, match="known: digits, cifar10"):
        load_data("imagenet")


def arrays() -> Arrays:
    x = np.linspace(0, 1, 10 * 3, dtype=np.float64).reshape(10, 3)
    return {"x_train": x[:7], "y_train": np.arange(7) % 3, "x_test": x[7:], "y_test": np.arange(3)}


def write_npz(path: Path, **named: np.ndarray) -> None:
    with zipfile.ZipFile(path, "w") as file:
        for key, value in named.items():
            with file.open(f"{key}.npy", "w") as part:
                np.lib.format.write_array(part, value)


def test_npz(tmp_path: Path) -> None:
    write_npz(tmp_path / "own.npz", **arrays())
    data = load_data(str(tmp_path / "own.npz"))
    assert data.name == "own" and data.classes == 3
    assert data.x_train.dtype == np.float32 and data.y_train.dtype == np.int64
    write_npz(tmp_path / "own.npz", **{k: v.astype(np.float64) for k, v in arrays().items()})
    data = load_data(str(tmp_path / "own.npz"))
    assert data.y_train.dtype == np.float32 and not data.has_labels and data.classes == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x_test": None}, "lacks x_test"),
        ({"x_train": np.full((7, 3), np.nan)}, "x_train holds NaN"),
        ({"x_train": np.zeros((7, 3), np.int32)}, "use float32 or uint8"),
        ({"x_train": np.array([{}] * 7)}, "x_train is damaged, or no plain array"),
        ({"y_train": np.array(["a"] * 7)}, "use integer labels"),
        ({"y_train": np.array([0, 1, 2, -1, 0, 1, 2])}, "holds the label -1"),
        ({"y_train": np.zeros(6, np.int64)}, "x_train has 7 rows and y_train 6"),
        ({"x_test": np.zeros((0, 3)), "y_test": np.zeros(0, np.int64)}, "at least one"),
        ({"x_test": np.zeros((3, 4))}, "must be alike"),
    ],
)
def test_a_wrong_npz_is_refused(tmp_path: Path, change: Arrays, message: str) -> None:
    kept = {k: v for k, v in (arrays() | change).items() if v is not None}
    write_npz(tmp_path / "own.npz", **kept)
    with pytest.raises(DataError, match=message):
        load_data(str(tmp_path / "own.npz"))


def test_what_is_no_npz_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no file"):
        load_data(str(tmp_path / "absent.npz"))
    array = io.BytesIO()
    np.save(array, np.zeros(3))
    for content in (b"", b"PK\x03\x04broken", b"text", array.getvalue()):
        (tmp_path / "own.npz").write_bytes(content)
        with pytest.raises(DataError, match=r"is damaged, or no \.npz of arrays; it holds x_train"):
            load_data(str(tmp_path / "own.npz"))


def test_an_npz_with_any_byte_lost_is_refused_in_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "own.npz"
    np.savez_compressed(path, **arrays())  # type: ignore[arg-type]
    whole = path.read_bytes()
    for start in range(0, len(whole), 13):
        path.write_bytes(whole[:start] + bytes(7) + whole[start + 7 :])
        try:
            load_data(str(path))
        except DataError as error:
            said = str(error)
            assert said.startswith(str(path)) and "\n" not in said and "pickle" not in said


@pytest.mark.parametrize("file", ["train_images.npy.xz", "train_labels.npy", "test_labels.npy"])
@pytest.mark.parametrize("content", [b"", b"text", b"\x93NUMPY\x01", b"\xfd7zXZ\x00", None])
def test_a_broken_packed_file_is_named(tmp_path: Path, file: str, content: bytes | None) -> None:
    for part, rows in (("train", 7), ("test", 3)):
        images, labels = fake_cifar(rows)
        with lzma.open(tmp_path / f"cifar10_{part}_images.npy.xz", "wb") as packed:
            np.save(packed, images.transpose(0, 2, 3, 1))
        np.save(tmp_path / f"cifar10_{part}_labels.npy", labels)
    broken = tmp_path / f"cifar10_{file}"
    if content is None:
        broken.unlink()
    else:
        broken.write_bytes(content)
    with pytest.raises(DataError) as found:
        load_data("cifar10", tmp_path)
    said = str(found.value)
    lost = "cifar10_train_images" in str(broken) and content is None
    assert "there is no CIFAR-10" in said if lost else str(broken) in said and " array of " in said
    assert "pickle" not in said and "Errno" not in said and "\n" not in said
