"""A watch of a sharded model counts the work and the messages of this rank."""

from __future__ import annotations

import torch
from features import requires
from parallel import FLOAT, mesh_of, messages
from torch import distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

from pytest_flopsbudget import measure, world
from pytest_flopsbudget.counting.watch import watch

SIZE, ROWS, WIDTH, HIDDEN = 4, 4, 16, 32


def _pair() -> nn.Sequential:
    return nn.Sequential(nn.Linear(WIDTH, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, WIDTH))


def test_tensor_parallel() -> None:
    # DTensor runs operators to find global shapes, and remembers the results. These operators never count.
    for _ in range(2):
        with world(SIZE, 2):
            model = parallelize_module(_pair(), mesh_of(SIZE), {"0": ColwiseParallel(), "2": RowwiseParallel()})
            with watch("step") as watched:
                model(torch.ones(ROWS, WIDTH)).sum().backward()
            part = measure(model, torch.ones(ROWS, WIDTH), backward=True)
        assert watched.complexity.flops == part.flops == 5 * 2 * ROWS * WIDTH * HIDDEN // SIZE
        assert (
            messages(watched.complexity) == messages(part) == {"_c10d_functional.all_reduce": (1, ROWS * WIDTH * FLOAT)}
        )
        assert watched.complexity.params == part.params


@requires("FSDP2 on the CPU")
def test_fsdp() -> None:
    """With FSDP2, a watch counts the messages of a training step."""
    # Parameters are gathered in forward and in backward. Gradients are reduce-scattered once.
    numbers = 2 * WIDTH * HIDDEN + WIDTH + HIDDEN
    with world(SIZE, 1):
        model, mesh = _pair(), mesh_of(SIZE)
        for layer in (model[0], model[2], model):
            fully_shard(layer, mesh=mesh)
        with watch("step") as watched:
            model(torch.ones(ROWS, WIDTH)).sum().backward()
    assert watched.complexity.flops == 5 * 2 * ROWS * WIDTH * HIDDEN
    assert messages(watched.complexity) == {
        "c10d._allgather_base_": (4, 2 * numbers * FLOAT),
        "c10d._reduce_scatter_base_": (2, numbers * FLOAT),
    }


def test_collectives_by_hand() -> None:
    """A group of one rank sends no messages."""
    with world(SIZE):
        pair, alone = dist.new_group([0, 1]), dist.new_group([0])
        with watch("collectives") as watched:
            for group in (None, pair, alone):
                dist.all_reduce(torch.ones(ROWS), group=group)
            torch.ones(1) + 1
    assert messages(watched.complexity) == {"c10d.allreduce_": (3, 2 * ROWS * FLOAT)}
