"""A watch of a real run counts what `measure` counts."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import pytest
import torch
from features import requires
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from zoo import differences

from pytest_flopsbudget import measure
from pytest_flopsbudget.counting.watch import watch


def mlp():
    """Return a model of two linear layers, 8→16 and 16→4, with a ReLU between the layers."""
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))


#: Parameters of `mlp`, and FLOPs of its forward pass for one row: 2·8·16 + 2·16·4.
MLP_PARAMS, MLP_FLOPS = 212, 384


class Lstm(nn.Module):
    def __init__(self, kind=nn.LSTM):
        super().__init__()
        self.layer = kind(8, 16, num_layers=2, batch_first=True)

    def forward(self, steps):
        return self.layer(steps)[0]


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.MultiheadAttention(16, 2, batch_first=True)

    def forward(self, tokens):
        return self.layer(tokens, tokens, tokens, need_weights=False)[0]


class Product(nn.Module):
    """A model of composite operators, which PyTorch implements by other operators."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(16, 16))

    def forward(self, tokens):
        scores = torch.matmul(tokens, self.weight) @ tokens.mT
        mixed = functional.scaled_dot_product_attention(tokens, tokens, tokens)
        return torch.einsum("bij,bjk->bik", scores, mixed)


def encoder(**kwargs):
    return nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, **kwargs)


MODELS = {
    "mlp": (mlp, (3, 8)),
    "cnn": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.LazyLinear(4)
        ),
        (2, 3, 8, 8),
    ),
    "dropout": (lambda: nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5), nn.GELU()), (4, 8)),
    "lstm": (Lstm, (2, 5, 8)),
    "gru": (lambda: Lstm(nn.GRU), (2, 5, 8)),
    "attention": (Attention, (2, 5, 16)),
    "encoder": (encoder, (2, 5, 16)),
    "encoder, norm first": (lambda: encoder(norm_first=True), (2, 5, 16)),
    "product": (Product, (2, 5, 16)),
    "transposed": (lambda: nn.ConvTranspose2d(4, 6, 3, stride=2), (1, 4, 5, 5)),
    "norms": (lambda: nn.Sequential(nn.GroupNorm(2, 4), nn.InstanceNorm1d(4), nn.LayerNorm(6)), (3, 4, 6)),
}


#: PyTorch's fused kernels for inference. They do not call the modules inside of the layer.
FUSED = {"aten._transformer_encoder_layer_fwd", "aten._native_multi_head_attention"}
#: Metrics that depend on the memory that oneDNN keeps for the backward pass.
KEPT = ("peak_memory",)


def forward(model, inputs):
    return [model(inputs)]


def without_gradients(model, inputs):
    with torch.no_grad():
        return [model(inputs)]


def inference(model, inputs):
    with torch.inference_mode():
        return [model(inputs)]


def training(model, inputs):
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    losses = []
    for _ in range(2):
        optimizer.zero_grad()
        losses.append(model(inputs).square().mean())
        losses[-1].backward()
        optimizer.step()
    return [*losses, *(parameter.grad for parameter in model.parameters())]


def autocast(model, inputs):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return [model(inputs)]


def evaluated(how):
    def run(model, inputs):
        return how(model.eval(), inputs)

    run.__name__ = f"{how.__name__}_in_evaluation"
    return run


WAYS = [forward, without_gradients, inference, training, autocast]
WAYS += [evaluated(forward), evaluated(without_gradients), evaluated(inference)]


def facts_of(model, inputs, outputs):
    """Return the tensors, versions, hooks and random states after a run, for comparison with another run."""
    tensors = [*outputs, *model.parameters(), *model.buffers(), inputs]
    # Gradients are left out: with any dispatch mode, PyTorch accumulates them in new tensors, whose versions differ.
    known = [*model.parameters(), *model.buffers(), inputs]
    versions = [None if tensor.is_inference() else tensor._version for tensor in known]
    hooks = {name: [len(getattr(part, name)) for part in model.modules()] for name in ("_forward_hooks", "_buffers")}
    states = random.getstate(), torch.get_rng_state().tolist()
    return [tensor.detach().clone() for tensor in tensors], versions, hooks, states


