"""The program under construction: values of tensors, readable unique names, ops by region."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType

import numpy as np

from ..errors import UnsupportedOpError
from ..formats import F32, I32, I64, UINT8
from ..ir import Attr, Op, Program, Region, Value, attrs, spelled, unused
from ..ir.analysis import without_dead
from ..ir.ops import OPS, Trait, has
from ..types import Shape, TensorType
from .constants import emitted
from .instead import PAGE, advised
from .joint import Arg, Call, FixedTensor, JointTensor, place
from .steps import StepValues

FORMAT_OF = {"float32": F32, "int64": I64}
# Truth values are numbers in the IR: 1 and 0.
FORMAT_WITHIN = {**FORMAT_OF, "bool": F32}
INTEGERS = ("int64", "int32")  # of the forward; both have 64 bits in the IR
# What turns the name of an op inside of torch into the one that users know.
INTERNAL = re.compile(
    r"^(native|fused)_|_legit\w*$|_with_indices$|(2d)?_forward$|_nd$|(?<=^to)_copy$"
)


def f32(shape: Sequence[int] = ()) -> TensorType:
    """Type of an f32 tensor without scale."""
    return TensorType(tuple(shape), F32)


def winners(shape: Shape, window: int) -> TensorType:
    """Type of max pooling's ``where``: a byte where the places of a window fit in one."""
    return TensorType(shape, UINT8 if window <= 256 else I32)


def place_of(call: Call) -> str:
    """The place of a call for an error message: layer and source line."""
    return place(call.layer, call.source)


def short(op: str) -> str:
    """``relu`` of ``aten.relu.default``."""
    return op.split(".")[1].lstrip("_")


def known_as(op: str) -> str:
    """The name by which users know an op: ``max_pool2d``, ``to``."""
    return INTERNAL.sub("", short(op))


def called(call: Call) -> tuple[str, ...]:
    """The names of a call: what the user wrote, and what torch made of that if it is another."""
    made, asked = known_as(call.op), call.asked.strip("_")
    written = asked and not call.asked.startswith("__")
    return (asked, made) if written and asked != made else (made,)


def refuse(call: Call, why: str) -> UnsupportedOpError:
    """The error for a call whose form has no counterpart; ``why`` says what would be right."""
    asked, *made = called(call)
    inside = f" (its {made[0]})" if made and asked not in made[0] else ""
    if inside and (advice := advised([asked])):
        # What torch makes of the call is none of the user's, and its trouble says nothing to them.
        why = f"is not supported: {advice}; {PAGE} lists what is"
    return UnsupportedOpError(f"{asked}{inside} in {place_of(call)} {why}")


