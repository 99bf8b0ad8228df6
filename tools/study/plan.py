"""What ``quatrain study recipes`` compares, as plain data: recipes with options, and the script.

The command loads neither torch nor TVM: each training and each timing runs in its own process.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path

from ...compiler.errors import UsageError, closest
from ...passes.recipe import Recipe, load_recipe, recipe_names
from ...targets.registry import find_target
from .. import env
from ..arguments import pairs
from ..batches import batches_per_epoch
from ..dataset import Dataset, Text
from ..schedule import schedule as find_schedule

BASELINE = "fp32"
TIME = "time"  # the part of a row that is no training
# Classes of MACs by the bits of the wider operand.
WIDTHS = (4, 8, 16, 32)
SAFE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")


# What a recipe may have otherwise than the script: a method's own rate, say.
OWN_KEYS = ("lr", "momentum", "weight_decay")


@dataclass(frozen=True, slots=True)
class Entry:
    """A recipe with options, as a row of the table; ``digest`` is of what it does.

    ``own`` are fields of the script that this row has otherwise.
    """

    recipe: str
    options: Mapping[str, str]
    digest: str
    own: Mapping[str, float]

    @property
    def label(self) -> str:
        """In words: ``ultra_low_4bit carrier=f32``."""
        own = {k: repr(v) for k, v in self.own.items()}
        return " ".join((self.recipe, *(f"{k}={v}" for k, v in {**self.options, **own}.items())))

    def script(self, common: Script) -> Script:
        """The script that this row is trained by."""
        lr, momentum, weight_decay = (self.own.get(key, getattr(common, key)) for key in OWN_KEYS)
        return replace(common, lr=lr, momentum=momentum, weight_decay=weight_decay)

    @property
    def stem(self) -> str:
        """The beginning of its files' names: two recipes that do the same share them."""
        name = "".join(c if c in SAFE else "_" for c in Path(self.recipe).stem)
        return f"{name}-{self.digest[:12]}"


def entries(words: Sequence[str]) -> tuple[Entry, ...]:
    """The rows of ``--recipes NAME[:key=value,...],...``; all recipes of quatrain for no words.

    A part without ``=`` continues the value ahead of it, unless it is a recipe. Keys are options of
    the recipe or ``OWN_KEYS``. Raises RecipeError or UsageError for anything else.
    """
    found: dict[str, Entry] = {}
    for name, options in _split(words) if words else [(n, {}) for n in recipe_names()]:
        entry = _entry(name, options)
        found.setdefault(entry.digest, entry)
    return tuple(found.values())


def entry_recipe(row: Entry) -> Recipe:
    """The recipe of a row with its options; UsageError for a rate, which only trainings have."""
    if row.own:
        raise UsageError(f"{row.recipe}: {', '.join(row.own)} is of a training; nothing is trained")
    return load_recipe(row.recipe).with_options(row.options)


def baseline() -> Entry:
    """The recipe that times are compared with."""
    return _entry(BASELINE, {})


def _entry(name: str, settings: Mapping[str, str]) -> Entry:
    recipe = load_recipe(name)
    own = {k: _number(name, k, v) for k, v in settings.items() if k in OWN_KEYS}
    own = {k: v for k, v in own.items() if k not in recipe.settings}
    options = {k: v for k, v in settings.items() if k not in own}
    digest = recipe.with_options(options).digest
    if own:
        digest = sha256(f"{digest} {sorted(own.items())}".encode()).hexdigest()
    return Entry(name, options, digest, own)


def _number(name: str, key: str, word: str) -> float:
    try:
        number = float(word)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise UsageError(f"--recipes {name}: {key}={word} is no number of at least 0")
    return number


def _split(words: Sequence[str]) -> list[tuple[str, dict[str, str]]]:
    found: list[tuple[str, list[str]]] = []
    for part in (p.strip() for word in words for p in word.split(",")):
        name, colon, option = part.partition(":")
        if _is_recipe(name) or not found or not found[-1][1]:
            if "=" in name:
                raise UsageError(f"--recipes: {part!r} follows no recipe; give NAME:key=value")
            found.append((name, [option] if colon else []))
        elif "=" in part:
            found[-1][1].append(part)
        else:
            found[-1][1][-1] += f",{part}"
    return [(name, pairs(options, f"--recipes {name}:")) for name, options in found]


def _is_recipe(name: str) -> bool:
    return name in recipe_names() or name.endswith(".toml")


@dataclass(frozen=True, slots=True)
class Habit:
    """How a network is usually trained: batch size, peak rate, passes over its usual data."""

    batch: int
    lr: float
    epochs: int


# ResNet-20's are those of examples/cifar10.py.
NETWORKS = {
    "resnet20": Habit(128, 0.2, 5),
    "resnet18": Habit(64, 0.1, 5),
    "vgg11_bn": Habit(64, 0.05, 5),
    "mobilenetv2": Habit(64, 0.1, 5),
    "digits_cnn": Habit(64, 0.05, 10),
    "mlp": Habit(64, 0.05, 10),
}
OWN = Habit(64, 0.05, 5)
USUAL = {"digits": "digits_cnn"}
DEFAULT_NETWORK = "resnet20"


