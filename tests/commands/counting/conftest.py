"""A folder with a module of models, which is forgotten after each test."""

import sys
from pathlib import Path

import pytest
from conftest import MODELS

BUILDERS = """

class Renamed(Net):
    pass


class Block(nn.Module):
    def __init__(self, width, *, depth):
        super().__init__()


def build(kernel=3, width=4):
    print("building")
    return Net(kernel, width)


def broken():
    raise ValueError("two\\nlines")


def leave():
    raise SystemExit(3)


def number():
    return 3


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(10, 4)

    def forward(self, tokens, scale=1.0):
        return self.table(tokens) * scale


class Held(Net):
    example_input_array = IMAGE


net = Net()
NUMBER = 3
"""


@pytest.fixture
def nets(command, monkeypatch):
    """Run commands in a folder with the module ``nets_of_tests``."""
    Path("nets_of_tests.py").write_text(MODELS + BUILDERS, encoding="utf-8")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    yield command
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and str(Path.cwd()) in str(sys.modules[name].__file__):
            del sys.modules[name]
