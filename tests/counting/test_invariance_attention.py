"""In whichever way attention and frozen TorchScript networks run, their FLOPs are the same."""

from __future__ import annotations

import pytest
import torch
from features import need, requires
from torch import nn
from torch.nn import functional as F  # noqa: N812 -- its usual name
from torch.nn.attention import SDPBackend, sdpa_kernel
from ways_to_run import MODES, in_modes
from zoo import for_real, on_shapes

from pytest_flopsbudget.counting.measure import measure
from pytest_flopsbudget.errors import UsageError

aten = torch.ops.aten
OVERRIDEABLE = requires("shapes of overrideable attention")

#: 2 sequences, 4 heads of width 8; 6 queries, 10 keys.
QUERY, KEY, VALUE = torch.randn(2, 4, 6, 8), torch.randn(2, 4, 10, 8), torch.randn(2, 4, 10, 8)
FLOPS = 2 * 2 * 4 * 6 * 10 * (8 + 8)
MASKS = {
    "none": {},
    "causal": {"is_causal": True},
    "boolean": {"attn_mask": torch.ones(6, 10, dtype=torch.bool).tril()},
    "additive": {"attn_mask": torch.zeros(2, 1, 6, 10)},
}


@pytest.mark.parametrize("options", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("backend", [SDPBackend.MATH, SDPBackend.FLASH_ATTENTION], ids=["math", "flash"])
class TestBackends:
    def test_forward(self, backend, options):
        """With each kernel, attention costs the same with and without a mask."""
        with sdpa_kernel(backend):
            for counted in in_modes(MODES, F.scaled_dot_product_attention, (QUERY, KEY, VALUE), options, shapes=True):
                assert counted.flops == FLOPS

    def test_fewer_heads_of_keys(self, backend, options):
        """The FLOPs of attention depend on the number of query heads, not on the number of key heads."""
        if backend is SDPBackend.FLASH_ATTENTION:
            need("fused attention for fewer heads of keys")
        operands = (QUERY, KEY[:, :2], VALUE[:, :2])
        options = {**options, "enable_gqa": True}
        with sdpa_kernel(backend):
            for counted in in_modes(MODES, F.scaled_dot_product_attention, operands, options, shapes=True):
                assert counted.flops == FLOPS

    def test_backward(self, backend, options):
        """Forward and backward of attention together cost three times as much as forward alone."""
        # Attention has two products in forward and four in backward.
        operands = [item.clone().requires_grad_() for item in (QUERY, KEY, VALUE)]
        with sdpa_kernel(backend):
            for way in (on_shapes, for_real):
                counted = way(F.scaled_dot_product_attention, tuple(operands), options, backward=True)
                assert counted.flops == 3 * FLOPS


def test_wider_values():
    """If values are wider than keys, only the weighted sums have more FLOPs."""
    value = torch.randn(2, 4, 10, 12)
    with sdpa_kernel(SDPBackend.MATH):
        for counted in in_modes(MODES, F.scaled_dot_product_attention, (QUERY, KEY, value), {}, shapes=True):
            assert counted.flops == 2 * 2 * 4 * 6 * 10 * (8 + 12)


@pytest.mark.parametrize(
    ("kernel", "more"),
    [
        (aten._scaled_dot_product_flash_attention, ()),
        (aten._scaled_dot_product_flash_attention_for_cpu, ()),
        (aten._scaled_dot_product_efficient_attention, (None, False)),
        (aten._scaled_dot_product_cudnn_attention, (None, False)),
        pytest.param(aten._scaled_dot_product_fused_attention_overrideable, (), marks=OVERRIDEABLE),
    ],
    ids=["flash", "flash for CPU", "efficient", "cudnn", "overrideable"],
)
def test_kernels_of_other_devices(kernel, more):
    operands = tuple(item.bfloat16() for item in (QUERY, KEY, VALUE))
    for mode in MODES:
        with mode():
            assert on_shapes(kernel, (*operands, *more)).flops == FLOPS


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
class TestFrozen:
    image = torch.randn(2, 3, 8, 8)
    flops = 2 * 2 * 64 * 4 * 3 * 9 + 2 * 2 * 64 * 4 * 4 * 4 + 2 * 2 * 256 * 10

    def network(self):
        return nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.ConvTranspose2d(4, 4, 2, stride=2),
            nn.AvgPool2d(2),
            nn.Flatten(),
            nn.Linear(4 * 8 * 8, 10),
        ).eval()

    @pytest.mark.parametrize("traced", [False, True])
    def test_frozen(self, traced):
        network = self.network()
        made = torch.jit.trace(network, self.image) if traced else torch.jit.script(network)
        for model in (network, made, torch.jit.freeze(made)):
            for counted in in_modes(MODES, model, self.image, {}, shapes=False):
                assert counted.flops == self.flops

    def test_optimized_for_inference(self):
        model = torch.jit.optimize_for_inference(torch.jit.script(self.network()))
        assert measure(model, self.image).flops == self.flops


def plus_ones(x: torch.Tensor) -> torch.Tensor:
    return x @ x + torch.ones(2)


def scaled_by_its_size(x: torch.Tensor) -> torch.Tensor:
    return (x @ x) * torch.tensor([x.size(0), x.size(1)])


def plus_its_first(x: torch.Tensor) -> torch.Tensor:
    values: list[float] = x.view(-1).tolist()
    return x @ x + values[0]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_scripted_function_stays_usable():
    # TorchScript keeps the graph that it optimized, which must not contain anything of the measurement.
    function, square = torch.jit.script(plus_ones), torch.eye(2)
    assert measure(function, square).flops == 2 * 2 * 2 * 2
    assert torch.equal(function(square), square + 1)
    assert measure(lambda x: function(x), square).flops == 2 * 2 * 2 * 2  # noqa: PLW0108
    assert torch.equal(function(square), square + 1)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("source", [scaled_by_its_size, plus_its_first])
def test_scripted_code_that_reaches_memory(source):
    function = torch.jit.script(source)
    for model in (function, lambda x: function(x)):  # noqa: PLW0108
        counted = measure(model, torch.eye(2))
        assert (counted.flops, counted.execution) == (2 * 2 * 2 * 2, "real")
    with pytest.raises(UsageError, match="needs data"):
        measure(function, torch.eye(2, device="meta"))
