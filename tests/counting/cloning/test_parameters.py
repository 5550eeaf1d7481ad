"""In a measurement, a subclass of `torch.nn.Parameter` keeps its class."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pytest_flopsbudget.counting.measure import measure
from pytest_flopsbudget.counting.run import Run

X = torch.randn(2, 8)
#: FLOPs of the product of `X` and a weight of 8x8.
SQUARE = 2 * 2 * 8 * 8


class Tagged(nn.Parameter):
    """A subclass of `Parameter` that adds nothing."""


class State:
    """An object that a quantized weight holds in addition to its data."""

    def __init__(self, scale):
        self.scale = scale


class Quantized(nn.Parameter):
    """A parameter like bitsandbytes' 4-bit parameters, whose constructor needs a state."""

    def __new__(cls, data, *, state, requires_grad=False):
        self = torch.Tensor._make_subclass(cls, data, requires_grad)
        self.state = state
        return self

    def __deepcopy__(self, memo):
        raise AssertionError("not copied")

    def dequantized(self):
        return self.to(torch.float32) * self.state.scale


class Typed(nn.Parameter):
    """A parameter like GGUF's: the result of an operator gets the class and `quant_type` of the parameter."""

    def __new__(cls, data, requires_grad=False, quant_type=None):
        self = torch.Tensor._make_subclass(cls, data, requires_grad)
        self.quant_type = quant_type
        return self

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        result = super().__torch_function__(func, types, args, kwargs or {})
        if isinstance(result, torch.Tensor):
            kinds = {arg.quant_type for arg in args if isinstance(arg, Typed)}
            return cls(result, quant_type=kinds.pop())
        return result


class Slotted(nn.Parameter):
    """A parameter that holds a tensor in one of its `__slots__`."""

    __slots__ = ("scale",)


class Weighted(nn.Module):
    def __init__(self, weight):
        super().__init__()
        self.weight = weight
        self.kinds = []

    def forward(self, x):
        self.kinds.append(type(self.weight))
        weight = self.weight
        if isinstance(weight, Quantized):
            return x @ weight.dequantized()
        if isinstance(weight, Slotted):
            return x @ (weight * weight.scale)
        if isinstance(weight, Typed):
            assert weight.quant_type == "Q8"
            return x @ weight.as_subclass(torch.Tensor)
        return x @ weight


def slotted():
    weight = Slotted(torch.ones(8, 8))
    weight.scale = torch.ones(8)
    return weight


WEIGHTS = {
    "subclass": lambda: Tagged(torch.ones(8, 8)),
    "subclass without a gradient": lambda: Tagged(torch.ones(8, 8), requires_grad=False),
    "state": lambda: Quantized(torch.ones(8, 8, dtype=torch.uint8), state=State(torch.ones(8))),
    "functions": lambda: Typed(torch.ones(8, 8), quant_type="Q8"),
    "slot": slotted,
    "attribute": lambda: setattr(weight := nn.Parameter(torch.ones(8, 8)), "owner", weight) or weight,
}


@pytest.mark.parametrize("way", ["shapes", "integers", "data"])
@pytest.mark.parametrize("name", WEIGHTS)
def test_counted(name, way):
    model = Weighted(WEIGHTS[name]())
    weight, held = model.weight, dict(model.weight.__dict__)
    before = weight.as_subclass(torch.Tensor).detach().clone()
    counted = Run(model, (X,), {}, backward=False).complexity([way])
    assert counted.flops == SQUARE
    assert counted.params == 64
    assert counted.trainable_params == (64 if weight.requires_grad else 0)
    assert counted.param_bytes == 64 * before.element_size()
    assert not counted.unknown_operators
    assert model.weight is weight
    assert model.kinds == []  # only the clone's list has an entry
    assert weight.__dict__.keys() == held.keys()
    assert all(weight.__dict__[key] is value for key, value in held.items())
    assert torch.equal(weight.as_subclass(torch.Tensor), before)


@pytest.mark.parametrize("kind", [Tagged, nn.Parameter])
def test_class_within_the_run(kind):
    """While the model runs, the weight keeps its class, is a leaf, and requires a gradient."""
    seen = []

    class Looks(Weighted):
        def forward(self, x):
            seen.append((type(self.weight), self.weight.is_leaf, self.weight.requires_grad))
            return super().forward(x)

    counted = measure(Looks(kind(torch.ones(8, 8))), X, backward=True)
    assert set(seen) == {(kind, True, True)}
    assert counted.flops == 2 * SQUARE  # the input needs no gradient


def test_gradients_that_exist():
    model = Weighted(Tagged(torch.ones(8, 8)))
    model.weight.grad = torch.ones(8, 8)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)

    def step(x):
        model(x).sum().backward()
        optimizer.step()

    assert measure(step, X).flops == 2 * SQUARE
    assert torch.equal(model.weight.grad, torch.ones(8, 8))
    assert torch.equal(model.weight.as_subclass(torch.Tensor), torch.ones(8, 8))


class Packed(nn.Parameter):
    """A quantized weight with two 4-bit values in each byte. Its shape is that of the unpacked weight."""

    def __new__(cls, data, requires_grad=False):
        return torch.Tensor._make_subclass(cls, data, requires_grad)

    @property
    def shape(self):
        rows, columns = super().shape
        return torch.Size((rows, 2 * columns))


class PackedWithAttribute(Packed):
    """A packed weight that stores the shape of the unpacked weight in an attribute."""

    def __new__(cls, data, requires_grad=False):
        self = super().__new__(cls, data, requires_grad)
        self.quant_shape = torch.Size((data.shape[0], 2 * data.shape[1]))
        return self

    @property
    def shape(self):
        return self.quant_shape


class Unpacking(nn.Module):
    def __init__(self, kind, unpack):
        super().__init__()
        self.weight, self.unpack = kind(torch.ones(8, 4, dtype=torch.uint8)), unpack

    def forward(self, x):
        assert self.weight.shape == (8, 8)
        return x @ self.unpack(self.weight).T


@pytest.mark.parametrize(
    "unpack",
    [
        lambda weight: weight.as_subclass(torch.Tensor).float().repeat_interleave(2, 1),
        lambda weight: torch.cat([weight & 15, weight >> 4], 1).as_subclass(torch.Tensor).float(),
        lambda weight: weight.data.as_subclass(torch.Tensor).to(torch.float32).repeat(1, 2),
    ],
)
@pytest.mark.parametrize("kind", [Packed, PackedWithAttribute])
def test_a_class_that_reports_another_shape(kind, unpack):
    result = measure(Unpacking(kind, unpack), X)
    assert (result.flops, result.execution, result.notes) == (SQUARE, "shapes", ())
    assert (result.params, result.param_bytes) == (8 * 4, 8 * 4)
