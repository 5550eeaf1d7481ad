"""Branches, loops and transforms cost as much as plain code that computes the same values."""

from __future__ import annotations

import pytest
import torch
from features import need
from torch import nn
from torch._higher_order_ops import scan, while_loop
from torch._higher_order_ops.map import map as mapped
from zoo import both, for_real, on_shapes

SQUARE = torch.randn(4, 4)
#: FLOPs of the product of two 4 by 4 matrices.
PRODUCT = 2 * 4**3


def squared(x):
    return x @ x


def cubed(x):
    return x @ x @ x


def fifth_power(x):
    return x @ x @ x @ x @ x


class TestBranches:
    @pytest.mark.parametrize("sign", [1, -1])
    @pytest.mark.parametrize("branches", [(squared, cubed), (cubed, squared)])
    def test_the_more_expensive_one_counts(self, branches, sign):
        counted = both(lambda x: torch.cond(x.sum() > 0, *branches, (x,)), sign * torch.ones(4, 4))
        assert counted.flops == 2 * PRODUCT
        assert counted.operators["aten.mm"].calls == 2

    def test_backward(self):
        """The backward pass of `torch.cond` runs through the branch that was counted."""
        # 2 products of the branch, with 2 gradients each
        inputs = SQUARE.clone().requires_grad_()
        counted = both(lambda x: torch.cond(x.sum() > 0, squared, cubed, (x,)), inputs, backward=True)
        assert counted.flops == 3 * 2 * PRODUCT

    def test_branches_within_branches(self):
        def forward(x):
            return torch.cond(x.mean() > 0, cubed, lambda x: torch.cond(x.sum() > 0, squared, fifth_power, (x,)), (x,))

        assert both(forward, SQUARE).flops == 4 * PRODUCT

    def test_modules_of_the_other_branch(self):
        """If only the cheaper branch calls a module, the module gets no FLOPs and no calls."""

        class Model(nn.Module):
            def __init__(self):
                super().__init__()
                self.small, self.large = nn.Linear(4, 4, bias=False), nn.Linear(4, 8, bias=False)

            def forward(self, x):
                return torch.cond(x.sum() > 0, lambda x: self.small(x).sum(), lambda x: self.large(x).sum(), (x,))

        counted = both(Model(), torch.randn(3, 4))
        assert {path: module.flops for path, module in counted.modules.items()} == {
            "": 2 * 3 * 4 * 8,
            "large": 2 * 3 * 4 * 8,
            "small": 0,
        }
        assert (counted["small"].calls, counted["large"].calls) == (0, 1)

    def test_unknown_operators_of_the_other_branch(self):
        forward = torch.library.custom_op("flopsbudget_tests::cheap", mutates_args=())(_cheap)
        forward.register_fake(torch.empty_like)
        counted = on_shapes(lambda x: torch.cond(x.sum() > 0, forward, squared, (x,)), SQUARE)
        assert counted.flops == PRODUCT
        assert counted.unknown_operators["flopsbudget_tests.cheap"].calls == 1

    def test_the_operator_itself(self):
        """If a model calls the operator of `torch.cond` directly, as exported programs do, the operator is counted."""
        operator = torch.ops.higher_order.cond
        counted = both(lambda x: operator(x.sum() > 0, lambda x: (squared(x),), lambda x: (cubed(x),), (x,))[0], SQUARE)
        assert counted.flops == 2 * PRODUCT


def _cheap(x: torch.Tensor) -> torch.Tensor:
    return x.clone()


LOOPS = {
    "while_loop": (
        lambda x: while_loop(lambda i, x: i < 3, lambda i, x: (i + 1, x @ x), (torch.tensor(0), x))[1],
        lambda x: squared(squared(squared(x))),
        SQUARE,
    ),
    "scan": (
        lambda xs: scan(lambda carry, x: (carry @ x, torch.tanh(carry @ x)), xs[0], xs)[1],
        lambda xs: torch.stack(_scanned(xs)),
        torch.randn(5, 4, 4),
    ),
    "map": (
        lambda xs: mapped(lambda x, y: torch.tanh(x @ y), xs, xs[0]),
        lambda xs: torch.stack(_mapped(xs, xs[0])),
        torch.randn(5, 4, 4),
    ),
}


def _mapped(xs, other):
    return [torch.tanh(x @ other) for x in xs]


def _scanned(xs):
    carry, outputs = xs[0], []
    for x in xs:
        outputs.append(torch.tanh(carry @ x))
        carry = carry @ x
    return outputs


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("name", LOOPS)
def test_loops(name, backward):
    """A loop operator has the FLOPs and activations of the same loop in Python."""
    if name == "scan":
        need("scan that runs its function for the steps only")
    loop, plain, inputs = LOOPS[name]
    inputs = inputs.clone().requires_grad_(backward)
    counted, expected = both(loop, inputs, backward=backward), on_shapes(plain, inputs, backward=backward)
    for key in ("flops", "other_flops", "activations"):
        assert counted.metrics[key] == expected.metrics[key]


class TestTransforms:
    BATCH = torch.randn(5, 4, 4)

    def test_vmap(self):
        assert both(torch.func.vmap(squared), self.BATCH).flops == 5 * PRODUCT

    def test_vmap_over_a_branch(self):
        forward = torch.func.vmap(lambda x: torch.cond(x.sum() > 0, squared, cubed, (x,)))
        assert both(forward, self.BATCH).flops == 5 * 2 * PRODUCT

    def test_grad(self):
        # a forward product, and a product for the gradient of each of two operands
        assert both(torch.func.grad(lambda x: squared(x).sum()), SQUARE).flops == 3 * PRODUCT

    def test_vjp(self):
        assert both(lambda x: torch.func.vjp(squared, x)[1](x)[0], SQUARE).flops == 3 * PRODUCT

    def test_jvp(self):
        # a forward product, and a product for the derivative of each of two operands
        assert both(lambda x: torch.func.jvp(squared, (x,), (x,))[1], SQUARE).flops == 3 * PRODUCT

    def test_jacrev(self):
        # a forward product, and two gradients for each of 4 outputs
        assert both(torch.func.jacrev(lambda x: squared(x).sum(0)), SQUARE).flops == PRODUCT + 4 * 2 * PRODUCT

    def test_jacfwd(self):
        # a forward product, and two derivatives for each of 16 inputs
        assert both(torch.func.jacfwd(squared), SQUARE).flops == PRODUCT + 16 * 2 * PRODUCT

    def test_hessian(self):
        assert both(torch.func.hessian(lambda x: squared(x).sum()), SQUARE).flops > 16 * PRODUCT

    def test_grad_of_grad(self):
        def forward(x):
            (first,) = torch.autograd.grad(squared(x).sum(), x, create_graph=True)
            (second,) = torch.autograd.grad(first.sum(), x)
            return second

        inputs = SQUARE.clone().requires_grad_()
        assert on_shapes(forward, inputs).metrics == for_real(forward, inputs).metrics


def test_global_patches_are_taken_back():
    operators = [torch.ops.higher_order.cond, torch.ops.higher_order.while_loop, torch.ops.higher_order.scan]
    calls = [type(operator).__call__ for operator in operators]

    def forward(x):
        assert type(torch.ops.higher_order.cond).__call__ is not calls[0]
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        on_shapes(forward, SQUARE)
    assert [type(operator).__call__ for operator in operators] == calls
