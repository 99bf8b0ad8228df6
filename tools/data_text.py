"""Text for language models: files of a training and a held-out part, or one file that is cut."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..compiler.errors import DataError
from .data_word import Reading
from .dataset import CHARACTERS, WORDS, Text, Tokens
from .files import read_text

ENDINGS = (".txt", ".tokens")
HELD_OUT = ("test", "valid", "val", "validation")
UNKNOWN, END = "<unk>", "<eos>"
KEYS = ("tokens", "time_first", "held_out")


def is_text(path: Path) -> bool:
    """Whether ``path`` is a text file, or a folder with some."""
    return path.suffix in ENDINGS or (path.is_dir() and bool(_texts(path)))


def load_text(path: Path, reading: Reading) -> Text:
    """The text of ``path``.

    Tokens are words where the training text has ``<unk>`` among them, as published texts of words
    do, and else characters; a line of words ends in ``<eos>``. The vocabulary are the tokens of the
    training text in the order of their characters; held-out tokens that it lacks are ``<unk>``.
    """
    train, test = _parts(path, reading.held_out)
    unit = reading.tokens or (WORDS if UNKNOWN in train.split() else CHARACTERS)
    number = _words if unit == WORDS else _characters
    for part, text in (("training", train), ("held-out", test)):
        if not text.strip():
            raise DataError(f"{path} has no {part} text; it is empty or too short to be cut")
    return Text(path.stem, unit, *number(train, test), reading.time_first)


def _texts(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix in ENDINGS and p.is_file())


def _parts(path: Path, held_out: float) -> tuple[str, str]:
    """Training and held-out text."""
    if not path.is_dir():
        return _cut(path, held_out)
    texts = _texts(path)
    trains = [p for p in texts if _word(p) == "train"]
    if len(trains) == 1:
        (train,) = trains
        for word in HELD_OUT:
            test = train.with_name(train.stem.removesuffix("train") + word + train.suffix)
            if test.is_file():
                return read_text(train), read_text(test)
        raise DataError(
            f"{path} has {train.name} and no {', '.join(HELD_OUT[:-1])} beside it; name the file "
            "itself, and a share of it is held out"
        )
    if len(texts) == 1:
        return _cut(texts[0], held_out)
    names = ", ".join(p.name for p in texts)
    raise DataError(f"{path} holds {names}; it needs train.txt and test.txt, or one file alone")


def _word(path: Path) -> str:
    """The last word of a file's name: ``train`` of ``ptb.train.txt``."""
    return path.stem.replace("_", ".").replace("-", ".").rpartition(".")[2]


def _cut(path: Path, held_out: float) -> tuple[str, str]:
    """A text whose end is held out."""
    if not path.is_file():
        raise DataError(f"there is no file {path}")
    text = read_text(path)
    place = round(len(text) * (1 - held_out))
    return text[:place], text[place:]


def _words(train: str, test: str) -> tuple[tuple[str, ...], Tokens, Tokens]:
    parts = [text.replace("\n", f" {END} ").split() for text in (train, test)]
    known = sorted(set(parts[0]))
    if UNKNOWN not in known and not set(parts[1]) <= set(known):
        known.append(UNKNOWN)
    numbers = {word: i for i, word in enumerate(known)}
    other = numbers.get(UNKNOWN, -1)
    ids = [np.array([numbers.get(word, other) for word in part], np.int64) for part in parts]
    return tuple(known), ids[0], ids[1]


def _characters(train: str, test: str) -> tuple[tuple[str, ...], Tokens, Tokens]:
    points = [np.frombuffer(text.encode("utf-32-le"), np.uint32) for text in (train, test)]
    known, ids = np.unique(points[0], return_inverse=True)
    found = np.minimum(np.searchsorted(known, points[1]), len(known) - 1)
    strange = known[found] != points[1]
    vocabulary = [*map(chr, known.tolist()), *([UNKNOWN] if strange.any() else [])]
    held = np.where(strange, len(known), found).astype(np.int64)
    return tuple(vocabulary), ids.astype(np.int64), held
