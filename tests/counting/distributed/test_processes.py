"""A measurement in one process predicts the messages that real processes send."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from features import requires
from paths import TESTS

pytestmark = requires("FSDP2 on the CPU")

SCRIPT = """
import json
import sys
from datetime import timedelta

import torch
from torch import distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

from parallel import for_real, messages
from pytest_flopsbudget import measure, world

INPUTS = torch.ones(4, 16)


def pair():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 16))


def models():
    mesh = init_device_mesh("cpu", (2,))
    rows = parallelize_module(pair(), mesh, {"0": ColwiseParallel(), "2": RowwiseParallel()})
    return fully_shard(pair(), mesh=mesh), rows


def told(way, models):
    found = [way(model, INPUTS, backward=True) for model in models]
    return [[one.flops, one.params, messages(one)] for one in found]


rank, store = int(sys.argv[1]), dist.FileStore(sys.argv[2], 2)
with world(2, rank):
    alone = told(measure, models())
dist.init_process_group("gloo", rank=rank, world_size=2, store=store, timeout=timedelta(seconds=60))
built = models()
one_by_one = told(measure, built) if rank == 0 else []
together = told(for_real, built)
print(json.dumps([alone, one_by_one, together]))
dist.barrier()
dist.destroy_process_group()
"""


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[list[list[object]]]:
    folder = tmp_path_factory.mktemp("processes")
    script = folder / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    paths = [str(TESTS), *sys.path]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(
            [sys.executable, str(script), str(rank), str(folder / "store")],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    outputs = [process.communicate()[0] for process in started]
    assert [process.returncode for process in started] == [0, 0]
    return [json.loads(output.splitlines()[-1]) for output in outputs]  # before it, PyTorch 2.8 writes about its ranks


def test_a_rank_by_itself(ranks: list[list[list[object]]]) -> None:
    """One of two real processes can measure without the other process."""
    alone, one_by_one, _ = ranks[0]
    assert one_by_one == alone


def test_for_real(ranks: list[list[list[object]]]) -> None:
    """If two real processes run the model, each sends the messages that were predicted for its rank."""
    for alone, _, together in ranks:
        assert together == alone
    # FSDP gathers all parameters and scatters their gradients. Tensor parallelism sums the output.
    products, numbers = 2 * 4 * 16 * 32, 2 * 16 * 32 + 48
    passed = [1, numbers * 4]
    assert ranks[0][0] == [
        [5 * products, numbers // 2, {"c10d._allgather_base_": passed, "c10d._reduce_scatter_base_": passed}],
        [5 * products // 2, 16 * 32 + 16 + 16, {"_c10d_functional.all_reduce": [1, 4 * 16 * 4]}],
    ]
