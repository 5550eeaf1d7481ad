"""A complex multiply-accumulate counts 8 FLOPs, also in convolutions."""

# PyTorch computes a complex convolution by three real ones.

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 -- its usual name
from zoo import both, for_real, on_shapes

from pytest_flopsbudget import measure, watch

COMPLEX = torch.complex64


def numbers(*shape, grad=False):
    return torch.randn(shape, dtype=COMPLEX).requires_grad_(grad)


#: Name → (function, shape of the input, shape of the weight, multiply-accumulates).
CONVOLUTIONS = {
    "one dimension": (F.conv1d, (2, 3, 9), (4, 3, 3), 2 * 7 * 4 * 3 * 3),
    "two dimensions": (F.conv2d, (2, 3, 6, 7), (4, 3, 3, 2), 2 * (4 * 6) * 4 * 3 * 6),
    "three dimensions": (F.conv3d, (1, 2, 4, 4, 5), (3, 2, 2, 2, 2), (3 * 3 * 4) * 3 * 2 * 8),
    "transposed": (F.conv_transpose2d, (2, 3, 4, 5), (3, 4, 2, 2), 2 * (4 * 5) * 3 * 4 * 4),
    "pointwise": (F.conv2d, (1, 3, 1, 1), (4, 3, 1, 1), 4 * 3),
    "grouped": (lambda x, w, b=None: F.conv2d(x, w, b, groups=2), (1, 4, 5, 5), (6, 2, 3, 3), (3 * 3) * 6 * 2 * 9),
    "padded": (lambda x, w, b=None: F.conv2d(x, w, b, padding="same"), (1, 2, 5, 5), (3, 2, 3, 3), 25 * 3 * 2 * 9),
    "conjugate": (lambda x, w, b=None: F.conv1d(x.conj(), w, b), (2, 3, 9), (4, 3, 3), 2 * 7 * 4 * 3 * 3),
    "from real pairs": (
        lambda x, w, b=None: F.conv1d(torch.view_as_complex(torch.view_as_real(x) * 2), w, b),
        (2, 3, 9),
        (4, 3, 3),
        2 * 7 * 4 * 3 * 3,
    ),
}


def bias_of(name):
    _, _, shape, _ = CONVOLUTIONS[name]
    return numbers(shape[1] if name == "transposed" else shape[0])


@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize("has_bias", [False, True])
class TestForward:
    def test_measured(self, name, has_bias):
        function, image, weight, macs = CONVOLUTIONS[name]
        args = numbers(*image), numbers(*weight), *([bias_of(name)] if has_bias else [])
        result = both(function, args)
        assert result.flops == 8 * macs
        assert result.activations == function(*args).numel()

    @pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
    def test_watched(self, name, has_bias, mode):
        function, image, weight, macs = CONVOLUTIONS[name]
        args = numbers(*image), numbers(*weight), *([bias_of(name)] if has_bias else [])
        with mode(), watch() as watched:
            function(*args)
        assert watched.complexity.flops == 8 * macs


@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize("grad", [(True, True), (True, False), (False, True)])
def test_backward(name, grad):
    """Each gradient of a complex convolution costs as much as the forward pass."""
    function, image, weight, macs = CONVOLUTIONS[name]
    args = numbers(*image, grad=grad[0]), numbers(*weight, grad=grad[1])
    for count in (on_shapes, for_real):
        assert count(function, args, backward=True).flops == (1 + sum(grad)) * 8 * macs


def test_layers():
    """If two complex layers follow each other, each layer has its own FLOPs."""
    model = nn.Sequential(nn.Conv1d(2, 3, 3, dtype=COMPLEX), nn.Conv1d(3, 2, 3, dtype=COMPLEX))
    result = both(model, numbers(1, 2, 9))
    assert (result["0"].flops, result["1"].flops) == (8 * 7 * 3 * 2 * 3, 8 * 5 * 2 * 3 * 3)
    assert (result["0"].activations, result["1"].activations) == (7 * 3, 5 * 2)


def test_checkpointed_layers():
    """If a checkpoint repeats a complex convolution, the repeated work costs as much as the first run."""
    layer = nn.Conv1d(2, 3, 3, dtype=COMPLEX)
    model = nn.Sequential(nn.Conv1d(2, 2, 1, dtype=COMPLEX), nn.Module())
    model[1].forward = lambda x: torch.utils.checkpoint.checkpoint(layer, x, use_reentrant=False)
    first, second = 8 * 9 * 2 * 2, 8 * 7 * 3 * 2 * 3
    # By default, checkpointing stops early: before the third of the real convolutions.
    with torch.utils.checkpoint.set_checkpoint_early_stop(False):
        result = measure(model, numbers(1, 2, 9), backward=True)
    assert (result.flops, result.recomputed_flops) == (2 * first + 4 * second, second)


