"""The script that the rows of a study share: network, data, budget, as plain data."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from ...compiler.errors import UsageError, closest
from ...targets.registry import find_target
from .. import env
from ..batches import batches_per_epoch
from ..dataset import Dataset, Text
from ..schedule import schedule as find_schedule

TIME = "time"  # the part of a row that is no training
# Classes of MACs by the bits of the wider operand.
WIDTHS = (4, 8, 16, 32)


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
