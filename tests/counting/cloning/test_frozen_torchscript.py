"""TorchScript models that oneDNN optimized for inference are counted."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from pytest_flopsbudget import UsageError
from pytest_flopsbudget.counting.cloning.frozen_torchscript import expose_kernels, hides_kernels
from pytest_flopsbudget.counting.measure import measure

pytestmark = [
    pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="PyTorch was built without oneDNN"),
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),
]


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 8, 1)
        self.third = nn.Conv2d(8, 8, 1, bias=False)
        self.layer_norm = nn.LayerNorm(8)
        self.scale = 2.5

    def forward(self, image):
        features = functional.hardswish(self.norm(self.first(image))) * 2.0
        features = functional.relu6(self.second(features))
        features = functional.hardsigmoid(self.third(features) + features)
        return self.third(torch.clamp(self.layer_norm(features), 0.0, 2.0))


#: Number of elements in a feature map: 2 images, 8 channels, 8 · 8 positions.
FEATURES = 2 * 8 * 64
FLOPS = 2 * FEATURES * (3 * 9 + 3 * 8)
#: Per element: 2 biases, hardswish 5, product 1, relu6 2, sum 1, hardsigmoid 4, layer norm 7, clamp 2.
OTHER_FLOPS = FEATURES * (2 + 5 + 1 + 2 + 1 + 4 + 7 + 2)
#: FLOPs of the batch norm, if no convolution contains it.
NORM = 2 * FEATURES


@pytest.fixture
def image():
    return torch.randn(2, 3, 8, 8)


@pytest.fixture
def net():
    return Net().eval()


@pytest.fixture
def optimized(net):
    return torch.jit.optimize_for_inference(torch.jit.script(net))


def test_float_twin(net, image):
    result = measure(net, image)
    assert (result.flops, result.other_flops) == (FLOPS, OTHER_FLOPS + NORM)


def test_optimized(optimized, image):
    """If oneDNN folds a batch norm into a convolution, the batch norm costs only the addition of a bias."""
    assert hides_kernels(optimized)
    result = measure(optimized, image)
    assert not result.unknown_operators
    assert (result.flops, result.other_flops) == (FLOPS, OTHER_FLOPS)


def test_optimized_parts(optimized, image):
    """If a child module is an optimized TorchScript model, the child's work is credited to the child."""
    result = measure(nn.Sequential(optimized, nn.ReLU()), image)
    assert result.modules["0"].metrics["flops"] == FLOPS
    assert result.other_flops == OTHER_FLOPS + FEATURES


def test_it_stays_as_it_was(optimized, image):
    before, graph = optimized(image), str(optimized.graph)
    measure(optimized, image)
    assert str(optimized.graph) == graph
    assert torch.equal(optimized(image), before)


def test_the_same_values(optimized, image):
    torch.testing.assert_close(expose_kernels(optimized)(image), optimized(image))


def test_branches(image):
    class Branches(Net):
        def forward(self, image, twice: bool):
            features = self.first(image)
            if twice:
                features = self.second(functional.hardswish(features))
            return self.third(features)

    optimized = torch.jit.optimize_for_inference(torch.jit.script(Branches().eval()))
    # Without `twice`, the model adds one bias; with `twice`, it adds two biases and computes a hardswish.
    assert measure(optimized, (image, False)).other_flops == FEATURES
    result = measure(optimized, (image, True))
    assert (result.flops, result.other_flops) == (FLOPS - 2 * FEATURES * 8, FEATURES * (2 + 5))


def test_plain_scripts_are_seen(net):
    assert not hides_kernels(torch.jit.script(net))
    assert not hides_kernels(torch.jit.freeze(torch.jit.script(net)))


def test_what_cannot_be_counted(image):
    """If some attributes of an optimized model are not frozen, its measurement raises an error."""

    class Scaled(Net):
        def forward(self, image):
            return self.first(image) * self.scale

    frozen = torch.jit.freeze(torch.jit.script(Scaled().eval()), preserved_attrs=["scale"])
    torch.jit.run_frozen_optimizations(frozen)
    optimized = torch.jit.optimize_for_inference(frozen)
    assert hides_kernels(optimized)
    with pytest.raises(UsageError, match="optimize_for_inference and holds attributes that are not frozen"):
        measure(optimized, image)
