"""In a run on shapes, the values of lists in an index are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from pytest_flopsbudget import measure, shape_only
from tests.rows import ONES, TakesRows, rows_taken


def grid():
    return torch.arange(12).reshape(2, 6)


#: Name → (code that reads elements, the value that it computes).
READS = {
    "columns": (lambda m, x: 4 if 0 in grid()[:, [-1, 0]] else 2, 4),
    "rows": (lambda m, x: grid()[[1]].max() - 4, 7),
    "a mask": (lambda m, x: torch.arange(4)[[True, False, False, True]].sum(), 3),
    "nested lists": (lambda m, x: grid()[:, [[0, 1], [1, 2]]][0].sum(), 4),
    "a list for each dimension": (lambda m, x: grid()[[0, 0], [1, 2]].sum(), 3),
    "behind an ellipsis": (lambda m, x: grid()[..., [3]].tolist()[0][0], 3),
    "floating-point numbers": (lambda m, x: torch.linspace(0, 5, 6)[[2, 3]].sum(), 5),
    "a tuple in a tuple": (lambda m, x: grid()[0, (2, 3)].sum(), 5),
    "a range": (lambda m, x: torch.arange(4)[range(2, 4)].sum(), 5),
    "numbers of numpy": (lambda m, x: torch.arange(4)[[np.int64(2), 3]].sum(), 5),
    "tensors in a list": (lambda m, x: grid()[1, [torch.tensor(0), torch.tensor(1)]].sum() - 8, 5),
    "a setting of the model": (lambda m, x: m.sizes[[0, 1]].sum(), 5),
    "shapes only": (lambda m, x: x[:, [0, 1]].shape[1], 2),
    "an unknown number in a list": (lambda m, x: grid()[:, [x[0, 0].long(), 1]].shape[1], 2),
    "assigned to a range": (lambda m, x: assigned(torch.zeros(4), range(2)), 6),
    "assigned to a tuple in a tuple": (lambda m, x: assigned(torch.zeros(2, 4), (0, (1, 2))), 6),
}


def assigned(tensor, places):
    tensor[places] = 3.0
    return tensor.sum()


@pytest.mark.parametrize("name", READS)
def test_values_are_known(name):
    read, value = READS[name]
    assert rows_taken(read, sizes=torch.tensor([2.0, 3.0, 9.0])) == (value, "shapes")


def test_values_of_the_input_need_data():
    assert rows_taken(lambda m, x: x[:, [0, 1]].sum() / 4) == (5, "real")


def test_a_constructor_reads():
    """Within `shape_only`, a constructor can read a size that it selects with a list in an index."""
    with shape_only():
        model = nn.Linear(int(torch.arange(9)[[2, 4]].sum()), 4)
    assert measure(model, torch.ones(1, 6)).macs == 6 * 4


def test_lengths_that_the_model_holds():
    model = TakesRows(lambda m, x: m.lengths[[0, 2]].sum(), lengths=torch.tensor([1, 5, 3]))
    assert measure(model, ONES).flops == 4 * 2 * 8 * 8
