"""Sharded models cost as much on shapes as on data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from parallel import FLOAT, for_real, mesh_of, messages
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, loss_parallel, parallelize_module
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint
from zoo import differences

from pytest_flopsbudget import UsageError, measure, world

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_flopsbudget import Complexity

SIZE, ROWS, WIDTH, HIDDEN = 4, 4, 16, 32


def _both_ways(
    model: Callable[..., Any], *args: Any, backward: bool = False, without: tuple[str, ...] = ()
) -> Complexity:
    """Measure the model on shapes, and check that a run on data has equal metrics, except those in ``without``."""
    on_shapes, real = measure(model, args, backward=backward), for_real(model, *args, backward=backward)
    assert on_shapes.execution == "shapes"
    assert differences(on_shapes, real, without=without) == {}
    assert messages(on_shapes) == messages(real)
    # in this second measurement, PyTorch uses outputs that it remembers
    assert on_shapes.modules == measure(model, args, backward=backward).modules
    return on_shapes


def _pair(*between: nn.Module) -> nn.Sequential:
    model = nn.Sequential(nn.Linear(WIDTH, HIDDEN), *between, nn.Linear(HIDDEN, WIDTH))
    plan = {"0": ColwiseParallel(use_local_output=False), str(len(between) + 1): RowwiseParallel()}
    return parallelize_module(model, mesh_of(SIZE), plan)


class _Checkpointed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pair = _pair(nn.ReLU())

    def forward(self, inputs: torch.Tensor) -> Any:
        return checkpoint(self.pair, inputs, use_reentrant=False)


def test_checkpoints() -> None:
    """With a checkpoint, the backward pass recomputes only the first of two products."""
    # It needs neither the output of the second product nor the sum of this output over the ranks.
    with world(SIZE):
        part = _both_ways(_Checkpointed(), torch.ones(ROWS, WIDTH, requires_grad=True), backward=True)
    product = 2 * ROWS * WIDTH * HIDDEN // SIZE
    assert (part.flops, part.recomputed_flops) == (3 * 2 * product + product, product)
    assert messages(part) == {"_c10d_functional.all_reduce": (2, 2 * ROWS * WIDTH * FLOAT)}


def test_random_operators() -> None:
    with world(SIZE):
        part = _both_ways(_pair(nn.Dropout()), torch.ones(ROWS, WIDTH))
    assert part.flops == 2 * 2 * ROWS * WIDTH * HIDDEN // SIZE
    assert part["1"].other_flops == 2 * ROWS * HIDDEN // SIZE


def test_a_loss_over_sharded_classes() -> None:
    """If the classes of a cross entropy are sharded, the ranks exchange three values for each row."""
    # The maximum, the sum, and the logit of the label.
    with world(SIZE):
        head = parallelize_module(nn.Linear(WIDTH, HIDDEN), mesh_of(SIZE), ColwiseParallel(use_local_output=False))

        def loss(inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            with loss_parallel():
                return nn.functional.cross_entropy(head(inputs), labels)

        # On the CPU, one operator assigns a number to a selection. On other devices, two operators do this, with a
        # tensor, which is also part of the peak.
        assigned = ("memory_traffic", "launches", "peak_memory")
        inputs, labels = torch.ones(ROWS, WIDTH), torch.zeros(ROWS, dtype=torch.long)
        part = _both_ways(loss, inputs, labels, without=assigned)
    assert part.flops == 2 * ROWS * WIDTH * HIDDEN // SIZE
    assert messages(part) == {"_c10d_functional.all_reduce": (3, 3 * ROWS * FLOAT)}


def test_another_way_of_sharding() -> None:
    """If sharded rows become sharded columns, each rank calls one all-to-all."""
    # A CPU backend would gather the whole tensor instead.

    def by_columns(tensor: DTensor) -> torch.Tensor:
        return tensor.redistribute(placements=[Shard(1)]).to_local()

    with world(SIZE):
        part = _both_ways(by_columns, distribute_tensor(torch.ones(8, WIDTH), mesh_of(SIZE), [Shard(0)]))
    assert messages(part) == {"_dtensor.shard_dim_alltoall": (1, 8 * WIDTH * FLOAT // SIZE)}


@pytest.mark.parametrize("rank", [0, 3])
@pytest.mark.parametrize(
    ("placement", "operator"), [(Shard(0), "c10d.scatter_"), (Replicate(), "c10d.broadcast_")], ids=["shard", "whole"]
)
def test_tensors_that_are_spread_out_on_the_way(placement: Any, operator: str, rank: int) -> None:
    """Distributing a tensor sends one message, also on the meta device."""
    with world(SIZE, rank):
        mesh = mesh_of(SIZE)

        def spread(inputs: torch.Tensor) -> torch.Tensor:
            return distribute_tensor(inputs, mesh, [placement]).to_local()

        part = _both_ways(spread, torch.ones(8, WIDTH))
    assert messages(part) == {operator: (1, 8 * WIDTH * FLOAT)}


def test_the_older_fsdp_is_refused() -> None:
    with world(SIZE):
        model = FullyShardedDataParallel(nn.Linear(WIDTH, WIDTH), device_id=torch.device("cpu"))
        with pytest.raises(UsageError, match=r"^FullyShardedDataParallel cannot be measured: .*fully_shard"):
            measure(model, torch.ones(ROWS, WIDTH))


@pytest.mark.parametrize("kind", ["tensor", "fsdp", "ddp"])
def test_where_its_world_is_gone(kind: str) -> None:
    with world(SIZE):
        model: nn.Module = nn.Linear(WIDTH, WIDTH)
        if kind == "ddp":
            model = DistributedDataParallel(model)
        elif kind == "fsdp":
            fully_shard(model, mesh=mesh_of(SIZE))
        else:
            parallelize_module(model, mesh_of(SIZE), ColwiseParallel())
    with pytest.raises(UsageError, match="is measured without a process group; measure it within the world"):
        measure(model, torch.ones(ROWS, WIDTH))
