"""Peak memory equals sums that are computed by hand."""

from __future__ import annotations

import weakref

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from zoo import for_real, on_shapes

from pytest_flopsbudget.counting.measure import measure
from pytest_flopsbudget.counting.watch import watch
from pytest_flopsbudget.results.data import MEMORY_KINDS

#: Bytes of a float32 tensor of 8 x 16 elements.
T = 8 * 16 * 4
X = torch.randn(8, 16)


def kinds(counted):
    peak = counted.memory_at_peak
    return {kind: getattr(peak, kind) for kind in MEMORY_KINDS if getattr(peak, kind)}


def made(function, *args):
    """Return the peak memory of a function in bytes, without the memory of its arguments."""
    shapes, real = on_shapes(function, args), for_real(function, args)
    assert shapes.peak_memory == real.peak_memory
    assert sum(kinds(shapes).values()) == shapes.peak_memory
    return shapes.peak_memory - sum(arg.nbytes for arg in args)


def two_in_a_row(x):
    y = torch.relu(x)
    return torch.tanh(y)


def without_the_first(x):
    x = torch.relu(x)
    x = torch.tanh(x)
    return torch.sigmoid(x)


def held_by_a_view(x):
    y = torch.relu(x)[0]
    return torch.tanh(x) + y


def let_go(x):
    y = torch.relu(x)
    del y
    return torch.tanh(x)


def held_in_a_list(x):
    kept = [torch.relu(x) for _ in range(5)]
    return torch.tanh(kept[0])


