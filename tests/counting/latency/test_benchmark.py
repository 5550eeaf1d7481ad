"""How a model is timed, and which models are refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pytest_flopsbudget.counting.latency import benchmark
from pytest_flopsbudget.counting.latency.benchmark import Blocks, choose_clock, run_in_blocks, time_model
from pytest_flopsbudget.errors import UsageError

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script")  # raised when PyTorch's compiler is loaded

X = torch.randn(3, 4)
CPU = torch.device("cpu")


class Clock:
    """A fake clock that each run moves forward by a given number of seconds."""

    def __init__(self):
        self.now = 0.0
        self.runs = 0

    def __call__(self):
        return self.now

    def running(self, *seconds):
        """Return a function whose n-th call moves the clock by the n-th of ``seconds``. Later calls use the last."""

        def run():
            self.now += seconds[min(self.runs, len(seconds) - 1)]
            self.runs += 1

        return run


@pytest.fixture
def scripted(monkeypatch):
    """Return a function that sets the measured seconds of the timed blocks."""
    # The clone then runs three times: first under the write guard, and twice in place of the blocks.

    def script(*seconds, size=1):
        def run_in_scripted_blocks(run, *_):
            run()
            run()
            return Blocks(list(seconds), size)

        monkeypatch.setattr(benchmark, "run_in_blocks", run_in_scripted_blocks)

    return script


class TestNumbers:
    def test_quartiles(self, scripted):
        scripted(0.009, 0.001, 0.003, 0.002, 0.004, size=10)
        timed = time_model(nn.Linear(4, 5), X).latency
        assert (timed.q1_ns, timed.median_ns, timed.q3_ns) == (2_000_000, 3_000_000, 4_000_000)
        assert (timed.runs, timed.threads) == (50, torch.get_num_threads())

    def test_the_machine(self, scripted, monkeypatch):
        """If a test sets a name for the machine, the latency has this name."""
        scripted(1.0)
        monkeypatch.setattr("pytest_flopsbudget.counting.latency.machine._processor", lambda: "Abacus")
        assert time_model(nn.Linear(4, 5), X).latency.machine == f"Abacus x {torch.get_num_threads()}"
        timed = time_model(nn.Linear(4, 5), X, machine="ci-runner")
        assert (timed.latency.machine, timed.hardware) == ("ci-runner", "Abacus")

    def test_for_real(self):
        timed = time_model(nn.Linear(4, 5), X, run_time=1e-3).latency
        assert 0 < timed.q1_ns <= timed.median_ns <= timed.q3_ns
        assert timed.runs >= 5


class TestBlocks:
    def test_warm_up(self):
        """The warm-up runs are not part of any block."""
        clock = Clock()
        blocks = run_in_blocks(clock.running(0.5, 0.25, 0.25, 0.001), clock, 1, 2.0)
        assert blocks.seconds == pytest.approx([0.001] * len(blocks.seconds))
        assert sum(blocks.seconds) * blocks.size >= 2.0 - 1e-9

    def test_a_slow_model(self):
        """If a model is slow, it is timed in five blocks of one run."""
        # Two warm-up runs and one run that sets the size of the blocks come first.
        clock = Clock()
        blocks = run_in_blocks(clock.running(90.0, 8.0, 8.0, 7.0, 8.0, 9.0, 10.0, 11.0), clock, 1, 1.0)
        assert sorted(blocks.seconds) == pytest.approx([7, 8, 9, 10, 11])
        assert (blocks.size, clock.runs) == (1, 8)

    def test_one_that_becomes_slower(self):
        """If a model becomes slower during the timing, it is still timed in five blocks."""
        clock = Clock()
        blocks = run_in_blocks(clock.running(1.0, 1.0, 1.0, 50.0), clock, 1, 1.0)
        assert blocks.seconds[-1] == pytest.approx(50)
        assert len(blocks.seconds) == 5

    def test_threads(self):
        found = []
        before = torch.get_num_threads()
        clock = Clock()

        def run():
            clock.now += 1.0
            found.append(torch.get_num_threads())

        run_in_blocks(run, clock, before + 1, 1.0)
        assert found[-1] == before + 1
        assert torch.get_num_threads() == before


class TestClock:
    def test_of_an_accelerator(self, monkeypatch):
        """The clock of an accelerator waits for the accelerator before it reads the time."""
        waited = []
        monkeypatch.setattr(torch.accelerator, "synchronize", waited.append)
        clock = choose_clock(torch.device("cuda", 1))
        assert clock() <= clock()
        assert waited == [torch.device("cuda", 1)] * 2

    def test_of_the_cpu(self, monkeypatch):
        monkeypatch.setattr(torch.accelerator, "synchronize", lambda *_: pytest.fail("waited"))
        clock = choose_clock(CPU)
        assert clock() <= clock()


class Notes(nn.Module):
    """A model that notes whether gradients are enabled, whether it trains, and whether its weight has a gradient."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 5)

    def forward(self, x):
        NOTES.append((torch.is_grad_enabled(), self.training, self.layer.weight.grad is not None))
        return self.layer(x)


class Hidden:
    """A callable that holds a function where the cloner does not find it."""

    def __init__(self, function):
        self.function = (function,).__getitem__

    def __call__(self, x):
        return self.function(0)(x)


NOTES = []


@pytest.fixture
def notes():
    NOTES.clear()
    return NOTES


