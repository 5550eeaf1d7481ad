"""Write and read the text of a baseline file. ``git merge`` can join the entries of two branches. Reading is strict."""

from __future__ import annotations

import re
from io import StringIO
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal
from zlib import decompress

import msgspec

from pytest_flopsbudget.errors import BaselineError
from pytest_flopsbudget.results.complexity import Complexity
from pytest_flopsbudget.storage import baseline_lines
from pytest_flopsbudget.storage.strict_json import LONG_INTEGER, FaultError, convert, line_at, lines_of, parse

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from pytest_flopsbudget.storage.baseline_lines import Key
    from pytest_flopsbudget.storage.strict_json import JsonPath


FORMAT = 2

#: Test id → name of the measurement → cost when it was accepted.
Tests = dict[str, dict[str, Complexity]]

REMEDY = "Restore it from git, or delete it and rerun with --flops-budget-update."

_CONFLICT = re.compile(r"^(?:<<<<<<<|\|\|\|\|\|\|\||=======|>>>>>>>)(?:\s|$)", re.MULTILINE)

# The text before and after the entries. Each entry ends with a blank line. The last member is empty, so every line of
# every entry ends with a comma, and no merge has to add a comma.
_HEAD = f'{{\n"format": {FORMAT},\n"lines": [\n\n'
_FOOT = "{}\n]\n}\n"


class Content(msgspec.Struct, frozen=True):
    """The entries that the text of a baseline file contains."""

    tests: Tests
    #: Test id → reason, for the tests whose entries were torn by a merge. These tests are not in `tests`.
    torn: dict[str, str] = {}
    #: The entries whose text can be kept unchanged, with their compressed text.
    texts: dict[baseline_lines.Key, tuple[Complexity, bytes]] = {}


def write(tests: Tests, texts: Mapping[Key, tuple[Complexity, bytes]]) -> Iterator[bytes]:
    """Yield the text of a file with ``tests``, sorted, as UTF-8, in pieces. The whole text may have many megabytes.

    Args:
        tests: The entries.
        texts: The entries that were read, with their compressed text. An unchanged entry keeps its text.
    """
    yield _HEAD.encode()
    for test_id, entries in sorted(tests.items()):
        for name, entry in sorted(entries.items()):
            known = texts.get((test_id, name))
            if known is not None and (known[0] is entry or known[0] == entry):
                yield decompress(known[1]) + b"\n\n"
            else:
                lines = baseline_lines.write_entry((test_id, name), entry)
                yield ("".join(f"{line},\n" for line in lines) + "\n").encode()
    yield _FOOT.encode()


def read_pieces(lines: Iterable[bytes], *, keep_texts: bool) -> Content | None:
    """Read a correct file from its lines, so that its whole text is never in memory.

    Return None if there is any fault, or if the file is written in another way. `read` then reads it.
    """
    try:
        found = baseline_lines.read_blocks(_blocks(lines), keep_texts=keep_texts)
    except ValueError:
        return None
    return None if found is None else _content(found)


def read(text: str, path: Path, *, keep_texts: bool = True) -> Content:
    """Parse ``text``, the content of the file ``path``. Messages name this file.

    Raises:
        BaselineError: the text is no JSON, has conflict markers, was written by a newer version, or has content that is
            not allowed in a baseline. The message names the line.
    """
    content = read_pieces((line.encode() for line in StringIO(text)), keep_texts=keep_texts)
    if content is not None:
        return content
    data: object = None
    try:
        data = parse(text)
        return _read(data, text, path)
    except FaultError as fault:
        conflict = _CONFLICT.search(text)
        if conflict:
            line = line_at(text, conflict.start())
            remedy = "delete the lines with markers, keep those of both sides, then run with --flops-budget-update"
            raise BaselineError(f"{path}: conflict marker, line {line}: {remedy}.") from fault
        raise BaselineError(_describe_faults([fault], data, text, path)[0]) from fault


def _content(found: Mapping[Key, tuple[Complexity, bytes]]) -> Content:
    tests: Tests = {}
    for (test_id, name), (entry, _) in found.items():
        tests.setdefault(test_id, {})[name] = entry
    return Content(tests, texts={key: known for key, known in found.items() if known[1]})


def _blocks(lines: Iterable[bytes]) -> Iterator[str]:
    """Yield the blocks between head and foot. Each block has the lines of one entry.

    Raises:
        ValueError: the first or last line is wrong, a line is not UTF-8, or a number has very many digits.
    """
    pieces = iter(lines)
    if b"".join(islice(pieces, _HEAD.count("\n"))) != _HEAD.encode():
        raise ValueError("another head")
    block: list[bytes] = []
    for line in pieces:
        if line != b"\n":
            block.append(line)
            continue
        text = b"".join(block).decode().removesuffix("\n")
        if LONG_INTEGER.search(text):
            raise ValueError("a long integer")
        yield text
        block.clear()
    if b"".join(block) != _FOOT.encode():
        raise ValueError("another foot")


class _FileTable(msgspec.Struct, forbid_unknown_fields=True):
    format: Literal[2]
    lines: list[Any]


def _read(data: object, text: str, path: Path) -> Content:
    if not isinstance(data, dict):
        raise FaultError("no baseline, which is a JSON object", line=1)
    written = data.get("format")
    if isinstance(written, int) and not isinstance(written, bool) and written != FORMAT:
        if written > FORMAT:
            reason = f"written by a newer pytest-flopsbudget: it is {written}, and this version reads up to {FORMAT}"
            raise FaultError(reason, ("format",), remedy="Upgrade pytest-flopsbudget.")
        reason = f"written by an unreleased pytest-flopsbudget: it is {written}, and this version reads {FORMAT}"
        raise FaultError(reason, ("format",), remedy="Delete the file, then run with --flops-budget-update.")
    lines = convert(data, _FileTable).lines
    entries, faults = baseline_lines.read(lines)
    torn: dict[str, str] = {}
    for (test_id, _), reason in zip(faults, _describe_faults([*faults.values()], data, text, path), strict=True):
        torn.setdefault(test_id, reason)
    tests: Tests = {}
    for (test_id, name), entry in entries.items():
        if test_id not in torn:
            tests.setdefault(test_id, {})[name] = entry
    return Content(tests, torn)


def _describe_faults(faults: Sequence[FaultError], data: object, text: str, path: Path) -> list[str]:
    """Return one line for each fault: the file and line, the entry, the fault, and the remedy."""
    places = {place for fault in faults if not fault.line for place in (fault.place, fault.other)}
    lines = lines_of(text, places) if places else {}
    return [_in_words(fault, data, path, lines) for fault in faults]


def _in_words(fault: FaultError, data: object, path: Path, lines: Mapping[JsonPath, int]) -> str:
    line = str(fault.line or lines[fault.place])
    if fault.other:
        line += f" (and line {lines[fault.other]})"
    place = fault.place
    about = ""
    if isinstance(data, dict) and place[:1] == ("lines",) and len(place) > 1:
        about = baseline_lines.subject(data["lines"][place[1]])
        place = place[2:]
    keys = "".join(f"{baseline_lines.as_json(key)}: " for key in place if isinstance(key, str))
    return f"{path}, line {line}: {about}{keys}{fault.reason}. {fault.remedy or REMEDY}"
