"""DistributedDataParallel: every rank runs the whole model, and all ranks sum their gradients."""

from __future__ import annotations

import pytest
import torch
from parallel import FLOAT, for_real, messages
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import fp16_compress_hook
from torch.nn.parallel import DistributedDataParallel

from pytest_flopsbudget import measure, world

IN, OUT, ROWS = 16, 8, 4
PARAMS = IN * OUT + OUT
PRODUCT = 2 * ROWS * IN * OUT


def _replicated() -> DistributedDataParallel:
    return DistributedDataParallel(nn.Linear(IN, OUT))


@pytest.mark.parametrize("size", [1, 2, 4])
def test_a_training_step(size: int) -> None:
    """In a training step with several ranks, each rank sends the bytes of all gradients."""
    alone = measure(nn.Linear(IN, OUT), torch.empty(ROWS, IN), backward=True)
    with world(size, size - 1):
        part = measure(_replicated(), torch.ones(ROWS, IN), backward=True)
        real = for_real(_replicated(), torch.ones(ROWS, IN), backward=True)
    assert (part.execution, part.flops, part.params) == ("shapes", 2 * PRODUCT, PARAMS)
    assert part.other_flops == alone.other_flops + PARAMS
    assert part.communication == (PARAMS * FLOAT if size > 1 else 0)
    assert part.modules == real.modules


def test_a_forward_pass() -> None:
    """A model without buffers sends no messages in a forward pass."""
    with world(4):
        part = measure(_replicated(), torch.empty(ROWS, IN))
    assert (part.flops, part.communication) == (PRODUCT, 0)


def test_buffers() -> None:
    """Before a forward pass, the first rank sends the buffers of the model."""
    # A mean and a variance for each channel, and a count of 8 bytes.
    with world(4):
        model = DistributedDataParallel(nn.BatchNorm1d(IN))
        found = messages(measure(model, torch.empty(ROWS, IN), backward=True))
    assert sum(passed for _, passed in found.values()) == 2 * IN * FLOAT + 8 + 2 * IN * FLOAT
    assert found["c10d.broadcast_"][1] == 2 * IN * FLOAT + 8


def test_parameters_that_are_frozen() -> None:
    with world(4):
        layer = nn.Linear(IN, OUT)
        layer.bias.requires_grad_(requires_grad=False)
        part = measure(DistributedDataParallel(layer), torch.empty(ROWS, IN), backward=True)
    assert part.communication == IN * OUT * FLOAT


def test_the_model_is_as_it_was() -> None:
    with world(2):
        model = _replicated()
        before = dict(vars(model))
        measure(model, torch.ones(ROWS, IN), backward=True)
        for_real(model, torch.ones(ROWS, IN), backward=True)
        assert vars(model) == before
        assert all(parameter.grad is None for parameter in model.parameters())
        assert not any(parameter._post_accumulate_grad_hooks for parameter in model.parameters())


def test_communication_hooks() -> None:
    with world(2):
        model = _replicated()
        model.register_comm_hook(None, fp16_compress_hook)
        part = measure(model, torch.ones(ROWS, IN), backward=True)
    assert part.communication == PARAMS * FLOAT
    assert part.notes == (
        "communication hooks of DistributedDataParallel are not called: gradients count without compression",
    )


def test_gradients_that_are_not_summed_up() -> None:
    with world(2):
        model = _replicated()
        with model.no_sync():
            part = measure(model, torch.ones(ROWS, IN), backward=True)
    assert (part.flops, part.communication) == (2 * PRODUCT, 0)
