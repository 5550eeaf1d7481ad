"""An assignment to elements of a tensor costs as much on shapes as on data."""

from __future__ import annotations

import pytest
import torch
from zoo import both


def assigned(place, value, dtype=torch.float32):
    def assign(x):
        x = x.to(dtype, copy=True)
        x[place] = value
        return x

    return assign


ASSIGNMENTS = {
    "a row": assigned(0, 2.0),
    "an element": assigned((0, 1), 2),
    "a slice": assigned((slice(None), slice(1, 3)), 2.0),
    "all": assigned(..., 0),
    "rows": assigned([0, 2], 0.0),
    "by a mask in a list": assigned([True, False, True], 2.0),
    "by a tensor": assigned(torch.tensor([0, 1]), 2.0),
    "half precision": assigned(0, float("-inf"), torch.float16),
    "integers": assigned(0, 3.7, torch.int64),
    "booleans": assigned([0], True, torch.bool),
    "a complex number": assigned(0, 1 + 2j, torch.complex64),
    "a real number among complex ones": assigned(0, 1.0, torch.complex64),
}


@pytest.mark.parametrize("assign", ASSIGNMENTS.values(), ids=ASSIGNMENTS)
def test_assignment_of_a_number(assign):
    """If a model assigns a number to elements of a tensor, two operators are launched."""
    # PyTorch copies ``x``, and writes to the copy. It makes the number without an operator.
    assert both(assign, torch.ones(3, 3, 4)).launches == 2


def test_elements_are_known():
    """A model can read sizes that it wrote to the elements of a tensor."""

    def model(x):
        sizes = torch.zeros(4)
        sizes[2] = 5.0
        sizes[[0, 1]] = 1.0
        return x @ torch.ones(4, int(sizes.sum()))

    assert both(model, torch.ones(3, 4)).macs == 3 * 4 * 7
