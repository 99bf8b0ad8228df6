"""A table of a TOML file whose keys are taken one by one; what is wrong is one sentence."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import TypeVar

from ...compiler.errors import FileError, closest

T = TypeVar("T")
MOST = 1e12  # larger numbers are mistakes, and smaller ones keep all counts exact


class TomlReader:
    """Keys of a table; those that nobody asked for are an error at the end."""

    def __init__(self, data: Mapping[str, object], where: str, path: str = "") -> None:
        self._data, self.where, self._path = data, where, path
        self._asked: dict[str, None] = {}

    def _fail(self, key: str, message: str) -> FileError:
        return FileError(f"{self.where}: {self._path}{key} {message}")

    def _get(self, key: str) -> object:
        self._asked[key] = None
        return self._data.get(key)

    def table(self, key: str, *, needed: bool = True) -> TomlReader:
        """The table of a key; an empty one where it is missing and not needed."""
        found = self._get(key)
        if found is None and not needed:
            found = {}
        if not isinstance(found, dict):
            raise self._fail(key, f"is missing; it is a table, [{self._path}{key}]")
        return TomlReader(found, self.where, f"{self._path}{key}.")

    def tables(self, key: str) -> list[TomlReader]:
        """The tables of an array, at least one."""
        found = self._get(key)
        if not isinstance(found, list) or not found or not all(isinstance(t, dict) for t in found):
            raise self._fail(key, f"are missing; each is a table, [[{self._path}{key}]]")
        return [TomlReader(t, self.where, f"{self._path}{key}[{i}].") for i, t in enumerate(found)]

    def number(self, key: str, *, least: float = 0.0) -> float:
        """A number of at least ``least``."""
        found = self._get(key)
        if isinstance(found, bool) or not isinstance(found, int | float):
            what = "is missing" if found is None else f"is {found!r}"
            raise self._fail(key, f"{what}; it is a number")
        if not least <= found <= MOST or math.isnan(found):
            raise self._fail(key, f"is {found!r}; it lies between {least:g} and {MOST:g}")
        return float(found)

    def whole(self, key: str, default: int | None = None) -> int:
        """A whole number of at least 1."""
        if default is not None and self._get(key) is None:
            return default
        found = self.number(key, least=1)
        if found != int(found):
            raise self._fail(key, f"is {found!r}; it is a whole number")
        return int(found)

    def fraction(self, key: str) -> Fraction:
        """A number above 0, also written as "1/4"."""
        found = self._get(key)
        try:
            made = Fraction(str(found)) if not isinstance(found, bool) else Fraction(0)
        except (ValueError, ZeroDivisionError):
            made = Fraction(0)
        if not Fraction(1, 1 << 20) <= made <= 1 << 20:
            raise self._fail(key, f'is {found!r}; it is a number above 0, such as 2 or "1/4"')
        return made.limit_denominator(1 << 20)

    def flag(self, key: str) -> bool:
        """true or false; false where it is missing."""
        found = self._get(key)
        if found not in (None, True, False):
            raise self._fail(key, f"is {found!r}; it is true or false")
        return bool(found)

    def text(self, key: str, default: str | None = None) -> str:
        """Some words."""
        found = self._get(key)
        if found is None and default is not None:
            return default
        if not isinstance(found, str) or not found.strip():
            raise self._fail(key, "is missing" if found is None else "is no text")
        return found

    def source(self) -> str:
        """Where the numbers of the table are from, which no table may leave out."""
        if self._get("source") is None:
            raise self._fail("source", "is missing; say where these numbers are from")
        return self.text("source")

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of sentences; none where it is missing."""
        found = self._get(key)
        if found is None:
            return ()
        if not isinstance(found, list) or not all(isinstance(x, str) for x in found):
            raise self._fail(key, "is no list of sentences")
        return tuple(found)

    def pair(self, key: str) -> tuple[str, str]:
        """Two words."""
        found = self.texts(key)
        if len(found) != 2:
            raise self._fail(key, "are two words, one for each operand")
        return found[0], found[1]

    def word(self, key: str, known: Sequence[str], default: str) -> str:
        """One of some words."""
        found = self.text(key, default)
        if found not in known:
            raise self._fail(key, f"is {found!r}; it is one of {', '.join(known)}")
        return found

    def numbers(self, *, but: str) -> Iterator[tuple[str, float]]:
        """All keys with their numbers, but one."""
        for key in self._data:
            if key != but:
                yield key, self.number(key)

    def ended(self, made: T) -> T:
        """``made``, where the table holds nothing else."""
        self.finish()
        return made

    def finish(self) -> None:
        """FileError for a key that nobody asked for."""
        extra = next((key for key in self._data if key not in self._asked), None)
        if extra is not None:
            raise self._fail(extra, f"is not known; {closest(extra, list(self._asked))}")
