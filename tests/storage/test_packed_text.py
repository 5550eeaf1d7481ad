"""Texts that are kept compressed, and the states of files."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import pytest
from build import small

from pytest_flopsbudget.results.data import Operator
from pytest_flopsbudget.storage.baseline import BaselineFile, change, load, save
from pytest_flopsbudget.storage.packed_text import FileState, PackedText, StateOfLines


@pytest.mark.parametrize("pieces", [[], [b""], [b"one"], [b"one\n", b"", b"two\n"], [bytes(range(256))] * 5_000])
def test_a_text_is_kept(pieces):
    text = PackedText(pieces)
    assert b"".join(text.pieces()) == b"".join(pieces)
    assert b"".join(text.pieces()) == b"".join(pieces)  # and can be read again


@pytest.mark.parametrize(
    ("data", "held"),
    [(b"a\nb\n", True), (b"a\r\nb\r\n", True), (b"a\r\nb\n", True), (b"a\nb", False), (b"a\rb\n", False), (b"", False)],
)
def test_line_ends_are_ignored(data, held):
    assert FileState.of(data).holds(PackedText([b"a\n", b"b\n"])) is held


def test_a_missing_file_has_no_text():
    assert FileState().holds(None)
    assert not FileState().holds(PackedText([]))
    assert not FileState.of(b"").holds(None)


def test_the_state_of_lines_is_that_of_the_file():
    lines = StateOfLines([b"a\n", b"b\n"])
    assert [*lines] == [b"a\n", b"b\n"]
    assert lines.state == FileState.of(b"a\nb\n")


@pytest.fixture
def large(tmp_path):
    """Return the path of a baseline file with 800 entries of 60 lines. Half of the entries are equal."""
    path = tmp_path / "__flops__" / "test_large.json"
    operators = {f"aten.operator_{number}": Operator(calls=1, metrics={"flops": number}) for number in range(56)}
    entry = small(operators=operators)
    others = [small(flops=number, operators=operators) for number in range(20)]
    tests = {f"test_{number}": {"model": others[number % 20] if number % 2 else entry} for number in range(800)}
    save(BaselineFile(path, tests))
    return path


def peak_of(run):
    tracemalloc.start()
    try:
        run()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_reading_does_not_hold_the_text(large):
    assert peak_of(lambda: load(large)) < large.stat().st_size / 3


def test_writing_does_not_hold_the_text(large):
    before = large.read_bytes()

    def without_first(file):
        return replace(file, tests={name: entries for name, entries in file.tests.items() if name != "test_0"})

    assert peak_of(lambda: change(large, without_first)) < 0.7 * len(before)
    block_end = before.index(b"\n\n", before.index(b"\n\n") + 2)
    head = before[: before.index(b"\n\n") + 2]
    assert large.read_bytes() == head + before[block_end + 2 :]
