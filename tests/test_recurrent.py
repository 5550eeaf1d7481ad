"""Recurrent layers cost the same however they run: on shapes, by oneDNN's one operator, step by step on the CPU."""

from __future__ import annotations

import itertools
from typing import ClassVar

import pytest
import torch
from torch import nn
from zoo import both, for_real, on_shapes

from pytest_flopsbudget.counting.recurrent import step_by_step

STEPS, BATCH, INPUT, HIDDEN = 7, 2, 4, 5
UNITS = STEPS * BATCH * HIDDEN
KINDS = {"rnn": nn.RNN, "relu": lambda *sizes, **options: nn.RNN(*sizes, nonlinearity="relu", **options)}
KINDS |= {"lstm": nn.LSTM, "gru": nn.GRU}
OPTIONS = {
    "plain": {},
    "two directions": {"num_layers": 2, "bidirectional": True},
    "no biases": {"num_layers": 3, "bias": False},
    "batch first": {"batch_first": True},
}
#: Which of the outputs the backward pass begins with.
ENDS = {
    "all": lambda output: output,
    "outputs": lambda output: output[0],
    "last states": lambda output: output[1],
    "last cell state": lambda output: output[1][-1],
}


def inputs(*, gradient=True):
    return torch.randn(STEPS, BATCH, INPUT, requires_grad=gradient)


class TestEveryPath:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
    @pytest.mark.parametrize("end", ENDS)
    @pytest.mark.parametrize("frozen", [False, True])
    def test_both_passes(self, kind, options, end, frozen):
        """Module by module, both metrics, forward and backward."""
        model = KINDS[kind](INPUT, HIDDEN, **options).requires_grad_(not frozen)
        both(lambda x: ENDS[end](model(x)), inputs(), backward=True)

    @pytest.mark.parametrize("kind", KINDS)
    def test_initial_states(self, kind):
        """Their gradients are asked for."""
        model = KINDS[kind](INPUT, HIDDEN)
        states = tuple(torch.randn(1, BATCH, HIDDEN, requires_grad=True) for _ in range(2))
        both(model, (inputs(), states if kind == "lstm" else states[0]), backward=True)

    @pytest.mark.filterwarnings("ignore:LSTM with projections")
    def test_projections(self):
        both(nn.LSTM(INPUT, HIDDEN, proj_size=3), inputs(), backward=True)

    @pytest.mark.parametrize("kind", KINDS)
    def test_unbatched(self, kind):
        both(KINDS[kind](INPUT, HIDDEN), torch.randn(STEPS, INPUT))

    @pytest.mark.parametrize("kind", KINDS)
    def test_packed_sequences(self, kind):
        """Sequences of different lengths run for as long as each lasts."""
        model = KINDS[kind](INPUT, HIDDEN, bias=False)
        packed = nn.utils.rnn.pack_sequence([torch.randn(5, INPUT), torch.randn(3, INPUT)])
        gates = model.weight_ih_l0.shape[0] // HIDDEN
        assert for_real(model, (packed,)).flops == 2 * (5 + 3) * gates * HIDDEN * (INPUT + HIDDEN)

    @pytest.mark.parametrize("cell", [nn.RNNCell, nn.LSTMCell, nn.GRUCell])
    def test_cells(self, cell):
        both(cell(INPUT, HIDDEN), torch.randn(BATCH, INPUT), backward=True)


class TestWithoutProducts:
    """Closed forms for one layer in one direction without biases."""

    #: tanh or ReLU 1, sigmoid 4, by hand from the cells' definitions.
    FORWARD: ClassVar = {"rnn": 1 + 1, "relu": 1 + 1, "lstm": 4 + 3 * 4 + 1 + 3 + 2, "gru": 3 + 2 * 4 + 1 + 1 + 3}

    @pytest.mark.parametrize("kind", KINDS)
    def test_forward(self, kind):
        model = KINDS[kind](INPUT, HIDDEN, bias=False)
        assert both(model, inputs()).other_flops == self.FORWARD[kind] * UNITS

    @pytest.mark.parametrize("kind", KINDS)
    def test_biases(self, kind):
        """Each of two biases is one sum for every gate."""
        model = KINDS[kind](INPUT, HIDDEN)
        gates = model.weight_ih_l0.shape[0] // HIDDEN
        assert both(model, inputs()).other_flops == (self.FORWARD[kind] + 2 * gates) * UNITS

    @pytest.mark.parametrize(("kind", "derivative"), [("rnn", 3), ("relu", 1)])
    def test_backward_of_the_simplest(self, kind, derivative):
        """The activation's derivative; a state's gradients from output and next step; the weight's from every step."""
        model = KINDS[kind](INPUT, HIDDEN, bias=False)
        forward = both(lambda x: model(x)[0], inputs())
        counted = both(lambda x: model(x)[0], inputs(), backward=True)
        sums = (STEPS - 1) * BATCH * HIDDEN + (STEPS - 1) * HIDDEN * HIDDEN
        assert counted.other_flops - forward.other_flops == derivative * UNITS + sums


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_one_step_stands_for_all(kind, options):
    """Without gradients one step is run for all of a layer: the same operators, calls and work as step by step."""
    model = KINDS[kind](INPUT, HIDDEN, **options)
    fast, slow = (on_shapes(model, inputs(gradient=False), shortcuts=shortcuts) for shortcuts in (True, False))

    def counted(result):
        return {name: (one.calls, one.metrics) for name, one in result.operators.items()}

    assert counted(fast) == counted(slow)
    assert fast.modules == slow.modules


class TestStepByStep:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("options", [*OPTIONS.values(), {"dropout": 0.5, "num_layers": 2}])
    def test_computes_the_same(self, kind, options):
        """What runs on shapes is the layer: on data it gives PyTorch's own numbers."""
        model = KINDS[kind](INPUT, HIDDEN, **options).eval()
        x = inputs(gradient=False)
        expected = _flat(model(x))
        with step_by_step():
            found = _flat(model(x))
        for ours, theirs in itertools.zip_longest(found, expected):
            assert torch.allclose(ours, theirs, atol=1e-6)

    @pytest.mark.filterwarnings("ignore:LSTM with projections")
    def test_projections(self):
        model = nn.LSTM(INPUT, HIDDEN, proj_size=3, num_layers=2, bidirectional=True).double()
        x = inputs(gradient=False).double()
        expected = _flat(model(x))
        with step_by_step():
            found = _flat(model(x))
        assert all(map(torch.allclose, found, expected))

    def test_nothing_stays_patched(self):
        functions = [getattr(torch._VF, name) for name in ("gru", "lstm", "rnn_relu", "rnn_tanh")]
        with pytest.raises(RuntimeError):
            on_shapes(nn.GRU(INPUT, HIDDEN), torch.randn(STEPS, BATCH, INPUT + 1))
        assert [getattr(torch._VF, name) for name in ("gru", "lstm", "rnn_relu", "rnn_tanh")] == functions
        assert not {"gru", "lstm", "rnn_relu", "rnn_tanh"} & vars(torch._VF).keys()


def _flat(output):
    if isinstance(output, torch.Tensor):
        return [output]
    return [tensor for item in output for tensor in _flat(item)]