class TestRuns:
    @pytest.mark.parametrize("train", [False, True])
    def test_forward(self, scripted, notes, train):
        """A timed forward pass runs without gradients."""
        scripted(1.0)
        time_model(Notes().train(train), X)
        assert notes == [(False, train, False)] * 3

    def test_backward(self, scripted, notes):
        """Each timed run begins without the gradients of the run before."""
        scripted(1.0)
        passes = []

        class Seen(torch.autograd.Function):
            @staticmethod
            def forward(_context, x):
                return x.clone()

            @staticmethod
            def backward(_context, gradient):
                passes.append(gradient.sum().item())
                return gradient

        model = Notes()
        time_model(lambda x: Seen.apply(model(x)), X, backward=True)
        assert notes == [(True, True, False)] * 3
        assert passes == [15, 15, 15]

    def test_training_steps(self, scripted, notes):
        """A timed training step updates the weights of the clone, but not the weights of the model."""
        scripted(1.0)
        model = nn.Linear(4, 5)
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        before = model.weight.detach().clone()

        def step(x):
            optimizer.zero_grad()
            model(x).sum().backward()
            optimizer.step()
            NOTES.append(model.weight.detach().clone())

        time_model(step, X)
        first, second, _ = notes
        assert torch.allclose(before - X.sum(0), first, atol=1e-5)
        assert torch.allclose(before - 2 * X.sum(0), second, atol=1e-5)
        assert torch.equal(before, model.weight)

    def test_gradients_on_the_way(self, scripted):
        """If a forward pass computes a gradient, it is timed with gradients enabled."""
        scripted(1.0)

        def forces(x):
            x.requires_grad_()
            (force,) = torch.autograd.grad((x**2).sum(), x)
            return force

        assert time_model(forces, X.clone()).latency.runs == 1

    def test_the_example_that_a_model_carries(self, scripted, notes):
        scripted(1.0)
        model = Notes()
        model.example_input_array = X
        time_model(model)
        assert len(notes) == 3

    def test_fused_inference(self, scripted, notes):
        """In timed runs, `torch.backends.mha.get_fastpath_enabled()` returns what it returns for the caller."""
        scripted(1.0)
        before = torch.backends.mha.get_fastpath_enabled()
        time_model(lambda x: NOTES.append(torch.backends.mha.get_fastpath_enabled()) or x, X)
        assert notes == [False, before, before]

    def test_compiled(self, scripted):
        """If a model is compiled, its clone is compiled by the same backend."""
        scripted(1.0)
        graphs = []

        def backend(graph, _inputs):
            graphs.append(graph)
            return graph.forward

        time_model(torch.compile(nn.Linear(4, 5), backend=backend), X)
        assert len(graphs) == 1

    def test_autocast_keeps_nothing(self, scripted):
        """Within `torch.autocast`, the timing leaves no weights of the clone in the cache of autocast."""
        scripted(1.0)
        model = nn.Linear(4, 5)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            model(X)
            time_model(model, X, backward=True)
            assert torch.get_autocast_dtype("cpu") == torch.bfloat16
            # The next call of the model casts the present weights.
            with torch.no_grad():
                model.weight.zero_()
                model.bias.zero_()
            assert not model(X).any()


class TestRefused:
    def test_a_model_that_is_out_of_reach(self, scripted):
        """If a run would change a model that the cloner does not find, the run is refused."""
        scripted(1.0)
        elsewhere = {"model": nn.BatchNorm1d(4)}
        exec("def run(x):\n    return model(x)\n", elsewhere)  # noqa: S102 -- it simulates another file
        model, run = elsewhere["model"], elsewhere["run"]
        before = {name: value.clone() for name, value in model.state_dict().items()}
        hidden = Hidden(run)
        with pytest.raises(UsageError, match=r"cannot be timed: it changes a model or a tensor that is neither a part"):
            time_model(hidden.__call__, X)
        model.eval()
        with pytest.raises(UsageError, match=r"cannot be timed: it changes"):
            time_model(hidden.__call__, X, backward=True)
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        assert model.weight.grad is None
        # A run that only reads such a model is allowed.
        assert time_model(hidden.__call__, X).latency.runs == 1

    @pytest.mark.parametrize(
        ("model", "inputs", "what"),
        [
            (nn.Linear(4, 5, device="meta"), X, r"weight \(on the meta device\)"),
            (nn.ReLU(), X.to("meta"), r"an input \(on the meta device\)"),
        ],
        ids=["weights", "inputs"],
    )
    def test_without_data(self, model, inputs, what):
        with pytest.raises(
            UsageError, match=rf"^{type(model).__name__} cannot be timed: {what} has no data, which latency needs"
        ) as caught:
            time_model(model, inputs)
        assert "\n" not in str(caught.value)

    def test_fake_tensors(self):
        from torch._subclasses.fake_tensor import FakeTensorMode

        with FakeTensorMode() as mode:
            model, inputs = nn.Linear(4, 5), mode.from_tensor(X)
            with pytest.raises(UsageError, match=r"weight \(a fake tensor\) has no data"):
                time_model(model, inputs)

    def test_one_of_many(self):
        """Within `world`, a model cannot be timed."""
        from pytest_flopsbudget.counting.distributed.world import world

        with world(2), pytest.raises(UsageError, match=r"^Linear cannot be timed as one process of several"):
            time_model(nn.Linear(4, 5), X)

    def test_what_cannot_be_compiled(self):
        from torch._inductor.exc import InvalidCxxCompiler

        def backend(_graph, _inputs):
            raise InvalidCxxCompiler

        with pytest.raises(
            UsageError, match=r"^Linear cannot be timed: it is compiled, and compiling its copy failed: .*"
        ) as caught:
            time_model(torch.compile(nn.Linear(4, 5), backend=backend), X)
        assert "No working C++ compiler found" in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_a_model_that_raises(self):
        with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
            time_model(nn.Linear(3, 5), X)

    def test_no_gradient(self):
        with pytest.raises(UsageError, match="no output of the model requires a gradient"):
            time_model(nn.ReLU(), X, backward=True)
