"""Options of a pass: the keyword-only parameters of its function, with their types and defaults.

bool    true | false | yes | no | on | off | 1 | 0
int     4, +1
float   5e-4; never infinite or NaN
Literal one of the listed values
FormatName  a format of at most 8 bits by its name: fp8.143, int8, fp5.e3m1 (``compiler.spelled``)
str     anything; a list of strings is joined with commas
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, get_args, get_origin, get_type_hints

from ...compiler.errors import RecipeError, closest
from ...compiler.ir import Program
from ...compiler.spelled import OPERANDS, is_operand
from .select import LAYER_OPTIONS

Setting = bool | int | float | str
Pass = Callable[..., Program]
FormatName = Annotated[str, "a format"]
FLAGS = {"true": True, "yes": True, "on": True, "1": True} | {
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}


@dataclass(frozen=True, slots=True)
class Option:
    """One option: its name, plain type, default, and the values to choose from (or none).

    Where it ``is_format`` its text is the name of one.
    """

    name: str
    type: type
    default: Setting
    choices: tuple[Setting, ...] = ()
    is_format: bool = False

    def read(self, raw: object, owner: str) -> Setting:
        """The setting that ``raw`` (text or a TOML value) stands for; RecipeError if it is none."""
        try:
            value = READERS[self.type](raw)
        except (ValueError, KeyError, TypeError):
            raise self.refuse(raw, owner) from None
        if self.choices and value not in self.choices:
            raise self.refuse(raw, owner)
        if self.is_format and not is_operand(str(value)):
            raise self.refuse(raw, owner)
        return value

    def refuse(self, raw: object, owner: str) -> RecipeError:
        """The error about a wrong value."""
        if callable(raw) and self.name in LAYER_OPTIONS:
            return RecipeError(
                f"option {self.name} of {owner} is a function, which is asked where a model is: in "
                "the options of quatrain.compile; give patterns of layers here"
            )
        right = {bool: "true or false", int: "an integer", float: "a finite number"}
        if self.is_format:
            right[str] = f"the name of a format of at most 8 bits ({closest(str(raw), OPERANDS)})"
        *some, last = map(as_typed, self.choices or (right.get(self.type, "text"),))
        wanted = f"{', '.join(some)} or {last}" if some else last
        return RecipeError(f"option {self.name} of {owner} must be {wanted}, not {raw!r}")


def options_of(function: Pass) -> dict[str, Option]:
    """The options of a pass by name; RecipeError where its signature is not that of a pass."""
    name = getattr(function, "__name__", repr(function))
    try:
        parameters = list(inspect.signature(function).parameters.values())
        hints = get_type_hints(function, include_extras=True)
    except (TypeError, ValueError, NameError) as e:
        raise RecipeError(f"the signature of {name} cannot be read ({e})") from None
    positional = [p for p in parameters if p.kind is not inspect.Parameter.KEYWORD_ONLY]
    if len(positional) != 1:
        raise RecipeError(f"{name} is no pass; a pass is 'def {name}(program, *, option=default)'")
    found = {}
    for p in parameters:
        if p.kind is inspect.Parameter.KEYWORD_ONLY:
            found[p.name] = _option(name, p, hints.get(p.name))
    return found


def _option(owner: str, parameter: inspect.Parameter, hint: object) -> Option:
    default = parameter.default
    if type(default) not in READERS:
        raise RecipeError(
            f"option {parameter.name} of {owner} needs a default that is a flag, a number or text"
        )
    choices = get_args(hint) if get_origin(hint) is Literal else ()
    return Option(parameter.name, type(default), default, choices, hint == FormatName)


def read_options(
    owner: str, known: Mapping[str, Option], raw: Mapping[str, object]
) -> dict[str, Setting]:
    """All options of a pass: ``raw`` where it says something, defaults elsewhere."""
    for key in raw:
        if key not in known:
            hint = closest(key, known) if known else "it has none"
            raise RecipeError(f"{owner} has no option {key!r}; {hint}")
    return {n: o.read(raw[n], owner) if n in raw else o.default for n, o in known.items()}


def as_typed(setting: Setting) -> str:
    """A setting as a person types it."""
    return str(setting).lower() if isinstance(setting, bool) else str(setting)


def require(condition: bool, sentence: str) -> None:
    """Raise RecipeError with ``sentence`` unless ``condition`` holds."""
    if not condition:
        raise RecipeError(sentence)


def _flag(raw: object) -> bool:
    return raw if isinstance(raw, bool) else FLAGS[str(raw).strip().lower()]


def _int(raw: object) -> int:
    if isinstance(raw, bool) or (isinstance(raw, float) and not raw.is_integer()):
        raise ValueError
    return int(raw) if isinstance(raw, (int, float, str)) else int(str(raw))


def _float(raw: object) -> float:
    if isinstance(raw, bool):
        raise ValueError
    value = float(str(raw))
    if not math.isfinite(value):
        raise ValueError
    return value


def _text(raw: object) -> str:
    if isinstance(raw, (list, tuple)):
        return ",".join(map(_text, raw))
    if not isinstance(raw, (str, int, float)):
        raise TypeError
    return as_typed(raw).strip()


READERS: dict[type, Callable[[object], Setting]] = {
    bool: _flag,
    int: _int,
    float: _float,
    str: _text,
}
