"""Inside `world`, one process acts as one rank of many."""

from __future__ import annotations

import os
import re
import sys

import pytest
import torch
from parallel import mesh_of
from torch import distributed as dist

from pytest_flopsbudget import FlopsBudget, UsageError, world


def test_stands_for_a_rank() -> None:
    """Inside `world`, PyTorch reports the rank and the number of ranks that the caller gave to `world`."""
    with world(size=8, rank=5):
        assert (dist.get_rank(), dist.get_world_size()) == (5, 8)
        mesh = mesh_of(2, 4, names=("data", "tensor"))
        assert tuple(mesh.get_coordinate() or ()) == (1, 1)
        assert mesh["tensor"].size() == 4


def test_rank_0_without_saying_so() -> None:
    with world(2):
        assert dist.get_rank() == 0


def test_nothing_is_left() -> None:
    before = dict(os.environ), sys.excepthook, torch.get_rng_state()
    for rank in range(2):
        with world(2, rank):
            mesh_of(2)
            assert dist.is_initialized()
        assert not dist.is_initialized()
    assert (dict(os.environ), sys.excepthook) == before[:2]
    assert torch.equal(torch.get_rng_state(), before[2])


def test_ends_with_an_exception() -> None:
    with pytest.raises(ZeroDivisionError), world(2):
        raise ZeroDivisionError
    assert not dist.is_initialized()


def test_may_be_ended_within() -> None:
    with world(2):
        dist.destroy_process_group()
    assert not dist.is_initialized()


@pytest.mark.parametrize(
    ("size", "rank", "message"),
    [
        (0, 0, "world(size=0): the number of ranks is a whole number from 1 on"),
        (True, 0, "world(size=True): the number of ranks is a whole number from 1 on"),
        ("8", 0, "world(size='8'): the number of ranks is a whole number from 1 on"),
        (8, 8, "world(size=8, rank=8): the ranks are 0 to 7"),
        (8, -1, "world(size=8, rank=-1): the ranks are 0 to 7"),
        (8, 0.0, "world(size=8, rank=0.0): the ranks are 0 to 7"),
    ],
)
def test_no_such_rank(size: int, rank: int, message: str) -> None:
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"), world(size, rank):
        pass
    assert not dist.is_initialized()


def test_a_process_group_is_up_already() -> None:
    with world(4, 1):
        with pytest.raises(UsageError, match="a process group of 4 ranks is initialized already"), world(8):
            pass
        assert (dist.get_rank(), dist.get_world_size()) == (1, 4)


def test_of_the_fixture() -> None:
    """The pytest fixture has `world` as a method, so a test needs no import."""
    with FlopsBudget().world(size=4, rank=2):
        assert (dist.get_rank(), dist.get_world_size()) == (2, 4)
    assert not dist.is_initialized()
