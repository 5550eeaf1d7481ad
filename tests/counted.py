"""Numbers that count the operations on them. A test uses them to write down the definition of an operator.

Operations on ``number.value``, which is a plain float, are not counted.
"""

from __future__ import annotations

import functools

import torch
from definitions import Tally, value_of
from zoo import both, for_real

from pytest_flopsbudget.counting.operators import accounting
from pytest_flopsbudget.counting.operators.info import operator_info


class Arithmetic(Tally):
    """Creates numbers, and counts the operations on them."""

    def numbers(self, values):
        """Return the elements of a tensor as nested lists of counted numbers."""
        if isinstance(values, torch.Tensor) and values.ndim:
            return [self.numbers(row) for row in values]
        return super().numbers(values.item() if isinstance(values, torch.Tensor) else values)

    def leaves_out(self, factor):
        """Return False, because a multiplication by 1 is counted too."""
        return False

    def note(self, value):
        """Count one operation, and return its result as a counted number."""
        self.count += 1
        return self.numbers(value)

    def zero(self):
        return self.numbers(0.0)

    def total(self, values):
        """Return the sum of N numbers, counted as N additions."""
        result = self.zero()
        for value in values:
            result = result + value
        return result


def plain_sum(values):
    """Return the sum of N numbers, counted as N - 1 additions."""
    return functools.reduce(lambda left, right: left + right, values)


def greatest(values):
    """Return the maximum of N numbers, counted as N - 1 comparisons."""
    return functools.reduce(lambda left, right: left.maximum(right), values)


def tensor_of(numbers):
    """Convert nested lists of numbers to a tensor of their values."""
    if isinstance(numbers, list):
        return torch.stack([tensor_of(row) for row in numbers]) if numbers else torch.empty(0, dtype=torch.float64)
    return torch.tensor(value_of(numbers), dtype=torch.float64)


def random(*shape, seed=0, grad=False):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_(grad)


def cost_of(operator, args, output):
    """Return the `other_flops` of one call of an operator. The operator does not run."""
    info = operator_info(operator.default)
    assert info.known
    return accounting.cost_of(info, args, {}, output).other_flops


def real_flops(function, *inputs, backward=False):
    """Run the function on data, and return its `other_flops`. If an operator is unknown, fail."""
    result = for_real(function, inputs, backward=backward)
    assert not result.unknown_operators
    return result.other_flops


def gradient_flops(function, inputs, grad):
    """Return the `other_flops` of the backward pass alone. ``grad`` is the gradient of the output."""
    count = len(inputs)

    def backward(*arguments):
        output = function(*arguments[:count])
        asked = [item for item in arguments[:count] if isinstance(item, torch.Tensor) and item.requires_grad]
        return torch.autograd.grad(output, asked, arguments[count])

    return both(backward, (*inputs, grad)).other_flops - both(function, tuple(inputs)).other_flops
