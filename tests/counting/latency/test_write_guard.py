"""A timed run may write only to tensors that it owns."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pytest_flopsbudget.counting.latency.write_guard import ForeignTensorError, WriteGuard

OTHER = torch.ones(3)


def refused(run, *own, gradients=False):
    with pytest.raises(ForeignTensorError), WriteGuard(own, gradients=gradients):
        run()


@pytest.mark.parametrize(
    "write",
    [
        lambda x: x.add_(1),
        lambda x: x[1:].zero_(),
        lambda x: x.detach().view(-1).copy_(torch.zeros(3)),
        lambda x: torch.add(x, 1, out=x),
    ],
    ids=["in place", "through a slice", "through a view", "as an output"],
)
def test_writes(write):
    own = torch.ones(3)
    with WriteGuard([own], gradients=False):
        write(own)
    assert not torch.equal(own, torch.ones(3))
    refused(lambda: write(OTHER), own)
    assert OTHER.tolist() == [1, 1, 1]


def test_what_it_makes_is_its_own():
    with WriteGuard([], gradients=False):
        assert (OTHER * 2).add_(1).tolist() == [3, 3, 3]
        assert torch.tensor([1.0, 2.0]).add_(1).tolist() == [2, 3]
        assert torch.empty(2).fill_(3).tolist() == [3, 3]


def test_a_view_of_others_is_none_of_its_own():
    refused(lambda: OTHER.unsqueeze(0).t().mul_(2))


def test_gradients():
    """If gradients are enabled, a run may use only its own parameters."""
    # The backward pass would change the gradients of other parameters.
    other, own = nn.Linear(3, 3), nn.Linear(3, 3)
    refused(lambda: other(OTHER).sum().backward(), *own.parameters(), gradients=True)
    assert other.weight.grad is None
    with WriteGuard(own.parameters(), gradients=True):
        own(OTHER).sum().backward()
    assert own.weight.grad is not None
    with WriteGuard([], gradients=False), torch.no_grad():
        other(OTHER)


def test_tensors_that_come_apart():
    """A run may write to a wrapper tensor only if it owns the tensors inside of it."""
    parts = [torch.ones(2), torch.ones(3)]
    nested = torch.nested.nested_tensor(parts, layout=torch.jagged)
    with WriteGuard([nested.values()], gradients=False):
        nested.mul_(2)
    assert nested.values().tolist() == [2] * 5
    refused(lambda: nested.mul_(2))


@pytest.mark.parametrize("train", [False, True])
def test_statistics(train):
    """A run may call another model's batch norm only in evaluation mode, which does not update the statistics."""
    norm, inputs = nn.BatchNorm1d(3).train(train), torch.ones(2, 3)

    def run():
        with torch.no_grad():
            norm(inputs)

    if train:
        refused(run)
    else:
        with WriteGuard([], gradients=False):
            run()
    assert norm.running_mean.tolist() == [0, 0, 0]
