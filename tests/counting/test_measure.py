"""Measurements as a user makes them."""

from __future__ import annotations

import dataclasses
import functools
import threading
import traceback

import numpy as np
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F  # noqa: N812 -- its usual name
from torch.utils.checkpoint import checkpoint
from zoo import both, for_real, on_shapes

from pytest_flopsbudget.counting.measure import measure
from pytest_flopsbudget.errors import UsageError

pytestmark = pytest.mark.filterwarnings(
    "ignore:`torch.jit.script",  # raised when PyTorch's compiler is loaded
    "ignore:Accessing the data pointer of FakeTensor",  # raised by copying a fake layer
)

X = torch.randn(3, 4)
#: FLOPs of a linear layer from 4 to 5 with the input `X`.
LINEAR = 2 * 3 * 4 * 5


class Calls(nn.Module):
    """A model that passes its linear layer (4→5) and the inputs to a given function."""

    def __init__(self, function):
        super().__init__()
        self.layer = nn.Linear(4, 5)
        self.function = function

    def forward(self, *args, **kwargs):
        return self.function(self.layer, *args, **kwargs)


class TestByHand:
    def test_convolution(self):
        counted = measure(nn.Conv2d(3, 64, 3, padding=1, bias=False), torch.empty(1, 3, 224, 224))
        assert counted.flops == 173_408_256
        assert counted.macs == 86_704_128
        assert counted.params == 3 * 64 * 9
        assert counted.param_bytes == 4 * 3 * 64 * 9
        assert counted.operators["aten.convolution"].calls == 1

    def test_linear(self):
        counted = measure(nn.Linear(4096, 1000), torch.empty(1, 4096))
        assert counted.flops == 8_192_000
        assert counted.params == 4096 * 1000 + 1000

    def test_buffers(self):
        # 4 bytes for each mean and each variance, 8 bytes for the number of batches
        counted = measure(nn.BatchNorm2d(8), torch.empty(1, 8, 2, 2))
        assert counted.buffer_bytes == 4 * 8 + 4 * 8 + 8
        assert (counted.params, counted.flops) == (16, 0)

    def test_frozen_parameters(self):
        model = nn.Linear(4, 5)
        model.weight.requires_grad_(requires_grad=False)
        counted = measure(model, X)
        assert (counted.params, counted.trainable_params) == (25, 5)

    def test_half_precision(self):
        assert measure(nn.Linear(4, 5, dtype=torch.bfloat16), X.bfloat16()).param_bytes == 2 * 25

    def test_the_result_says_what_was_measured(self):
        counted = measure(Calls(lambda layer, x, mask: layer(x) * mask), X, {"mask": torch.ones(3, 1)})
        assert counted.model == "Calls"
        assert counted.inputs == ("float32[3, 4]", "mask=float32[3, 1]")
        assert (counted.execution, counted.backward) == ("shapes", False)


def reads_an_input(layer, x):
    return layer(x) if x.sum().item() > 0 else layer(layer.weight @ layer.weight.T)


READS = {
    "item": reads_an_input,
    "a branch": lambda layer, x: layer(x) if (x > 0).any() else layer(layer(x)),
    "nonzero": lambda layer, x: layer(x[x[:, 0].nonzero()[:, 0]]),
    "a mask": lambda layer, x: layer(x[x[:, 0] > 0]),
    "a round trip to numpy": lambda layer, x: layer(torch.from_numpy(x.numpy().copy())),
    "a numpy function": lambda layer, x: layer(torch.from_numpy(np.maximum(x, 0.0).numpy())),
    "a list": lambda layer, x: layer(torch.tensor(x.tolist())),
    "unique": lambda layer, x: layer(x[x[:, 0].long().unique()]),
}


