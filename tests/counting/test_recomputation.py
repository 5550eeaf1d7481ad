"""Work that activation checkpointing repeats is reported as recomputed."""

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
    """A model with a checkpointed region between two layers."""

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
        """If a checkpointed region ends with tanh, the whole region is recomputed."""
        # The backward pass of tanh needs the output of tanh.
        counted = both(Checkpointed(reentrant=reentrant), X, backward=True)
        own = 2 * 2 * 3 * 3 * 4  # the products of (3, 4) by (4, 3), and of the result by (3, 4)
        assert {path: module.recomputed_flops for path, module in counted.modules.items()} == {
            "": 2 * LINEAR + own,
            "after": 0,
            "before": 0,
            "first": LINEAR,
            "second": LINEAR,
        }
        # Each product runs forward and has two gradients. The products of the region also run again.
        assert counted.flops == 3 * (4 * LINEAR + own) + counted.recomputed_flops

    def test_forward_alone(self, reentrant):
        assert both(Checkpointed(reentrant=reentrant), X).recomputed_flops == 0

    def test_regions_within_regions(self, reentrant):
        """If a checkpointed region is inside of another one, the inner region is recomputed twice."""
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
        """`checkpoint_sequential` recomputes all segments except for the last one."""
        layers = nn.Sequential(*(nn.Sequential(linear(), nn.Tanh()) for _ in range(4)))
        counted = both(lambda x: checkpoint_sequential(layers, 2, x, use_reentrant=reentrant), X, backward=True)
        assert counted.recomputed_flops == 2 * LINEAR


class OwnCheckpoint(torch.autograd.Function):
    """A custom autograd function that recomputes its forward work in backward."""

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
    """If a backward pass runs with create_graph=True, its work is not reported as recomputed."""

    def forward(x):
        (gradient,) = torch.autograd.grad(torch.tanh(x @ x.T).sum(), x, create_graph=True)
        return gradient

    counted = both(forward, X, backward=True)
    assert counted.recomputed_flops == 0


def test_checkpoint_under_second_derivatives():
    """If a backward pass with create_graph=True recomputes a region, the repeated work is reported as recomputed."""
    layer = linear()

    def forward(x):
        output = checkpoint(lambda x: torch.tanh(layer(x)), x, use_reentrant=False)
        (gradient,) = torch.autograd.grad(output.sum(), x, create_graph=True)
        return gradient

    # The product, its recomputation (for the output of tanh), and the gradient of the input.
    counted = both(forward, X)
    assert (counted.flops, counted.recomputed_flops) == (3 * LINEAR, LINEAR)


def test_plain_backward_recomputes_nothing():
    assert both(nn.Sequential(linear(), nn.Tanh(), linear()), X, backward=True).recomputed_flops == 0