CASES = {
    "an operator": (torch.relu, T),
    "in place": (lambda x: torch.relu(x).tanh_().sigmoid_(), T),
    "an operand and a result": (two_in_a_row, 2 * T),
    "a name given anew": (without_the_first, 2 * T),
    "a view holds all of it": (held_by_a_view, 3 * T),
    "let go before": (let_go, T),
    "a list": (held_in_a_list, 6 * T),
    "views": (lambda x: x.view(-1)[3:].view(5, 25).t(), 0),
    "room that nothing fills": (lambda x: torch.empty(3, 8, 16), 3 * T),
    "half as wide": (lambda x: x.half(), T // 2),
    "a copy": (lambda x: x.t().contiguous(), T),
    "an expanded tensor": (lambda x: x[:1].expand(100, 16), 0),
    "an index beside the values": (lambda x: x.max(1).values, 8 * 4 + 8 * 8),
    "given another size": (lambda x: torch.empty(1).resize_(8, 16), T),
    "given another size by itself": (lambda x: torch.empty(8, 16).untyped_storage().resize_(0) and None, T),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_alive(case):
    """A storage is alive as long as a name, a list or a view refers to it."""
    function, expected = CASES[case]
    assert made(function, X) == expected


class Stack(nn.Module):
    """A stack of square linear layers, each with a ReLU after it."""

    def __init__(self, count, checkpointed=False):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(16, 16, bias=False) for _ in range(count))
        self.checkpointed = checkpointed

    def block(self, layer, x):
        return torch.relu(layer(x))

    def forward(self, x):
        for layer in self.layers:
            x = checkpoint(self.block, layer, x, use_reentrant=False) if self.checkpointed else self.block(layer, x)
        return x


#: Bytes of the weight of one layer.
W = 16 * 16 * 4


class TestPasses:
    @pytest.mark.parametrize("count", [1, 4, 9])
    def test_inference_keeps_nothing(self, count):
        counted = on_shapes(Stack(count), X)
        # The results of product and ReLU. From the second layer on, the operand of the product is alive too.
        alive = (2 if count == 1 else 3) * T
        assert counted.peak_memory == count * W + T + alive
        assert kinds(counted) == {"parameters": count * W, "inputs": T, "activations": alive}

    @pytest.mark.parametrize("count", [2, 5])
    def test_training_keeps_what_backward_needs(self, count):
        # The result of a linear layer is freed after its ReLU. In backward, gradients of weights are added while
        # results are freed, so the peak is in the last layers, where backward begins.
        counted = measure(Stack(count), X, backward=True)
        held = count * W + T
        forward = held + count * T + T  # the results of all ReLUs, and the result of the last linear layer
        assert counted.peak_memory >= forward
        assert kinds(counted)["parameters"] == count * W
        assert for_real(Stack(count), X, backward=True).peak_memory == counted.peak_memory

    def test_backward_by_hand(self):
        # The first gradient is one number, expanded. threshold_backward makes the product's gradient (T bytes), from
        # which the weight's gradient is computed (W bytes). The caller holds the ReLU's result until the end.
        counted = measure(Stack(1), X, backward=True)
        # Weight, input, first gradient and ReLU's result; then the product's gradient, and with it the weight's
        # gradient.
        assert counted.peak_memory == W + T + 4 + T + max(T, T + W)
        assert kinds(counted) == {"parameters": W, "inputs": T, "gradients": W, "activations": T + 4, "temporaries": T}

    def test_checkpoints_trade_memory_for_work(self):
        """A checkpointed block keeps only its input alive."""

        class Long(Stack):
            def block(self, layer, x):
                return layer(x).sigmoid().tanh().sigmoid().tanh()

        whole, again = (measure(Long(8, checkpointed=flag), X, backward=True) for flag in (False, True))
        assert again.recomputed_flops == on_shapes(Long(8), X).flops
        # Weights, input, four results per block, the first gradient, and two gradients in the first operator of
        # backward.
        assert whole.peak_memory == 8 * W + T + 8 * 4 * T + 4 + 2 * T
        # After forward, one result per block is alive. In backward, the results of one block at a time are added.
        assert again.peak_memory <= 8 * W + T + 8 * T + 4 + (4 + 2) * T + 7 * W
        assert again.peak_memory < whole.peak_memory

    def test_a_step_of_an_optimizer(self):
        """The first step of AdamW makes two moments and a step count for each parameter."""
        model = Stack(2)
        optimizer = torch.optim.AdamW(model.parameters())

        def step(x):
            model(x).sum().backward()
            optimizer.step()

        counted = measure(step, X)
        found = kinds(counted)
        assert found["parameters"] == found["gradients"] == 2 * W
        assert found["optimizer_state"] == 2 * (2 * W + 4)
        # A root and its quotient for one parameter; a variable still holds the quotient for the parameter before.
        assert found["temporaries"] == 3 * W

    def test_a_state_that_is_there_already(self):
        """If the moments of AdamW exist before the step, they count as optimizer state from the start."""
        model = Stack(1)
        optimizer = torch.optim.AdamW(model.parameters())
        model(X).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

        def step(x):
            model(x).sum().backward()
            optimizer.step()

        assert kinds(measure(step, X))["optimizer_state"] == 2 * W + 4


def watched(step, x):
    with watch() as seen:
        step(x)
    return seen.complexity


@pytest.mark.parametrize("way", [on_shapes, for_real, watched])
class TestExistingGradients:
    """Gradients of an earlier step are alive until the measured step frees them."""

    @staticmethod
    def trained(step):
        for _ in range(2):
            step(X)

    @pytest.mark.parametrize("set_to_none", [True, False])
    def test_cleared_first(self, way, set_to_none):
        """A step frees gradients that it sets to None, but not gradients that it zeroes."""
        model = Stack(1)
        optimizer = torch.optim.AdamW(model.parameters(), foreach=False)

        def step(x):
            optimizer.zero_grad(set_to_none=set_to_none)
            model(x).sum().backward()
            optimizer.step()

        self.trained(step)
        found, gradient = way(step, X), model.layers[0].weight.grad
        # The square root of the second moment, and the quotient by it.
        expected = {"parameters": W, "gradients": W, "optimizer_state": 2 * W + 4, "temporaries": 2 * W, "inputs": T}
        assert kinds(found) == expected
        assert gradient is not None
        if way is not watched:  # a watched step creates this gradient
            assert not hasattr(gradient.untyped_storage(), "_flopsbudget")

    def test_cleared_after_the_forward_pass(self, way):
        model = Stack(1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, foreach=False)
        wide = torch.randn(400, 16)

        def step(x):
            loss = model(x).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        step(wide)
        rows = wide.nbytes
        # The product and its ReLU are alive at the end of forward. In backward, the ReLU and its gradient are alive,
        # but no old gradient, and not yet a new one.
        expected = {"parameters": W, "gradients": W, "inputs": rows, "activations": 2 * rows}
        assert kinds(way(step, wide)) == expected

    def test_cleared_in_two_steps(self, way):
        model = Stack(1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, foreach=False)

        def steps(x):
            for _ in range(2):
                optimizer.step()
                optimizer.zero_grad()
                model(x).sum().backward()

        self.trained(steps)
        assert kinds(way(steps, X))["gradients"] == W

    def test_accumulated(self, way):
        """If a step adds to existing gradients, existing and new gradients are alive together."""
        model = Stack(1)

        def step(x):
            model(x).sum().backward()

        self.trained(step)
        found = kinds(way(step, X))
        assert found["gradients"] == W
        assert found["temporaries"] >= W

    def test_held_elsewhere(self, way):
        """If a list holds a gradient, the gradient stays alive after the step clears it."""
        model = Stack(1)
        model(X).sum().backward()
        kept = [model.layers[0].weight.grad]

        def step(x):
            model.zero_grad()
            model(x).sum().backward()
            kept[0].add_(1)

        found = way(step, X)
        assert found.peak_memory >= 3 * W + T
        assert model.layers[0].weight.grad is not None


class TestPlaces:
    def test_operator_and_module(self):
        model = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 1000), nn.Linear(1000, 2))
        peak = on_shapes(model, X).memory_at_peak
        assert (peak.operator, peak.module) == ("aten.addmm", "1")

    def test_a_module_is_what_it_holds_and_what_a_call_makes(self):
        """The peak of a submodule does not contain the inputs of the submodule."""
        model = nn.Sequential(nn.Linear(16, 32, bias=False), nn.Sequential(nn.ReLU(), nn.Linear(32, 16, bias=False)))
        counted = on_shapes(model, X)
        weight = 16 * 32 * 4
        assert counted["0"].peak_memory == weight + 2 * T
        assert counted["1.0"].peak_memory == 2 * T
        assert counted["1.1"].peak_memory == weight + T
        assert counted["1"].peak_memory == weight + 2 * T + T

    def test_equal_layers_are_equal(self):
        counted = measure(Stack(6), X, backward=True)
        assert len({counted[f"layers.{index}"].peak_memory for index in range(6)}) == 1

    def test_shared_parameters_count_once(self):
        model = Stack(2)
        model.layers[1].weight = model.layers[0].weight
        assert kinds(on_shapes(model, X))["parameters"] == W

    def test_parameters_that_are_not_used(self):
        """Parameters that the model does not use are part of its memory."""
        model = Stack(1)
        model.spare = nn.Linear(100, 100, bias=False)
        assert kinds(on_shapes(model, X))["parameters"] == W + 100 * 100 * 4

    def test_buffers(self):
        # 4 bytes for each mean and each variance, 8 bytes for the number of batches
        model = nn.BatchNorm1d(16).eval()
        assert kinds(on_shapes(model, X))["buffers"] == 2 * 16 * 4 + 8


