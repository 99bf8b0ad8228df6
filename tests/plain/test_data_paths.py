"""Data by path: images by class, torchvision's files, arrays; what they hold and what is refused."""

import gzip
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from quatrain.compiler.errors import DataError, QuatrainError, UsageError
from quatrain.tools.batches import normalize
from quatrain.tools.data import load_data
from quatrain.tools.data_word import split_word
from quatrain.tools.dataset import Augmentation, Dataset, held_out_rows


def write_png(path: Path, pixels: np.ndarray, deep: bool = False) -> None:
    """Pixels [H, W] or [H, W, 3] as the chunks that the format asks for."""
    height, width = pixels.shape[:2]
    wide = pixels.astype(">u2" if deep else np.uint8)
    rows = b"".join(b"\0" + row.tobytes() for row in wide)
    kind = 0 if pixels.ndim == 2 else 2
    header = struct.pack(">IIBBBBB", width, height, 16 if deep else 8, kind, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    chunks = (
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in parts
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


def pixels(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def write_classes(folder: Path, classes: Mapping[str, int], *shape: int) -> list[np.ndarray]:
    """So many images for each class; they come back in the order of classes and names."""
    found: list[np.ndarray] = []
    for name, count in sorted(classes.items()):
        for i in range(count):
            found.append(pixels(len(found), *shape))
            write_png(folder / name / f"{i:03}.png", found[-1])
    return found


def test_a_folder_with_its_parts(tmp_path: Path) -> None:
    train = write_classes(tmp_path / "train", {"cat": 3, "ant": 2}, 4, 5, 3)
    test = write_classes(tmp_path / "val", {"ant": 1, "cat": 1}, 4, 5, 3)
    for place in (tmp_path, tmp_path / "train", tmp_path / "train" / "cat"):
        (place / "notes.txt").write_text("no image, and no text to train on")
    data = load_data(str(tmp_path))
    assert np.array_equal(data.x_train, np.stack(train).transpose(0, 3, 1, 2))
    assert np.array_equal(data.x_test, np.stack(test).transpose(0, 3, 1, 2))
    assert data.y_train.tolist() == [0, 0, 1, 1, 1] and data.y_test.tolist() == [0, 1]
    assert data.classes == 2 and data.augmentation is None
    ours = normalize(data.x_train, data)
    # Means of 100 numbers in float32.
    assert np.allclose(ours.mean((0, 2, 3)), 0, atol=1e-6)
    assert np.allclose(ours.std((0, 2, 3)), 1, atol=1e-6)


def test_a_folder_without_parts_is_split_by_share_and_seed(tmp_path: Path) -> None:
    write_classes(tmp_path, {"a": 7, "b": 3, "deep/c": 1, "deep/d": 1}, 3, 3)
    word = f"{tmp_path}:held_out=0.3"
    first, again, other = (load_data(w) for w in (word, f"{word},seed=0", f"{word},seed=1"))
    assert first.x_train.shape == (8, 1, 3, 3) and first.classes == 3
    assert np.bincount(first.y_test).tolist() == [2, 1, 1]
    assert np.array_equal(first.x_test, again.x_test)
    assert not np.array_equal(first.x_test, other.x_test)
    both = np.concatenate([first.x_train, first.x_test])
    assert len({x.tobytes() for x in both}) == 12


def test_images_are_brought_to_a_size_and_channels_only_if_that_is_asked_for(
    tmp_path: Path,
) -> None:
    write_classes(tmp_path, {"a": 2}, 4, 4)
    write_png(tmp_path / "a" / "wide.png", np.full((4, 8, 3), (200, 100, 0), np.uint8))
    with pytest.raises(DataError, match=r"wide\.png is 3x4x8 and .*000\.png 1x4x4; :resize=HEIGHT"):
        load_data(str(tmp_path))
    data = load_data(f"{tmp_path}:resize=2x3,channels=3,pad=1,mirror=true")
    assert data.augmentation == Augmentation(1, mirror=True)
    every = np.concatenate([data.x_train, data.x_test])
    assert every.shape == (3, 3, 2, 3)
    flat = [x for x in every if np.ptp(x, (1, 2)).max() == 0]
    assert [x[:, 0, 0].tolist() for x in flat] == [[200, 100, 0]]
    grey = load_data(f"{tmp_path}:resize=3,channels=1")
    assert grey.x_train.shape[1:] == (1, 3, 3)


def test_folders_that_are_refused(tmp_path: Path) -> None:
    def refused(path: Path, message: str) -> None:
        with pytest.raises(QuatrainError, match=message) as found:
            load_data(str(path))
        assert "\n" not in str(found.value)

    refused(tmp_path, "has no folder for each class")
    refused(tmp_path / "absent", "unknown data set .*absent'; known: digits")
    write_classes(tmp_path / "one" / "train", {"a": 1}, 3, 3)
    refused(tmp_path / "one", "train and no test, val, valid beside it")
    refused(tmp_path / "one" / "train", "class a of .* has one example; it takes two")
    write_classes(tmp_path / "one" / "test", {"a": 1, "b": 1}, 3, 3)
    refused(tmp_path / "one", "class b is in one of train, test")
    (tmp_path / "one" / "train" / "b").mkdir()
    refused(tmp_path / "one", r"/b holds no image \(\.png")
    write_png(tmp_path / "one" / "train" / "b" / "x.png", pixels(0, 3, 3), deep=True)
    refused(tmp_path / "one", "pixels of kind I;16; bytes of one or three channels are read$")
    whole = (tmp_path / "one" / "train" / "a" / "000.png").read_bytes()
    for content in (b"", b"text", whole[:-30], whole[:40]):
        (tmp_path / "one" / "train" / "b" / "x.png").write_bytes(content)
        refused(tmp_path / "one", r"x\.png is damaged, or no image")


def write_idx(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sizes = b"".join(struct.pack(">I", n) for n in array.shape)
    content = bytes((0, 0, 8, array.ndim)) + sizes + array.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def write_mnist(folder: Path, ending: str = "") -> None:
    for part, rows in (("train", 5), ("t10k", 3)):
        write_idx(folder / f"{part}-images-idx3-ubyte{ending}", pixels(rows, rows, 4, 3))
        write_idx(folder / f"{part}-labels-idx1-ubyte{ending}", pixels(rows, rows) % 4)


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_mnist_and_its_kin(tmp_path: Path, ending: str) -> None:
    write_mnist(tmp_path / "FashionMNIST" / "raw", ending)
    found = [load_data(str(tmp_path / place)) for place in ("", "FashionMNIST", "FashionMNIST/raw")]
    for data in found:
        assert data.name == "FashionMNIST"
        assert np.array_equal(data.x_train, pixels(5, 5, 4, 3)[:, None])
        assert np.array_equal(data.y_test, pixels(3, 3) % 4)
        assert 0 < data.mean[0] < 1 and len(data.std) == 1


def test_idx_files_that_are_refused(tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    write_mnist(raw)
    labels = raw / "train-labels-idx1-ubyte"
    whole = labels.read_bytes()
    for content, message in (
        (whole[:-1], "says 5 and holds 4 bytes"),
        (whole[:3], "is no idx file of bytes in 1 dimensions"),
        (bytes((0, 0, 13, 1)) + whole[4:], "is no idx file of bytes"),
        (whole[:4] + struct.pack(">I", 4) + whole[8:-1], "5 images with 4 labels"),
    ):
        labels.write_bytes(content)
        with pytest.raises(DataError, match=message):
            load_data(str(tmp_path))
    labels.unlink()
    with pytest.raises(DataError, match="holds the labels of train-images"):
        load_data(str(tmp_path))
    write_mnist(raw)
    (raw / "t10k-images-idx3-ubyte").rename(raw / "other")
    with pytest.raises(DataError, match=r"has no file \*t10k-images-idx3-ubyte\* or \*test"):
        load_data(str(tmp_path))
    write_mnist(tmp_path / "KMNIST" / "raw")
    with pytest.raises(DataError, match="holds several data sets; name one"):
        load_data(str(tmp_path))


def test_arrays_that_are_not_split(tmp_path: Path) -> None:
    x, y = pixels(0, 13, 3, 3), np.arange(13) % 3
    np.savez(tmp_path / "own.npz", x=x, y=y)
    data = load_data(f"{tmp_path / 'own.npz'}:held_out=0.5,seed=3")
    # Bytes in three dimensions, as Keras keeps MNIST, are images of one channel.
    assert data.x_train.shape == (7, 1, 3, 3) and np.bincount(data.y_test).tolist() == [2, 2, 2]
    out = held_out_rows(y.astype(np.int64), 0.5, 3, "own")
    assert np.array_equal(data.x_test[:, 0], x[out]) and np.array_equal(data.y_train, y[~out])
    np.savez(tmp_path / "own.npz", x=x.astype(np.float32), y=y / 2)
    targets = load_data(str(tmp_path / "own.npz"))
    assert (len(targets.x_train), len(targets.x_test)) == (12, 1) and not targets.has_labels
    np.savez(tmp_path / "own.npz", x=x, y=y[1:])
    with pytest.raises(DataError, match="x has 13 rows and y 12"):
        load_data(str(tmp_path / "own.npz"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("size=3", "has no option 'size'; .*held_out"),
        ("held_out=1", "held_out=1 is no share between 0 and 1"),
        ("held_out=few", "held_out=few is no share"),
        ("seed=-1", "seed=-1 is no whole number"),
        ("tokens=words", "has no option 'tokens'"),
        ("seed=1,seed=2", "names 'seed' twice"),
    ],
)
def test_options_that_do_not_read(tmp_path: Path, options: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_data(f"{tmp_path / 'own.npz'}:{options}")
    with pytest.raises(UsageError, match="digits: has no option"):
        load_data("digits:seed=1")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("resize=0", "is no shape"),
        ("resize=2x2x2", "is no size of an image; one reads like 32 or 24x32"),
        ("channels=2", "channels=2 is unknown; it is 1 or 3"),
        ("mirror=yes", "mirror=yes is unknown; it is true or false"),
    ],
)
def test_options_of_images_that_do_not_read(tmp_path: Path, options: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_data(f"{tmp_path}:{options}")


def test_a_colon_without_options_is_of_the_path() -> None:
    assert split_word(r"C:\data") == (r"C:\data", {})
    assert split_word(r"C:\data:seed=2,held_out=0.2")[1] == {"seed": "2", "held_out": "0.2"}


def test_what_is_the_same_everywhere_is_not_scaled(tmp_path: Path) -> None:
    for i in range(3):
        write_png(tmp_path / "a" / f"{i}.png", np.full((2, 2), 51, np.uint8))
    data: Dataset = load_data(str(tmp_path))
    assert data.mean == pytest.approx((0.2,)) and data.std == (1.0,)