class TestData:
    ones = torch.ones(3, 4)

    @pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")
    @pytest.mark.parametrize("reads", READS)
    def test_a_model_that_needs_data_runs_for_real(self, reads):
        counted = measure(Calls(READS[reads]), self.ones)
        rows = 1 if reads == "unique" else 3
        assert counted.flops == 2 * rows * 4 * 5
        assert counted.execution == "real"
        assert not counted.unknown_operators

    def test_a_caught_exception_is_not_the_way(self):
        """If a model catches the exception that stops a run on shapes, the model is still counted on data."""

        def tries(layer, x):
            try:
                branch = bool(x.sum() > 0)
            except Exception:  # noqa: BLE001 -- models do this
                branch = False
            return layer(x) if branch else layer(layer(x))

        counted = measure(Calls(tries), self.ones)
        assert (counted.flops, counted.execution) == (LINEAR, "real")

    @pytest.mark.parametrize("what", ["the model", "the input", "a fake model"])
    def test_no_data_is_told(self, what):
        """If a model needs data and has none, the error names the operator, the module and the tensor."""
        model, inputs = nn.Sequential(nn.Linear(4, 4), Calls(READS["nonzero"])), X
        if what == "the model":
            model = model.to("meta")
        elif what == "a fake model":
            with FakeTensorMode():
                model = nn.Sequential(nn.Linear(4, 4), Calls(READS["nonzero"]))
        else:
            inputs = X.to("meta")
        with pytest.raises(UsageError) as error:
            measure(model, inputs)
        empty = {"the model": "0.weight (on the meta device)", "the input": "an input (on the meta device)"}
        message = str(error.value)
        assert f"Sequential needs data, and {empty.get(what, '0.weight (a fake tensor)')} has none" in message
        assert "aten.nonzero in '1' returns" in message

    @pytest.mark.parametrize("device", ["cpu", "meta"])
    def test_integers_are_enough(self, device):
        """If a model reads only the values of masks and lengths, its weights need no data."""

        def forward(layer, x, mask, lengths):
            return layer(x[mask.nonzero()[:, 0]]) if mask.any() else layer(x[: lengths.max().item()])

        model = Calls(forward).to(device)
        inputs = torch.randn(3, 4, device=device), torch.tensor([True, False, True]), torch.tensor([1, 2])
        counted = measure(model, inputs)
        assert (counted.flops, counted.execution) == (2 * 2 * 4 * 5, "real")

    def test_indexing_by_integers_needs_none(self):
        table = torch.randn(9, 4)
        index = torch.randint(9, (3, 2))
        assert both(lambda x, i: x[i] @ x.T, (table, index)).flops == 2 * 3 * 2 * 4 * 9
        repeats = torch.tensor([1, 2, 3] * 3)
        repeated = both(lambda x, r: x.repeat_interleave(r, 0, output_size=18) @ x.T, (table, repeats))
        assert repeated.flops == 2 * 18 * 4 * 9

    def test_known_masks(self):
        mask = [False, True, True]
        assert both(lambda x: x[torch.tensor(mask)] @ x.T, X).flops == 2 * 2 * 4 * 3
        assert both(lambda x: x[torch.tensor(mask), :2] @ x[:2, 2:], X).flops == 2 * 2 * 2 * 2
        assert both(lambda x: x[:, torch.tensor([*mask, True])] @ torch.ones(3, 5), X).flops == 2 * 3 * 3 * 5

    def test_no_data_in_a_closure(self):
        model = Calls(READS["item"]).to("meta")
        with pytest.raises(UsageError, match=r"aten\._local_scalar_dense in 'Calls' returns"):
            measure(lambda x: model(x), X)  # noqa: PLW0108 -- this tests a function


CONSTANTS = {
    "a range": lambda x: torch.arange(3).tolist() == [0, 1, 2],
    "a tensor's item": lambda x: torch.tensor([3]).item() == 3,
    "a big fill value": lambda x: torch.full((2,), 1e30)[0].item() > 1e29,
    "arithmetic": lambda x: (torch.linspace(0, 1, 5) * 4).long()[-1] == 4,
    "a view": lambda x: torch.zeros(2, 3)[1].view(3, 1)[2, 0] == 0,
    "on the input's device": lambda x: torch.arange(x.shape[0], device=x.device).max().item() == 2,
    "to the cpu": lambda x: torch.arange(3, device=x.device).cpu()[1] == 1,
    "mask": lambda x: len(torch.arange(4)[torch.arange(4) > 1]) == 2,
}


