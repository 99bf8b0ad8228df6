"""What tells two programs apart, in the words of the person whose model they were made from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import zip_longest

from .ops import Trait, has
from .program import REGIONS, Op, Program, Value, show_attr

MANY = 3


def difference(old: Program, new: Program) -> str:
    """In what ``new`` is not ``old``: parameter, layer, function; empty where in nothing.

    What follows from another difference stands behind it: momenta of what is trained, inputs of
    what is computed.
    """
    found = (*_trained(old, new), *_layers(old, new), *_declared(old, new), *_wired(old, new))
    return next(iter(found), "")


def _trained(old: Program, new: Program) -> Iterator[str]:
    before, now = (
        {op.inputs[0].name for _, op in p.ops() if has(op, Trait.UPDATE)} for p in (old, new)
    )
    known = [{v.name for v in p.state} for p in (old, new)]
    for name in sorted(before ^ now):
        if all(name in names for names in known):
            yield f"{name} is trained" if name in now else f"{name} is not trained"


def _declared(old: Program, new: Program) -> Iterator[str]:
    for mine, other in ((old.state, new.state), (old.inputs, new.inputs)):
        before, now = _by_name(mine), _by_name(other)
        for name in dict.fromkeys((*before, *now)):
            if name not in now:
                yield f"it has no {name}"
            elif name not in before:
                yield f"it has {name}, which is new"
            elif before[name].type != now[name].type:
                yield f"{name} is {now[name].type}, not {before[name].type}"


def _by_name(values: Iterable[Value]) -> dict[str, Value]:
    return {v.name: v for v in values}


def _layers(old: Program, new: Program) -> Iterator[str]:
    """Of all layers first what their forward computes: the backward follows from that."""
    for regions in (("forward",), REGIONS):
        before, now = _by_layer(old, regions), _by_layer(new, regions)
        for layer in dict.fromkeys((*before, *now)):
            yield from _layer(layer, before.get(layer, []), now.get(layer, []))


def _layer(layer: str, before: Sequence[Op], now: Sequence[Op]) -> Iterator[str]:
    ours, theirs = ([op.kind for op in ops] for ops in (before, now))
    if ours != theirs:
        yield f"layer {layer!r} {_computed(ours, theirs)}"
        return
    for a, b in zip(before, now, strict=True):
        yield from _settings(layer, a, b)


def _by_layer(program: Program, regions: Collection[str]) -> dict[str, list[Op]]:
    made: dict[str, list[Op]] = {}
    for region, op in program.ops():
        if region.name in regions:
            made.setdefault(op.origin, []).append(op)
    return made


def _computed(ours: Sequence[str], theirs: Sequence[str]) -> str:
    gone, come = _without(ours, theirs), _without(theirs, ours)
    if gone and come:
        return f"computes {_words(come)}, not {_words(gone)}"
    if gone:
        return f"does not compute {_words(gone)}"
    return f"computes {_words(come)} too" if come else f"computes {_words(theirs)} in another order"


def _without(kinds: Sequence[str], others: Sequence[str]) -> list[str]:
    """The kinds that others have not, or not as often."""
    left = Counter(kinds) - Counter(others)
    return list(dict.fromkeys(k for k in kinds if k in left))


def _words(kinds: Sequence[str]) -> str:
    names = list(dict.fromkeys(kinds))
    more = f" and {len(names) - MANY} more" if len(names) > MANY else ""
    return ", ".join(names[:MANY]) + more


def _settings(layer: str, old: Op, new: Op) -> Iterator[str]:
    for name in dict.fromkeys((*old.attrs, *new.attrs)):
        a, b = (show_attr(op.attrs[name]) if name in op.attrs else "none" for op in (old, new))
        if a != b:
            yield f"{name} of {new.kind} in layer {layer!r} is {b}, not {a}"
    if [r.type for r in old.results] != [r.type for r in new.results]:
        yield f"{new.kind} in layer {layer!r} gives {new.result.type}, not {old.result.type}"


def _wired(old: Program, new: Program) -> Iterator[str]:
    """Programs of the same ops that read one another in another way."""
    for (_, a), (_, b) in zip_longest(old.ops(), new.ops(), fillvalue=("", None)):
        if str(a) != str(b):
            op = b or a
            assert op is not None
            yield f"{op.kind} in layer {op.origin!r} reads or follows something else"
    if str(old) != str(new):
        yield "it returns or keeps something else"
