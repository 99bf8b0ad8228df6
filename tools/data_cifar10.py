"""CIFAR-10 from a folder: compressed NumPy files, or torchvision's ``cifar-10-batches-py``.

The pickles are read without trust: an unpickler that knows stand-ins for NumPy's two constructors
and nothing else, so that a file can bring arrays, bytes, strings, numbers, lists and dictionaries
but run no code.
"""

from __future__ import annotations

import lzma
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from ..compiler.errors import DataError
from .dataset import Augmentation, Dataset

ByteArray = npt.NDArray[np.uint8]
LabelArray = npt.NDArray[np.int64]

# Per channel R, G, B over the 50,000 training images, on the 0..1 scale.
MEAN = (0.49140, 0.48216, 0.44653)
STD = (0.24703, 0.24349, 0.26159)
_PACKED = "cifar10_train_images.npy.xz"
_PICKLED = "data_batch_1"


def load_cifar10(folder: Path) -> Dataset:
    """CIFAR-10, uint8 ``[N, 3, 32, 32]``, in the official order, from ``folder`` or one inside it.

    Raises ``DataError`` when neither layout is there, or a file is damaged.
    """
    place = find_cifar10(folder)
    if place is None:
        raise DataError(
            f"there is no CIFAR-10 in {folder}; it needs {_PACKED} and its three companions, "
            "or torchvision's folder cifar-10-batches-py"
        )
    if (place / _PACKED).is_file():
        return _dataset(*_packed(place, "train"), *_packed(place, "test"))
    parts = [_pickled(place / f"data_batch_{i}") for i in range(1, 6)]
    train = np.concatenate([x for x, _ in parts]), np.concatenate([y for _, y in parts])
    return _dataset(*train, *_pickled(place / "test_batch"))


def find_cifar10(folder: Path) -> Path | None:
    """The folder of its files: ``folder``, or one inside it."""
    places = (folder, folder / "cifar10", folder / "cifar10" / "cifar-10-batches-py",
              folder / "cifar-10-batches-py")  # fmt: skip
    names = (_PACKED, _PICKLED)
    return next((p for p in places if any((p / n).is_file() for n in names)), None)


def _dataset(
    x_train: ByteArray, y_train: LabelArray, x_test: ByteArray, y_test: LabelArray
) -> Dataset:
    return Dataset("cifar10", x_train, y_train, x_test, y_test, MEAN, STD, Augmentation())


def _packed(folder: Path, part: str) -> tuple[ByteArray, LabelArray]:
    images, labels = (folder / f"cifar10_{part}_{what}" for what in ("images.npy.xz", "labels.npy"))
    with _explained(images, "an array of images, a .npy packed by xz"), lzma.open(images) as file:
        x = np.load(file, allow_pickle=False)
    with _explained(labels, "an array of labels, a .npy"), labels.open("rb") as plain:
        y = np.load(plain, allow_pickle=False)
    if x.ndim != 4 or x.shape[1:] != (32, 32, 3):
        raise DataError(f"{images} holds {list(x.shape)}; CIFAR-10 images are [N, 32, 32, 3]")
    return _checked(images, np.ascontiguousarray(x.transpose(0, 3, 1, 2)), y)


@contextmanager
def _explained(path: Path, what: str) -> Iterator[None]:
    """Errors of a file that should hold ``what``, as one sentence."""
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(f"there is no file {path}; it holds {what}") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    except _Foreign as error:
        raise DataError(f"{path} is refused: {error}; it should be {what}") from error
    except Exception as error:  # a damaged file raises what its bytes happen to spell
        raise DataError(f"{path} is damaged, or not {what}; fetch it again") from error


def _pickled(path: Path) -> tuple[ByteArray, LabelArray]:
    content = _unpickle(path)
    found = content if isinstance(content, dict) else {}
    data = found.get(b"data", found.get("data"))
    labels = found.get(b"labels", found.get("labels"))
    if not isinstance(data, _Array) or not isinstance(labels, list):
        raise DataError(f"{path} lacks data or labels; a CIFAR-10 batch is a dictionary of both")
    if data.value.ndim != 2 or data.value.shape[1] != 3072:
        raise DataError(f"{path}: data is {list(data.value.shape)}; CIFAR-10 rows hold 3072 bytes")
    if not all(isinstance(label, int) for label in labels):
        raise DataError(f"{path}: labels holds something else than integers 0..9")
    return _checked(path, data.value.reshape(-1, 3, 32, 32), np.array(labels, np.int64))


def _checked(
    path: Path, x: npt.NDArray[np.generic], y: npt.NDArray[np.generic]
) -> tuple[ByteArray, LabelArray]:
    if x.dtype != np.uint8 or y.ndim != 1 or y.dtype.kind not in "iu":
        raise DataError(f"{path}: {x.dtype} images with {y.dtype} labels; uint8 and integers fit")
    labels = y.astype(np.int64)
    if len(x) != len(labels) or not len(x):
        raise DataError(
            f"{path}: {len(x)} images with {len(labels)} labels; the numbers must agree"
        )
    if labels.min() < 0 or labels.max() > 9:
        raise DataError(f"{path}: labels reach {labels.min()}..{labels.max()}; CIFAR-10's are 0..9")
    return x.astype(np.uint8, copy=False), labels


class _Foreign(pickle.UnpicklingError):
    """A pickle asks for what no CIFAR-10 batch has in it."""


class _Dtype:
    """Stand-in for ``numpy.dtype``: of its state only the name of a byte-sized integer counts."""

    def __init__(self, code: str | bytes, *_: object) -> None:
        name = code.decode("latin1") if isinstance(code, bytes) else code
        if name not in ("u1", "uint8", "|u1"):
            raise _Foreign(f"an array of {name!r}, where CIFAR-10 has uint8")

    def __setstate__(self, state: object) -> None:
        """A byte has no byte order and no fields, so there is nothing to take over."""


class _Array:
    """Stand-in for ``numpy.ndarray``: takes bytes and a shape, both checked by NumPy."""

    value: ByteArray

    def __setstate__(self, state: tuple[int, tuple[int, ...], _Dtype, bool, bytes]) -> None:
        _, shape, dtype, fortran, data = state
        if not isinstance(dtype, _Dtype) or not isinstance(data, bytes):
            raise _Foreign("an array without plain bytes")
        self.value = np.frombuffer(data, np.uint8).reshape(shape, order="F" if fortran else "C")


def _reconstruct(*_: object) -> _Array:
    return _Array()


def _from_buffer(data: bytes, dtype: _Dtype, shape: tuple[int, ...], order: str) -> _Array:
    array = _Array()
    array.__setstate__((1, shape, dtype, order == "F", bytes(data)))
    return array


def _encode(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise _Foreign(f"bytes written as {encoding!r}, where pickle uses latin1")
    return text.encode("latin1")


_ADMITTED: dict[tuple[str, str], object] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
    **{(f"numpy.{c}.multiarray", "_reconstruct"): _reconstruct for c in ("core", "_core")},
    **{(f"numpy.{c}.numeric", "_frombuffer"): _from_buffer for c in ("core", "_core")},
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in _ADMITTED:
            raise _Foreign(f"it asks for {module}.{name}")
        return _ADMITTED[module, name]

    def persistent_load(self, pid: object) -> NoReturn:
        raise _Foreign("it asks for an object outside the file")


def _unpickle(path: Path) -> object:
    what = "a CIFAR-10 batch, a pickle of arrays, bytes, strings, lists and dictionaries"
    with _explained(path, what), path.open("rb") as file:
        return _Unpickler(file, encoding="bytes").load()