class TestWatched:
    def test_as_measured(self):
        """Without gradients, a watch and a measurement report equal peaks."""
        model = Stack(3)
        with torch.no_grad(), watch() as seen:
            model(X)
        measured = on_shapes(model, X)
        assert seen.complexity.peak_memory == measured.peak_memory
        assert kinds(seen.complexity) == kinds(measured)

    def test_nothing_is_held(self):
        ended = []

        class Told(nn.Module):
            def forward(self, x):
                y = x * 2
                weakref.finalize(y.untyped_storage(), ended.append, 1)
                return y + 1

        with watch():
            Told()(X)
            assert ended == [1]

    def test_a_watch_within_a_watch(self):
        model = Stack(2)
        with torch.no_grad(), watch() as outer:
            model(X)
            with watch() as inner:
                model(X)
        assert inner.complexity.peak_memory == outer.complexity.peak_memory


class TestDepth:
    def test_a_chain(self):
        """If each operator uses the result of the one before, the metric `depth` is the number of operators."""
        assert on_shapes(lambda x: x.relu().tanh().sigmoid(), (X,)).depth == 3

    def test_side_by_side(self):
        """If two chains of operators are independent, `depth` is the length of the longer chain."""
        assert on_shapes(lambda x: x.relu() + x.tanh().sigmoid(), (X,)).depth == 3

    def test_views_are_no_steps(self):
        assert on_shapes(lambda x: x.relu().t()[1:].tanh(), (X,)).depth == 2

    def test_through_memory(self):
        def through(x):
            y = torch.zeros(8, 16)
            row = y[0]
            row.add_(x[0].exp())
            return y.sum()

        # exp, add_ and sum wait for each other. zeros is one step too, but runs beside exp.
        assert on_shapes(through, (X,)).depth == 3

    def test_branches_of_a_network(self):
        """If a model adds the outputs of two branches, its longest chain is the longer branch and the addition."""

        class Branches(nn.Module):
            def __init__(self):
                super().__init__()
                self.short = nn.Linear(16, 16)
                self.long = nn.Sequential(*[nn.Linear(16, 16) for _ in range(5)])

            def forward(self, x):
                return self.short(x) + self.long(x)

        counted = on_shapes(Branches(), X)
        assert counted.depth == 6
        assert counted.launches == 7
        assert counted.average_parallelism * 6 == counted.total_flops

    def test_steps_of_a_recurrent_layer(self):
        """Each step of a recurrent layer adds the same number of operators to the longest chain."""
        long, short = (on_shapes(nn.GRU(4, 4), (torch.randn(length, 1, 4),)).depth for length in (20, 10))
        assert long - short == 10 * (short - on_shapes(nn.GRU(4, 4), (torch.randn(9, 1, 4),)).depth)
        assert long >= 20