def outcome(way, model, inputs):
    """Return (outputs, None), or ([], message) if this processor cannot run the model."""
    # oneDNN has no bfloat16 LSTM on processors without AVX-512.
    try:
        return way(model, inputs), None
    except RuntimeError as error:
        if "could not create a primitive descriptor for the LSTM" not in str(error):
            raise
        return [], str(error)


class TestNothingChanges:
    @pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
    @pytest.mark.parametrize("name", MODELS)
    def test_bit_for_bit(self, name, way):
        make, shape = MODELS[name]
        seen = []
        for watched in (False, True):
            torch.manual_seed(0)
            random.seed(0)
            model, inputs = make(), torch.randn(shape)
            model(inputs)  # gives lazy modules their shapes
            with watch() if watched else nullcontext():
                outputs, refusal = outcome(way, model, inputs)
            seen.append((*facts_of(model, inputs, outputs), refusal))
        (plain, *plain_facts), (beside, *beside_facts) = seen
        assert plain_facts[-1] is None or (name, way) == ("lstm", autocast)
        assert all(map(torch.equal, plain, beside))
        assert len(plain) == len(beside)
        assert plain_facts == beside_facts

    def test_exception(self):
        error = RuntimeError("its own")

        class Failing(nn.Module):
            def forward(self, inputs):
                raise error

        call, model = nn.Module.__call__, nn.Sequential(nn.Linear(8, 8), Failing())
        seen = watch()
        with pytest.raises(RuntimeError) as raised, seen:
            model(torch.randn(2, 8))
        assert raised.value is error
        assert nn.Module.__call__ is call
        assert torch._C._len_torch_dispatch_stack() == 0
        model[0](torch.randn(2, 8))
        assert seen.complexity.flops == 2 * 2 * 8 * 8

    def test_optimizers_keep_no_hooks(self):
        from torch.optim import optimizer

        before = dict(optimizer._global_optimizer_pre_hooks)
        with watch():
            assert len(optimizer._global_optimizer_pre_hooks) == len(before) + 1
        assert dict(optimizer._global_optimizer_pre_hooks) == before

    def test_entered_once(self):
        seen = watch()
        with seen, pytest.raises(RuntimeError, match="entered only once"):
            seen.__enter__()

    def test_read_too_early(self):
        with watch() as seen, pytest.raises(RuntimeError, match="after the block"):
            _ = seen.complexity


