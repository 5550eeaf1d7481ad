"""One registration can give an operator all rules that counting uses."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from zoo import on_shapes

from pytest_flopsbudget.counting.costs.registry import REGISTRY, Facets, Registry, operator


@torch.library.custom_op("flopsbudget_tests::gated_product", mutates_args=())
def gated_product(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Compute sigmoid(x · weight), without an implementation for the meta device."""
    return torch.sigmoid(x @ weight)


class Gate(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(4, 3))

    def forward(self, x):
        return gated_product(x, self.weight)


@pytest.fixture(autouse=True)
def _restored():
    with REGISTRY.restored():
        yield


def register():
    operator(
        "flopsbudget_tests.gated_product",
        flops=lambda call: 2 * call.tensor("x").numel() * call.tensor("weight").shape[1],
        other=lambda call: 4 * call.first_output.numel(),
        activations=lambda call: 5 * call.first_output.numel(),
        traffic=lambda call: call.tensor("x").nbytes,
        shape=lambda args, _: torch.empty(args[0].shape[0], args[1].shape[1], device="meta"),
    )


def test_one_registration_counts_a_model():
    """One registration may give an operator five rules, and all five are used."""
    # 2 · 2·4 · 3 FLOPs, 4 other FLOPs and 5 activations for each of 6 outputs, 8 elements of 4 bytes
    register()
    with torch.no_grad():
        measured = on_shapes(Gate(), torch.empty(2, 4))
    assert not measured.unknown_operators
    assert measured.operators["flopsbudget_tests.gated_product"].metrics == {
        "flops": 48,
        "other_flops": 24,
        "activations": 30,
        "bit_operations": 24 * 32 * 32,
        "memory_traffic": 32,
        "launches": 1,
    }


def test_the_operator_is_unknown_afterwards():
    """After a `restored` block, an operator that was registered in the block has no formula any more."""
    inputs = torch.empty(2, 4)
    with REGISTRY.restored(), torch.no_grad():
        register()
        assert on_shapes(Gate(), inputs).flops == 48
    assert not REGISTRY.facets("flopsbudget_tests.gated_product").flops


def test_a_facet_is_registered_once():
    registry = Registry()
    registry.add(["a.b"], Facets(flops=len))
    registry.add(["a.b"], Facets(other=len))
    with pytest.raises(ValueError, match=r"a\.b has flops already"):
        registry.add(["a.b"], Facets(flops=len))


def test_in_place_forms_share_formulas_but_no_bytes_or_shapes():
    """The in-place operator `a.b_` shares only the formulas of `a.b`, because it writes to its argument."""
    registry = Registry()
    registry.add(["a.b"], Facets(flops=len, traffic=len, shape=max))
    facets = registry.facets("a.b_")
    assert (facets.flops, facets.traffic, facets.shape) == (len, None, None)


def test_registries_are_independent():
    Registry().add(["aten.mm"], Facets(traffic=len))
    assert REGISTRY.facets("aten.mm").traffic is None