def writes_whole(_):
    values = torch.zeros(3)
    values += 2
    return values.sum() == 6


def writes_view(_):
    values = torch.zeros(3)
    values[1:].fill_(2)
    view = values.view(3, 1)
    values[0] = 5
    return view[:, 0].tolist() == [5, 2, 2]


def writes_on_cpu(x):
    values = torch.arange(3, device=x.device).cpu()
    values[0] = 7
    return values.tolist() == [7, 1, 2]


def writes_list(_):
    values = [torch.zeros(2), torch.ones(2)]
    torch._foreach_add_(values, 1)
    return values[1].tolist() == [2, 2]


class TestConstants:
    @pytest.mark.parametrize("constant", CONSTANTS)
    def test_constants_are_known(self, constant):
        counted = measure(Calls(lambda layer, x: layer(x) if CONSTANTS[constant](x) else x), X)
        assert (counted.flops, counted.execution) == (LINEAR, "shapes")

    @pytest.mark.parametrize("writes", [writes_whole, writes_view, writes_on_cpu, writes_list])
    def test_written_constants_are_known(self, writes):
        """If known values are written to a tensor in place, reading the tensor needs no data."""
        counted = measure(Calls(lambda layer, x: layer(x) if writes(x) else x), X)
        assert (counted.flops, counted.execution) == (LINEAR, "shapes")

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda values, x: values.copy_(x[0]),
            lambda values, x: values[1:].copy_(x[0, 1:]),
            lambda values, x: values.addmv_(torch.eye(4), x[0]),
            lambda values, x: torch._foreach_add_([values], [x[0]]),
            lambda values, x: torch.add(values, x[0], out=values),
            lambda values, x: values.uniform_(),
            lambda values, x: values.view(torch.int32).copy_(x[0].long()),
            lambda values, x: values.cpu().copy_(x[0]),
        ],
    )
    def test_a_constant_that_data_is_written_to_is_none(self, spoil):
        def forward(layer, x):
            values = torch.zeros(4)
            spoil(values, x)
            return layer(x) * values[0].item()

        assert measure(Calls(forward), torch.ones(3, 4)).execution == "real"

    def test_constants_do_not_pile_up(self):
        """If a tensor is deleted, its known values are freed."""
        from pytest_flopsbudget.counting.meta.known_values import KnownValues

        constants = KnownValues()
        for _ in range(3000):
            constants.with_meta_clones(torch.zeros(4))
        assert len(constants) < 1000

    def test_large_constants_are_not_computed(self):
        """If a constant tensor has more than a million elements, reading it needs data."""

        def last():
            return torch.arange(2_000_000)[-1].item()

        assert measure(last).execution == "real"


class OwnError(Exception):
    pass


class TestErrors:
    def test_not_callable(self):
        """If the model is not callable, the error says what to pass."""
        with pytest.raises(UsageError, match=r"the model is a value of type int, .* hand over a torch.nn.Module"):
            measure(3, X)

    def test_a_class(self):
        """A class can be called, but its constructor is not the model."""
        with pytest.raises(UsageError, match=r"the model is the class Identity; .*measure\(Identity\(...\), args"):
            measure(nn.Identity, X)

    def test_the_models_own_error(self):
        def fails(layer, x):
            raise OwnError("mine")

        with pytest.raises(OwnError, match=r"^mine$") as error:
            measure(Calls(fails), X)
        assert error.value.__context__ is None
        assert "During handling" not in "".join(traceback.format_exception(error.value))

    def test_wrong_shapes(self):
        with pytest.raises(RuntimeError, match=r"mat1 and mat2 shapes cannot be multiplied \(3x4 and 7x5\)"):
            measure(nn.Linear(7, 5), X)

    def test_wrong_shapes_on_meta(self):
        with pytest.raises(RuntimeError, match=r"3x4|\[3, 4\]"):
            measure(nn.Linear(7, 5, device="meta"), X)

    def test_wrong_shapes_in_place(self):
        measure(lambda x, y: x.clone().add_(y), (X, torch.ones(3, 4)))
        with pytest.raises(RuntimeError, match="size of tensor"):
            measure(lambda x, y: x.clone().add_(y), (X, torch.ones(3, 5)))

    def test_nothing_to_differentiate(self):
        """If no output requires a gradient, ``backward=True`` raises an error."""
        with pytest.raises(UsageError, match="backward=True, but no output of the model requires a gradient"):
            measure(nn.ReLU(), X, backward=True)

    def test_a_missing_argument(self):
        with pytest.raises(TypeError, match="missing 1 required positional argument"):
            measure(nn.Linear(4, 5))


