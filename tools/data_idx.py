"""MNIST and its kin as torchvision keeps them: idx files of images and labels, also packed."""

from __future__ import annotations

import gzip
import math
from pathlib import Path

import numpy as np

from ..compiler.errors import DataError
from .data_word import Reading
from .dataset import Array, Dataset
from .pixels import mean_and_std

KEYS = ("pad", "mirror")
TRAIN, TEST = "*train-images-idx3-ubyte*", ("*t10k-images-idx3-ubyte*", "*test-images-idx3-ubyte*")
BYTES = 8  # the code of uint8 in the third byte of a file


def idx_folder(path: Path) -> Path | None:
    """The folder of the files: ``path``, its ``raw``, or that of the one data set in it."""
    places = [path, path / "raw", *sorted(path.glob("*/raw"))] if path.is_dir() else []
    found = [p for p in places if p.is_dir() and any(p.glob(TRAIN))]
    if len(found) > 1:
        raise DataError(f"{path} holds several data sets; name one: {', '.join(map(str, found))}")
    return found[0] if found else None


def load_idx(path: Path, reading: Reading) -> Dataset:
    """Images of one channel, uint8 ``[N, 1, H, W]``, normalized by the training images."""
    folder = idx_folder(path) or path
    train, test = _part(folder, (TRAIN,)), _part(folder, TEST)
    if train[0].shape[1:] != test[0].shape[1:]:
        shapes = " and ".join("x".join(map(str, x.shape[2:])) for x, _ in (train, test))
        raise DataError(f"{folder}: training and test images are {shapes}; they must be alike")
    name = folder.parent.name if folder.name == "raw" else folder.name
    return Dataset(name, *train, *test, *mean_and_std(train[0]), reading.augmentation)


def _part(folder: Path, patterns: tuple[str, ...]) -> tuple[Array, Array]:
    # A packed file and what was unpacked from it may lie side by side.
    found = {p.name.removesuffix(".gz"): p for pattern in patterns for p in folder.glob(pattern)}
    if len(found) != 1:
        what = f"{len(found)} files" if found else "no file"
        raise DataError(f"{folder} has {what} {' or '.join(patterns)}; it needs one")
    ((name, images),) = found.items()
    labels = images.with_name(
        name.replace("images-idx3", "labels-idx1") + images.name.removeprefix(name)
    )
    if not labels.is_file():
        raise DataError(f"there is no file {labels}; it holds the labels of {images.name}")
    x, y = _idx(images, 3), _idx(labels, 1)
    if len(x) != len(y) or not len(x):
        raise DataError(f"{images}: {len(x)} images with {len(y)} labels; the numbers must agree")
    return x[:, None], y.astype(np.int64)


def _idx(path: Path, rank: int) -> Array:
    """The array of a file: two zeros, a type, a rank, sizes of four bytes, and the numbers."""
    try:
        raw = path.read_bytes()
        content = gzip.decompress(raw) if path.suffix == ".gz" else raw
    except (OSError, EOFError) as error:
        raise DataError(f"{path} cannot be read, or is damaged; fetch it again") from error
    except Exception as error:  # zlib's own errors
        raise DataError(f"{path} is damaged; fetch it again") from error
    start = 4 + 4 * rank
    if content[:4] != bytes((0, 0, BYTES, rank)) or len(content) < start:
        raise DataError(f"{path} is no idx file of bytes in {rank} dimensions; fetch it again")
    shape = tuple(np.frombuffer(content, ">u4", rank, 4).tolist())
    if len(content) - start != math.prod(shape):
        raise DataError(
            f"{path} says {'x'.join(map(str, shape))} and holds {len(content) - start} bytes; "
            "fetch it again"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
