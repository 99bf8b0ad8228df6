"""What ``quatrain bench`` can measure, as plain data: networks, ways to train them, layers.

The command itself loads neither torch nor TVM: each measurement runs in a process of its own, and
what this one holds would count as theirs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from fnmatch import fnmatchcase

from ...compiler.errors import UsageError, closest

FOUR_BIT = "ultra_low_4bit"


class Runner(StrEnum):
    """Who runs the step."""

    QUATRAIN = "quatrain"
    TORCH = "torch"
    FAKEQUANT = "fakequant"


@dataclass(frozen=True, slots=True)
class BenchNetwork:
    """A network of ``tools.models`` with the batch it is measured at; ``images`` it takes or not.

    ``swept`` says which of width and depth it can be scaled in.
    """

    batch: int
    images: bool = True
    swept: tuple[str, ...] = ("width", "depth")


NETWORKS = {
    "resnet20": BenchNetwork(128),
    "resnet18": BenchNetwork(64),
    "vgg11_bn": BenchNetwork(64),
    "mobilenetv2": BenchNetwork(64),
    "mlp": BenchNetwork(256, images=False),
}


@dataclass(frozen=True, slots=True)
class Workload:
    """One network at one size: a name of NETWORKS or ``FILE.py:FACTORY``.

    ``width`` and ``depth`` are factors on channels and on blocks; a ``batch`` of None is that of
    the factory's example.
    """

    network: str
    batch: int | None
    width: float = 1.0
    depth: float = 1.0

    @property
    def label(self) -> str:
        """In words: ``resnet20, batch 128, width x 2``."""
        words = [self.network.rpartition("/")[2]]
        words += [f"batch {self.batch}"] if self.batch else []
        sizes = (("width", self.width), ("depth", self.depth))
        return ", ".join(words + [f"{word} x {n:g}" for word, n in sizes if n != 1])


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to run a step; ``options`` are of quatrain's recipe, the rest is PyTorch's."""

    name: str
    way: Runner
    recipe: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    dtype: str = "fp32"
    channels_last: bool = False
    compiled: bool = False

    @property
    def builds(self) -> bool:
        """Whether it generates code, so that a cold and a warm cache differ."""
        return self.compiled or self.way is Runner.QUATRAIN

    @property
    def plain_torch(self) -> bool:
        """Whether it is PyTorch as everybody runs it: what the fastest of is looked for."""
        return self.way is Runner.TORCH

    @property
    def words(self) -> dict[str, object]:
        """As JSON, for another process."""
        return {
            "name": self.name, "way": self.way.value, "recipe": self.recipe,
            "options": dict(self.options), "dtype": self.dtype,
            "channels_last": self.channels_last, "compiled": self.compiled,
        }  # fmt: skip


def _torch(dtype: str, channels_last: bool, compiled: bool) -> Contender:
    name = f"{'torch.compile' if compiled else 'torch'} {dtype}"
    name += " channels_last" if channels_last else ""
    return Contender(
        name, Runner.TORCH, dtype=dtype, channels_last=channels_last, compiled=compiled
    )


CONTENDERS = (
    Contender(f"quatrain {FOUR_BIT}", Runner.QUATRAIN, FOUR_BIT),
    Contender(
        f"quatrain {FOUR_BIT} recompute=bn_input", Runner.QUATRAIN, FOUR_BIT,
        {"recompute": "bn_input"},
    ),
    Contender(f"quatrain {FOUR_BIT} fp8_on=none", Runner.QUATRAIN, FOUR_BIT, {"fp8_on": "none"}),
    Contender("quatrain fp32", Runner.QUATRAIN, "fp32"),
    *(
        _torch(dtype, channels_last, compiled)
        for compiled in (False, True)
        for dtype in ("fp32", "bf16")
        for channels_last in (False, True)
    ),
    Contender("fakequant", Runner.FAKEQUANT),
    Contender("fakequant torch.compile", Runner.FAKEQUANT, compiled=True),
)  # fmt: skip
# What a ratio is taken to, the first that ran.
BASELINES = ("torch fp32 channels_last", "torch fp32")
SWEPT = (
    f"quatrain {FOUR_BIT}", "torch fp32 channels_last", "torch bf16 channels_last",
    "torch fp32", "torch bf16",
)  # fmt: skip


