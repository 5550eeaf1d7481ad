"""A damaged file never causes a traceback, a lost file or a wrong number."""

from __future__ import annotations

import json
import re

import pytest
from entries import net
from hypothesis import given, settings
from hypothesis import strategies as st
from long_runs import examples

from pytest_flopsbudget.config.reading import load_settings
from pytest_flopsbudget.config.settings import Settings
from pytest_flopsbudget.errors import BaselineError, ReportError, UsageError
from pytest_flopsbudget.results.comparison import compare
from pytest_flopsbudget.results.report import Report, ReportedTest, Run
from pytest_flopsbudget.results.verdict import Verdict
from pytest_flopsbudget.storage import baseline_document, report_file
from pytest_flopsbudget.storage.baseline import BaselineFile, change, dumps, load, update_entries

MANY = settings(max_examples=examples(100, of_many=10_000))

# Kinds of damage


def flipped(data, draw):
    position = draw(st.integers(0, len(data) - 1))
    return data[:position] + bytes([data[position] ^ (1 << draw(st.integers(0, 7)))]) + data[position + 1 :]


def cut(data, draw):
    first, last = sorted(draw(st.tuples(*[st.integers(0, len(data))] * 2)))
    return data[:first] + data[last:]


def truncated(data, draw):
    return data[: draw(st.integers(0, len(data) - 1))]


def overwritten(data, draw):
    position = draw(st.integers(0, len(data)))
    piece = draw(st.binary(max_size=8))
    return data[:position] + piece + data[position + draw(st.sampled_from([0, len(piece)])) :]


def lines_drawn(data, draw):
    """Return some lines of the data in any order. A line may occur several times."""
    lines = data.splitlines(keepends=True)
    return b"".join(draw(st.lists(st.sampled_from(lines), max_size=len(lines))))


def lines_moved(data, draw):
    """Remove, repeat or move lines, as a wrong merge by hand does."""
    lines = data.splitlines(keepends=True)
    for _ in range(draw(st.integers(1, 3))):
        line = lines.pop(draw(st.integers(0, len(lines) - 1))) if len(lines) > 1 else lines[0]
        for _ in range(draw(st.integers(0, 2))):
            lines.insert(draw(st.integers(0, len(lines))), line)
    return b"".join(lines)


_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|-?[0-9][0-9.eE+-]*|true|false|null|[{}\[\],:=]')

values = st.sampled_from(
    [
        b"null", b"true", b"-1", b"1.5", b"1e400", b"NaN", b"Infinity", b"9" * 30, b"9" * 5000, b'""', b'"flops"',
        b"[]", b"{}", b'"\\ud800"', b'"\\u0000"', b"[" * 50, b'{"flops": 1}', b'"layers.{0-999999999}"', b'"{2-1}"',
        b'"\xff"', b"1979-05-27", b"0x10", b"'x'", b'"""', b"inf", b"nan", b"2", b"0",
    ]
)  # fmt: skip


def retyped(data, draw):
    """Replace a value, a key or a punctuation mark by another value."""
    token = draw(st.sampled_from([*_TOKEN.finditer(data)]))
    return data[: token.start()] + draw(values) + data[token.end() :]


HARMS = (flipped, cut, truncated, overwritten, lines_drawn, lines_moved, retyped)


@st.composite
def damaged(draw, whole):
    data = whole
    for harm in draw(st.lists(st.sampled_from(HARMS), min_size=1, max_size=3)):
        if not _TOKEN.search(data):
            break
        data = harm(data, draw)
    return data


def bytes_like(whole):
    texts = st.text(max_size=100).map(lambda text: text.encode(errors="surrogatepass"))
    return st.binary(max_size=200) | texts | damaged(whole)


def told(function, error):
    """Call ``function``. Return (result, None), or (None, message) if it raises ``error``."""
    try:
        return function(), None
    except error as caught:
        return None, str(caught)


# Baselines

TESTS = {f"test_{name}": {"model": net(width)} for width, name in enumerate("abc", start=1)}
TESTS["test_b"]["other"] = net(7)
BASELINE = b"".join(baseline_document.write(TESTS, {}))


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("fuzz") / "__flops__" / "test_net.json"
    path.parent.mkdir()
    return path


@MANY
@given(data=bytes_like(BASELINE))
def test_baseline(path, data):
    path.write_bytes(data)
    file, refusal = told(lambda: load(path), BaselineError)
    if file is None:
        assert refusal.startswith(str(path))
        assert refusal.isprintable()
    else:
        for test_id, entries in file.tests.items():
            for name, entry in entries.items():
                compare(entry, TESTS.get(test_id, {}).get(name, net()), {})
        assert baseline_document.read(dumps(file), path).tests == file.tests
    assert path.read_bytes() == data
    written, _ = told(
        lambda: change(path, lambda file: update_entries(file, {"test_new": {"model": net()}})), BaselineError
    )
    if file is None:
        # If an entry contradicts itself and is not measured again, nothing is written.
        assert not written
        assert path.read_bytes() == data
    else:
        assert load(path).tests == file.tests | {"test_new": {"model": net()}}
    assert [*path.parent.iterdir()] == [path]


