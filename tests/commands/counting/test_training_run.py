"""The command ``run``. The model has one product for each token, so its values are derived by hand."""

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
CALL = ["run", "net_of_run:Tokens", "--tokens", "1.2T", "--batch", "4", "--sequence", "8"]


@pytest.fixture
def run(command, monkeypatch):
    Path("net_of_run.py").write_text(MODEL, encoding="utf-8")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield command
    sys.modules.pop("net_of_run", None)


def test_text(run):
    """240 FLOPs a token: 2 * 40 forward, twice that backward."""
    lines = run(*CALL, "--on", "H100", "--mfu", "40%", "--devices", "2", "--watts", "500")
    assert run.code == 0, run.errors
    assert lines[0].startswith("Tokens: a training run of 1,200,000,000,000 tokens, 37,500,000,000 steps of 4 ")
    assert "  exact         2.880e14  counted" in lines
    assert any(line.startswith("on H100, at an assumed MFU of 0.4, 989.5 TFLOP/s in bfloat16") for line in lines)
    assert any("500 W a device (given)" in line for line in lines)


def test_card_and_json(run):
    assert run(*CALL, "--card")[0] == "## Training compute"
    (line,) = run(*CALL, "--json", "--param-dtype", "bfloat16", "--master-weights", "--optimizer", "sgd")
    found = json.loads(line)
    assert found["flops"]["exact"] == 240 * 1_200 * 10**9
    assert found["states"] == {"parameters": 170, "gradients": 170, "optimizer": 0, "master": 340}


def test_inputs_by_name(run):
    (line,) = run(*CALL, "--json", "--input", "tokens={B}x{S}:int64", "--micro-batch", "2")
    assert json.loads(line)["step_flops"]["forward"] == 80 * 4 * 8


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--on", "H100"], "a device and a utilization belong together"),
        (["--on", "H100", "--mfu", "140%"], "--mfu '140%' is no share above 0 and at most 100%; write --mfu 40%"),
        (["--on", "H100", "--mfu", "much"], "--mfu 'much' is no share"),
        (["--on", "H100", "--mfu", "40%", "--dtype", "int4"], "no dtype 'int4'"),
        (
            ["--micro-batch", "3"],
            "a batch of 4 sequences is no multiple of the micro-batch of 3; choose a batch of 3 or 6",
        ),
        (["--devices", "8"], "micro-batch of 1 x 8 data-parallel ranks"),
        (["--input", "2x8:int64"], "no input has both {B}, the micro-batch, and {S}, the sequence"),
        (["--input", "{B}x{T}:int64"], "no size is called {T}; {B} is the micro-batch"),
        (["--param-dtype", "bf16"], "--param-dtype bf16: did you mean bfloat16?"),
        (["--recompute"], "this model has no gradient_checkpointing_enable()"),
        (["--optimizer", "adamv"], "no optimizer 'adamv' in torch.optim; did you mean adam?"),
        (["--micro-batch", "0"], "--micro-batch '0' is no whole number from 1 on"),
        (["--tokens", "many"], "--tokens 'many'"),
        (["--token", "3"], "no option '--token'"),
    ],
)
def test_errors(run, argv, message):
    run(*CALL, *argv)
    assert run.code == 2
    assert message in run.errors
    assert "Traceback" not in run.errors


def test_missing_options(run):
    run("run", "net_of_run:Tokens", "--tokens", "15T")
    assert "--batch, --sequence" in run.errors
    assert run.code == 2