def contenders(
    network: str, only: Sequence[str], options: Mapping[str, str], *, swept: bool = False
) -> tuple[Contender, ...]:
    """Who runs for ``network``: those that suit it, or those of them whose names fit a pattern.

    ``options`` are set in every 4-bit contender. Raises UsageError for a pattern that fits none.
    """
    if only:
        chosen = [c for c in CONTENDERS if any(_named(c, p, network) for p in only)]
        for pattern in only:
            if not any(_named(c, pattern, network) for c in CONTENDERS):
                names = [c.name for c in CONTENDERS]
                raise UsageError(f"no contender is called {pattern!r}; {closest(pattern, names)}")
    else:
        chosen = [c for c in CONTENDERS if _fits(c, network)]
        if swept:
            chosen = [c for c in chosen if c.name in SWEPT and _one_layout(c, network)]
    return tuple(_with(c, options) for c in chosen)


def without_emulated(chosen: Sequence[Contender], units: Sequence[str]) -> tuple[Contender, ...]:
    """Without PyTorch's bf16 where none of ``units`` multiplies it: that takes minutes a step."""
    has_bf16 = any("bf16" in unit for unit in units)
    return tuple(c for c in chosen if has_bf16 or not c.plain_torch or c.dtype != "bf16")


def _with(contender: Contender, options: Mapping[str, str]) -> Contender:
    if contender.recipe != FOUR_BIT or not options:
        return contender
    name = " ".join((contender.name, *(f"{k}={v}" for k, v in options.items())))
    return replace(contender, name=name, options={**contender.options, **options})


def _images(network: str) -> bool:
    return network not in NETWORKS or NETWORKS[network].images


def _named(contender: Contender, pattern: str, network: str) -> bool:
    """Whether a pattern chooses it; one that does not suit the network only by its whole name."""
    if contender.name == pattern:
        return True
    return _fits(contender, network) and fnmatchcase(contender.name, pattern)


def _one_layout(contender: Contender, network: str) -> bool:
    """Whether it is quatrain, or PyTorch in the layout that suits the network."""
    return not contender.plain_torch or contender.channels_last == _images(network)


def _fits(contender: Contender, network: str) -> bool:
    if "fp8_on" in contender.options:
        return network == "mobilenetv2"  # of these networks, the one that lives on its 1x1
    if "recompute" in contender.options or contender.channels_last:
        return _images(network)
    return True


def workload(network: str, batch: int | None) -> Workload:
    """The workload of a name or ``FILE.py:FACTORY``; UsageError for another word."""
    if network in NETWORKS:
        return Workload(network, batch or NETWORKS[network].batch)
    if ".py:" in network:
        return Workload(network, batch)
    hint = closest(network, NETWORKS)
    raise UsageError(f"no network is called {network!r}; {hint}; or name FILE.py:FACTORY")


SWEEPS = ("batch", "width", "depth")
FACTORS = (0.25, 0.5, 1.0, 2.0)
DEPTHS = (1 / 3, 1.0, 2.0, 3.0)


def sweep(first: Workload, along: str) -> tuple[Workload, ...]:
    """The sizes at which the cost of ``first`` is looked at; UsageError where it cannot grow so."""
    if along not in SWEEPS:
        raise UsageError(f"--sweep {along!r} is not known; {closest(along, SWEEPS)}")
    if along == "batch":
        if first.batch is None:
            raise UsageError("--sweep batch needs --batch, the size to start from")
        sizes = dict.fromkeys(max(1, round(first.batch * f)) for f in FACTORS)
        return tuple(replace(first, batch=n) for n in sizes)
    if first.network not in NETWORKS:
        raise UsageError(f"--sweep {along} needs one of the networks {', '.join(NETWORKS)}")
    if along == "width":
        return tuple(replace(first, width=f) for f in FACTORS)
    return tuple(replace(first, depth=f) for f in DEPTHS)