@MANY
@given(data=damaged(BASELINE))
def test_both_ways_to_read(path, data):
    """The fast reader, which reads only the usual format, and the general reader give the same result."""
    text = data.decode(errors="replace")

    def read(text):
        return told(lambda: baseline_document.read(text, path).tests, BaselineError)[0]

    # A blank at the end changes nothing in JSON, but excludes the fast reader.
    assert read(text) == read(text + " ")


# The pyproject

PYPROJECT = b"""\
[tool.pytest-flopsbudget]
tolerance = {flops = "1%", params = {relative = "1%", absolute = "5k"}}
missing-baseline = "fail"
unknown-operators = "ignore"
improved-baseline = "fail"
free-operators = ["mylib::scan"]
show = "macs"
reuse-answers = "off"

[tool.pytest-flopsbudget.limits]
params = "100M"
modules = {"layer4*" = {flops = "1.7G"}}

[[tool.pytest-flopsbudget.budgets]]
match = ["tests/test_backbone.py::*"]
flops = "8.2 GFLOPs"
tolerance = "2%"
"""


@MANY
@given(data=bytes_like(PYPROJECT))
def test_pyproject(path, data):
    pyproject = path.parent.parent / "pyproject.toml"
    pyproject.write_bytes(data)
    loaded, refusal = told(lambda: load_settings(pyproject.parent), UsageError)
    assert loaded is None or isinstance(loaded, Settings)
    assert refusal is None or refusal.startswith("pyproject.toml")
    assert pyproject.read_bytes() == data


keys = st.sampled_from(
    ["tolerance", "missing-baseline", "free-operators", "show", "limits", "budgets", "match", "modules", "flops",
     "macs", "params", "param_bytes", "total_flops", "relative", "absolute", "layer4*", "", "flop"]
)  # fmt: skip
scalars = (
    st.none().map(lambda _: "true")
    | st.integers().map(str)
    | st.floats().map(lambda number: str(number).replace("Infinity", "inf"))
    | st.sampled_from(["1979-05-27", "07:32:00", "1979-05-27T07:32:00Z"])
    | st.sampled_from(
        ["1%", "-1%", "1e999%", "5 GFLOPs", "5 MiB", "1e9999", "9" * 400, "1/0%", "nan%", "", "fail", "*"]
    ).map(json.dumps)
    | st.text(st.characters(codec="utf-8", exclude_categories=["C"]), max_size=5).map(json.dumps)
)
tables = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]")
        | st.dictionaries(keys, inner, max_size=3).map(
            lambda table: "{" + ", ".join(f"{json.dumps(key)} = {value}" for key, value in table.items()) + "}"
        )
    ),
    max_leaves=12,
)


@MANY
@given(st.dictionaries(keys, tables, max_size=5))
def test_pyproject_of_other_types(path, table):
    rows = "".join(f"{json.dumps(key)} = {value}\n" for key, value in table.items())
    test_pyproject.hypothesis.inner_test(path, f"[tool.pytest-flopsbudget]\n{rows}".encode())


# Reports

REPORT = report_file.dumps(
    Report(
        run=Run(plugin="0.1.0", pytest="9.0", torch="2.13", python="3.11"),
        tests=tuple(
            ReportedTest(
                nodeid=f"tests/test_net.py::{test_id}",
                file="tests/test_net.py",
                line=3,
                outcome="passed",
                measurements=tuple(
                    Verdict(
                        name=name,
                        outcome="regressed",
                        fails=True,
                        comparison=compare(net(9), entry, {}),
                        complexity=entry,
                    )
                    for name, entry in entries.items()
                ),
            )
            for test_id, entries in TESTS.items()
        ),
    )
).encode()


@MANY
@given(data=bytes_like(REPORT))
def test_report(path, data):
    report_path = path.parent.parent / "report.json"
    report_path.write_bytes(data)
    report, refusal = told(lambda: report_file.load(report_path), ReportError)
    if report is None:
        assert refusal.startswith(str(report_path))
        assert refusal.isprintable()
    else:
        assert report_file.loads(report_file.dumps(report), report_path) == report
    assert report_path.read_bytes() == data


def test_what_is_damaged_is_whole(path):
    """Before the files are damaged, they are valid."""
    path.write_bytes(BASELINE)
    assert load(path).tests
    (path.parent.parent / "pyproject.toml").write_bytes(PYPROJECT)
    assert load_settings(path.parent.parent).budgets
    assert BaselineFile(path, TESTS) == BaselineFile(path, baseline_document.read(BASELINE.decode(), path).tests)
    assert report_file.loads(REPORT.decode(), path).tests