class Builder:
    """Collects ops; a lowering function emits ops and binds the results of its call to values.

    ``origin`` and ``region`` belong to the call that is being lowered.
    """

    def __init__(self, fixed: Mapping[JointTensor, FixedTensor] = MappingProxyType({})) -> None:
        """``fixed`` are tensors of known numbers, which become values where one is read."""
        self.fixed, self.stored = dict(fixed), dict[str, np.ndarray]()
        self.values: dict[JointTensor, Value] = {}
        self.taken: set[str] = set()
        self.regions: dict[str, list[Op]] = {"forward": [], "backward": [], "update": []}
        self.state: dict[str, Value] = {}  # by the qualified name of torch
        self.counters: dict[str, Value] = {}  # integer buffers: value so far in this step
        self.buffer_of: dict[JointTensor, str] = {}  # buffers, also after a change in this step
        self.viewed_from: dict[Value, Value] = {}
        self.permuted_from: dict[Value, tuple[Value, tuple[int, ...]]] = {}
        self.updated: set[Value] = set()
        self.drawn: dict[str, int] = {}  # calls that draw, by layer and function
        self.given: set[Value] = set()  # parts of the batch as they are
        self.unread: dict[JointTensor, Call] = {}  # results without a value
        self.late: dict[JointTensor, Callable[[], Value]] = {}  # results made where one is read
        self.winners: dict[JointTensor, Value] = {}  # of pooling's places, what backward reads
        # What a recurrent layer's backward reads of its steps, by the rows that its forward makes.
        self.steps_of: dict[Value, StepValues] = {}
        self.constants: dict[Value, float] = {}  # tensors that hold one number everywhere
        self._origin = ""
        self.region = "forward"

    @property
    def origin(self) -> str:
        """The layer whose calls are lowered, on one line, as keys may have several."""
        return self._origin

    @origin.setter
    def origin(self, layer: str) -> None:
        self._origin = " ".join(layer.splitlines()).strip()

    def declare(self, name: str, type_: TensorType) -> Value:
        """A new input or state value."""
        return Value(unused(spelled(name.replace("#", "_")), self.taken), type_)

    def of(self, tensor: Arg) -> Value:
        """The value that stands for a tensor of the joint graph."""
        assert isinstance(tensor, JointTensor), f"{tensor!r} is no tensor"
        if tensor in self.unread:
            raise refuse(
                self.unread[tensor],
                "has a second result that is needed; only the first has a counterpart (of max and "
                "min take amax and amin)",
            )
        if tensor in self.late and tensor not in self.values:
            self.values[tensor] = self.late[tensor]()
        if tensor in self.fixed and tensor not in self.values:
            self.values[tensor] = emitted(self, self.fixed[tensor])
        return self.values[tensor]

    def numbers(self, tensor: Arg) -> np.ndarray | None:
        """The numbers of a constant; None of any other tensor."""
        found = self.fixed.get(tensor) if isinstance(tensor, JointTensor) else None
        return None if found is None else found.numbers

    def fixed_value(self, call: Call, numbers: np.ndarray) -> Value:
        """A constant that a lowering makes."""
        made = JointTensor(numbers.shape, str(numbers.dtype))
        self.fixed[made] = FixedTensor(numbers, call.layer, call.source)
        return self.of(made)

    def kept(self, name: str, type_: TensorType) -> Value:
        """State under a name of its own, declared once."""
        if name not in self.state:
            self.state[name] = self.declare(name, type_)
        return self.state[name]

    def bind(self, call: Call, *values: Value | None) -> None:
        """Let ``values`` stand for the results of ``call``; None for one that nothing may read."""
        for i, tensor in enumerate(call.results):
            value = values[i] if i < len(values) else None
            if tensor is not None and value is not None:
                self.values[tensor] = value
            elif tensor is not None:
                self.unread[tensor] = call

    def emit(
        self,
        kind: str,
        inputs: Sequence[Value],
        results: Sequence[tuple[str, TensorType]],
        **attributes: Attr,
    ) -> tuple[Value, ...]:
        """Append an op of the current layer; ``results`` are part names with types."""
        made = tuple(Value(self.name(part), type_) for part, type_ in results)
        op = Op(kind, tuple(inputs), made, attrs(**attributes), self.origin)
        # What follows from an updated buffer belongs to the update as well.
        late = self.region == "update" or not self.updated.isdisjoint(op.inputs)
        self.regions["update" if late else self.region].append(op)
        if late:
            self.updated.update(made)
        if has(op, Trait.WINDOW) and op.inputs[0] in self.given:
            self.given.update(made)
        return made

    def constant(self, shape: Sequence[int], value: float, part: str = "constant") -> Value:
        """One number everywhere."""
        made = self.one("constant", (), part, shape, value=value)
        self.constants[made] = value
        return made

    def counted(self, name: str) -> Value:
        """A state that is one integer: the step counter, the seed of the generator."""
        return self.kept(name, TensorType((), I64))

    @contextmanager
    def in_update(self) -> Iterator[None]:
        """Emit into the update region inside of the context."""
        before, self.region = self.region, "update"
        try:
            yield
        finally:
            self.region = before

    def one(
        self,
        kind: str,
        inputs: Sequence[Value],
        part: str,
        shape: Sequence[int],
        **attributes: Attr,
    ) -> Value:
        """``emit`` for an op with one f32 result of ``shape``, of integers where it moves such."""
        moves = inputs and OPS[kind].results[0].format_class == "plain"
        type_ = TensorType(tuple(shape), inputs[0].type.format if moves else F32)
        return self.emit(kind, inputs, [(part, type_)], **attributes)[0]

    def name(self, part: str) -> str:
        """An unused name ``layer.part``; a layer called like the part's first word is that word."""
        layer = self.origin
        last = layer.rpartition(".")[2].partition("#")[0]
        head, _, tail = part.partition(".")
        if last.startswith(head) or (len(last) > 2 and last in head):
            part = tail
        return unused(spelled(".".join(filter(None, (layer, part)))), self.taken)

    def program(
        self,
        name: str,
        inputs: Sequence[Value],
        outputs: Sequence[Value],
        next_: Sequence[tuple[Value, Value]],
        regions: Sequence[str],
    ) -> Program:
        """The finished program, without ops that nothing reads."""
        made = Program(
            name,
            tuple(inputs),
            tuple(self.state.values()),
            tuple(Region(region, tuple(self.regions[region])) for region in regions),
            tuple(outputs),
            tuple(next_),
        )
        return without_dead(made)


def ints(value: Arg, rank: int = 2, default: Sequence[int] = ()) -> tuple[int, ...]:
    """``rank`` integers from torch's argument: one number repeats, an empty list is ``default``."""
    if isinstance(value, int):
        return (value,) * rank
    assert isinstance(value, tuple)
    found = tuple(v for v in value if isinstance(v, int))
    if not found:
        return tuple(default)
    return found * rank if len(found) == 1 and rank > 1 else found


def shape_of(value: Value) -> Shape:
    """Shape of a value."""
    return value.type.shape


def dims_of(value: Arg, rank: int) -> tuple[int, ...]:
    """Dimensions as non-negative numbers, ascending; None or an empty list means all."""
    if value is None or value == ():
        return tuple(range(rank))
    listed = (value,) if isinstance(value, int) else value
    assert isinstance(listed, tuple)
    return tuple(sorted(d % rank for d in listed if isinstance(d, int)))


def number(value: Arg) -> float:
    """A plain number among the arguments."""
    assert isinstance(value, (int, float)), f"{value!r} is no number"
    return float(value)


def result_shape(call: Call, i: int = 0) -> Shape:
    """Shape of a result of the call."""
    result = call.results[i]
    assert result is not None
    return result.shape


CallLowering = Callable[[Builder, Call], None]