@dataclass(frozen=True, slots=True)
class Script:
    """What the rows of a study share, beside the seeds, but for what a row has of its own.

    ``samples`` are the training rows that are used, from the first; one cycle of the rate
    (``schedule``) spans the ``steps``; SGD with Nesterov momentum. Of text they are ``tokens``, and
    the batch (0 here) is the network's own.
    """

    network: str
    data: str
    samples: int
    batch: int
    steps: int
    lr: float
    schedule: str
    target: str
    momentum: float = 0.9
    weight_decay: float = 5e-4
    tokens: str | None = None

    @property
    def per_epoch(self) -> int:
        """Steps in one pass over the data."""
        return self.samples // self.batch

    @property
    def words(self) -> str:
        """The budget in one sentence."""
        own = ".py:" in self.network
        size = f"{self.samples:,} training {self.tokens or 'samples'}"
        length = f"{self.steps:,} steps"
        if self.batch:
            epochs = f"({self.steps / self.per_epoch:.3g} epochs)"
            length = f"batch {self.batch}, {length} {epochs}"
        how = "its own optimizer" if own else f"SGD {self.momentum:g}, decay {self.weight_decay:g}"
        rate = f"{self.schedule} rate" + ("" if own else f" up to {self.lr:g}")
        return f"{Path(self.network).name} on {self.data}, {size}, {length}, {how}, {rate}"

    def to_dict(self) -> dict[str, object]:
        """Plain data."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Wish:
    """What the user said of the script; None where nothing was said."""

    data: str
    network: str | None = None
    batch: int | None = None
    steps: int | None = None
    epochs: int | None = None
    lr: float | None = None
    schedule: str = "onecycle"
    samples: int | None = None


def check_own(rows: Sequence[Entry], common: Script) -> None:
    """UsageError where a row has a rate of its own and the network an optimizer of its own."""
    for row in rows:
        if row.own and ".py:" in common.network:
            raise UsageError(
                f"--recipes {row.recipe}: {', '.join(row.own)} is for the networks by name; "
                f"{common.network} brings its own optimizer"
            )


def script(wish: Wish, data: Dataset | Text) -> Script:
    """The script for a data set; UsageError or DataError where the wish does not fit it."""
    network = _network(wish)
    find_schedule(wish.schedule)
    if wish.steps is not None and wish.epochs is not None:
        raise UsageError("--steps and --epochs both say how long to train; give one of them")
    if ".py:" in network and wish.lr is not None:
        raise UsageError(f"--lr is for the networks by name; {network} brings its own optimizer")
    target = find_target(env.target()).name
    if isinstance(data, Text):
        return _script_of_text(wish, data, network, target)
    if not data.has_labels:
        raise UsageError(f"{data.name} has no class labels, and a study compares accuracies")
    habit = NETWORKS.get(network, OWN)
    batch, whole = wish.batch or habit.batch, len(data.x_train)
    samples = wish.samples or whole
    if not batch <= samples <= whole:
        raise UsageError(
            f"--train-samples {samples} do not fit: {data.name} has {whole}, a batch {batch}"
        )
    per_epoch = batches_per_epoch(data, batch) if samples == whole else samples // batch
    steps = wish.steps or (wish.epochs or habit.epochs) * per_epoch
    lr = habit.lr if wish.lr is None else wish.lr
    return Script(network, wish.data, samples, batch, steps, lr, wish.schedule, target)


def _script_of_text(wish: Wish, data: Text, network: str, target: str) -> Script:
    """The network, which says how long its windows are and how many, is made by its process."""
    if ".py:" not in network:
        raise UsageError(f"{data.name} is text, and {network} takes images; name FILE.py:FACTORY")
    if wish.batch is not None:
        raise UsageError(f"--batch is for examples; of text the batch is that of {network}")
    if wish.steps is None:
        raise UsageError(
            f"{data.name} is text, of which the network says the windows; give --steps"
        )
    whole = len(data.train)
    samples = wish.samples or whole
    if samples > whole:
        raise UsageError(f"--train-samples {samples} do not fit: {data.name} has {whole}")
    budget = samples, 0, wish.steps, OWN.lr, wish.schedule, target
    return Script(network, wish.data, *budget, tokens=data.tokens)


def _network(wish: Wish) -> str:
    """The network by name or the factory, whose file exists."""
    network = wish.network or USUAL.get(wish.data, DEFAULT_NETWORK)
    file, colon, _ = network.rpartition(":")
    if network not in NETWORKS and not (colon and file.endswith(".py")):
        hint = closest(network, NETWORKS)
        raise UsageError(f"no network is called {network!r}; {hint}; or name FILE.py:FACTORY")
    if colon and not Path(file).is_file():
        raise UsageError(f"there is no file {file}; --network names FILE.py:FACTORY")
    return network