class TestRealNumbers:
    """A convolution of the real parts alone counts 2 FLOPs per multiply-accumulate."""

    IMAGE, WEIGHT = numbers(2, 3, 9), numbers(4, 3, 3)
    MACS = 2 * 7 * 4 * 3 * 3

    def count(self, function, calls):
        assert both(function, (self.IMAGE, self.WEIGHT)).flops == calls * 2 * self.MACS

    def test_one_part(self):
        self.count(lambda z, w: F.conv1d(z.real, w.real), 1)

    def test_both_parts(self):
        self.count(lambda z, w: F.conv1d(z.real, w.real) + F.conv1d(z.imag, w.imag), 2)

    def test_four_products(self):
        """If four real convolutions compute a complex one, each of them counts 2 FLOPs per multiply-accumulate."""

        def product(z, w):
            real = F.conv1d(z.real, w.real) - F.conv1d(z.imag, w.imag)
            return torch.complex(real, F.conv1d(z.real, w.imag) + F.conv1d(z.imag, w.real))

        self.count(product, 4)

    def test_another_convolution_afterwards(self):
        def function(z, w):
            total = F.conv1d(z.real, w.real) + F.conv1d(z.imag, w.imag)
            return F.conv1d(total, total.new_ones(1, 4, 7))

        assert both(function, (self.IMAGE, self.WEIGHT)).flops == 2 * 2 * self.MACS + 2 * 2 * 4 * 7


PRODUCTS = {
    "mm": (torch.mm, (3, 4), (4, 5), 3 * 4 * 5),
    "bmm": (torch.bmm, (2, 3, 4), (2, 4, 5), 2 * 3 * 4 * 5),
    "matmul": (torch.matmul, (2, 1, 3, 4), (6, 4, 5), 2 * 6 * 3 * 4 * 5),
    "mv": (torch.mv, (3, 4), (4,), 12),
    "dot": (torch.dot, (7,), (7,), 7),
    "vdot": (torch.vdot, (7,), (7,), 7),
    "linear": (F.linear, (2, 3, 4), (5, 4), 6 * 4 * 5),
    "einsum": (lambda a, b: torch.einsum("bij,bjk->bik", a, b), (2, 3, 4), (2, 4, 5), 2 * 3 * 4 * 5),
    "tensordot": (lambda a, b: torch.tensordot(a, b, 2), (3, 4, 5), (4, 5, 6), 3 * 20 * 6),
    "addmm": (lambda a, b: torch.addmm(a.new_zeros(5), a, b), (3, 4), (4, 5), 3 * 4 * 5),
    "addbmm": (lambda a, b: torch.addbmm(a.new_zeros(3, 5), a, b), (2, 3, 4), (2, 4, 5), 2 * 3 * 4 * 5),
    "baddbmm": (lambda a, b: torch.baddbmm(a.new_zeros(2, 3, 5), a, b), (2, 3, 4), (2, 4, 5), 2 * 3 * 4 * 5),
    "addmv": (lambda a, b: torch.addmv(a.new_zeros(3), a, b), (3, 4), (4,), 12),
    "attention": (
        lambda q, k: (q @ k.mH) @ k,
        (2, 3, 4),
        (2, 5, 4),
        2 * (2 * 3 * 5 * 4),
    ),
    "chain": (lambda a, b: torch.linalg.multi_dot([a, b, b.mH]), (3, 4), (4, 5), None),
    "bilinear": (lambda x, w: F.bilinear(x, x, w), (2, 3), (4, 3, 3), 2 * 4 * 3 * 3),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_other_products(name):
    function, left, right, macs = PRODUCTS[name]
    found = both(function, (numbers(*left), numbers(*right)))
    real = both(function, (torch.randn(left), torch.randn(right)))
    assert found.flops == 4 * real.flops
    assert found.flops > 0
    if macs is not None:
        assert found.flops == 8 * macs


@pytest.mark.parametrize("name", ["mm", "bmm", "linear", "einsum", "mv", "addmm"])
def test_gradients_of_other_products(name):
    function, left, right, _ = PRODUCTS[name]
    found = measure(function, (numbers(*left, grad=True), numbers(*right, grad=True)), backward=True)
    real = measure(
        function,
        (torch.randn(left, requires_grad=True), torch.randn(right, requires_grad=True)),
        backward=True,
    )
    assert found.flops == 4 * real.flops


def test_sparse_products():
    """A sparse complex product counts 8 FLOPs for each pair of a stored element and a column of the other operand."""
    sparse = torch.eye(4, dtype=COMPLEX).to_sparse()
    assert for_real(torch.mm, (sparse, numbers(4, 5))).flops == 8 * 4 * 5


def test_memory_layout_of_onednn():
    if not torch.backends.mkldnn.is_available():
        pytest.skip("PyTorch was built without oneDNN")
    images, weight = torch.randn(2, 3, 6, 6), torch.randn(4, 3, 3, 3)
    result = for_real(lambda x, w: F.conv2d(x.to_mkldnn(), w).to_dense(), (images, weight))
    assert result.flops == 2 * math.prod((2, 16, 4, 27))
