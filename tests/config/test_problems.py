"""Messages about mistakes in the pyproject and in markers."""

from __future__ import annotations

import pytest

from pytest_flopsbudget.config.problems import Problems
from pytest_flopsbudget.quantities.metrics import METRICS


def test_a_mistake_names_its_path():
    messages = []
    Problems("file: [table]", messages).inside("modules").inside("layer4.0").add("flops", "is too much")
    assert messages == ['file: [table] modules."layer4.0".flops: is too much']


def test_an_unknown_key_has_a_suggestion():
    messages = []
    problems = Problems("file:", messages)
    problems.add_unknown_key("Tolerence", ["tolerance", "show"])
    problems.inside("a").add_unknown_key("zzz", ["b"])
    assert messages == [
        "file: Tolerence: no such key; did you mean tolerance?",
        "file: a.zzz: no such key; there are b",
    ]


@pytest.mark.parametrize(
    ("word", "near"),
    [("parameters", "params"), ("Memory", "peak_memory or param_bytes"), ("gflops", "flops"), ("kernels", "launches")],
)
def test_near_in_meaning(word, near):
    messages = []
    Problems("marker:", messages).add_unknown_key(word, METRICS)
    assert messages == [f"marker: {word}: no such key; did you mean {near}?"]