@dataclasses.dataclass
class Output:
    loss: torch.Tensor
    rest: dict


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 5)

    def encode(self, x):
        return self.layer(x)

    def forward(self, x):
        return self.encode(x) + self.encode(x + 1)


GLOBAL = nn.Linear(4, 5)


def uses_a_global(x):
    return helper(x)


def helper(x):
    return GLOBAL(x).sum()


class TestCallables:
    def test_methods(self):
        """If a method of a module is measured, the result has the parameters of the module."""
        counted = both(Encoder().encode, X)
        assert (counted.flops, counted.model) == (LINEAR, "Encoder.encode")
        assert counted["layer"].flops == LINEAR
        assert counted.params == 25

    @pytest.mark.parametrize("backward", [False, True])
    def test_functions(self, backward):
        """A measured function may use modules from its closure or from globals."""
        model = nn.Linear(4, 5)
        for function in (lambda x: model(x), uses_a_global, functools.partial(lambda m, x: m(x), model)):  # noqa: PLW0108
            counted = both(function, X, backward=backward)
            assert counted.flops == LINEAR * (2 if backward else 1)
            assert counted["Linear"].params == 25
        assert model.weight.grad is None
        assert GLOBAL.weight.grad is None

    def test_objects(self):
        class Trainer:
            def __init__(self):
                self.model = nn.Linear(4, 5)
                self.steps = 0

            def step(self, x):
                self.steps += 1
                return self.model(x).sum()

            __call__ = step

        trainer = Trainer()
        assert both(trainer, X, backward=True).flops == 2 * LINEAR
        assert both(trainer.step, X, backward=True).flops == 2 * LINEAR
        assert (trainer.steps, trainer.model.weight.grad) == (0, None)

    def test_keywords_and_nested_inputs(self):
        """Tensors are found in lists, dicts and dataclasses, as positional or keyword arguments."""

        def forward(layer, inputs, *, more):
            return layer(inputs["x"][0]) + layer(more.rest["x"])

        counted = both(Calls(forward), ({"x": [X]},), {"more": Output(X, {"x": X})})
        assert counted.flops == 2 * LINEAR
        assert counted.inputs == ("float32[3, 4]", "more=float32[3, 4]", "more=float32[3, 4]")

    def test_a_list_is_the_arguments(self):
        assert measure(nn.Linear(4, 5), [X]).flops == measure(nn.Linear(4, 5), X).flops == LINEAR

    def test_packed_sequences(self):
        """A packed sequence is passed to the model as one argument, although its class is a tuple."""
        packed = nn.utils.rnn.pack_sequence([torch.randn(3, 4), torch.randn(2, 4)])
        assert measure(nn.GRU(4, 5), packed).flops == 2 * 3 * 5 * (4 + 5) * 5


def scripted():
    return torch.jit.script(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 5)))


