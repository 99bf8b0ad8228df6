"""The kinds of update: what each optimizer reads, what it keeps, and its formula.

A kind is all that there is to say of an optimizer: its op in the IR, what capture reads of torch's
class, what is state, the reference and the kernels follow from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import cache
from typing import Any

from . import update_rules as rules
from .program import Attr, Op
from .rule import Formula, UpdateRule, write

Options = Mapping[str, Any]  # a parameter group of torch
COUNT = "step"


@dataclass(frozen=True, slots=True)
class Number:
    """A hyper-parameter: which setting of a group it is, or which number ``at`` a pair.

    The ``rest`` is 1 minus it: f32 holds 1 - beta to its last digits, beta itself not. One of no
    setting is 0.
    """

    setting: str
    at: int | None = None
    rest: bool = False

    def read(self, group: Options) -> float:
        """The number as a group of torch has it now."""
        if not self.setting:
            return 0.0
        found = group[self.setting]
        value = float(found if self.at is None else found[self.at])
        return 1.0 - value if self.rest else value


class Rounds(Enum):
    """Whether what is kept may be rounded between steps, and on which side of zero its levels lie.

    A rounding that every step repeats must not add up: averages forget it.
    """

    NEVER = auto()
    SIGNED = auto()  # averages of gradients
    POSITIVE = auto()  # averages of what has no sign


@dataclass(frozen=True, slots=True)
class Beside:
    """What stands beside a parameter: torch's name, ours, and whether it is a single ``number``."""

    theirs: str
    ours: str
    number: bool = False
    rounds: Rounds = Rounds.NEVER


