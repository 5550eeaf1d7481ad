"""The clone that is timed computes the same values as its original."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn

from pytest_flopsbudget.counting.latency.timed_copy import TimedCopy
from pytest_flopsbudget.errors import UsageError

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script")  # raised when PyTorch's compiler is loaded

X = torch.randn(3, 4)


class Compiler:
    """A backend for `torch.compile` that keeps each graph in a list and runs it unchanged."""

    def __init__(self):
        self.graphs = []

    def __call__(self, graph, _inputs):
        self.graphs.append(graph)
        return graph.forward


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        return x + self.layer(x)


NORM = nn.BatchNorm1d(4)
COMPILED = torch.compile(lambda x: NORM(x), backend="eager")  # noqa: PLW0108 -- the function must look NORM up
COMPILED_METHOD = torch.compile(NORM.forward, backend="eager")


def clone_of(value):
    return TimedCopy(gradients=False).clone(value)


class TestTensors:
    def test_computes_the_same(self):
        model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)).eval()
        expected = model(X)
        clone = clone_of(model)
        assert torch.equal(expected, clone(X))
        for tensor in (*clone.parameters(), *clone.buffers()):
            tensor.data.zero_()
        assert torch.equal(expected, model(X))

    def test_ties_last(self):
        """If two parameters are the same object, their clones are the same object."""
        whole = torch.arange(6.0)
        layer = nn.Linear(2, 2)
        first, second, tied, same = clone_of((whole[:4], whole[2:], layer.weight, nn.ParameterList([layer.weight])))
        first[2] = 9
        assert second[0] == 9
        assert tied is same[0]
        assert whole.tolist() == [0, 1, 2, 3, 4, 5]

    @pytest.mark.parametrize(
        "make",
        [
            lambda: torch.randn(3, 4).t(),
            lambda: torch.randn(1, 4).expand(3, 4),
            lambda: torch.randn(3, 4).to_sparse(),
            lambda: torch.quantize_per_tensor(torch.randn(3), 0.1, 0, torch.qint8),
            lambda: torch.randn(3, dtype=torch.complex64).conj(),
            lambda: torch.randn(3, dtype=torch.complex64).conj().imag,
            lambda: torch.empty(0),
        ],
        ids=["transposed", "expanded", "sparse", "quantized", "conjugated", "negated", "empty"],
    )
    @pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
    def test_kinds(self, make):
        """The clone of a tensor has equal values and an equal layout."""
        tensor = make()
        clone = clone_of(tensor)
        assert tensor.layout == clone.layout
        assert tensor.shape == clone.shape
        if tensor.layout is torch.strided:
            assert tensor.stride() == clone.stride()
            assert tensor.numel() == 0 or tensor.data_ptr() != clone.data_ptr()
        left, right = (
            item.dequantize() if item.is_quantized else item.to_dense() if item.is_sparse else item
            for item in (tensor, clone)
        )
        assert torch.equal(left, right)

    def test_made_in_inference_mode(self):
        with torch.inference_mode():
            tensor = torch.ones(3)
        clone = clone_of(tensor).requires_grad_()
        clone.sum().backward()
        assert clone.grad.tolist() == [1, 1, 1]


class TestCompiled:
    def test_a_model(self):
        """The clone of a compiled model is compiled once, by the same backend."""
        compiler, model = Compiler(), nn.Linear(4, 5)
        compiled = torch.compile(model, backend=compiler)
        clone = clone_of(compiled)
        assert compiler.graphs == []
        assert torch.equal(model(X), clone(X))
        clone(X)
        assert len(compiler.graphs) == 1
        assert type(compiled) is type(clone)
        assert clone._orig_mod is not model
        assert clone._orig_mod.weight is next(clone.parameters())
        with torch.no_grad():
            clone.weight.zero_()
        assert model.weight.abs().sum() > 0

    def test_a_part_of_a_model(self):
        compiler, layer = Compiler(), nn.Linear(4, 4)
        part = torch.compile(layer, backend=compiler)
        clone = clone_of(nn.Sequential(part, nn.ReLU(), part))
        with torch.no_grad():
            assert torch.equal(layer(layer(X).relu()), clone(X))
        assert clone[0] is clone[2]
        assert len(compiler.graphs) == 1

    def test_in_place(self):
        """If a module was compiled in place by ``module.compile()``, its clone is compiled too."""
        compiler, model = Compiler(), nn.Sequential(Residual())
        model[0].compile(backend=compiler)
        clone = clone_of(model)
        assert torch.equal(model[0].forward(X), clone(X))
        assert len(compiler.graphs) == 1
        assert clone[0]._compiled_call_impl is not model[0]._compiled_call_impl

    @pytest.mark.parametrize("kind", ["function", "method"])
    def test_a_function(self, kind):
        """If a compiled function or method uses a model, its clone uses the clone of the model."""
        compiler, model = Compiler(), nn.Linear(4, 5)
        function = {"function": lambda x: model(x).relu(), "method": model.forward}[kind]
        expected = function(X)
        clone = clone_of(torch.compile(function, backend=compiler))
        with torch.no_grad():
            model.weight.zero_()
        assert torch.equal(expected, clone(X))
        assert len(compiler.graphs) == 1

    @pytest.mark.parametrize("name", ["COMPILED", "COMPILED_METHOD"])
    def test_a_function_of_the_file(self, name):
        function = {"COMPILED": lambda x: COMPILED(x), "COMPILED_METHOD": lambda x: COMPILED_METHOD(x)}[name]  # noqa: PLW0108
        clone = clone_of(function)
        for _ in range(2):
            clone(X)
        assert NORM.num_batches_tracked == 0

    def test_kept_from_the_compiler(self):
        """If a function is excluded from compilation, its clone is excluded too."""
        compiler = Compiler()
        hidden = torch.compiler.disable(lambda x: x.sin())
        clone = clone_of(torch.compile(lambda x: hidden(x.cos()).exp(), backend=compiler))
        assert torch.equal(X.cos().sin().exp(), clone(X))
        assert len(compiler.graphs) == 2

    def test_settings_that_cannot_be_found(self):
        class Odd(nn.Module):
            pass

        def compiled(x):
            return x

        compiled._torchdynamo_orig_callable = lambda x: x
        with pytest.raises(UsageError, match=r"^<lambda> cannot be timed: it is compiled, and this version of PyTorch"):
            clone_of(compiled)


class TestScripted:
    @pytest.mark.filterwarnings("ignore:`torch.jit")
    def test_a_copy(self):
        model = torch.jit.script(nn.Linear(4, 5))
        clone = clone_of(model)
        assert torch.equal(model(X), clone(X))
        assert clone.weight.data_ptr() != model.weight.data_ptr()

    @pytest.mark.filterwarnings("ignore:`torch.jit")
    def test_optimized_for_inference(self):
        """If a model is optimized for inference, it is timed without a clone."""
        # It holds only constants.
        model = torch.jit.optimize_for_inference(torch.jit.script(nn.Conv2d(3, 4, 3).eval()))
        assert clone_of(model) is model


def test_lazy_modules():
    """If a model has lazy modules, its clone can run, and the original stays lazy."""
    model = nn.Sequential(nn.LazyLinear(5), nn.LazyBatchNorm1d())
    clone = clone_of(model)
    assert [clone(X).shape for _ in range(2)] == [(3, 5), (3, 5)]
    assert isinstance(model[0].weight, nn.UninitializedParameter)


def test_the_compiler_is_not_loaded_for_models_without():
    before = "torch._inductor" in sys.modules
    clone_of(nn.Linear(4, 5))(X)
    assert before == ("torch._inductor" in sys.modules)
