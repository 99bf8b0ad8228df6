"""The word after ``--data``: ``NAME`` or ``PATH``, and how to read it, ``:key=value,...``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..compiler.errors import UsageError, closest
from .arguments import pairs, sizes
from .dataset import CHARACTERS, WORDS, Augmentation


@dataclass(frozen=True, slots=True)
class Reading:
    """How data are to be read.

        held_out    share of what is not split yet that is for testing
        seed        which examples these are
        tokens      words or characters
        time_first  whether a batch of the network is [time, batch], where it does not tell itself
        resize      height and width that images are brought to
        channels    1 or 3, which they are brought to
        pad         random crops of the training images with so many zeros around them
        mirror      half of them mirrored

    None where the user said nothing and the data decide.
    """

    held_out: float = 0.1
    seed: int = 0
    tokens: str | None = None
    time_first: bool | None = None
    resize: tuple[int, int] | None = None
    channels: int | None = None
    pad: int = 0
    mirror: bool = False

    @property
    def augmentation(self) -> Augmentation | None:
        """What is done to training images, if anything."""
        return Augmentation(self.pad, self.mirror) if self.pad or self.mirror else None


def split_word(word: str) -> tuple[str, dict[str, str]]:
    """Name or path, and the options behind its last colon; a colon without them is of the path."""
    place, colon, options = word.rpartition(":")
    if not colon or "=" not in options:
        return word, {}
    return place, pairs(options.split(","), f"--data {place}:")


def read_options(place: str, given: Mapping[str, str], known: tuple[str, ...]) -> Reading:
    """The options of data whose kind has those that are ``known``; UsageError for others."""
    for key in given:
        if key not in known:
            hint = closest(key, known) if known else "it takes none"
            raise UsageError(f"--data {place}: has no option {key!r}; {hint}")
    return Reading(**{key: _READ[key](f"--data {place}: {key}", v) for key, v in given.items()})  # type: ignore[arg-type]


def _share(what: str, word: str) -> float:
    try:
        share = float(word)
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        raise UsageError(f"{what}={word} is no share between 0 and 1")
    return share


def _whole(what: str, word: str) -> int:
    if not word.isascii() or not word.isdigit() or len(word) > 9:
        raise UsageError(f"{what}={word} is no whole number of at least 0")
    return int(word)


def _flag(what: str, word: str) -> bool:
    return _one_of(what, word, ("true", "false")) == "true"


def _tokens(what: str, word: str) -> str:
    return _one_of(what, word, (WORDS, CHARACTERS))


def _channels(what: str, word: str) -> int:
    return int(_one_of(what, word, ("1", "3")))


def _one_of(what: str, word: str, known: tuple[str, ...]) -> str:
    if word not in known:
        raise UsageError(f"{what}={word} is unknown; it is {' or '.join(known)}")
    return word


def _size(what: str, word: str) -> tuple[int, int]:
    found = sizes(word, f"{what}=")
    if len(found) > 2:
        raise UsageError(f"{what}={word} is no size of an image; one reads like 32 or 24x32")
    return found[0], found[-1]


_READ = {
    "held_out": _share, "seed": _whole, "tokens": _tokens, "time_first": _flag,
    "resize": _size, "channels": _channels, "pad": _whole, "mirror": _flag,
}  # fmt: skip
