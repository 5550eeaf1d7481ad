"""Tensors that count the operations on them. A test uses them to write down the definition of an operator."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass

import torch


@dataclass
class Tally:
    """Counts the operations on its numbers."""

    count: int = 0

    def numbers(self, values):
        return Counted(values, self)

    def leaves_out(self, factor):
        """Return whether ``factor`` is the plain number 1, because a multiplication by it costs nothing."""
        return not isinstance(factor, (Counted, torch.Tensor)) and factor == 1


class Counted:
    """A real tensor or a float that counts the operations on it.

    Each operation costs as many FLOPs as its result has elements. Selecting, stacking and moving are free.
    """

    __slots__ = ("tally", "value")

    def __init__(self, value, tally):
        self.value = value
        self.tally = tally

    def __getitem__(self, index):
        return Counted(self.value[index], self.tally)

    def __len__(self):
        return len(self.value)

    @property
    def shape(self):
        return self.value.shape

    def __add__(self, other):
        return elementary(operator.add, self, other)

    def __sub__(self, other):
        return elementary(operator.sub, self, other)

    def __rsub__(self, other):
        return elementary(operator.sub, other, self)

    def __mul__(self, other):
        return self if self.tally.leaves_out(other) else elementary(operator.mul, self, other)

    def __truediv__(self, other):
        return self if self.tally.leaves_out(other) else elementary(operator.truediv, self, other)

    def __rtruediv__(self, other):
        return elementary(operator.truediv, other, self)

    def __pow__(self, other):
        return self if self.tally.leaves_out(other) else elementary(operator.pow, self, other)

    def __neg__(self):
        return elementary(operator.neg, self)

    def __abs__(self):
        return elementary(operator.abs, self)

    def __gt__(self, other):
        return elementary(operator.gt, self, other)

    def __lt__(self, other):
        return elementary(operator.lt, self, other)

    def __ge__(self, other):
        return elementary(operator.ge, self, other)

    def __le__(self, other):
        return elementary(operator.le, self, other)

    __radd__ = __add__
    __rmul__ = __mul__

    # Functions of one float

    def less_than(self, other):
        return elementary(operator.lt, self, other).value

    def equals(self, other):
        return elementary(operator.eq, self, other).value

    def sign(self):
        return elementary(lambda value: float((value > 0) - (value < 0)), self)

    def exp(self):
        return elementary(math.exp, self)

    def log(self):
        return elementary(lambda value: math.log(value) if value > 0 else -math.inf, self)

    def log1p(self):
        return elementary(math.log1p, self)

    def sqrt(self):
        return elementary(math.sqrt, self)

    def maximum(self, other):
        return elementary(max, self, other)

    def minimum(self, other):
        return elementary(min, self, other)


def value_of(operand):
    return operand.value if isinstance(operand, Counted) else operand


def _tensor(operand):
    values = value_of(operand)
    return values if isinstance(values, torch.Tensor) else torch.tensor(values, dtype=torch.float64)


def elementary(function, *operands):
    """Return the result of ``function``, and count one operation for each element of the result."""
    (tally,) = {id(one.tally): one.tally for one in operands if isinstance(one, Counted)}.values()
    result = function(*map(value_of, operands))
    tally.count += result.numel() if isinstance(result, torch.Tensor) else 1
    return Counted(result, tally)


def named(function):
    """Return a function that computes the same values as PyTorch's ``function`` and counts its operations."""
    return lambda *operands: elementary(lambda *values: function(*map(_tensor, values)), *operands)


cos, erf, exp, exp2, floor, isnan = map(named, (torch.cos, torch.erf, torch.exp, torch.exp2, torch.floor, torch.isnan))
lgamma, log, log2, maximum = map(named, (torch.lgamma, torch.log, torch.log2, torch.maximum))
minimum, sin, sqrt, tanh, trunc = map(named, (torch.minimum, torch.sin, torch.sqrt, torch.tanh, torch.trunc))
atan2, round_ = map(named, (torch.atan2, torch.round))


def branch(condition, yes, no):
    """Compute both branches, and select one for each element. Only the more expensive branch is counted."""
    tally = condition.tally
    before = tally.count
    ways = []
    for way in (yes, no):
        tally.count = before
        ways.append((_tensor(way()), tally.count))
    (first, first_count), (second, second_count) = ways
    tally.count = max(first_count, second_count)
    return Counted(torch.where(condition.value, first, second), tally)


def free(function, *operands):
    """Return the result of ``function``, and count no operation."""
    tally = next(one.tally for one in operands if isinstance(one, Counted))
    return Counted(function(*map(_tensor, operands)), tally)


def numbers(count, *, shape=(3, 5), low=-4.0, high=4.0):
    """Return ``count`` random tensors. Their numbers reach every branch of a definition."""
    generator = torch.Generator().manual_seed(count)
    return [torch.rand(shape, generator=generator, dtype=torch.float64) * (high - low) + low for _ in range(count)]
