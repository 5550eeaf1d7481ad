"""A measurement restores the settings of PyTorch that the model changes while it runs."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils import deterministic

from pytest_flopsbudget.counting.measure import measure


def settings():
    return {
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "warns only": torch.is_deterministic_algorithms_warn_only_enabled(),
        "filled": deterministic.fill_uninitialized_memory,
        "precision": torch.get_float32_matmul_precision(),
        "dtype": torch.get_default_dtype(),
        "anomalies": torch.is_anomaly_enabled(),
        "warns always": torch.is_warn_always_enabled(),
        "benchmark": torch.backends.cudnn.benchmark,
        "cudnn": torch.backends.cudnn.deterministic,
        "onednn": torch.backends.mkldnn.enabled,
        "flash": torch.backends.cuda.flash_sdp_enabled(),
    }


CHANGES = {
    "threads": lambda: torch.set_num_threads(torch.get_num_threads() + 1),
    "deterministic": lambda: torch.use_deterministic_algorithms(mode=True),
    "warns only": lambda: torch.use_deterministic_algorithms(mode=True, warn_only=True),
    "filled": lambda: setattr(deterministic, "fill_uninitialized_memory", False),
    "precision": lambda: torch.set_float32_matmul_precision("high"),
    "dtype": lambda: torch.set_default_dtype(torch.float64),
    "anomalies": lambda: torch.autograd.set_detect_anomaly(mode=True),
    "warns always": lambda: torch.set_warn_always(True),
    "benchmark": lambda: setattr(torch.backends.cudnn, "benchmark", True),
    "cudnn": lambda: setattr(torch.backends.cudnn, "deterministic", True),
    "onednn": lambda: setattr(torch.backends.mkldnn, "enabled", False),
    "flash": lambda: torch.backends.cuda.enable_flash_sdp(False),
}


@pytest.fixture(autouse=True)
def _settings_can_change(monkeypatch):
    """Allow changes of backend flags, which `torch.testing._internal` would forbid."""
    monkeypatch.setitem(torch.backends.ContextProp.__set__.__globals__, "__allow_nonbracketed_mutation_flag", True)


class Changing(nn.Module):
    def __init__(self, change, *, reads):
        super().__init__()
        self.change = change
        self.reads = reads
        self.layer = nn.Linear(4, 3)

    def forward(self, x):
        self.change()
        if self.reads:
            x = x[: int(x.sum())]
        return self.layer(x)


@pytest.mark.filterwarnings("ignore:Anomaly Detection:UserWarning")
@pytest.mark.parametrize("reads", [False, True], ids=["on shapes", "on data"])
@pytest.mark.parametrize("name", CHANGES)
def test_restored(name, reads):
    before, seen = settings(), []

    def change():
        CHANGES[name]()
        seen.append(settings())

    counted = measure(Changing(change, reads=reads), torch.ones(2, 4))
    assert counted.flops == 2 * 2 * 4 * 3
    assert all(each[name] != before[name] for each in seen)
    assert settings() == before


def test_restored_after_an_error():
    before = settings()

    def change():
        for each in CHANGES.values():
            each()
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        measure(Changing(change, reads=False), torch.ones(2, 4))
    assert settings() == before
