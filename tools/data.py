"""Data sets by name or path: images by class, arrays, text; each kind says what it recognizes."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..compiler.errors import DataError
from . import data_idx, data_images, data_npz, data_text, env
from .data_cifar10 import find_cifar10, load_cifar10
from .data_word import Reading, read_options, split_word
from .dataset import Dataset, Text

__all__ = ["Dataset", "Text", "data_folder", "load_any", "load_data"]
NAMES = ("digits", "cifar10", "ptb", "shakespeare")
# The folders of texts by name, in the folder of data sets.
TEXTS = {"ptb": ("ptb",), "shakespeare": ("tinyshakespeare", "shakespeare")}


@dataclass(frozen=True, slots=True)
class DataKind:
    """A kind of data that lies at a path: what it has for options, and what reads it."""

    finds: Callable[[Path], bool]
    options: tuple[str, ...]
    load: Callable[[Path, Reading], Dataset | Text]


CIFAR10 = DataKind(
    lambda path: find_cifar10(path) is not None, (), lambda path, reading: load_cifar10(path)
)
TEXT = DataKind(data_text.is_text, data_text.KEYS, data_text.load_text)
IMAGES = data_images.KEYS + data_images.SPLIT
# The first that finds itself; a folder of nothing known should be one of images by class.
KINDS = (
    DataKind(lambda path: path.suffix == ".npz", data_npz.KEYS, data_npz.load_npz),
    CIFAR10,
    DataKind(lambda path: data_idx.idx_folder(path) is not None, data_idx.KEYS, data_idx.load_idx),
    DataKind(data_images.is_split, data_images.KEYS, data_images.load_images),
    DataKind(data_images.has_classes, IMAGES, data_images.load_images),
    TEXT,
    DataKind(Path.is_dir, IMAGES, data_images.load_images),
)


def load_any(word: str, data_dir: str | os.PathLike[str] | None = None) -> Dataset | Text:
    """What ``word`` names, a name or a path with options; see docs/data.md.

    Names are looked for in ``data_dir``, else in ``QUATRAIN_DATA``. Raises ``DataError`` when it is
    unknown, absent or damaged, ``UsageError`` for options that it does not have.
    """
    place, given = split_word(word)
    if place == "digits":
        read_options(place, given, ())
        return _digits()
    path, kind = _found(place, data_dir)
    reading = read_options(place, given, kind.options)
    try:
        return kind.load(path, reading)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    except MemoryError as error:
        raise DataError(
            f"{path} does not fit into memory; train with a loop of your own"
        ) from error


def load_data(word: str, data_dir: str | os.PathLike[str] | None = None) -> Dataset:
    """Like ``load_any`` for data that are examples as they lie there; DataError for text."""
    found = load_any(word, data_dir)
    if isinstance(found, Text):
        raise DataError(f"{found.name} is text, of which windows are the examples; use load_any")
    return found


def _found(place: str, data_dir: str | os.PathLike[str] | None) -> tuple[Path, DataKind]:
    """Where a data set lies, and its kind."""
    if place == "cifar10":
        return data_folder(data_dir), CIFAR10
    if place in TEXTS:
        folder = data_folder(data_dir)
        paths = [folder / name for name in TEXTS[place] if (folder / name).is_dir()]
        if not paths or not TEXT.finds(paths[0]):
            raise DataError(
                f"there is no {place} in {folder}; it lies in {folder / TEXTS[place][0]}"
            )
        return paths[0], TEXT
    path = Path(place).expanduser()
    kind = next((k for k in KINDS if k.finds(path)), None)
    if kind is None:
        known = f"known: {', '.join(NAMES)}, or the path of an .npz, a .txt or a folder"
        what = f"{path} is no data set" if path.exists() else f"unknown data set {place!r}"
        raise DataError(f"{what}; {known}")
    return path, kind


def data_folder(data_dir: str | os.PathLike[str] | None = None) -> Path:
    """The folder that holds data sets: ``data_dir``, else the environment's ``QUATRAIN_DATA``."""
    folder = data_dir or env.data_dir()
    if not folder:
        raise DataError("no data folder is named; use --data-dir DIR or set QUATRAIN_DATA")
    if not Path(folder).is_dir():
        raise DataError(f"the data folder {folder} is no folder; name one that holds the data set")
    return Path(folder)


def _digits() -> Dataset:
    """1,797 handwritten digits ``[N, 1, 8, 8]`` in 0..1; every fifth of a class is held out.

    A rule instead of a shuffle, so that the split depends on no generator's version.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise DataError("the digits come with scikit-learn; install quatrain[demo]") from error
    found = load_digits()
    x = (found.images / 16).astype(np.float32)[:, None]
    y = found.target.astype(np.int64)
    held_out = np.zeros(len(y), bool)
    for label in range(10):
        held_out[np.flatnonzero(y == label)[4::5]] = True
    return Dataset("digits", x[~held_out], y[~held_out], x[held_out], y[held_out])
