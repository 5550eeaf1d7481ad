"""Each collective operation that a model calls is reported with its number of messages and bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from parallel import for_real, messages
from torch import distributed as dist
from torch import nn
from torch.distributed import _functional_collectives as functional

from pytest_flopsbudget import measure, world
from pytest_flopsbudget.counting.costs import REGISTRY, Call

if TYPE_CHECKING:
    from collections.abc import Callable

SIZE, LENGTH = 4, 8
#: Bytes of the tensor on each rank.
OWN = LENGTH * 4
#: PyTorch's name of the first process group.
WORLD = "0"


def _parts(tensor: torch.Tensor) -> list[torch.Tensor]:
    return [torch.empty_like(tensor) for _ in range(SIZE)]


def _root(tensor: torch.Tensor) -> list[torch.Tensor] | None:
    return _parts(tensor) if dist.get_rank() == 0 else None


def _all_to_all(tensor: torch.Tensor) -> None:
    dist.all_to_all(list(torch.empty_like(tensor).chunk(SIZE)), list(tensor.chunk(SIZE)))


def _uneven(tensor: torch.Tensor) -> None:
    """Run an all-to-all in which each rank receives twice as many elements as it sends."""
    dist.all_to_all_single(tensor.new_empty(2 * LENGTH), tensor, [4] * SIZE, [2] * SIZE)


def _passed_on(tensor: torch.Tensor) -> None:
    neighbour = (dist.get_rank() + 1) % SIZE
    dist.send(tensor, neighbour)
    dist.recv(tensor, neighbour)


def _all_reduce_functional(tensor: torch.Tensor) -> torch.Tensor:
    return functional.all_reduce(tensor, "sum", dist.group.WORLD)


def _coalesced(tensor: torch.Tensor) -> object:
    return functional.all_reduce_coalesced([tensor, tensor[:2]], "sum", dist.group.WORLD)


#: A call in a model, and each operator that this call runs → (number of calls, bytes of all messages).
CALLS: list[tuple[Callable[[torch.Tensor], object], dict[str, tuple[int, int]]]] = [
    (dist.all_reduce, {"c10d.allreduce_": (1, OWN)}),
    (lambda tensor: dist.broadcast(tensor, 0), {"c10d.broadcast_": (1, OWN)}),
    (lambda tensor: dist.reduce(tensor, 0), {"c10d.reduce_": (1, OWN)}),
    (lambda tensor: dist.all_gather(_parts(tensor), tensor), {"c10d.allgather_": (1, SIZE * OWN)}),
    (lambda tensor: dist.gather(tensor, _root(tensor)), {"c10d.gather_": (1, SIZE * OWN)}),
    (lambda tensor: dist.scatter(tensor, _root(tensor)), {"c10d.scatter_": (1, SIZE * OWN)}),
    (lambda tensor: dist.reduce_scatter(tensor, _parts(tensor)), {"c10d.reduce_scatter_": (1, SIZE * OWN)}),
    (_all_to_all, {"c10d.alltoall_": (1, OWN)}),
    (_uneven, {"c10d.alltoall_base_": (1, 2 * OWN)}),
    (_passed_on, {"c10d.send": (1, OWN), "c10d.recv_": (1, OWN)}),
    (lambda _: dist.barrier(), {}),
    (_all_reduce_functional, {"_c10d_functional.all_reduce": (1, OWN)}),
    (_coalesced, {"_c10d_functional.all_reduce_coalesced": (1, OWN + 2 * 4)}),
    (
        lambda tensor: torch.ops._c10d_functional.all_gather_into_tensor(tensor, SIZE, WORLD),
        {"_c10d_functional.all_gather_into_tensor": (1, SIZE * OWN)},
    ),
    (
        lambda tensor: torch.ops._c10d_functional.reduce_scatter_tensor(tensor, "sum", SIZE, WORLD),
        {"_c10d_functional.reduce_scatter_tensor": (1, OWN)},
    ),
    (
        lambda tensor: functional.all_to_all_single(tensor, None, None, dist.group.WORLD),
        {"_c10d_functional.all_to_all_single": (1, OWN)},
    ),
    (
        lambda tensor: functional.broadcast(tensor, 0, dist.group.WORLD),
        {"_c10d_functional.broadcast": (1, OWN)},
    ),
]
_NAMES = ["+".join(expected) or "barrier" for _, expected in CALLS]


@pytest.mark.parametrize("rank", [0, SIZE - 1])
@pytest.mark.parametrize(("call", "expected"), CALLS, ids=_NAMES)
def test_message(call: Callable[[torch.Tensor], object], expected: dict[str, tuple[int, int]], rank: int) -> None:
    with world(SIZE, rank):
        on_shapes, real = measure(call, torch.ones(LENGTH)), for_real(call, torch.ones(LENGTH))
    assert on_shapes.execution == "shapes"
    assert messages(on_shapes) == messages(real) == expected
    assert on_shapes.total_flops == 0
    assert not on_shapes.unknown_operators
    assert not real.unknown_operators


@pytest.mark.parametrize(("call", "expected"), CALLS, ids=_NAMES)
def test_what_is_written_to_is_put_back(call: Callable[[torch.Tensor], object], expected: object) -> None:
    """After a measurement, the input of a collective operation has its original values."""
    with world(SIZE):
        tensor = torch.arange(float(LENGTH))
        measure(call, tensor)
        for_real(call, tensor)
    assert torch.equal(tensor, torch.arange(float(LENGTH))), expected


_LARGE, _SMALL = torch.empty(SIZE * LENGTH), torch.empty(LENGTH)


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        # Each rank sends 8 floats, and the root receives those of 4 ranks.
        ("c10d.gather_into_tensor_", {"output_tensor": _LARGE, "input_tensor": _SMALL, "group_size": SIZE}, SIZE * OWN),
        ("symm_mem._low_contention_all_gather_ce_multicast_out", {"tensor": _SMALL, "out": _LARGE}, SIZE * OWN),
        ("symm_mem.memcpy_to_multicast_", {"symm_mem_out": _LARGE, "src": _SMALL, "byte_offset": 0}, OWN),
        ("symm_mem.nccl_all_to_all_nd", {"input": _LARGE, "out": _LARGE, "scatter_dim": 0}, SIZE * OWN),
        ("symm_mem.nccl_get_out", {"dst": _SMALL, "offset": 0, "size": OWN, "peer": 1}, OWN),
        ("symm_mem.nvshmem_get_out", {"dst": _SMALL, "offset": 0, "size": OWN, "peer": 1}, OWN),
    ],
)
def test_message_of_newer_operators(name: str, arguments: dict[str, object], expected: int) -> None:
    """Operators that only some versions of PyTorch and only some machines can run pass the expected message."""
    facets = REGISTRY.facets(name)
    assert facets.message is not None
    assert facets.message(Call.by_names(name, arguments)) == expected
    assert facets.collective
    assert facets.free


def test_a_group_of_some_ranks() -> None:
    """The size of a message depends on the size of the process group, not on the number of all ranks."""
    with world(SIZE):
        pair, alone = dist.new_group([0, 1]), dist.new_group([0])

        def passed(tensor: torch.Tensor) -> object:
            functional.all_reduce(tensor, "sum", alone)
            dist.all_gather([torch.empty_like(tensor) for _ in range(2)], tensor, pair)
            return functional.all_reduce(tensor, "sum", pair)

        found = measure(passed, torch.empty(LENGTH))
    # The call in the group of one rank sends nothing.
    assert messages(found) == {"_c10d_functional.all_reduce": (2, OWN), "c10d.allgather_": (1, 2 * OWN)}


class _Summed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(LENGTH, LENGTH)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        outputs = self.layer(inputs)
        dist.all_reduce(outputs)
        assert isinstance(outputs, torch.Tensor)
        return outputs


def test_of_modules() -> None:
    """A message counts in the module that sends it and in all parents of this module."""
    with world(SIZE):
        found = measure(nn.Sequential(_Summed(), _Summed()), torch.empty(2, LENGTH))
    assert {path: module.communication for path, module in found.modules.items()} == {
        "": 4 * OWN,
        "0": 2 * OWN,
        "0.layer": 0,
        "1": 2 * OWN,
        "1.layer": 0,
    }


def test_without_processes() -> None:
    """If a model is not distributed, its communication is 0, and its metrics leave communication out."""
    found = measure(nn.Linear(LENGTH, LENGTH), torch.empty(2, LENGTH))
    assert "communication" not in found.metrics
    assert (found.communication, found[""].communication) == (0, 0)


def test_one_of_one() -> None:
    """If the world has one rank, the metrics contain a communication of 0."""
    with world(1):
        found = measure(_Summed(), torch.empty(2, LENGTH))
    assert found.metrics["communication"] == 0