class TestKinds:
    two = 2 * 3 * 4 * 4 + LINEAR

    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
    @pytest.mark.parametrize("backward", [False, True])
    def test_scripted(self, backward):
        """In each of several runs, a scripted model costs as much as its source."""
        model = scripted()
        # Backward has the gradients of both weights, and the gradient of the second layer's input.
        expected = 2 * self.two + LINEAR if backward else self.two
        for _ in range(4):
            assert measure(model, X, backward=backward).flops == expected
            assert for_real(model, X, backward=backward).flops == expected
        assert measure(nn.Sequential(model), X, backward=backward).flops == expected
        assert measure(model, X).params == 4 * 4 + 4 + 4 * 5 + 5
        assert all(parameter.grad is None for parameter in model.parameters())

    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
    def test_traced(self):
        model = torch.jit.trace(nn.Linear(4, 5), X)
        assert both(model, X).flops == LINEAR

    @pytest.mark.parametrize("backward", [False, True])
    def test_compiled(self, backward):
        """A compiled model, method or function costs as much as its source."""
        expected = both(Encoder().encode, X, backward=backward)
        model = Encoder()
        compiled = both(torch.compile(model), X, backward=backward)
        assert compiled.flops == both(Encoder(), X, backward=backward).flops
        assert compiled.model == "Encoder"
        assert both(torch.compile(model.encode), X, backward=backward).flops == expected.flops
        inner = nn.Sequential(torch.compile(nn.Linear(4, 5), backend="eager"))
        counted = both(inner, X, backward=backward)
        assert counted.flops == expected.flops
        assert list(counted.modules) == ["", "0"]
        assert counted["0"].type == "Linear"
        in_place = nn.Linear(4, 5)
        in_place.compile(backend="eager")
        assert both(in_place, X, backward=backward).flops == expected.flops
        function = torch.compile(lambda x: in_place(x), backend="eager")  # noqa: PLW0108
        assert both(function, X, backward=backward).flops == expected.flops

    def test_compiling_inside(self):
        """If a model compiles its layer while it runs, the work is credited to the layer."""
        counted = both(Calls(lambda layer, x: torch.compile(layer, backend="eager")(x)), X)
        assert counted["layer"].flops == LINEAR
        assert list(counted.modules) == ["", "layer"]

    def test_lazy(self):
        model = nn.Sequential(nn.LazyLinear(4), nn.LazyBatchNorm1d(), nn.LazyLinear(5))
        counted = both(model, X)
        assert counted.flops == self.two
        assert counted.params == 4 * 4 + 4 + 4 + 4 + 4 * 5 + 5
        assert isinstance(model[0].weight, nn.UninitializedParameter)

    @pytest.mark.parametrize(
        "wrap",
        [
            nn.utils.parametrizations.weight_norm,
            nn.utils.parametrizations.orthogonal,
            pytest.param(nn.utils.weight_norm, marks=pytest.mark.filterwarnings("ignore::FutureWarning")),
        ],
    )
    def test_parametrized(self, wrap):
        model = wrap(nn.Linear(4, 5))
        assert measure(model, X).flops >= LINEAR
        assert measure(model, X)[""].type == type(model).__name__
        before = {name: value.clone() for name, value in model.state_dict().items()}
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())

    def test_spectral_norm(self):
        """Spectral norm costs three products of the weight with a vector, and one product of two vectors."""
        # Two products are in the power iteration.
        model = nn.utils.parametrizations.spectral_norm(nn.Linear(4, 5))
        # Sigma is u · (W v): a product of matrix and vector, then one of two vectors.
        assert both(model, X).flops == LINEAR + 2 * 2 * 20 + 2 * 20 + 2 * 5

    def test_tied_weights(self):
        """If two layers share a weight, the weight counts once in the model, and once in each layer."""
        model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
        model[1].weight = model[0].weight
        counted = both(model, X)
        assert (counted.params, counted["0"].params, counted["1"].params) == (16, 16, 16)
        assert counted.flops == 2 * 2 * 3 * 4 * 4

    def test_fake_weights(self):
        with FakeTensorMode():
            model, inputs = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 5)), torch.empty(3, 4)
            assert measure(model, inputs).flops == self.two
        assert measure(model, inputs).flops == self.two
        assert measure(model, inputs, backward=True).flops == 2 * self.two + LINEAR
        assert measure(lambda x: model(x), inputs).flops == self.two  # noqa: PLW0108

    def test_meta_weights(self):
        assert measure(nn.Linear(4, 5, device="meta"), X).flops == LINEAR

    def test_tensor_subclasses(self):
        class Image(torch.Tensor):
            def halved(self):
                return self / 2

        counted = both(Calls(lambda layer, x: layer(x.halved())), X.as_subclass(Image))
        assert counted.flops == LINEAR

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_autocast(self, dtype):
        def forward(layer, x):
            with torch.autocast("cpu", dtype=dtype):
                return layer(x)

        assert both(Calls(forward), X).flops == LINEAR
        with torch.autocast("cpu", dtype=dtype):
            assert both(nn.Linear(4, 5), X).flops == LINEAR

    def test_model_made_in_inference_mode(self):
        with torch.inference_mode():
            model = nn.Linear(4, 5)
            assert both(model, X.clone()).flops == LINEAR
        assert both(model, X, backward=True).flops == 2 * LINEAR

    @pytest.mark.parametrize("method", ["__getattr__", "__setattr__"])
    def test_attribute_access_of_its_own(self, method):
        class Model(Encoder):
            if method == "__getattr__":

                def __getattr__(self, name):
                    return super().__getattr__("layer") if name == "alias" else super().__getattr__(name)

                def forward(self, x):
                    return self.alias(x)
            else:

                def __setattr__(self, name, value):
                    if self.__dict__.get("frozen"):
                        raise AttributeError(name)
                    super().__setattr__(name, value)

                def forward(self, x):
                    return self.layer(x)

        model = Model()
        model.frozen = True
        assert both(model, X).flops == LINEAR

    def test_slots_and_containers_of_its_own(self):
        """Modules are found in slots, in subclasses of list and dict, and in plain lists."""

        class Slotted:
            __slots__ = ("inner",)

            def __init__(self, inner):
                self.inner = inner

        class Layers(list):
            pass

        class Named(dict):
            pass

        class Model(nn.Module):
            def __init__(self):
                super().__init__()
                self.slotted = Slotted(nn.Linear(4, 5))
                self.layers = Layers([nn.Linear(4, 5)])
                self.named = Named(layer=nn.Linear(4, 5))
                self.plain = [(nn.Linear(4, 5),)]

            def forward(self, x):
                return self.slotted.inner(x) + self.layers[0](x) + self.named["layer"](x) + self.plain[0][0](x)

        assert both(Model(), X, backward=True).flops == 2 * 4 * LINEAR

    def test_references_to_each_other(self):
        """If a module refers to its parent, the clone of the module refers to the clone of the parent."""
        import weakref

        class Part(nn.Module):
            def __init__(self, parent):
                super().__init__()
                self.weak, self.strong = weakref.ref(parent), [parent]

            def forward(self, x):
                self.weak().calls += 1
                return self.weak().layer(x) + self.strong[0].layer(x)

        class Parent(nn.Module):
            def __init__(self):
                super().__init__()
                self.calls = 0
                self.layer = nn.Linear(4, 5)
                self.part = Part(self)

            def forward(self, x):
                output = self.part(x)
                assert self.calls == 1
                return output

        model = Parent()
        counted = both(model, X, backward=True)
        assert counted["layer"].flops == counted.flops == 2 * 2 * LINEAR
        assert model.calls == 0

    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
    def test_graphs(self):
        """A model that was traced to a graph or exported costs as much as its source."""
        model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 5))
        assert both(torch.fx.symbolic_trace(model), X).flops == self.two
        assert both(torch.export.export(model, (X,)).module(), X).flops == self.two

    def test_shared_state(self):
        class Writes(nn.Module):
            def __init__(self, state):
                super().__init__()
                self.state = state

            def forward(self, x):
                self.state["x"] = x
                return x

        class Reads(Writes):
            def forward(self, x):
                return self.state["x"] @ x.T

        state = {}
        assert both(nn.Sequential(Writes(state), Reads(state)), X).flops == 2 * 3 * 4 * 3
        assert state == {}


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return x @ weight.T

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        return grad @ weight, grad.T @ x


