"""Images in folders by class, as torchvision's ``ImageFolder`` reads them: PNG, JPEG and others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..compiler.errors import DataError
from .data_word import Reading
from .dataset import Array, Dataset, held_out_rows
from .pixels import mean_and_std

if TYPE_CHECKING:
    from PIL.Image import Image

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".pgm", ".webp")
HELD_OUT = ("test", "val", "valid", "validation")
KEYS = ("resize", "channels", "pad", "mirror")
SPLIT = ("held_out", "seed")
# What Pillow calls images that have one or three channels of bytes, and what they become.
PLAIN = {"1": "L", "L": "L", "P": "RGB", "RGB": "RGB"}
MODES, CHANNELS = {1: "L", 3: "RGB"}, {"L": 1, "RGB": 3}

LabelledFiles = list[tuple[Path, int]]


def has_classes(path: Path) -> bool:
    """Whether there are images in folders of the folder."""
    folders = [p for p in path.iterdir() if p.is_dir()] if path.is_dir() else []
    return any(_is_image(p) for folder in folders for p in folder.rglob("*"))


def is_split(path: Path) -> bool:
    """Whether the folder has a training part that is no class itself."""
    train = path / "train"
    return has_classes(path) and train.is_dir() and not any(map(_is_image, train.iterdir()))


def load_images(path: Path, reading: Reading) -> Dataset:
    """Classes are folders in the order of their names; all images in them, at any depth, count."""
    if is_split(path):
        parts = path / "train", _held_out(path)
        names = [_classes(part) for part in parts]
        if names[0] != names[1]:
            odd = sorted(set(names[0]) ^ set(names[1]))
            raise DataError(f"{path}: class {odd[0]} is in one of {parts[0].name}, {parts[1].name}")
        train, test = (_labelled(p, n) for p, n in zip(parts, names, strict=True))
    else:
        classes = _classes(path)
        every = _labelled(path, classes)
        labels = np.array([label for _, label in every])
        out = held_out_rows(labels, reading.held_out, reading.seed, str(path), classes)
        train = [e for e, held in zip(every, out, strict=True) if not held]
        test = [e for e, held in zip(every, out, strict=True) if held]
    (x, y), (x_test, y_test) = _arrays([train, test], reading)
    return Dataset(path.name, x, y, x_test, y_test, *mean_and_std(x), reading.augmentation)


def _held_out(path: Path) -> Path:
    found = [path / name for name in HELD_OUT if (path / name).is_dir()]
    if not found:
        raise DataError(
            f"{path} has train and no {', '.join(HELD_OUT[:-1])} beside it; name {path / 'train'}, "
            "and a share of it is held out"
        )
    return found[0]


def _classes(folder: Path) -> list[str]:
    found = sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not found:
        raise DataError(f"{folder} has no folder for each class; images lie in FOLDER/CLASS/")
    return found


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in ENDINGS and path.is_file()


def _labelled(folder: Path, names: Sequence[str]) -> LabelledFiles:
    found: LabelledFiles = []
    for label, name in enumerate(names):
        files = sorted(filter(_is_image, (folder / name).rglob("*")))
        if not files:
            raise DataError(f"{folder / name} holds no image ({', '.join(ENDINGS)})")
        found += [(file, label) for file in files]
    return found


def _arrays(parts: Sequence[LabelledFiles], reading: Reading) -> list[tuple[Array, Array]]:
    """The images of all parts, alike in size and channels, with their labels."""
    first = parts[0][0][0]
    shape = _pixels(first, reading).shape
    found = []
    for part in parts:
        x = np.empty((len(part), *shape), np.uint8)
        for row, (file, _) in zip(x, part, strict=True):
            pixels = _pixels(file, reading)
            if pixels.shape != shape:
                here, there = ("x".join(map(str, s)) for s in (pixels.shape, shape))
                how = ":resize=HEIGHTxWIDTH and :channels=1 or 3 make them alike"
                raise DataError(f"{file} is {here} and {first} {there}; {how}")
            row[...] = pixels
        found.append((x, np.array([label for _, label in part], np.int64)))
    return found


def _pixels(file: Path, reading: Reading) -> Array:
    """An image as uint8 ``[C, H, W]``."""
    try:
        from PIL import Image
    except ImportError as error:
        raise DataError("images are read by Pillow; install quatrain[images]") from error
    try:
        with Image.open(file) as opened:
            opened.load()
            mode = opened.mode
            made = None if _deep(mode) else _brought(opened, reading)
    except Exception as error:  # a damaged file raises what its bytes happen to spell
        raise DataError(f"{file} is damaged, or no image") from error
    if made is None:
        raise DataError(
            f"{file} has pixels of kind {mode}; bytes of one or three channels are read"
            + ("" if _deep(mode) else ", and :channels=3 or 1 converts to them")
        )
    return made


def _deep(mode: str) -> bool:
    """Whether pixels are no bytes: converting would cut them off."""
    return mode.startswith(("I", "F"))


def _brought(image: Image, reading: Reading) -> Array | None:
    """Its pixels in the channels and the size that are asked for; None where it has others."""
    from PIL.Image import Resampling

    if reading.channels is None and image.mode not in PLAIN:
        return None
    mode = MODES[reading.channels] if reading.channels else PLAIN[image.mode]
    made = image if image.mode == mode else image.convert(mode)
    if reading.resize is not None:
        made = made.resize(reading.resize[::-1], Resampling.BILINEAR)
    pixels = np.asarray(made, np.uint8).reshape(made.height, made.width, CHANNELS[mode])
    return pixels.transpose(2, 0, 1)
