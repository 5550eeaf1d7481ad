"""A measurement changes neither the model nor its inputs nor the process."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.modules import module as global_hooks
from zoo import for_real, on_shapes, timed

from pytest_flopsbudget.counting.measure import measure


class Busy(nn.Module):
    """A model that changes itself and the process in every common way."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.norm = nn.BatchNorm1d(4)
        self.dropout = nn.Dropout()
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self.register_buffer("mean", torch.zeros(4))
        self.counter = 0
        self.cache = None
        self.history = []
        self.by_name = {}
        self.seen = set()
        self.helper = Helper()
        self.fails = False

    def forward(self, x):
        self.counter += 1
        self.steps += 1
        self.mean = 0.9 * self.mean + x.mean(0).detach()
        self.cache = x
        self.history.append(x)
        self.by_name["x"] = x
        self.seen.add(3)
        self.helper.note(x)
        self.added = x
        self.layer.weight.data.mul_(2)
        self.register_forward_hook(lambda *_: None)
        self.eval()
        self.train()
        self.layer.bias.requires_grad_(requires_grad=False)
        random.random()  # noqa: S311 -- models use this generator
        np.random.rand()  # noqa: NPY002 -- models use this old generator
        torch.rand(2)
        torch.set_default_dtype(torch.float64)
        torch.set_grad_enabled(torch.is_grad_enabled())
        if self.fails:
            raise ValueError("busy")
        return self.dropout(self.norm(self.layer(x.float())))


class Helper:
    def __init__(self):
        self.notes = []

    def note(self, x):
        self.notes.append(x)
        self.last = x


def state_of(model):
    """Return all visible state of a model as plain data."""

    def plain(value):
        if isinstance(value, torch.Tensor):
            grad = None if value.grad is None else plain(value.grad)
            return (id(value), value.detach().numpy().tobytes(), str(value.dtype), value.requires_grad, grad)
        if isinstance(value, (list, tuple)):
            return [plain(item) for item in value]
        if isinstance(value, dict):
            return [(key, plain(item)) for key, item in value.items()]
        if isinstance(value, (nn.Module, Helper)):
            return (id(value), plain(vars(value)))
        return repr(value)

    return plain(model)


