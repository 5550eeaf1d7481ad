"""Work that activation checkpointing repeats is counted, and listed as recomputed."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint, checkpoint_sequential
from zoo import both

X = torch.randn(3, 4, requires_grad=True)
LINEAR = 2 * 3 * 4 * 4


def linear():
    return nn.Linear(4, 4, bias=False)


class Checkpointed(nn.Module):
    """A layer, two checkpointed ones with a function's work between them, a layer."""

    def __init__(self, *, reentrant):
        super().__init__()
        self.before, self.first, self.second, self.after = linear(), linear(), linear(), linear()
        self.reentrant = reentrant

    def region(self, x):
        return torch.tanh(self.second(self.first(x) @ x.T @ x))

    def forward(self, x):
        return self.after(checkpoint(self.region, self.before(x), use_reentrant=self.reentrant))


@pytest.mark.parametrize("reentrant", [False, True])
class TestCheckpoint:
    def test_by_module(self, reentrant):
        """All of the region runs again; tanh needs its output, so that nothing can stop before."""
        counted = both(Checkpointed(reentrant=reentrant), X, backward=True)
        own = 2 * 2 * 3 * 3 * 4  # (3, 4) by (4, 3), and that by (3, 4)
        assert {path: module.recomputed_flops for path, module in counted.modules.items()} == {
            "": 2 * LINEAR + own,
            "after": 0,
            "before": 0,
            "first": LINEAR,
            "second": LINEAR,
        }
        # Every product has a forward pass and two gradients; the region's has its forward pass twice.
        assert counted.flops == 3 * (4 * LINEAR + own) + counted.recomputed_flops

    def test_forward_alone(self, reentrant):
        """Without backward nothing runs twice."""
        assert both(Checkpointed(reentrant=reentrant), X).recomputed_flops == 0

    def test_regions_within_regions(self, reentrant):
        """The outer region runs again with the inner one in it, and the inner one then once more."""
        inner, outer = linear(), linear()

        def forward(x):
            return checkpoint(
                lambda x: torch.tanh(outer(checkpoint(lambda x: torch.tanh(inner(x)), x, use_reentrant=reentrant))),
                x,
                use_reentrant=reentrant,
            )

        counted = both(forward, X, backward=True)
        assert counted.recomputed_flops == (2 + 1) * LINEAR
        assert counted.flops == 6 * LINEAR + counted.recomputed_flops

    def test_sequences(self, reentrant):
        """`checkpoint_sequential` runs the segments but for the last again."""
        layers = nn.Sequential(*(nn.Sequential(linear(), nn.Tanh()) for _ in range(4)))
        counted = both(lambda x: checkpoint_sequential(layers, 2, x, use_reentrant=reentrant), X, backward=True)
        assert counted.recomputed_flops == 2 * LINEAR


class OwnCheckpoint(torch.autograd.Function):
    """Checkpointing by hand, as libraries for large models write it."""

    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return torch.tanh(x @ weight)

    @staticmethod
    def backward(ctx, gradient):
        x, weight = (tensor.detach().requires_grad_() for tensor in ctx.saved_tensors)
        with torch.enable_grad():
            output = torch.tanh(x @ weight)
        torch.autograd.backward(output, gradient)
        return x.grad, weight.grad


def test_by_hand():
    counted = both(OwnCheckpoint.apply, (X, torch.randn(4, 4, requires_grad=True)), backward=True)
    assert (counted.flops, counted.recomputed_flops) == (4 * LINEAR, LINEAR)


def test_second_derivatives_are_no_recomputation():
    """A backward pass with create_graph=True runs with gradients enabled, and does not count as recomputed."""

    def forward(x):
        (gradient,) = torch.autograd.grad(torch.tanh(x @ x.T).sum(), x, create_graph=True)
        return gradient

    counted = both(forward, X, backward=True)
    assert counted.recomputed_flops == 0


def test_checkpoint_under_second_derivatives():
    """A region that is recomputed in such a backward pass is listed as recomputed too."""
    layer = linear()

    def forward(x):
        output = checkpoint(lambda x: torch.tanh(layer(x)), x, use_reentrant=False)
        (gradient,) = torch.autograd.grad(output.sum(), x, create_graph=True)
        return gradient

    # The product, the same once more for tanh's output, and the input's gradient.
    counted = both(forward, X)
    assert (counted.flops, counted.recomputed_flops) == (3 * LINEAR, LINEAR)


def test_plain_backward_recomputes_nothing():
    assert both(nn.Sequential(linear(), nn.Tanh(), linear()), X, backward=True).recomputed_flops == 0
