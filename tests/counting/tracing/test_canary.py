"""If PyTorch calls modules in a new way, a note says so."""

import pytest
import torch
from torch import nn

from pytest_flopsbudget import measure, watch
from pytest_flopsbudget.counting.tracing import canary
from pytest_flopsbudget.results.data import PLEASE_REPORT


@pytest.fixture(autouse=True)
def _fresh():
    canary.canary_notes.cache_clear()
    yield
    canary.canary_notes.cache_clear()


def test_this_pytorch_is_known():
    assert canary.canary_notes() == ()


def test_a_slot_that_is_not_read(monkeypatch):
    """If `Module.__call__` is replaced, each module still has its FLOPs, and the result has a note."""
    monkeypatch.setattr(nn.Module, "__call__", lambda module, *args, **kwargs: module._call_impl(*args, **kwargs))
    result = measure(nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2)), torch.ones(3, 4))
    assert result.modules["0"].flops == 2 * 3 * 4 * 8
    assert result.modules["1"].flops == 2 * 3 * 8 * 2
    assert f"PyTorch {torch.__version__} calls modules in a way that" in " ".join(result.notes)
    assert PLEASE_REPORT in " ".join(result.notes)


def test_recurrent_layers_that_call_operators(monkeypatch):
    """If an LSTM does not call the function in `torch._VF`, a note says so."""
    monkeypatch.setattr(nn.LSTM, "forward", lambda layer, x: x @ layer.weight_ih_l0.mT)
    assert "calls recurrent layers in a way that" in " ".join(canary.canary_notes())


def test_not_part_of_a_watched_test():
    with watch() as watched:
        measure(nn.Linear(2, 2), torch.ones(1, 2))
        nn.Linear(4, 8)(torch.ones(3, 4))
    assert watched.complexity.model == "Linear"
    assert list(watched.complexity.modules) == [""]


def test_nothing_is_left_behind():
    before, lstm = torch.get_rng_state(), torch._VF.lstm
    canary.canary_notes()
    assert torch.equal(torch.get_rng_state(), before)
    assert torch._VF.lstm is lstm