class TestCount:
    @pytest.mark.parametrize("way", [forward, without_gradients, inference, *WAYS[-3:]], ids=lambda way: way.__name__)
    @pytest.mark.parametrize("name", MODELS)
    def test_same_as_measured(self, name, way):
        """For each module, a watch counts what a measurement on shapes counts."""
        make, shape = MODELS[name]
        model, inputs = make(), torch.randn(shape)
        model(inputs)
        with watch() as seen:
            way(model, inputs)
        counted = measure(model, inputs)
        assert seen.complexity.model == counted.model
        assert seen.complexity.inputs == counted.inputs
        assert not seen.complexity.unknown_operators
        for key in ("flops", "other_flops", "activations", "params", "param_bytes", "buffer_bytes"):
            assert seen.complexity.metrics[key] == counted.metrics[key]
        if seen.complexity.operators.keys() & FUSED:
            return
        # A run with gradients keeps tensors for backward; a measurement with reuse_answers=False keeps them too.
        counted = measure(model, inputs, reuse_answers=not way.__name__.startswith("forward"))
        without = KEPT if way.__name__.startswith("forward") and name == "lstm" else ()
        assert differences(seen.complexity, counted, without=without) == {}

    def test_backward(self):
        model, inputs = mlp(), torch.randn(3, 8)
        with watch() as seen:
            model(inputs).backward(torch.ones(()).expand(3, 4))  # the gradient of a sum is expanded in the same way
        counted = measure(model, inputs, backward=True)
        assert seen.complexity.backward
        assert seen.complexity.modules == counted.modules
        assert seen.complexity.phases == counted.phases
        assert seen.complexity.operators == counted.operators

    def test_resnet_18(self):
        image = torch.randn(1, 3, 224, 224, requires_grad=True)
        model = resnet_18()
        with watch() as seen:
            model(image).sum().backward()
        assert seen.complexity.flops == 10_884_440_064
        # In backward, each convolution and the linear layer have two products of the size in forward.
        assert seen.complexity.phases["backward"].flops == 2 * seen.complexity.phases["forward"].flops
        assert seen.complexity.params == 11_689_512

    def test_functions_only(self):
        """If no module ran, the result has the name of the watch."""
        with watch("product") as seen:
            torch.randn(2, 3) @ torch.randn(3, 5)
        assert (seen.complexity.model, seen.complexity.inputs) == ("product", ())
        assert seen.complexity.flops == 2 * 2 * 3 * 5

    def test_nothing(self):
        with watch() as seen:
            torch.zeros(2)
        assert not seen.has_run

    def test_custom_operator(self):
        @torch.library.custom_op("flopsbudget_watch::twice", mutates_args=())
        def twice(value: torch.Tensor) -> torch.Tensor:
            return 2 * value

        class Twice(nn.Module):
            def forward(self, value):
                return twice(value)

        with watch() as seen:
            nn.Sequential(nn.Linear(8, 8), Twice())(torch.randn(2, 8))
        unknown = seen.complexity.unknown_operators["flopsbudget_watch.twice"]
        assert (unknown.calls, unknown.modules) == (1, ("1",))

    def test_other_thread(self):
        model, inputs = mlp(), torch.randn(2, 8)
        with watch() as seen:
            thread = threading.Thread(target=model, args=(inputs,))
            thread.start()
            thread.join()
        assert seen.complexity.unknown_operators["threading.Thread"].modules == ("Linear", "ReLU", "Sequential")
        assert seen.has_run

    @pytest.mark.parametrize("work", ["thread", "pool", "older pool"])
    def test_functions_on_other_threads(self, work):
        value = torch.randn(8, 8)

        def run(pool):
            if work == "thread":
                thread = threading.Thread(target=torch.matmul, args=(value, value))
                thread.start()
                thread.join()
            else:
                pool.submit(torch.matmul, value, value).result()

        with ThreadPoolExecutor(1) as older:
            older.submit(int).result()
            with watch() as seen, ThreadPoolExecutor(1) as newer:
                mlp()(value)
                run(newer if work == "pool" else older)
        assert seen.complexity.flops == 8 * MLP_FLOPS
        assert "threading.Thread" in seen.complexity.unknown_operators

    @pytest.mark.parametrize("work", [int, lambda: torch.ones(2).shape, lambda: torch.ones(2).view(1, 2)])
    def test_nothing_on_another_thread(self, work):
        with watch() as seen:
            mlp()(torch.randn(2, 8))
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
        assert not seen.complexity.unknown_operators

    @pytest.mark.filterwarnings("ignore:`torch.jit.trace:DeprecationWarning")
    def test_scripted(self):
        model, inputs = torch.jit.trace(mlp(), torch.randn(2, 8)), torch.randn(2, 8)
        with watch() as seen:
            for _ in range(3):
                model(inputs)
        assert seen.complexity.flops == 3 * 2 * MLP_FLOPS

    def test_recomputed(self):
        model, inputs = mlp(), torch.randn(2, 8)
        with watch() as seen:
            checkpoint(model, inputs, use_reentrant=False).sum().backward()
        forward_flops = 2 * MLP_FLOPS
        first_layer = 2 * 2 * 8 * 16
        # Backward needs no gradient of the input. Recomputation stops before the last layer, because backward has what
        # it needs.
        assert seen.complexity.flops == forward_flops + (2 * forward_flops - first_layer) + first_layer
        assert seen.complexity.recomputed_flops == first_layer
        assert seen.complexity.phases["forward"].flops == forward_flops
        assert seen.complexity.phases["backward"].recomputed_flops == first_layer


