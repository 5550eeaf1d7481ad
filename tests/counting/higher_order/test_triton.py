"""A Triton kernel is counted by its formula, and is unknown without one."""

from __future__ import annotations

import pytest
import torch
from torch._higher_order_ops.triton_kernel_wrap import kernel_side_table
from torch.utils import flop_counter
from zoo import on_shapes

from pytest_flopsbudget import flops_formula
from pytest_flopsbudget.counting.costs import REGISTRY

X = torch.randn(3, 4)


def scaled_product(left, right, out, scale):
    raise AssertionError("a kernel is not called on shapes")


class Kernel:
    def __init__(self, function):
        self.fn = function


class Autotuned:
    def __init__(self, kernel):
        self.fn = kernel


@pytest.fixture(params=[False, True])
def launch(request):
    """Return a function that launches the kernel like `torch.library.wrap_triton`."""
    kernel = Kernel(scaled_product)
    index = kernel_side_table.add_kernel(Autotuned(kernel) if request.param else kernel)
    constants = kernel_side_table.add_constant_args({"scale": 2})

    def forward(x):
        out = x.new_empty(3, 3)
        torch.ops.higher_order.triton_kernel_wrapper_mutation(
            kernel_idx=index,
            constant_args_idx=constants,
            grid=[(1, 1, 1)],
            tma_descriptor_metadata={},
            kwargs={"left": x, "right": x, "out": out},
        )
        return out

    forward.kernel, forward.index, forward.constants = kernel, index, constants
    yield forward
    kernel_side_table.reset_table()


def test_unknown(launch):
    """If a kernel has no formula, it is an unknown operator with the name of its function."""
    counted = on_shapes(launch, X)
    assert counted.unknown_operators["triton.scaled_product"].calls == 1


def test_our_formula(launch):
    """A user's formula reads the arguments of a kernel by their names."""
    with REGISTRY.restored():

        @flops_formula("triton::scaled_product")
        def formula(call):
            rows, inner = call.tensor("left").shape
            return 2 * rows * inner * call.tensor("right").shape[0], call["scale"] * call.tensor("out").numel()

        counted = on_shapes(launch, X)
    assert (counted.flops, counted.other_flops) == (2 * 3 * 4 * 3, 2 * 9)
    assert not counted.unknown_operators


def test_pytorchs_registry(launch):
    """If PyTorch's `FlopCounterMode` has a formula for a kernel, that formula is used."""
    flop_counter.flop_registry[launch.kernel] = lambda *, kwargs, out_val, **_launch: 2 * kwargs["left"].numel() * 3
    try:
        counted = on_shapes(launch, X)
    finally:
        del flop_counter.flop_registry[launch.kernel]
    assert counted.flops == 2 * 3 * 4 * 3
    assert counted.operators["triton.scaled_product"].calls == 1


def test_functional_launches(launch):
    """If a functional launch returns clones of its arguments, later operators use the clones."""

    def forward(x):
        return (
            torch.ops.higher_order.triton_kernel_wrapper_functional(
                kernel_idx=launch.index,
                constant_args_idx=launch.constants,
                grid=[(1, 1, 1)],
                tma_descriptor_metadata={},
                kwargs={"left": x, "right": x, "out": x.new_empty(3, 3)},
                tensors_to_clone=["out"],
            )["out"]
            @ x
        )

    counted = on_shapes(forward, X)
    assert counted.flops == 2 * 3 * 3 * 4
    assert "triton.scaled_product" in counted.unknown_operators
