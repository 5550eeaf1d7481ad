"""Numbers that count what is done to them, in which tests write an operator's definition."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass
class Tally:
    """Elementary operations so far."""

    count: int = 0

    def numbers(self, values):
        """Take part in the count."""
        return Counted(values, self)


class Counted:
    """A tensor of real numbers: one operation for each element of whatever an elementary operation gives.

    Factors, divisors and exponents that are the number 1 are no operation. Selecting, stacking and moving are free.
    """

    def __init__(self, values, tally):
        self.values = values
        self.tally = tally

    def __getitem__(self, index):
        return Counted(self.values[index], self.tally)

    def __len__(self):
        return len(self.values)

    @property
    def shape(self):
        return self.values.shape

    def __add__(self, other):
        return elementary(torch.add, self, other)

    def __sub__(self, other):
        return elementary(torch.sub, self, other)

    def __rsub__(self, other):
        return elementary(torch.sub, other, self)

    def __mul__(self, other):
        return self if _is_one(other) else elementary(torch.mul, self, other)

    def __truediv__(self, other):
        return self if _is_one(other) else elementary(torch.div, self, other)

    def __rtruediv__(self, other):
        return elementary(torch.div, other, self)

    def __pow__(self, other):
        return self if _is_one(other) else elementary(torch.pow, self, other)

    def __neg__(self):
        return elementary(torch.neg, self)

    def __abs__(self):
        return elementary(torch.abs, self)

    def __gt__(self, other):
        return elementary(torch.gt, self, other)

    def __lt__(self, other):
        return elementary(torch.lt, self, other)

    def __ge__(self, other):
        return elementary(torch.ge, self, other)

    def __le__(self, other):
        return elementary(torch.le, self, other)

    __radd__ = __add__
    __rmul__ = __mul__


def _is_one(factor):
    return not isinstance(factor, (Counted, torch.Tensor)) and factor == 1


def _tensor(operand):
    values = operand.values if isinstance(operand, Counted) else operand
    return values if isinstance(values, torch.Tensor) else torch.tensor(values, dtype=torch.float64)


def elementary(function, *operands):
    """One operation for each element of the result of ``function``."""
    (tally,) = {id(one.tally): one.tally for one in operands if isinstance(one, Counted)}.values()
    result = function(*map(_tensor, operands))
    tally.count += result.numel()
    return Counted(result, tally)


def named(function):
    """An elementary function, by PyTorch's own for its values."""
    return lambda *operands: elementary(function, *operands)


cos, erf, exp, exp2, floor, isnan = map(named, (torch.cos, torch.erf, torch.exp, torch.exp2, torch.floor, torch.isnan))
lgamma, log, log2, maximum = map(named, (torch.lgamma, torch.log, torch.log2, torch.maximum))
minimum, sin, sqrt, tanh, trunc = map(named, (torch.minimum, torch.sin, torch.sqrt, torch.tanh, torch.trunc))
atan2, round_ = map(named, (torch.atan2, torch.round))


def branch(condition, yes, no):
    """Both ways are worked out, one is taken for each element; the more expensive one counts for all."""
    tally = condition.tally
    before = tally.count
    ways = []
    for way in (yes, no):
        tally.count = before
        ways.append((_tensor(way()), tally.count))
    (first, first_count), (second, second_count) = ways
    tally.count = max(first_count, second_count)
    return Counted(torch.where(condition.values, first, second), tally)


def free(function, *operands):
    """What moves, selects or shapes numbers, or guards their range: no operation."""
    tally = next(one.tally for one in operands if isinstance(one, Counted))
    return Counted(function(*map(_tensor, operands)), tally)


def numbers(count, *, shape=(3, 5), low=-4.0, high=4.0):
    """Different numbers on every branch of a definition."""
    generator = torch.Generator().manual_seed(count)
    return [torch.rand(shape, generator=generator, dtype=torch.float64) * (high - low) + low for _ in range(count)]
