"""Accelerators read from TOML: those that quatrain carries, and files of users."""

from __future__ import annotations

import tomllib
from pathlib import Path

from ...compiler.errors import FileError, UsageError, closest
from .accelerator import (
    Accelerator,
    CostedArray,
    CostedBuffer,
    CostedLanes,
    CostedMemory,
    CostedUnit,
    Gathers,
)
from .takes import WORD
from .toml_reader import TomlReader

FOLDER = Path(__file__).parent / "accelerators"
SUFFIX = ".toml"


def accelerator_names() -> tuple[str, ...]:
    """The accelerators that quatrain carries."""
    return tuple(sorted(path.stem for path in FOLDER.glob(f"*{SUFFIX}")))


def load_accelerator(which: str) -> Accelerator:
    """An accelerator by name, or of a TOML file.

    UsageError or FileError where there is none, or its file says too little, too much or nonsense.
    """
    if which in accelerator_names():
        return _read(FOLDER / f"{which}{SUFFIX}")
    if not which.endswith(SUFFIX):
        hint = closest(which, accelerator_names())
        raise UsageError(f"no accelerator is called {which!r}; {hint}; or name a file, FILE.toml")
    return _read(Path(which))


def _read(path: Path) -> Accelerator:
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileError(f"there is no file {path}; an accelerator is a TOML file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FileError(f"{path}: no TOML: {str(error).splitlines()[0]}") from None
    return _accelerator(TomlReader(data, str(path)), path.stem)


def _accelerator(top: TomlReader, name: str) -> Accelerator:
    clock, array, buffers = (top.table(key) for key in ("clock", "array", "buffers"))
    sums = buffers.table("sums")
    sum_bits = sums.whole("sum_bits", 32)
    area = top.table("area_mm2", needed=False)
    made = Accelerator(
        name=name,
        title=top.text("title", name),
        megahertz=clock.number("mhz", least=1e-3),
        clock_source=clock.source(),
        array=_array(array),
        units=tuple(_unit(unit) for unit in top.tables("units")),
        data=_buffer(buffers.table("data")),
        weights=_buffer(buffers.table("weights")),
        sums=_buffer(sums),
        sum_bits=sum_bits,
        memory=_memory(top.table("memory")),
        lanes=_lanes(top.table("lanes")),
        area=tuple(area.numbers(but="source")),
        area_source=area.text("source", ""),
        assumptions=top.texts("assumptions"),
    )
    for reader in (top, clock, buffers, sums, area):
        reader.finish()
    return made


def _array(found: TomlReader) -> CostedArray:
    made = CostedArray(
        inputs=found.whole("inputs"),
        outputs=found.whole("outputs"),
        pixels=found.whole("pixels", 1),
        arrays=found.whole("arrays", 1),
        gathers=Gathers(found.word("gathers", tuple(Gathers), Gathers.NEVER)),
        source=found.source(),
    )
    return found.ended(made)


def _unit(found: TomlReader) -> CostedUnit:
    first, second = found.pair("takes")
    for word in (first, second):
        if not WORD.fullmatch(word):
            raise FileError(
                f"{found.where}: a unit takes {word!r}, which is no kind of numbers; "
                "int8, log4 and e5m3 are"
            )
    return found.ended(
        CostedUnit(
            found.text("name", f"{first} x {second}"),
            (first, second),
            found.fraction("rate"),
            found.number("pj"),
            found.flag("assumed"),
            found.source(),
        )
    )


def _buffer(found: TomlReader) -> CostedBuffer:
    made = CostedBuffer(
        found.number("kib", least=1e-3),
        0.5 if found.flag("double") else 1.0,
        found.number("read_pj_per_bit"),
        found.number("write_pj_per_bit"),
        found.source(),
    )
    return found.ended(made)


def _memory(found: TomlReader) -> CostedMemory:
    width, pj = found.number("bits_per_cycle", least=1e-3), found.number("pj_per_bit")
    return found.ended(CostedMemory(width, pj, found.source()))


def _lanes(found: TomlReader) -> CostedLanes:
    made = CostedLanes(
        lanes=found.whole("count"),
        add_pj=found.number("add_pj"),
        multiply_pj=found.number("multiply_pj"),
        function_pj=found.number("function_pj"),
        random_pj=found.number("random_pj"),
        source=found.source(),
    )
    return found.ended(made)
