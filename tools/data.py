"""Data sets by name: ``digits``, ``cifar10``, or the path of an ``.npz`` file."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np

from ..compiler.errors import DataError
from . import env
from .data_cifar10 import load_cifar10
from .dataset import Array, Dataset

__all__ = ["Dataset", "data_folder", "load_data"]
KEYS = ("x_train", "y_train", "x_test", "y_test")


def load_data(name: str, data_dir: str | os.PathLike[str] | None = None) -> Dataset:
    """The data set ``name``; CIFAR-10 is looked for in ``data_dir``, else in ``QUATRAIN_DATA``.

    Raises ``DataError`` when it is unknown, absent or damaged.
    """
    if name == "digits":
        return _digits()
    if name == "cifar10":
        return load_cifar10(data_folder(data_dir))
    if name.endswith(".npz"):
        return _npz(Path(name))
    raise DataError(f"unknown data set {name!r}; known: digits, cifar10, or the path of an .npz")


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


def _npz(path: Path) -> Dataset:
    x_train, y_train, x_test, y_test = _arrays(path)
    train = _inputs(path, "x_train", x_train), _targets(path, "y_train", y_train)
    test = _inputs(path, "x_test", x_test), _targets(path, "y_test", y_test)
    _check_sizes(path, train, test)
    return Dataset(path.stem, *train, *test)


def _arrays(path: Path) -> list[Array]:
    how = f"it holds {', '.join(KEYS)}, as numpy.savez writes them"
    at = ""
    try:
        with path.open("rb") as raw:
            if not zipfile.is_zipfile(raw):
                raise DataError(f"{path} is damaged, or no .npz of arrays; {how}")
            with np.load(raw, allow_pickle=False) as file:
                if missing := [key for key in KEYS if key not in file]:
                    raise DataError(f"{path} lacks {', '.join(missing)}; {how}")
                return [file[at := key] for key in KEYS]
    except FileNotFoundError as error:
        raise DataError(f"there is no file {path}; {how}") from error
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # a damaged file raises what its bytes happen to spell
        what = f"{path}: {at}" if at else f"{path}"
        raise DataError(f"{what} is damaged, or no plain array of numbers; {how}") from error


def _inputs(path: Path, key: str, x: Array) -> Array:
    if x.ndim < 1 or x.dtype.kind not in "fu" or (x.dtype.kind == "u" and x.dtype != np.uint8):
        raise DataError(f"{path}: {key} is {x.dtype}{list(x.shape)}; use float32 or uint8 [N, ...]")
    if x.dtype == np.uint8:
        return x
    x = x.astype(np.float32)
    if not np.isfinite(x).all():
        raise DataError(f"{path}: {key} holds NaN or infinity; every number must be finite")
    return x


def _targets(path: Path, key: str, y: Array) -> Array:
    if y.ndim < 1 or y.dtype.kind not in "iuf":
        raise DataError(f"{path}: {key} is {y.dtype}{list(y.shape)}; use integer labels [N]")
    if y.dtype.kind == "f":
        return y.astype(np.float32)
    if y.size and int(y.min()) < 0:
        raise DataError(f"{path}: {key} holds the label {int(y.min())}; labels count from 0")
    return y.astype(np.int64)


def _check_sizes(path: Path, train: tuple[Array, Array], test: tuple[Array, Array]) -> None:
    for part, (x, y) in {"train": train, "test": test}.items():
        if len(x) != len(y) or not len(x):
            raise DataError(
                f"{path}: x_{part} has {len(x)} rows and y_{part} {len(y)}; both need the same, "
                "at least one"
            )
    (x_train, y_train), (x_test, y_test) = train, test
    if x_train.shape[1:] != x_test.shape[1:] or y_train.dtype != y_test.dtype:
        raise DataError(
            f"{path}: training rows are {list(x_train.shape[1:])} with {y_train.dtype} targets, "
            f"test rows {list(x_test.shape[1:])} with {y_test.dtype}; they must be alike"
        )