def process_state():
    kind, *python_state = random.getstate()
    return {
        "torch": torch.get_rng_state().tolist(),
        "python": (kind, python_state),
        "numpy": repr(np.random.get_state()),  # noqa: NPY002
        "attention": torch.backends.mha.get_fastpath_enabled(),
        "dtype": torch.get_default_dtype(),
        "grad": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "hooks": [
            len(hooks)
            for hooks in (
                global_hooks._global_forward_hooks,
                global_hooks._global_forward_pre_hooks,
                global_hooks._global_forward_hooks_always_called,
                global_hooks._global_backward_hooks,
            )
        ],
        "modes": torch._C._len_torch_dispatch_stack(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }


WAYS = [on_shapes, for_real, timed]


class TestModel:
    @pytest.mark.parametrize("backward", [False, True])
    @pytest.mark.parametrize("way", WAYS)
    @pytest.mark.parametrize("train", [False, True])
    def test_model_and_process(self, way, backward, train):
        model = Busy().train(train)
        model.register_forward_hook(lambda *_: None)
        inputs = torch.randn(3, 4)
        before, process, data = state_of(model), process_state(), inputs.clone()
        way(model, inputs, backward=backward)
        assert state_of(model) == before
        assert process_state() == process
        assert torch.equal(inputs, data)

    @pytest.mark.parametrize("way", WAYS)
    def test_model_that_raises(self, way):
        model, inputs = Busy(), torch.randn(3, 4)
        model.fails = True
        before, process = state_of(model), process_state()
        with pytest.raises(ValueError, match="busy"):
            way(model, inputs)
        assert state_of(model) == before
        assert process_state() == process
        with pytest.raises(ValueError, match="busy"):
            measure(model, inputs, backward=True)
        assert state_of(model) == before
        assert process_state() == process

    @pytest.mark.parametrize("way", WAYS)
    @pytest.mark.parametrize("where", ["closure", "global", "object", "partial"])
    def test_models_in_functions(self, way, where):
        import functools

        model = Busy()

        class Holder:
            def __init__(self):
                self.model = model
                self.count = 0

            def run(self, x):
                self.count += 1
                return self.model(x)

        holder = Holder()
        functions = {
            "closure": lambda x: model(x),  # noqa: PLW0108 -- this tests a closure
            "global": runs_the_global_one,
            "object": holder.run,
            "partial": functools.partial(Busy.__call__, model),
        }
        watched = GLOBAL if where == "global" else model
        before = state_of(watched)
        way(functions[where], torch.randn(3, 4), backward=True)
        assert state_of(watched) == before
        assert holder.count == 0

    def test_gradients_that_were_there(self):
        model = nn.Linear(4, 4)
        model(torch.randn(3, 4)).sum().backward()
        grad = model.weight.grad.clone()
        for way in WAYS:
            way(model, torch.randn(3, 4), backward=True)
        assert torch.equal(model.weight.grad, grad)

    def test_hooks_with_memory(self):
        model, outputs = nn.Linear(4, 4), []
        model.register_forward_hook(lambda _module, _args, output: outputs.append(output))
        for way in WAYS:
            way(model, torch.randn(3, 4))
        assert outputs == []

    def test_lazy_modules_stay_lazy(self):
        model = nn.Sequential(nn.LazyLinear(5), nn.LazyBatchNorm1d())
        before = state_of_lazy(model)
        for way in WAYS:
            way(model, torch.randn(3, 4))
            assert state_of_lazy(model) == before
        assert model(torch.randn(3, 7)).shape == (3, 5)

    @pytest.mark.parametrize("way", WAYS)
    def test_generators_and_arrays(self, way):
        class Draws(nn.Module):
            def __init__(self):
                super().__init__()
                self.generators = torch.Generator(), np.random.default_rng(), random.Random(3)  # noqa: S311
                self.array = np.zeros(2)

            def forward(self, x):
                first, second, third = self.generators
                self.array[0] = second.random() + third.random()
                return x + torch.rand(3, generator=first)

        model = Draws()

        def state():
            first, second, third = model.generators
            return first.get_state().tolist(), repr(second.bit_generator.state), third.getstate(), model.array.tolist()

        before = state()
        way(model, torch.randn(3))
        assert state() == before

    def test_power_iteration(self):
        model = nn.utils.parametrizations.spectral_norm(nn.Linear(4, 5))
        before = {name: value.clone() for name, value in model.state_dict().items()}
        for way in WAYS:
            way(model, torch.randn(3, 4), backward=True)
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def state_of_lazy(model):
    return [
        (type(module).__name__, len(module._forward_pre_hooks), len(module._load_state_dict_pre_hooks))
        for module in model
    ]


GLOBAL = Busy()


def runs_the_global_one(x):
    return GLOBAL(x)


class TestInputs:
    @pytest.mark.parametrize("way", WAYS)
    def test_in_place(self, way):
        """If a model writes to its inputs, the caller's inputs keep their values."""

        class Writes(nn.Module):
            def forward(self, x, cache, *, keep):
                x.add_(1)
                cache["keys"][:, 1:] = 7
                cache["more"] = x
                keep.append(x)
                keep[0].t_()
                return x

        x, keys, kept = torch.randn(3, 4), torch.zeros(2, 3), torch.randn(2, 5)
        cache, keep = {"keys": keys}, [kept]
        values = [item.clone() for item in (x, keys, kept)]
        way(Writes(), (x, cache), {"keep": keep})
        assert all(torch.equal(item, value) for item, value in zip((x, keys, kept), values, strict=True))
        assert cache == {"keys": keys}
        assert len(keep) == 1

    @pytest.mark.parametrize("way", WAYS)
    def test_gradients(self, way):
        """A measurement changes neither the gradient of an input nor the graph that the input belongs to."""
        x = torch.randn(3, 4, requires_grad=True)
        way(nn.Linear(4, 5), x, backward=True)
        assert x.grad is None
        hidden = x * 2
        way(nn.Linear(4, 5), hidden, backward=True)
        assert x.grad is None
        hidden.sum().backward()
        assert torch.equal(x.grad, torch.full((3, 4), 2.0))

    @pytest.mark.parametrize("way", WAYS)
    def test_objects(self, way):
        """If a model fills an object that it gets as an input, the caller's object stays empty."""
        helper = Helper()
        way(lambda x, h: h.note(x @ x), (torch.randn(3, 3), helper))
        assert helper.notes == []
        assert vars(helper) == {"notes": []}

    def test_overlapping_views(self):
        """If two inputs share memory and the model writes to both, both keep their values."""
        whole = torch.arange(6.0)
        first, second = whole[:4], whole[2:]

        def writes(a, b):
            a.mul_(2)
            b.mul_(3)
            return a.sum().item()

        assert measure(writes, (first, second)).execution == "real"
        assert torch.equal(whole, torch.arange(6.0))

    def test_memory_shared_with_numpy(self):
        array = np.arange(4.0)
        for_real(lambda x: x.mul_(2), torch.from_numpy(array))
        assert array.tolist() == [0, 1, 2, 3]


class TestModes:
    @pytest.mark.parametrize("way", WAYS)
    @pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
    def test_the_mode_around(self, way, mode):
        with mode():
            process = process_state()
            way(Busy(), torch.randn(3, 4))
            assert process_state()["grad"] == process["grad"]
            assert process_state()["inference"] == process["inference"]
            way(Busy(), torch.randn(3, 4), backward=True)
            assert torch.is_grad_enabled() == process["grad"]
            assert torch.is_inference_mode_enabled() == process["inference"]

    def test_measurement_within_a_measurement(self):
        """If a model measures another model, the inner measurement adds nothing to the outer count."""
        inner = nn.Linear(4, 5)

        class Measures(nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = nn.Linear(4, 4)

            def forward(self, x):
                measure(inner, torch.randn(3, 4))
                return self.layer(x)

        assert measure(Measures(), torch.randn(3, 4)).flops == 2 * 3 * 4 * 4
