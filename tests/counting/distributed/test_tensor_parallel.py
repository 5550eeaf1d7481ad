"""Tensor parallelism: the products and messages of one rank equal formulas."""

from __future__ import annotations

import pytest
import torch
from parallel import FLOAT, Block, for_real, mesh_of, messages
from torch import nn
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    PrepareModuleInput,
    RowwiseParallel,
    SequenceParallel,
    parallelize_module,
)
from zoo import differences

from pytest_flopsbudget import measure, world

SIZES = [1, 2, 4, 8]
IN, OUT, ROWS = 16, 32, 6
_ALL_REDUCE, _ALL_GATHER = "_c10d_functional.all_reduce", "_c10d_functional.all_gather_into_tensor"
_REDUCE_SCATTER = "_c10d_functional.reduce_scatter_tensor"


def _if_several(size: int, operators: dict[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
    return operators if size > 1 else {}


@pytest.mark.parametrize("size", SIZES)
class TestLinear:
    def test_column_wise(self, size: int) -> None:
        """A rank computes only its own columns of the output."""
        with world(size, size - 1):
            layer = parallelize_module(nn.Linear(IN, OUT), mesh_of(size), ColwiseParallel())
            inputs = torch.empty(ROWS, IN, requires_grad=True)
            forward, both = measure(layer, inputs), measure(layer, inputs, backward=True)
        product = 2 * ROWS * IN * (OUT // size)
        assert (forward.execution, forward.flops, forward.communication) == ("shapes", product, 0)
        assert both.flops == 3 * product
        assert messages(both) == _if_several(size, {_ALL_REDUCE: (1, ROWS * IN * FLOAT)})
        assert forward.params == (IN + 1) * (OUT // size)
        assert forward.param_bytes == FLOAT * forward.params

    def test_row_wise(self, size: int) -> None:
        """A rank multiplies its part of the input by its part of the weight."""
        with world(size, size - 1):
            layer = parallelize_module(nn.Linear(IN, OUT), mesh_of(size), RowwiseParallel())
            inputs = torch.empty(ROWS, IN // size, requires_grad=True)
            forward, both = measure(layer, inputs), measure(layer, inputs, backward=True)
        product = 2 * ROWS * (IN // size) * OUT
        summed = _if_several(size, {_ALL_REDUCE: (1, ROWS * OUT * FLOAT)})
        assert (forward.execution, forward.flops, messages(forward)) == ("shapes", product, summed)
        assert (both.flops, messages(both)) == (3 * product, summed)
        assert forward.params == (IN // size) * OUT + OUT  # each rank holds the whole bias

    def test_one_after_the_other(self, size: int) -> None:
        """The FLOPs of all ranks together are the FLOPs of the whole model on one rank."""
        model = nn.Sequential(nn.Linear(IN, OUT), nn.ReLU(), nn.Linear(OUT, IN))
        inputs = torch.empty(ROWS, IN)
        whole = [measure(model, inputs, backward=backward).flops for backward in (False, True)]
        parts = [0, 0]
        for rank in range(size):
            with world(size, rank):
                model = nn.Sequential(nn.Linear(IN, OUT), nn.ReLU(), nn.Linear(OUT, IN))
                parallelize_module(model, mesh_of(size), {"0": ColwiseParallel(), "2": RowwiseParallel()})
                for backward in (False, True):
                    parts[backward] += measure(model, inputs, backward=backward).flops
        forward = 2 * 2 * ROWS * IN * OUT
        assert whole == parts == [forward, 3 * forward - 2 * ROWS * IN * OUT]  # the model's input requires no gradient


class TestUnevenShards:
    """Four ranks hold 2, 2, 2 and 1 of 7 columns."""

    COLUMNS = (2, 2, 2, 1)

    @pytest.mark.parametrize("backward", [False, True])
    def test_products(self, backward: bool) -> None:
        for rank in (0, 3, 1, 3, 2, 0):
            with world(4, rank):
                model = nn.Sequential(nn.Linear(10, 7), nn.ReLU(), nn.Linear(7, 6))
                plan = {"0": ColwiseParallel(use_local_output=False), "2": RowwiseParallel()}
                parallelize_module(model, mesh_of(4), plan)
                part = measure(model, torch.empty(3, 10), backward=backward)
            columns = self.COLUMNS[rank]
            first, second = 2 * 3 * 10 * columns, 2 * 3 * columns * 6
            assert part.flops == (2 * first + 3 * second if backward else first + second)
            assert part.params == 10 * columns + columns + columns * 6 + 6
            assert messages(part) == {_ALL_REDUCE: (1, 3 * 6 * FLOAT)}


class TestReplicated:
    def test_replicated_work_is_that_of_every_rank(self) -> None:
        replicated, sharded = 2 * ROWS * IN * OUT, 2 * ROWS * OUT * IN
        total = 0
        for rank in range(4):
            with world(4, rank):
                model = nn.Sequential(nn.Linear(IN, OUT), nn.Linear(OUT, IN))
                parallelize_module(model, mesh_of(4), {"1": ColwiseParallel()})
                total += measure(model, torch.empty(ROWS, IN)).flops
        assert total == replicated + sharded + 3 * replicated


BATCH, LENGTH, WIDTH, HEADS, HIDDEN = 2, 16, 32, 8, 64
#: FLOPs of the products of the whole block in the forward pass.
BLOCK = 2 * BATCH * LENGTH * (4 * WIDTH * WIDTH + 2 * WIDTH * HIDDEN) + 2 * BATCH * LENGTH * LENGTH * 2 * WIDTH
ACTIVATION = BATCH * LENGTH * WIDTH * FLOAT
_COLUMNS = ("attention.q", "attention.k", "attention.v", "mlp.0")
_NORMS = 2 * 2 * WIDTH


@pytest.mark.parametrize("size", SIZES)
class TestBlock:
    """A transformer block that is sharded as in Megatron-LM (Shoeybi et al., 2019, §3)."""

    def _block(self, size: int) -> nn.Module:
        plan = {name: ColwiseParallel() for name in _COLUMNS}
        rows = {name: RowwiseParallel() for name in ("attention.o", "mlp.2")}
        return parallelize_module(Block(WIDTH, HEADS, HIDDEN), mesh_of(size), plan | rows)

    def test_forward(self, size: int) -> None:
        """A rank computes 1/``size`` of the products, and two tensors are summed over the ranks."""
        with world(size):
            part = measure(self._block(size), torch.empty(BATCH, LENGTH, WIDTH))
        assert (part.execution, part.flops) == ("shapes", BLOCK // size)
        assert messages(part) == _if_several(size, {_ALL_REDUCE: (2, 2 * ACTIVATION)})
        assert part.params == _NORMS + (4 * WIDTH * WIDTH + 2 * WIDTH * HIDDEN) // size

    def test_backward(self, size: int) -> None:
        """The backward pass costs twice the products of the forward pass."""
        with world(size):
            inputs = torch.empty(BATCH, LENGTH, WIDTH, requires_grad=True)
            part = measure(self._block(size), inputs, backward=True)
        assert part.flops == 3 * BLOCK // size
        assert messages(part) == _if_several(size, {_ALL_REDUCE: (6, 6 * ACTIVATION)})

    @pytest.mark.parametrize("backward", [False, True])
    def test_any_rank_and_for_real(self, size: int, backward: bool) -> None:
        found = []
        for rank in {0, size // 2, size - 1}:
            # With reuse_answers=False, a forward pass also keeps the tensors for its backward pass, unless gradients
            # are off.
            with world(size, rank), torch.set_grad_enabled(backward):
                block, inputs = self._block(size), torch.ones(BATCH, LENGTH, WIDTH)
                found += [measure(block, inputs, backward=backward), for_real(block, inputs, backward=backward)]
                found.append(measure(block, inputs, backward=backward, reuse_answers=False))
        assert all(differences(one, found[0]) == {} for one in found)
        assert all(messages(one) == messages(found[0]) for one in found)


class TestSequenceParallel:
    """A transformer block with sequence parallelism (Korthikanti et al., 2022, §4.2)."""

    def _block(self, size: int) -> nn.Module:
        gathered = PrepareModuleInput(input_layouts=(Shard(1),), desired_input_layouts=(Replicate(),))
        plan = {
            **{name: SequenceParallel() for name in ("norm_1", "norm_2")},
            **dict.fromkeys(("attention", "mlp"), gathered),
            **{name: ColwiseParallel() for name in _COLUMNS},
            **{name: RowwiseParallel(output_layouts=Shard(1)) for name in ("attention.o", "mlp.2")},
        }
        return parallelize_module(Block(WIDTH, HEADS, HIDDEN), mesh_of(size), plan)

    @pytest.mark.parametrize("size", [2, 4])
    def test_block(self, size: int) -> None:
        """With sequence parallelism, a rank does 1/``size`` of the work of each norm."""
        with world(size, 1):
            inputs = torch.empty(BATCH, LENGTH // size, WIDTH)
            forward = measure(self._block(size), inputs)
            both = measure(self._block(size), inputs.requires_grad_(), backward=True)
        assert (forward.flops, both.flops) == (BLOCK // size, 3 * BLOCK // size)
        assert messages(forward) == {_ALL_GATHER: (2, 2 * ACTIVATION), _REDUCE_SCATTER: (2, 2 * ACTIVATION)}
        assert messages(both) == {_ALL_GATHER: (4, 4 * ACTIVATION), _REDUCE_SCATTER: (4, 4 * ACTIVATION)}
        norm = "norm_1"
        whole = measure(Block(WIDTH, HEADS, HIDDEN), torch.empty(BATCH, LENGTH, WIDTH))
        assert forward[norm].other_flops == whole[norm].other_flops // size


class TestTensors:
    """DTensors that a function receives, without any module."""

    def test_products_of_sharded_tensors(self) -> None:
        """If the left operand is sharded by rows, each rank multiplies only its own rows."""
        with world(4, 2):
            mesh = mesh_of(4)
            left, right = (distribute_tensor(torch.ones(8, 16), mesh, [Shard(0)]), torch.ones(16, 8))
            product = measure(torch.mm, (left, distribute_tensor(right, mesh, [Replicate()])))
        assert (product.execution, product.flops, product.communication) == ("shapes", 2 * 2 * 16 * 8, 0)
        assert product.inputs == ("float32[2, 16] of [8, 16]", "float32[16, 8] of [16, 8]")

    def test_a_backward_pass_from_sharded_outputs(self) -> None:
        """If the right operand is sharded by columns, each rank computes only its own columns."""
        # One product in forward, and one for each gradient.
        with world(4, 2):
            mesh = mesh_of(4)
            left = distribute_tensor(torch.ones(8, 16, requires_grad=True), mesh, [Replicate()])
            right = distribute_tensor(torch.ones(16, 8, requires_grad=True), mesh, [Shard(1)])
            product = measure(torch.mm, (left, right), backward=True)
        assert product.flops == 3 * 2 * 8 * 16 * 2

    def test_gathering(self) -> None:
        """The message of an all-gather has the size of the whole gathered tensor."""
        with world(4):
            gathered = measure(DTensor.full_tensor, distribute_tensor(torch.ones(8, 16), mesh_of(4), [Shard(0)]))
        assert messages(gathered) == {_ALL_GATHER: (1, 8 * 16 * FLOAT)}


def test_a_model_without_memory() -> None:
    with world(8, 5):
        with torch.device("meta"):
            layer = nn.Linear(1 << 16, 1 << 16, bias=False)
        parallelize_module(layer, mesh_of(8), ColwiseParallel())
        part = measure(layer, torch.empty(1, 1 << 16, device="meta"))
    assert (part.flops, part.params) == (1 << 30, 1 << 29)


def test_what_a_rank_holds_at_once() -> None:
    # The weights, the input, this rank's part of the hidden layer, its output, and the sum of all ranks' outputs. The
    # tensor in which PyTorch wraps the result of a running all-reduce needs no memory.
    with world(4):
        model = nn.Sequential(nn.Linear(IN, OUT, bias=False), nn.Linear(OUT, IN, bias=False))
        parallelize_module(model, mesh_of(4), {"0": ColwiseParallel(), "1": RowwiseParallel()})
        inputs = torch.ones(100, IN)
        shapes, real = measure(model, inputs), for_real(model, inputs)
    elements = 2 * IN * OUT // 4 + 100 * (IN + OUT // 4 + IN + IN)
    assert elements * FLOAT == shapes.peak_memory == real.peak_memory
    assert shapes.memory_at_peak.operator == "_c10d_functional.all_reduce"


def test_the_model_is_as_it_was() -> None:
    with world(2):
        layer = parallelize_module(nn.Linear(IN, OUT), mesh_of(2), ColwiseParallel())
        before = dict(layer.named_parameters())
        values = {name: parameter.to_local().clone() for name, parameter in before.items()}  # type: ignore[attr-defined]
        measure(layer, torch.ones(ROWS, IN), backward=True)
        for_real(layer, torch.ones(ROWS, IN), backward=True)
        for name, parameter in layer.named_parameters():
            assert parameter is before[name]
            assert parameter.grad is None
            # PyTorch 2.6 distributes weights by a collective, and a fake process group leaves its memory as it was.
            bits = parameter.to_local().view(torch.int32)  # type: ignore[attr-defined]
            assert torch.equal(bits, values[name].view(torch.int32))


def test_what_a_module_holds_is_told() -> None:
    """The result shows the size of the whole layer and the size of this rank's part."""
    with world(4):
        model = nn.Sequential(nn.Linear(IN, OUT), nn.Linear(OUT, IN))
        parallelize_module(model, mesh_of(4), {"0": ColwiseParallel(output_layouts=Replicate())})
        part = measure(model, torch.ones(ROWS, IN))
    assert part["0"].shape == "16->32, local weight 8x16, bias 8"
    assert part["1"].shape == "32->16"