@dataclass(frozen=True, slots=True)
class FixedSetting:
    """A setting of a group that is part of the program: its name and range as an attribute."""

    setting: str
    range: str
    default: Attr

    def read(self, group: Options) -> Attr:
        """As an attribute."""
        value = group.get(self.setting)
        if isinstance(value, list | tuple):
            return tuple(map(float, value))
        return self.default if value is None else value


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of update: its op, what that reads and what it keeps.

    ``numbers`` are read from a group of torch at every call; weight decay comes last, so that a
    parameter of a pass may have its own. ``flags`` and ``settings`` are part of the program. An op
    that ``counts`` reads the number of steps. A flag of ``others`` makes it another kind. Without a
    ``formula`` the elements of a parameter meet.
    """

    op: str
    meaning: str
    numbers: Mapping[str, Number]
    kept: tuple[Beside, ...]
    formula: Formula | None
    flags: tuple[str, ...] = ("maximize",)
    counts: bool = True
    others: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, FixedSetting] = field(default_factory=dict)
    shape: str = "*S"

    @property
    def operands(self) -> dict[str, bool]:
        """What the op reads, in its order, and whether each element has its own."""
        kept = {k.theirs: not k.number for k in self.kept}
        count = {COUNT: False} if self.counts else {}
        return {"w": True, "dw": True} | kept | count | dict.fromkeys(self.numbers, False)

    @property
    def signature(self) -> str:
        """As ``ops/signature.py`` reads it."""
        whole = f"f32[{self.shape}]"
        kept = {k.theirs: "f32[]" if k.number else whole for k in self.kept}
        types = {"w": whole, "dw": f"float[{self.shape}]"} | kept
        types |= {COUNT: "int[]"} if self.counts else {}
        types |= dict.fromkeys(self.numbers, "f32[]")
        ranges = dict.fromkeys(self.flags, "flag") | {k: s.range for k, s in self.settings.items()}
        inputs, attrs = (", ".join(f"{k}: {t}" for k, t in x.items()) for x in (types, ranges))
        made = ", ".join(f"{k}1: {t}" for k, t in {"w": whole, **kept}.items())
        return f"{self.op}({inputs}){f' {{{attrs}}}' if attrs else ''} -> {made}"

    def fixed(self, group: Options) -> dict[str, Attr]:
        """Flags and settings of a group of torch, as attributes of the op."""
        flags: dict[str, Attr] = {flag: bool(group.get(flag)) for flag in self.flags}
        return flags | {key: s.read(group) for key, s in self.settings.items()}


def _numbers(*names: str) -> dict[str, Number]:
    """Settings that are a number each; weight decay is behind them."""
    return {name: Number(name) for name in (*names, "weight_decay")}


def _same(*names: str) -> tuple[Beside, ...]:
    return tuple(Beside(name, name) for name in names)


def _averages(*names: str) -> tuple[Beside, ...]:
    """Of gradients."""
    return tuple(Beside(name, name, rounds=Rounds.SIGNED) for name in names)


def _sizes(*names: str) -> tuple[Beside, ...]:
    """Averages of squares, or largest of fading magnitudes."""
    return tuple(Beside(name, name, rounds=Rounds.POSITIVE) for name in names)


MOMENTUM = Beside("momentum_buffer", "momentum", rounds=Rounds.SIGNED)
BETAS = {f"one_minus_beta{i + 1}": Number("betas", i, rest=True) for i in range(2)}
ADAM = {"lr": Number("lr"), **BETAS, **_numbers("eps")}
RMSPROP = _numbers("lr", "alpha", "eps", "momentum")
DECOUPLED = ("decoupled_weight_decay", "maximize")
MOMENTS = (*_averages("exp_avg"), *_sizes("exp_avg_sq"))
KINDS: dict[str, Kind] = {
    kind.op: kind
    for kind in (
        Kind(
            "sgd",
            "torch.optim.SGD; the buffer is none where step is 0",
            _numbers("lr", "momentum", "dampening"),
            (MOMENTUM,),
            rules.sgd,
            ("nesterov", "maximize"),
        ),
        Kind(
            "adam",
            "torch.optim.Adam and AdamW",
            ADAM,
            MOMENTS,
            rules.adam,
            DECOUPLED,
            others={"amsgrad": "amsgrad"},
        ),
        Kind(
            "amsgrad",
            "the same with amsgrad",
            ADAM,
            (*MOMENTS, *_sizes("max_exp_avg_sq")),
            rules.amsgrad,
            DECOUPLED,
        ),
        Kind(
            "nadam",
            "torch.optim.NAdam",
            {"lr": Number("lr"), **BETAS, **_numbers("eps", "momentum_decay")},
            (*MOMENTS, Beside("mu_product", "mu_product", number=True)),
            rules.nadam,
            DECOUPLED,
        ),
        Kind("radam", "torch.optim.RAdam", ADAM, MOMENTS, rules.radam, DECOUPLED),
        Kind(
            "adamax",
            "torch.optim.Adamax",
            ADAM,
            (*_averages("exp_avg"), *_sizes("exp_inf")),
            rules.adamax,
        ),
        Kind(
            "rmsprop",
            "torch.optim.RMSprop",
            RMSPROP,
            (*_sizes("square_avg"), MOMENTUM),
            rules.rmsprop,
            counts=False,
            others={"centered": "rmsprop_centered"},
        ),
        Kind(
            "rmsprop_centered",
            "the same with centered",
            RMSPROP,
            (*_same("square_avg"), MOMENTUM, *_same("grad_avg")),
            rules.rmsprop_centered,
            counts=False,
        ),
        Kind(
            "adagrad",
            "torch.optim.Adagrad",
            _numbers("lr", "lr_decay", "eps", "initial_accumulator_value"),
            (Beside("sum", "square_sum"),),
            rules.adagrad,
        ),
        Kind(
            "adadelta",
            "torch.optim.Adadelta",
            {"lr": Number("lr"), "one_minus_rho": Number("rho", rest=True), **_numbers("eps")},
            _sizes("square_avg", "acc_delta"),
            rules.adadelta,
            counts=False,
        ),
        Kind(
            "asgd",
            "torch.optim.ASGD",
            _numbers("lr", "lambd", "alpha", "t0"),
            (*(Beside(k, k, number=True) for k in ("eta", "mu")), *_same("ax")),
            rules.asgd,
        ),
        Kind(
            "rprop",
            "torch.optim.Rprop",
            {
                "lr": Number("lr"),
                "etaminus": Number("etas", 0),
                "etaplus": Number("etas", 1),
                "step_size_min": Number("step_sizes", 0),
                "step_size_max": Number("step_sizes", 1),
                "weight_decay": Number(""),
            },
            _same("prev", "step_size"),
            rules.rprop,
        ),
        Kind(
            "lion",
            "Lion of lion_pytorch and timm",
            {"lr": Number("lr"), **BETAS, **_numbers()},
            _averages("exp_avg"),
            rules.lion,
            counts=False,
        ),
        Kind(
            "muon",
            "torch.optim.Muon, see targets/plan/muon.py",
            {
                "lr": Number("lr"),
                "one_minus_momentum": Number("momentum", rest=True),
                **_numbers("eps"),
            },
            (MOMENTUM,),
            None,
            ("nesterov",),
            counts=False,
            settings={
                "ns_coefficients": FixedSetting("ns_coefficients", "3 floats", (0.0, 0.0, 0.0)),
                "ns_steps": FixedSetting("ns_steps", "int 0..99", 5),
                "adjust_lr": FixedSetting("adjust_lr_fn", "original|match_rms_adamw", "original"),
            },
            shape="R C",
        ),
    )
}


@cache
def _rule(kind: str, attrs: tuple[tuple[str, Attr], ...]) -> UpdateRule:
    of = KINDS[kind]
    assert of.formula is not None, f"{kind} is no rule of elements"
    return write(of.formula, of.operands, COUNT, dict(attrs))


def rule_of(op: Op) -> UpdateRule:
    """The rule of an update."""
    return _rule(op.kind, tuple(sorted(op.attrs.items())))