class TestModules:
    def test_one_model(self):
        """If one model runs, it is the root of the result."""
        model = mlp()
        with watch() as seen:
            for _ in range(3):
                model(torch.randn(2, 8))
        assert seen.complexity.model == "Sequential"
        assert seen.complexity.inputs == ("float32[2, 8] x3",)
        assert list(seen.complexity.modules) == list(dict(model.named_modules()))
        assert seen.complexity[""].calls == seen.complexity["0"].calls == 3
        assert seen.complexity.params == MLP_PARAMS

    def test_loss_beside_it(self):
        """If a model and a loss run, the model is the root, because the loss has no parameters."""
        with watch() as seen:
            nn.MSELoss()(mlp()(torch.randn(2, 8)), torch.randn(2, 4))
        assert seen.complexity.model == "Sequential"
        assert seen.complexity["0"].flops == 2 * 2 * 8 * 16
        assert seen.complexity["MSELoss"].other_flops > 0
        assert seen.complexity.inputs == ("float32[2, 8]",)

    def test_part_first(self):
        """If a submodule is called before its model, the submodule is listed under its path in the model."""
        model = mlp()
        with watch() as seen:
            model[2](torch.randn(5, 16))
            model(torch.randn(2, 8))
        assert list(seen.complexity.modules) == ["", "2", "0", "1"]
        assert seen.complexity["2"].flops == (5 + 2) * 2 * 16 * 4
        assert seen.complexity.params == MLP_PARAMS

    def test_two_models(self):
        """If two models run, each is listed under the name of its class."""
        first, second = mlp(), nn.Sequential(nn.Linear(4, 4))
        second.append(nn.Linear(4, 4))
        second[1].weight = second[0].weight
        with watch("pair") as seen:
            second(first(torch.randn(2, 8)))
            first(torch.randn(2, 8))
        assert seen.complexity.model == "pair"
        assert seen.complexity["Sequential"].flops == 2 * 2 * MLP_FLOPS
        assert seen.complexity["Sequential_2.0"].flops == 2 * 2 * 4 * 4
        assert seen.complexity.params == MLP_PARAMS + 4 * 4 + 4 + 4
        assert seen.complexity.inputs == ("float32[2, 8] x2", "float32[2, 4]")

    def test_made_meanwhile(self):
        """If a model creates a module while it runs, this module is listed below the model."""

        class Making(nn.Module):
            def forward(self, inputs):
                return nn.Linear(8, 8, bias=False)(inputs)

        with watch() as seen:
            Making()(torch.randn(2, 8))
        assert seen.complexity["Linear"].flops == 2 * 2 * 8 * 8


