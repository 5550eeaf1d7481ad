"""FSDP2 on one rank: its work, its parameters and its messages."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from features import requires
from parallel import FLOAT, Block, for_real, mesh_of, messages
from torch import nn
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

from pytest_flopsbudget import measure, world
from pytest_flopsbudget.errors import UsageError
from pytest_flopsbudget.results.folding import without_peaks

runs_on_the_cpu = requires("FSDP2 on the CPU")

IN, HIDDEN, OUT, ROWS = 16, 32, 8, 4
FIRST, LAST = IN * HIDDEN + HIDDEN, HIDDEN * OUT + OUT
PARAMS = FIRST + LAST
#: FLOPs of the forward pass, and of the forward and backward pass together. The model's input requires no gradient.
FORWARD = 2 * ROWS * (IN * HIDDEN + HIDDEN * OUT)
BOTH = FORWARD + 2 * ROWS * (IN * HIDDEN + 2 * HIDDEN * OUT)
_GATHER, _SCATTER = "c10d._allgather_base_", "c10d._reduce_scatter_base_"


def _model() -> nn.Sequential:
    return nn.Sequential(nn.Linear(IN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, OUT))


def _sharded(size: int, **settings: Any) -> nn.Sequential:
    """Return a sharded model in which each linear layer is one group of parameters."""
    model, mesh = _model(), mesh_of(size)
    for layer in (model[0], model[2], model):
        fully_shard(layer, mesh=mesh, **settings)
    return model


@runs_on_the_cpu
@pytest.mark.parametrize("size", [1, 2, 4, 8])
class TestMessages:
    def test_forward(self, size: int) -> None:
        """In a forward pass, every parameter is gathered once."""
        with world(size, size - 1):
            part = measure(_sharded(size), torch.empty(ROWS, IN))
        assert (part.execution, part.flops) == ("shapes", FORWARD)
        assert messages(part) == ({_GATHER: (2, PARAMS * FLOAT)} if size > 1 else {})

    def test_training_step(self, size: int) -> None:
        """In a training step, every parameter is gathered twice, and every gradient is reduce-scattered once."""
        with world(size, size - 1):
            part = measure(_sharded(size), torch.empty(ROWS, IN), backward=True)
        assert (part.execution, part.flops) == ("shapes", BOTH)
        passed = {_GATHER: (4, 2 * PARAMS * FLOAT), _SCATTER: (2, PARAMS * FLOAT)}
        assert messages(part) == (passed if size > 1 else {})
        ways = {name: phase.communication for name, phase in part.phases.items()}
        once = PARAMS * FLOAT if size > 1 else 0
        assert ways == {"forward": once, "backward": 2 * once, "optimizer": 0}

    def test_what_a_rank_holds(self, size: int) -> None:
        """Between runs of the model, one of ``size`` ranks holds 1/size of each parameter."""
        with world(size, size - 1):
            model = _sharded(size)
            held = [measure(model, torch.empty(ROWS, IN), backward=backward).params for backward in (False, True)]
            model(torch.ones(ROWS, IN))
            held.append(measure(model, torch.empty(ROWS, IN)).params)
        assert held == [PARAMS // size] * 3

    def test_for_real(self, size: int) -> None:
        with world(size, size - 1):
            model, inputs = _sharded(size), torch.ones(ROWS, IN)
            for backward in (False, True):
                on_shapes, real = (
                    measure(model, inputs, backward=backward),
                    for_real(model, inputs, backward=backward),
                )
                assert (on_shapes.modules, on_shapes.operators) == (real.modules, real.operators)


@runs_on_the_cpu
class TestModules:
    def test_messages_stand_under_the_module_whose_parameters_they_are(self) -> None:
        with world(4):
            part = measure(_sharded(4), torch.empty(ROWS, IN), backward=True)
        assert part["0"].communication == 3 * FIRST * FLOAT
        assert part["1"].communication == 0
        assert part["2"].communication == 3 * LAST * FLOAT

    def test_parameters_that_stay_gathered(self) -> None:
        """If parameters are not freed after the forward pass, they are gathered only once."""
        with world(4):
            part = measure(_sharded(4, reshard_after_forward=False), torch.empty(ROWS, IN), backward=True)
        assert messages(part) == {_GATHER: (2, PARAMS * FLOAT), _SCATTER: (2, PARAMS * FLOAT)}

    def test_parameters_that_stay_gathered_in_part(self) -> None:
        """With `reshard_after_forward=2`, the backward pass gathers each parameter from two ranks instead of four."""
        with world(4):
            part = measure(_sharded(4, reshard_after_forward=2), torch.empty(ROWS, IN), backward=True)
        assert messages(part) == {_GATHER: (4, 2 * PARAMS * FLOAT), _SCATTER: (2, PARAMS * FLOAT)}

    def test_replicas_of_shards(self) -> None:
        """If there are two groups of four ranks, each gradient is also summed over both groups."""
        with world(8, 5):
            model, mesh = _model(), mesh_of(2, 4, names=("replicas", "shards"))
            for layer in (model[0], model[2], model):
                fully_shard(layer, mesh=mesh)
            part = measure(model, torch.empty(ROWS, IN), backward=True)
            real = for_real(model, torch.ones(ROWS, IN), backward=True)
        assert (part.flops, part.params) == (BOTH, PARAMS // 4)
        assert messages(part) == {
            _GATHER: (4, 2 * PARAMS * FLOAT),
            _SCATTER: (2, PARAMS * FLOAT),
            "c10d.allreduce_": (2, PARAMS // 4 * FLOAT),
        }
        assert part.modules == real.modules

    def test_half_precision_on_the_way(self) -> None:
        """With mixed precision, parameters are sent in bfloat16 and gradients in float32."""
        # Parameters are sent in bfloat16 (2 bytes each), and gradients in float32 (4 bytes each).
        policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
        with world(4):
            part = measure(_sharded(4, mp_policy=policy), torch.empty(ROWS, IN), backward=True)
        assert messages(part) == {_GATHER: (4, 2 * PARAMS * 2), _SCATTER: (2, PARAMS * FLOAT)}
        assert part.param_bytes == PARAMS // 4 * FLOAT

    def test_uneven_shards(self) -> None:
        """If the last of four ranks holds no rows, it sends messages of the same size as the first rank."""
        held = []
        for rank in (0, 3):
            with world(4, rank):
                layer = fully_shard(nn.Linear(10, 6, bias=False), mesh=mesh_of(4))
                part = measure(layer, torch.empty(3, 10), backward=True)
            held.append(part.params)
            assert part.flops == 2 * 2 * 3 * 10 * 6
            assert messages(part) == {_GATHER: (1, 4 * 2 * 10 * FLOAT), _SCATTER: (1, 4 * 2 * 10 * FLOAT)}
        assert held == [20, 0]


@runs_on_the_cpu
def test_a_model_on_meta() -> None:
    """A model on the meta device can be measured on shapes, although FSDP refuses to run it."""
    with world(4):
        with torch.device("meta"):
            model = _sharded(4)
        part = measure(model, torch.empty(ROWS, IN, device="meta"), backward=True)
    assert (part.execution, part.flops, part.communication) == ("shapes", BOTH, 3 * PARAMS * FLOAT)


@requires("fake collectives that write gradients")
@runs_on_the_cpu
def test_the_model_trains_as_if_it_had_not_been_measured() -> None:
    with world(2, 1):
        gradients = []
        for times in (0, 1):
            torch.manual_seed(0)
            model = _sharded(2)
            steps = []
            for _ in range(2):
                for _ in range(times):
                    measure(model, torch.ones(ROWS, IN), backward=True)
                    for_real(model, torch.ones(ROWS, IN), backward=True)
                    measure(model, torch.ones(ROWS, IN))
                model.zero_grad()
                model(torch.ones(ROWS, IN)).sum().backward()
                steps += [parameter.grad.to_local().clone() for parameter in model.parameters()]
            gradients.append(steps)
    assert all(map(torch.equal, *gradients))


@runs_on_the_cpu
def test_two_dimensions() -> None:
    """If tensor parallelism and FSDP are combined, the FLOPs and messages of a rank equal formulas."""
    batch, length, width, heads, hidden = 2, 16, 32, 8, 64
    columns = {name: ColwiseParallel() for name in ("attention.q", "attention.k", "attention.v", "mlp.0")}
    rows = {name: RowwiseParallel() for name in ("attention.o", "mlp.2")}
    with world(8, 6):
        mesh = mesh_of(2, 4, names=("data", "tensor"))
        block = parallelize_module(Block(width, heads, hidden), mesh["tensor"], columns | rows)
        fully_shard(block, mesh=mesh["data"])
        inputs = torch.ones(batch, length, width, requires_grad=True)
        part, real = measure(block, inputs, backward=True), for_real(block, inputs, backward=True)
    products = 2 * batch * length * (4 * width * width + 2 * width * hidden) + 2 * batch * length * length * 2 * width
    matrices, norms = 4 * width * width + 2 * width * hidden, 2 * 2 * width
    held = matrices // 4 + norms
    assert part.flops == 3 * products // 4
    assert part.params == held // 2
    assert messages(part) == {
        "_c10d_functional.all_reduce": (6, 6 * batch * length * width * FLOAT),
        _GATHER: (1, held * FLOAT),
        _SCATTER: (1, held * FLOAT),
    }
    # For real, some modules return a subclass of tensors, whose shape is not listed.
    assert without_peaks(part.modules) == without_peaks(real.modules)
    assert [one.peak_memory for one in part.modules.values()] == [one.peak_memory for one in real.modules.values()]


@pytest.mark.parametrize("backward", [False, True])
def test_a_version_of_pytorch_that_cannot_run_it(backward: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """If PyTorch's streams on the CPU lack what FSDP2 calls, as in PyTorch 2.6, one sentence says so."""
    monkeypatch.delattr(torch.cpu.Stream, "record_event", raising=False)
    with world(2), pytest.raises(UsageError, match=r"cannot run a model sharded by fully_shard on the CPU"):
        measure(_sharded(2), torch.empty(ROWS, IN), backward=backward)
