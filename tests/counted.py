"""Numbers that note every operation on them: definitions are carried out in loops with them.

What the conventions do not count (work done once per row or channel) is done on plain floats: ``number.value``.
"""

from __future__ import annotations

import functools
import math

import torch
from zoo import both, for_real

from pytest_flopsbudget.counting.operators import accounting
from pytest_flopsbudget.counting.operators.info import operator_info


class Arithmetic:
    """Makes numbers, and holds how many operations were done on them."""

    def __init__(self):
        self.operations = 0

    def note(self, value):
        self.operations += 1
        return Counted(value, self)

    def numbers(self, tensor):
        """The tensor's elements as nested lists of numbers."""
        if tensor.ndim == 0:
            return Counted(tensor.item(), self)
        return [self.numbers(row) for row in tensor]

    def zero(self):
        return Counted(0.0, self)

    def total(self, values):
        """A sum inside a composite operator: 1 per element."""
        result = self.zero()
        for value in values:
            result = result + value
        return result


def value_of(number):
    return number.value if isinstance(number, Counted) else number


class Counted:
    """A number whose arithmetic is counted."""

    __slots__ = ("arithmetic", "value")

    def __init__(self, value, arithmetic):
        self.value, self.arithmetic = value, arithmetic

    def __add__(self, other):
        return self.arithmetic.note(self.value + value_of(other))

    def __sub__(self, other):
        return self.arithmetic.note(self.value - value_of(other))

    def __rsub__(self, other):
        return self.arithmetic.note(value_of(other) - self.value)

    def __mul__(self, other):
        return self.arithmetic.note(self.value * value_of(other))

    def __truediv__(self, other):
        return self.arithmetic.note(self.value / value_of(other))

    def __pow__(self, power):
        return self.arithmetic.note(self.value ** value_of(power))

    def __neg__(self):
        return self.arithmetic.note(-self.value)

    def __abs__(self):
        return self.arithmetic.note(abs(self.value))

    def less_than(self, other):
        self.arithmetic.operations += 1
        return self.value < value_of(other)

    def equals(self, other):
        self.arithmetic.operations += 1
        return self.value == value_of(other)

    def sign(self):
        return self.arithmetic.note(float((self.value > 0) - (self.value < 0)))

    def exp(self):
        return self.arithmetic.note(math.exp(self.value))

    def log(self):
        return self.arithmetic.note(math.log(self.value) if self.value > 0 else -math.inf)

    def log1p(self):
        return self.arithmetic.note(math.log1p(self.value))

    def sqrt(self):
        return self.arithmetic.note(math.sqrt(self.value))

    def maximum(self, other):
        return self.arithmetic.note(max(self.value, value_of(other)))

    def minimum(self, other):
        return self.arithmetic.note(min(self.value, value_of(other)))


def plain_sum(values):
    """N - 1 additions."""
    return functools.reduce(lambda left, right: left + right, values)


def greatest(values):
    """N - 1 comparisons."""
    return functools.reduce(lambda left, right: left.maximum(right), values)


def tensor_of(numbers):
    """Nested lists of numbers → a tensor of their values."""
    if isinstance(numbers, list):
        return torch.stack([tensor_of(row) for row in numbers]) if numbers else torch.empty(0, dtype=torch.float64)
    return torch.tensor(value_of(numbers), dtype=torch.float64)


def random(*shape, seed=0, grad=False):
    """Normally distributed, the same every time."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_(grad)


def cost_of(operator, args, output):
    """`other_flops` of one call of an operator that this machine has no kernel for."""
    info = operator_info(operator.default)
    assert info.known
    return accounting.cost_of(info, args, {}, output).other_flops


def real_flops(function, *inputs, backward=False):
    """`other_flops` of operators that PyTorch cannot run on shapes; all of them known."""
    result = for_real(function, inputs, backward=backward)
    assert not result.unknown_operators
    return result.other_flops


def gradient_flops(function, inputs, grad):
    """What the backward pass alone costs: with it less without it, for the output's gradient ``grad``."""
    count = len(inputs)

    def backward(*arguments):
        output = function(*arguments[:count])
        asked = [item for item in arguments[:count] if isinstance(item, torch.Tensor) and item.requires_grad]
        return torch.autograd.grad(output, asked, arguments[count])

    return both(backward, (*inputs, grad)).other_flops - both(function, tuple(inputs)).other_flops