@torch.library.custom_op("flopsbudget_tests::twice", mutates_args=())
def twice(x: torch.Tensor) -> torch.Tensor:
    return x @ x.T


@twice.register_fake
def _(x):
    return x.new_empty(x.shape[0], x.shape[0])


class TestAutograd:
    def test_function(self):
        """The products of a custom autograd function are counted in forward and in backward."""
        forward = Calls(lambda layer, x: Doubled.apply(x, layer.weight))
        assert both(forward, X).flops == LINEAR
        assert both(forward, X, backward=True).flops == 3 * LINEAR

    @pytest.mark.parametrize("reentrant", [False, True])
    def test_checkpoint(self, reentrant):
        """If a checkpointed layer runs again in backward, its second run is credited to the layer."""
        # Without reentry, PyTorch stops the second run before the product of the layer, which backward does not need.
        inputs = X.clone().requires_grad_()
        model = Calls(lambda layer, x: checkpoint(layer, x, use_reentrant=reentrant))
        assert both(model, inputs).flops == LINEAR
        counted = both(model, inputs, backward=True)
        assert counted["layer"].flops == counted.flops == (4 if reentrant else 3) * LINEAR

    def test_grad_inside(self):
        """A gradient that a model computes in its forward pass is counted as forward work."""

        def forward(layer, x):
            x = x.detach().requires_grad_()
            (grad,) = torch.autograd.grad(layer(x).sum(), x, create_graph=True)
            return grad

        assert both(Calls(forward), X).flops == 2 * LINEAR

    def test_tensors_are_autograds(self):
        """In a run on shapes, tensors have the same autograd properties as in a real run."""

        def forward(layer, x):
            output = layer(x)
            view = output.view(5, 3)
            assert output.requires_grad
            assert not output.is_leaf
            assert view._base is output
            assert not output.detach().requires_grad
            output.mul_(2)
            assert view._version == output._version == 1
            with torch.no_grad():
                assert not layer(x).requires_grad
            return view.T[0] @ view[:, 0]  # two vectors of 5 elements

        assert both(Calls(forward), X).flops == 2 * LINEAR + 2 * 5

    def test_transforms(self):
        """Gradients of single samples, computed with torch.func, cost as much as the gradient of the whole batch."""

        def forward(layer, x):
            parameters = dict(layer.named_parameters())

            def loss(parameters, row):
                return torch.func.functional_call(layer, parameters, (row,)).sum()

            return torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(parameters, x)["weight"]

        # For each of the 3 rows, the gradient of the weight is a product of shapes (5, 1) and (1, 4).
        assert both(Calls(forward), X).flops == LINEAR + 3 * 2 * 5 * 1 * 4
        assert both(torch.func.vmap(nn.Linear(4, 5)), X).flops == LINEAR

    @pytest.mark.parametrize(
        "pack",
        [
            lambda y: {"loss": y, "n": 3},
            lambda y: [None, (y,)],
            lambda y: Output(y, {}),
            lambda y: Output(torch.ones(1), {"y": y}),
            lambda y: y.to(torch.complex64),
        ],
    )
    def test_outputs_of_any_structure(self, pack):
        """The backward pass starts from each output that requires a gradient."""
        assert both(Calls(lambda layer, x: pack(layer(x))), X, backward=True).flops == 2 * LINEAR

    def test_no_grad_outside(self):
        """If the caller disabled gradients, ``backward=True`` enables them."""
        with torch.no_grad():
            assert both(nn.Linear(4, 5), X, backward=True).flops == 2 * LINEAR
        with torch.inference_mode():
            assert both(nn.Linear(4, 5), X, backward=True).flops == 2 * LINEAR


