"""The command ``mfu``. The model has one product for each token, so its values are derived by hand."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

MODEL = """
from torch import nn


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.head = nn.Embedding(5, 8), nn.Linear(8, 5)

    def forward(self, tokens):
        return self.head(self.table(tokens))
"""
CALL = ["mfu", "net_of_mfu:Tokens", "--input", "2x3:int64"]
SIZES = ["--layers", "1", "--heads", "2", "--hidden", "8", "--vocabulary", "5"]


@pytest.fixture
def run(command, monkeypatch):
    Path("net_of_mfu.py").write_text(MODEL, encoding="utf-8")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield command
    sys.modules.pop("net_of_mfu", None)


def test_table(run):
    lines = run(*CALL, *SIZES)
    assert run.code == 0, run.errors
    assert lines[0] == "Tokens: training FLOPs per token, for 6 tokens in sequences of 3"
    assert any(line.split() == ["exact", "240", "FLOPs", "counted"] for line in lines)
    assert any(line.startswith("  palm") and line.endswith("12\u00b71\u00b72\u00b74\u00b73") for line in lines)


def test_convention_and_utilization(run):
    lines = run(*CALL, *SIZES, "--convention", "6nd", "--tokens-per-second", "1.3T", "--on", "A100")
    assert run.code == 0, run.errors
    assert any(line.split()[:2] == ["table", "+240"] for line in lines)
    assert any(line.startswith("MFU 212.50% (6nd) at 1.3e+12 tokens/s on A100") for line in lines)
    assert any("more than 100% is impossible" in line for line in lines)


def test_json(run):
    argv = ["--json", "--convention", "hf", "--tokens-per-second", "1.3T", "--on", "A100", "--devices", "2"]
    (line,) = run(*CALL, *argv)
    found = json.loads(line)
    assert found["conventions"]["exact"]["flops_per_token"] == 240
    assert found["utilization"]["value"] == pytest.approx(1.3e12 * 6 * 45 / (2 * 312e12))
    assert found["unknown"]["palm"].startswith("convention 'palm' needs layers")
    assert [row["path"] for row in found["differences"]] == ["head"]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--convention", "plam"], "no convention 'plam'; did you mean 'palm'?"),
        (["--convention", "palm"], "convention 'palm' needs layers, the number of layers"),
        (["--on", "A100"], "--tokens-per-second, --on and --devices belong together"),
        (["--tokens-per-second", "9600"], "--tokens-per-second, --on and --devices belong together"),
        (["--devices", "8"], "--tokens-per-second, --on and --devices belong together"),
        (["--tokens-per-second", "fast", "--on", "A100"], "--tokens-per-second 'fast': "),
        (["--tokens-per-second", "0", "--on", "A100"], "--tokens-per-second '0' is no whole number from 1 on"),
        (["--tokens-per-second", "9", "--on", "A10O"], "A100"),
        (["--tokens-per-second", "9", "--on", "A100", "--dtype", "bf16"], "no dtype 'bf16'; "),
        (["--layer", "1"], "no option '--layer'; did you mean --layers?"),
        (["--backward"], "no option '--backward'"),
        (["--layers", "-1"], "--layers"),
    ],
)
def test_errors(run, argv, message):
    run(*CALL, *argv)
    assert run.code == 2
    assert message in run.errors
    assert "Traceback" not in run.errors