class TestPhases:
    def test_training_step(self):
        rows, inputs, outputs = 5, 8, 3
        model = nn.Linear(inputs, outputs)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        data, target = torch.randn(rows, inputs), torch.randn(rows, outputs)
        with watch() as seen:
            loss = functional.mse_loss(model(data), target)
            loss.backward()
            optimizer.step()
        phases = seen.complexity.phases
        product = 2 * rows * inputs * outputs
        assert [phases[name].flops for name in ("forward", "backward", "optimizer")] == [product, product, 0]
        # The bias; and in the loss a difference, a square and a sum.
        assert phases["forward"].other_flops == rows * outputs + 3 * rows * outputs
        # For each parameter, a product and a sum.
        assert phases["optimizer"].other_flops == 2 * (inputs * outputs + outputs)
        assert sum(phase.total_flops for phase in phases.values()) == seen.complexity.total_flops

    @pytest.mark.parametrize("options", [{"foreach": True}, {"foreach": False}, {"fused": True}])
    def test_adamw(self, options):
        """Each implementation of AdamW costs 14 FLOPs per parameter, as docs/counting.md says."""
        model = nn.Linear(64, 64)
        optimizer = torch.optim.AdamW(model.parameters(), **options)
        model(torch.randn(2, 64)).sum().backward()
        with watch() as seen:
            optimizer.step()
        phases = seen.complexity.phases
        assert phases["forward"].total_flops == phases["backward"].total_flops == 0
        # One addition to the step count of each of the two tensors.
        assert phases["optimizer"].other_flops == 14 * (64 * 64 + 64) + 2

    def test_closure(self):
        """Work in the closure of an optimizer is forward and backward work, not optimizer work."""
        model = mlp()
        optimizer = torch.optim.LBFGS(model.parameters(), max_iter=1)
        inputs = torch.randn(2, 8)

        def closure():
            optimizer.zero_grad()
            loss = model(inputs).square().sum()
            loss.backward()
            return loss

        with watch() as seen:
            optimizer.step(closure)
        calls = seen.complexity[""].calls
        assert seen.complexity.phases["forward"].flops == calls * 2 * MLP_FLOPS
        assert seen.complexity.phases["backward"].flops == calls * (4 * MLP_FLOPS - 2 * 2 * 8 * 16)
        assert seen.complexity.phases["optimizer"].total_flops > 0

    def test_step_that_fails(self):
        """If an optimizer's step raises an exception, later work is counted as forward work."""

        class Failing(torch.optim.SGD):
            def step(self, closure=None):
                raise ArithmeticError

        model = mlp()
        with watch() as seen:
            with pytest.raises(ArithmeticError):
                Failing(model.parameters(), lr=0.1).step()
            with torch.no_grad():
                model(torch.randn(2, 8))
        assert seen.complexity.phases == {}
        assert seen.complexity.flops == 2 * MLP_FLOPS

    def test_measured_training_step(self):
        model = mlp()

        def step(inputs):
            model(inputs).sum().backward()
            torch.optim.SGD(model.parameters(), lr=0.1).step()

        inputs = torch.randn(2, 8)
        counted = measure(model, inputs, backward=True)
        with watch() as seen:
            step(inputs)
        assert counted.phases["forward"].flops == 2 * MLP_FLOPS
        assert counted.phases["backward"].flops == seen.complexity.phases["backward"].flops
        assert seen.complexity.phases["optimizer"].other_flops == 2 * MLP_PARAMS


class TestNested:
    def test_inner_counts_in_outer(self):
        model = mlp()
        with watch() as outer:
            model(torch.randn(1, 8))
            with watch() as inner:
                model(torch.randn(2, 8)).sum().backward()
            model(torch.randn(4, 8))
        backward = 4 * MLP_FLOPS - 2 * 2 * 8 * 16
        assert inner.complexity.flops == 2 * MLP_FLOPS + backward
        assert outer.complexity.flops == 7 * MLP_FLOPS + backward
        assert outer.complexity["0"].calls == 3

    def test_measurement_inside(self):
        model, inputs = mlp(), torch.randn(2, 8)

        def selecting(value):
            return model(value[value[:, 0] > float(value.min()) - 1])

        with watch() as seen:
            model(inputs)
            assert measure(model, inputs, backward=True).flops > 0
            assert measure(selecting, inputs).execution == "real"
        assert seen.complexity.flops == 2 * MLP_FLOPS
        assert seen.complexity[""].calls == 1