class TestUnknown:
    def test_a_custom_operator_is_named(self):
        """If a custom operator has no formula, the result lists it as an unknown operator, with its module."""
        model = nn.Sequential(Calls(lambda layer, x: twice(layer(x))))
        for counted in (on_shapes(model, X), for_real(model, X)):
            assert counted.flops == LINEAR
            assert counted.unknown_operators["flopsbudget_tests.twice"].modules == ("0",)
            assert counted.unknown_operators["flopsbudget_tests.twice"].calls == 1

    def test_a_registered_formula_counts_it(self):
        from torch.utils import flop_counter

        measure(twice, X)
        operator = torch.ops.flopsbudget_tests.twice
        flop_counter.register_flop_formula(operator)(lambda x, **kwargs: 2 * x[0] * x[1] * x[0])
        try:
            assert both(twice, X).flops == 2 * 3 * 4 * 3
        finally:
            del flop_counter.flop_registry[operator]

    def test_work_on_other_threads_is_named(self):
        """If a module runs on another thread, the result lists an unknown operator `threading.Thread`."""

        def forward(layer, x):
            thread = threading.Thread(target=layer, args=(x,))
            thread.start()
            thread.join()
            return x

        assert measure(Calls(forward), X).unknown_operators["threading.Thread"].modules == ("layer",)


