"""What is true of an op whatever its operands: passes, fusion, layouts and reports ask it."""

from __future__ import annotations

from enum import Enum, auto


class Trait(Enum):
    """A property of an op; one that is not listed for an op does not hold."""

    # Form: how a target may compute it.
    POINTWISE = auto()  # element by element; vectors and single numbers may take part
    TAIL = auto()  # reduces, and can be the end of a group of pointwise ops
    IMAGE = auto()  # on NxCxHxW: its values lie with a pixel's channels side by side
    ROW_MAJOR = auto()  # its values lie in row-major order
    REORDERS = auto()  # its result may lie in another order than its operand
    COMPOSED = auto()  # a target makes it of other ops

    # Arithmetic between the GEMMs, as a 16-bit carrier takes it.
    MAKES_CARRIER = auto()  # data in the carrier come out, whatever goes in
    KEEPS_CARRIER = auto()  # its result has the carrier of its operands
    FUNCTION = auto()  # a layer that has one computes in f32 inside
    ARITHMETIC = auto()  # may take part inside such a layer
    REDUCTION = auto()  # of some dimensions, chosen by an attribute
    LINEAR = auto()  # stands between a sum over the data and the gradient that it belongs to

    # Data.
    MOVES = auto()  # the same elements, elsewhere
    WINDOW = auto()  # the elements of its one operand, which PyTorch does not copy
    KEEPS_CODES = auto()  # the codes of its operand, as they are
    QUANTIZER = auto()  # makes codes of floats
    CONVERTS = auto()  # numbers of one format become numbers of another: a read and a write
    KEEPS_SIGN = auto()  # no result is negative where no operand is
    CHEAP = auto()  # made again rather than kept for backward
    CHEAP_ON_WEIGHTS = auto()  # so are its results on weights, which are few

    # Training.
    UPDATE = auto()  # an optimizer's step on one parameter
    RUNNING = auto()  # a statistic that evaluation reads
    STARTS_SCALE = auto()  # reads operand 1 in the first step alone, unless its flag says always
    SCALE_STEP = auto()  # the next value of a scale that reacts to overflow

    # Loops.
    ENTERS_LOOP = auto()  # makes a value of each step of what lies outside
    LEAVES_LOOP = auto()  # runs behind a loop, on values of its steps
    ADDS_UP = auto()  # over the steps of a loop its results are added: gradients
    LARGEST = auto()  # over the steps of a loop its result is the largest one
    AVERAGES = auto()  # over the steps of a loop its results are their mean
