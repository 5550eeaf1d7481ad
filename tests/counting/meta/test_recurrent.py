"""Recurrent layers cost the same on shapes as on the CPU."""

from __future__ import annotations

import itertools
from typing import ClassVar

import pytest
import torch
from torch import nn
from zoo import both, for_real, on_shapes

from pytest_flopsbudget.counting.meta.recurrent import recurrent_decomposed

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
#: Name → the outputs from which the backward pass starts.
ENDS = {
    "all": lambda output: output,
    "outputs": lambda output: output[0],
    "last states": lambda output: output[1],
    "last cell state": lambda output: output[1][-1],
}

#: Metrics that are not compared: oneDNN decides how many bytes an LSTM keeps for its backward pass.
KEPT = {"lstm": ("peak_memory",)}


def inputs(*, gradient=True):
    return torch.randn(STEPS, BATCH, INPUT, requires_grad=gradient)


class TestEveryPath:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
    @pytest.mark.parametrize("end", ENDS)
    @pytest.mark.parametrize("frozen", [False, True])
    def test_both_passes(self, kind, options, end, frozen):
        model = KINDS[kind](INPUT, HIDDEN, **options).requires_grad_(not frozen)
        both(lambda x: ENDS[end](model(x)), inputs(), backward=True, without=KEPT.get(kind, ()))

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("options", [*OPTIONS.values(), {"num_layers": 2, "dropout": 0.5}])
    def test_forward_pass(self, kind, options):
        with torch.no_grad():
            both(KINDS[kind](INPUT, HIDDEN, **options), inputs(gradient=False))

    @pytest.mark.parametrize("kind", KINDS)
    def test_initial_states(self, kind):
        model = KINDS[kind](INPUT, HIDDEN)
        states = tuple(torch.randn(1, BATCH, HIDDEN, requires_grad=True) for _ in range(2))
        given = (inputs(), states if kind == "lstm" else states[0])
        both(model, given, backward=True, without=KEPT.get(kind, ()))

    @pytest.mark.filterwarnings("ignore:LSTM with projections")
    def test_projections(self):
        both(nn.LSTM(INPUT, HIDDEN, proj_size=3), inputs(), backward=True)

    @pytest.mark.parametrize("kind", KINDS)
    def test_unbatched(self, kind):
        with torch.no_grad():
            both(KINDS[kind](INPUT, HIDDEN), torch.randn(STEPS, INPUT))

    @pytest.mark.parametrize("kind", KINDS)
    def test_packed_sequences(self, kind):
        model = KINDS[kind](INPUT, HIDDEN, bias=False)
        packed = nn.utils.rnn.pack_sequence([torch.randn(5, INPUT), torch.randn(3, INPUT)])
        gates = model.weight_ih_l0.shape[0] // HIDDEN
        assert for_real(model, (packed,)).flops == 2 * (5 + 3) * gates * HIDDEN * (INPUT + HIDDEN)

    @pytest.mark.parametrize("cell", [nn.RNNCell, nn.LSTMCell, nn.GRUCell])
    def test_cells(self, cell):
        both(cell(INPUT, HIDDEN), torch.randn(BATCH, INPUT), backward=True)


class TestWithoutProducts:
    """The `other_flops` of a recurrent layer follow from the definition of its cell."""

    #: FLOPs of a unit in one step, from the definitions of the cells: tanh or ReLU costs 1, sigmoid costs 4.
    FORWARD: ClassVar = {"rnn": 1 + 1, "relu": 1 + 1, "lstm": 4 + 3 * 4 + 1 + 3 + 2, "gru": 3 + 2 * 4 + 1 + 1 + 3}

    @pytest.mark.parametrize("kind", KINDS)
    def test_forward(self, kind):
        model = KINDS[kind](INPUT, HIDDEN, bias=False)
        with torch.no_grad():
            assert both(model, inputs()).other_flops == self.FORWARD[kind] * UNITS

    @pytest.mark.parametrize("kind", KINDS)
    def test_biases(self, kind):
        """Each gate has two biases, and each bias costs one FLOP."""
        model = KINDS[kind](INPUT, HIDDEN)
        gates = model.weight_ih_l0.shape[0] // HIDDEN
        with torch.no_grad():
            counted = both(model, inputs())
        assert counted.other_flops == (self.FORWARD[kind] + 2 * gates) * UNITS

    @pytest.mark.parametrize(("kind", "derivative"), [("rnn", 3), ("relu", 1)])
    def test_backward_of_the_simplest(self, kind, derivative):
        # A hidden state adds the gradients of its output and of the next step. The gradient of the hidden weight is
        # summed over the steps.
        model = KINDS[kind](INPUT, HIDDEN, bias=False)
        forward = both(lambda x: model(x)[0], inputs())
        counted = both(lambda x: model(x)[0], inputs(), backward=True)
        sums = (STEPS - 1) * BATCH * HIDDEN + (STEPS - 1) * HIDDEN * HIDDEN
        assert counted.other_flops - forward.other_flops == derivative * UNITS + sums


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_one_step_stands_for_all(kind, options):
    """If the cost of one step is used for all steps, the metrics equal those of a full run."""
    model = KINDS[kind](INPUT, HIDDEN, **options).double()
    x = inputs(gradient=False).double()
    with torch.no_grad():
        fast, slow = (on_shapes(model, x, reuse_answers=reuse_answers) for reuse_answers in (True, False))
    assert fast == slow


