"""The command ``audit``. The model has one product for each token, so its values are derived by hand."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

MODULE = """
from torch import nn


class Tokens(nn.Module):
    width = 8

    def __init__(self):
        super().__init__()
        self.table, self.head = nn.Embedding(5, 8), nn.Linear(8, 5, bias=False)

    def forward(self, tokens):
        return self.head(self.table(tokens))


def right():
    return 2 * 8 * 5


def of_a_call(B, S):
    return 80 * B * S


def of_a_model(model):
    print("called")
    return 10 * model.width


def half(S):
    return 40


def broken(S):
    raise KeyError("layers")


NUMBER = 3
"""
CALL = ["net_of_audit:Tokens", "--input", "{B}x{S}:int64", "--B", "1:16", "--S", "8:64"]


@pytest.fixture
def audit(command, monkeypatch):
    Path("net_of_audit.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def run(function, *argv):
        return command("audit", f"net_of_audit:{function}", *CALL, *argv)

    yield lambda *argv: (run(*argv), command.code, command.errors)
    sys.modules.pop("net_of_audit", None)


@pytest.mark.parametrize(
    ("function", "argv"),
    [("right", []), ("of_a_call", ["--per", "call"]), ("right", ["--tokens", "S*B"]), ("of_a_model", [])],
)
def test_equal(audit, function, argv):
    lines, code, errors = audit(function, *argv)
    assert lines == [f"{function} gives the flops of the model for B = 1 ... 16, S = 8 ... 64"]
    assert code == 0, errors


def test_different(audit):
    lines, code, _ = audit("half")
    assert lines == [
        "half does not give the flops of the model for B = 1 ... 16, S = 8 ... 64",
        "  counted:    80",
        "  formula:    40",
        "  difference: 40",
        "  at B = 16, S = 64: counted 80, formula 40, 0.5 times the count",
        "  the formula counts the whole model at half; does it count a multiply-accumulate as one FLOP?",
    ]
    assert code == 1
    (line,), code, _ = audit("half", "--json")
    found = json.loads(line)
    assert (found["holds"], found["findings"][0]["factor"], code) == (False, "1/2", 1)


def test_a_missing_backward_pass(audit):
    lines, _, _ = audit("right", "--backward")
    assert lines[-1] == "  the formula counts the whole model at a third; does it leave out the backward pass?"


@pytest.mark.parametrize(
    ("function", "argv", "message"),
    [
        ("righ", [], "net_of_audit has no 'righ'; did you mean right?"),
        ("NUMBER", [], "net_of_audit:NUMBER: NUMBER is a value of type int, and no function of sizes"),
        ("Tokens", [], "Tokens is a value of type type, and no function of sizes"),
        ("broken", [], "broken(S=8) raised KeyError: 'layers'"),
        ("right", ["--per", "tokn"], "--per tokn: did you mean token?"),
        ("right", ["--metric", "flop"], "--metric flop: no metric of whole numbers has this name; did you mean flops?"),
        ("right", ["--metric", "arithmetic_intensity"], "no metric of whole numbers has this name"),
        ("right", ["--tokens", "B*T"], "unknown name 'T'"),
        ("right", ["--T", "1:8"], "the target and its inputs have no {T}"),
    ],
)
def test_errors(audit, function, argv, message):
    _, code, errors = audit(function, *argv)
    assert message in errors
    assert code == 2
    assert "Traceback" not in errors


def test_errors_without_a_model(command):
    command("audit", "mypkg", "mypkg:build", "--input", "1x{S}:int64", "--S", "8:64")
    assert "'mypkg' names no function; write module:function" in command.errors
    command("audit", "mypkg:f", "mypkg:build", "--input", "1x{S}x8", "--S", "8:64")
    assert "--per token: which input has the tokens?" in command.errors
    assert command.code == 2