class TestCompiled:
    def test_model(self):
        compiled = []

        def backend(graph, _inputs):
            compiled.append(graph)
            return graph.forward

        model, inputs = mlp(), torch.randn(2, 8)
        fast = torch.compile(model, backend=backend)
        expected = model(inputs)
        with watch() as outer, watch() as seen:
            output = fast(inputs)
        assert len(compiled) == 1
        assert torch.equal(output, expected)
        assert seen.complexity.flops == outer.complexity.flops == 2 * MLP_FLOPS
        assert not seen.complexity.unknown_operators
        assert seen.complexity["0"].flops == 2 * 2 * 8 * 16

    @pytest.mark.parametrize("times", [1, 2])
    def test_the_compiler_works_after_a_watch(self, times):
        """After a watch of a compiled model, PyTorch compiles and exports other models as without a watch."""
        compiled = []

        def backend(graph, _inputs):
            compiled.append(graph)
            return graph.forward

        fast, inputs = torch.compile(mlp(), backend=backend), torch.randn(2, 8)
        with watch():
            for _ in range(times):
                fast(inputs)
        fast(torch.randn(3, 8))
        torch.compile(nn.Linear(8, 4), backend=backend)(inputs)
        assert len(compiled) >= 2
        exported = torch.export.export(nn.Linear(8, 4), (inputs,), strict=True)
        assert measure(exported.module(), inputs).flops == 2 * 2 * 8 * 4

    def test_model_that_cannot_be_counted(self, monkeypatch):
        def fails(*_args, **_kwargs):
            raise ArithmeticError("no count")

        fast = torch.compile(mlp(), backend=lambda graph, _inputs: graph.forward)
        fast(torch.randn(2, 8))
        monkeypatch.setattr("pytest_flopsbudget.counting.measure.trace_inputs", fails)
        with watch() as seen:
            fast(torch.randn(2, 8))
        assert "torch.compile" in seen.complexity.unknown_operators
        (note,) = seen.complexity.notes
        assert "could not be counted on shapes beside its run (ArithmeticError in test_watch.py:" in note
        assert "no count" in note

    @requires("functions compiled under a watch")
    def test_function(self):
        """If a watched block calls a compiled function, the function is compiled only once."""
        compiled = []

        def backend(graph, _inputs):
            compiled.append(graph)
            return graph.forward

        weight = torch.randn(8, 4)
        fast = torch.compile(lambda value: value @ weight, backend=backend)
        with watch() as seen:
            fast(torch.randn(2, 8))
        assert seen.complexity.flops == 2 * 2 * 8 * 4
        assert len(compiled) == 1
        fast(torch.randn(2, 8))
        assert len(compiled) == 1

    @requires("functions compiled under a watch")
    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
    def test_kernels(self):
        """If PyTorch's compiler generates kernels, a watch lists an unknown operator `torch.compile`."""
        # PyTorch's dispatcher does not see the kernels.
        weight = torch.randn(8, 4)
        fast = torch.compile(lambda value: (value @ weight).relu().sum())
        value = torch.randn(2, 8)
        try:
            expected = fast(value)
        except Exception as error:
            if "compiler" not in str(error).lower():
                raise
            pytest.skip("no compiler for C++ here")
        for _ in range(2):
            with watch() as seen:
                assert torch.equal(fast(value), expected)
            assert seen.complexity.flops == 2 * 2 * 8 * 4
            assert "torch.compile" in seen.complexity.unknown_operators

    def test_branch(self):
        """If a model has two branches, a watch counts only the branch that ran."""
        value = torch.ones(2, 8)
        with watch() as seen:
            torch.cond(value.sum() > 0, lambda one: one @ one.sin(), lambda one: one.cos(), (torch.ones(8, 8),))
        assert seen.complexity.flops == 2 * 8 * 8 * 8

    def test_export(self):
        """Exporting a model counts 0 FLOPs."""
        model, inputs = mlp(), torch.randn(2, 8)
        with watch() as seen:
            exported = torch.export.export(model, (inputs,))
        assert seen.complexity.flops == 0
        with watch() as seen:
            exported.module()(inputs)
        assert seen.complexity.flops == 2 * MLP_FLOPS

    def test_backward_is_unknown(self):
        model, inputs = mlp(), torch.randn(2, 8)
        fast = torch.compile(model, backend="aot_eager")
        with watch() as seen:
            fast(inputs).sum().backward()
        assert "torch.compile" in seen.complexity.unknown_operators


def resnet_18():
    class Block(nn.Module):
        def __init__(self, inputs, outputs, stride):
            super().__init__()
            self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(outputs)
            self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(outputs)
            self.shortcut = nn.Identity()
            if inputs != outputs:
                self.shortcut = nn.Sequential(
                    nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
                )

        def forward(self, image):
            out = functional.relu(self.bn1(self.conv1(image)))
            return functional.relu(self.bn2(self.conv2(out)) + self.shortcut(image))

    layers = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    width = 64
    for outputs in (64, 128, 256, 512):
        layers += [Block(width, outputs, 1 if outputs == width else 2), Block(outputs, outputs, 1)]
        width = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 1000))