class TestOneDNN:
    def test_by_hand(self):
        """An LSTM runs one operator for each layer and direction, which reads and writes each tensor once."""
        model = nn.LSTM(INPUT, HIDDEN, num_layers=2, bidirectional=True)
        with torch.no_grad():
            counted = both(model, inputs(gradient=False))
        assert counted.operators["aten.mkldnn_rnn_layer"].calls == 2 * 2
        states, gates = 2 * BATCH * HIDDEN, 4 * HIDDEN
        weights = [gates * (width + HIDDEN + 2) for width in (INPUT, 2 * HIDDEN)]
        sequences = [STEPS * BATCH * (width + HIDDEN) for width in (INPUT, 2 * HIDDEN)]
        moved = 2 * 4 * sum(weights + sequences) + 4 * 4 * 2 * states
        assert counted.operators["aten.mkldnn_rnn_layer"].metrics["memory_traffic"] == moved

    @pytest.mark.parametrize("kept", [False, True], ids=["without gradients", "with"])
    def test_what_is_kept_for_the_backward_pass(self, kept):
        """With gradients, oneDNN's LSTM also writes values that the backward pass needs."""
        # four gates and the cell state of each step
        model = nn.LSTM(INPUT, HIDDEN)
        with torch.set_grad_enabled(kept):
            counted = [
                on_shapes(model, inputs(gradient=False), reuse_answers=False),
                for_real(model, inputs(gradient=False)),
            ]
        written = [one.operators["aten.mkldnn_rnn_layer"].metrics["memory_traffic"] for one in counted]
        assert written[0] - written[1] == (4 * 5 * UNITS if kept else 0)

    def test_as_deep_as_it_has_steps(self):
        model = nn.LSTM(INPUT, HIDDEN, num_layers=2, bidirectional=True)
        states = torch.zeros(4, BATCH, HIDDEN)
        with torch.no_grad():
            counted = both(lambda x, *states: model(x, states)[0], (inputs(gradient=False), states, states))
        # After each layer, one operator concatenates the outputs of both directions.
        assert counted.metrics["depth"] == 2 * (STEPS + 1)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
    def test_dtypes(self, dtype):
        """On shapes, oneDNN's LSTM operator is used for every dtype except float64."""
        model = nn.LSTM(INPUT, HIDDEN).to(dtype)
        with torch.no_grad():
            counted = on_shapes(model, inputs(gradient=False).to(dtype))
        assert ("aten.mkldnn_rnn_layer" in counted.operators) == (dtype is not torch.float64)

    def test_turned_off(self):
        """If oneDNN is switched off, its LSTM operator is not used on shapes."""
        torch._C._set_mkldnn_enabled(False)
        try:
            with torch.no_grad():
                counted = both(nn.LSTM(INPUT, HIDDEN), inputs(gradient=False))
        finally:
            torch._C._set_mkldnn_enabled(True)
        assert "aten.mkldnn_rnn_layer" not in counted.operators

    def test_gradients_of_gradients(self):
        model = nn.LSTM(INPUT, HIDDEN)

        def penalty(x):
            (gradient,) = torch.autograd.grad(model(x)[0].sum(), x, create_graph=True)
            return gradient.square().sum()

        both(penalty, inputs(), backward=True, without=KEPT["lstm"])


class TestStepByStep:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("options", [*OPTIONS.values(), {"dropout": 0.5, "num_layers": 2}])
    def test_computes_the_same(self, kind, options):
        model = KINDS[kind](INPUT, HIDDEN, **options).eval()
        x = inputs(gradient=False)
        expected = _flat(model(x))
        with recurrent_decomposed():
            found = _flat(model(x))
        for ours, theirs in itertools.zip_longest(found, expected):
            assert torch.allclose(ours, theirs, atol=1e-6)

    @pytest.mark.filterwarnings("ignore:LSTM with projections")
    def test_projections(self):
        model = nn.LSTM(INPUT, HIDDEN, proj_size=3, num_layers=2, bidirectional=True).double()
        x = inputs(gradient=False).double()
        expected = _flat(model(x))
        with recurrent_decomposed():
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