class TestModes:
    @pytest.mark.parametrize("train", [False, True])
    @pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
    @pytest.mark.parametrize("compiled", [False, True])
    @pytest.mark.parametrize("weights", ["real", "meta", "fake"])
    @pytest.mark.parametrize("name", ["encoder", "attention", "lstm", "convolution"])
    def test_a_count_depends_on_none(self, name, weights, compiled, mode, train):
        build, inputs, flops = MODELS[name]
        if weights == "fake":
            with FakeTensorMode():
                model = build()
        else:
            with torch.device("meta" if weights == "meta" else "cpu"):
                model = build()
        model.train(train)
        if compiled:
            model = torch.compile(model, backend="eager")
        with mode():
            assert on_shapes(model, inputs).flops == flops
            if weights == "real":
                assert for_real(model, inputs).flops == flops


def encoder():
    layer = nn.TransformerEncoderLayer(8, 2, dim_feedforward=16, dropout=0, batch_first=True)
    return nn.TransformerEncoder(layer, 2)


TOKENS = torch.randn(2, 5, 8)
#: FLOPs of four projections, the scores and the weighted sums, for 2 sequences of 5 tokens of width 8.
ATTENTION = 2 * 2 * (4 * 5 * 8 * 8 + 2 * 5 * 5 * 8)
MODELS = {
    "encoder": (encoder, TOKENS, 2 * (ATTENTION + 2 * 2 * 5 * 2 * 8 * 16)),
    "attention": (lambda: nn.MultiheadAttention(8, 2, batch_first=True), (TOKENS, TOKENS, TOKENS), ATTENTION),
    "lstm": (lambda: nn.LSTM(8, 4), TOKENS, 2 * 10 * 4 * 4 * (8 + 4)),
    "convolution": (
        lambda: nn.Sequential(nn.Conv1d(5, 6, 3), nn.BatchNorm1d(6), nn.ReLU(), nn.ConvTranspose1d(6, 4, 3)),
        TOKENS,
        2 * 2 * (6 * 6 * 5 * 3 + 6 * 6 * 4 * 3),
    ),
}


class TestInParts:
    def test_padded_attention(self):
        model = encoder().eval()
        mask = torch.zeros(2, 5, dtype=torch.bool)
        mask[1, 3:] = True
        with torch.no_grad():
            assert measure(model, TOKENS, {"src_key_padding_mask": mask}).flops == MODELS["encoder"][2]

    def test_nested_tensors(self):
        nested = torch.nested.nested_tensor([torch.randn(2, 4), torch.randn(3, 4)], layout=torch.jagged)
        assert measure(nn.Linear(4, 5), nested).flops == 2 * 5 * 4 * 5

    def test_losses_and_optimizers(self):
        """A measured training step changes no weights, gradients or optimizer state."""
        model = nn.Linear(4, 5)
        optimizer = torch.optim.AdamW(model.parameters())
        weight = model.weight.detach().clone()

        def step(x):
            optimizer.zero_grad()
            F.mse_loss(model(x), torch.zeros(3, 5)).backward()
            optimizer.step()

        assert both(step, X).flops == 2 * LINEAR
        assert torch.equal(model.weight, weight)
        assert model.weight.grad is None
        assert not optimizer.state
