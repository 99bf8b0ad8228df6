"""Arrays in an ``.npz`` file: both parts, or ``x`` and ``y`` of which a share is held out."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from ..compiler.errors import DataError
from .data_word import Reading
from .dataset import Array, Dataset, held_out_rows

KEYS = ("held_out", "seed")
PARTS = ("x_train", "y_train", "x_test", "y_test")
WHOLE = ("x", "y")


def load_npz(path: Path, reading: Reading) -> Dataset:
    """The arrays of ``path``; bytes in three dimensions are images of one channel."""
    x_train, y_train, x_test, y_test = _split(path, _arrays(path), reading)
    train = _inputs(path, "x_train", x_train), _targets(path, "y_train", y_train)
    test = _inputs(path, "x_test", x_test), _targets(path, "y_test", y_test)
    _check_sizes(path, train, test)
    return Dataset(path.stem, *train, *test)


def _arrays(path: Path) -> list[Array]:
    how = f"it holds {', '.join(PARTS)}, or x and y, as numpy.savez writes them"
    at = ""
    try:
        with path.open("rb") as raw:
            if not zipfile.is_zipfile(raw):
                raise DataError(f"{path} is damaged, or no .npz of arrays; {how}")
            with np.load(raw, allow_pickle=False) as file:
                keys = WHOLE if set(WHOLE) <= set(file) else PARTS
                if missing := [key for key in keys if key not in file]:
                    raise DataError(f"{path} lacks {', '.join(missing)}; {how}")
                return [file[at := key] for key in keys]
    except FileNotFoundError as error:
        raise DataError(f"there is no file {path}; {how}") from error
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # a damaged file raises what its bytes happen to spell
        what = f"{path}: {at}" if at else f"{path}"
        raise DataError(f"{what} is damaged, or no plain array of numbers; {how}") from error


def _split(path: Path, arrays: list[Array], reading: Reading) -> list[Array]:
    """Both parts; of arrays that are not split, a share of each class is for testing."""
    if len(arrays) == len(PARTS):
        return arrays
    x, y = _inputs(path, "x", arrays[0]), _targets(path, "y", arrays[1])
    if len(x) != len(y) or not len(x):
        raise DataError(f"{path}: x has {len(x)} rows and y {len(y)}; both need the same")
    out = held_out_rows(y, reading.held_out, reading.seed, str(path))
    return [x[~out], y[~out], x[out], y[out]]


def _inputs(path: Path, key: str, x: Array) -> Array:
    if x.ndim < 1 or x.dtype.kind not in "fu" or (x.dtype.kind == "u" and x.dtype != np.uint8):
        raise DataError(f"{path}: {key} is {x.dtype}{list(x.shape)}; use float32 or uint8 [N, ...]")
    if x.dtype == np.uint8:
        return x[:, None] if x.ndim == 3 else x
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
