"""Names with any characters: no report lets a name control a terminal or a log."""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction
from pathlib import Path

import msgspec
import pytest
from budgets import budget
from explained import DEVICE
from hypothesis import given, settings
from hypothesis import strategies as st
from reporting import RUN, a_test, report

from pytest_flopsbudget.config.settings import Settings
from pytest_flopsbudget.quantities.metrics import key_for
from pytest_flopsbudget.reports.ci import csv, github, gitlab, junit
from pytest_flopsbudget.reports.failure import explain
from pytest_flopsbudget.reports.markdown import changes as markdown_changes
from pytest_flopsbudget.reports.markdown import run as markdown_run
from pytest_flopsbudget.reports.terminal import changes as terminal_changes
from pytest_flopsbudget.reports.terminal import history
from pytest_flopsbudget.reports.terminal.explain import explain_page
from pytest_flopsbudget.reports.terminal.screen import Screen
from pytest_flopsbudget.reports.terminal.summary import summary
from pytest_flopsbudget.results.changes import Key, changes
from pytest_flopsbudget.results.complexity import Complexity
from pytest_flopsbudget.results.complexity_diff import compare
from pytest_flopsbudget.results.data import MemoryAtPeak, Module, Operator, Phase, UnknownOperator
from pytest_flopsbudget.results.verdict import Measurement, judge
from pytest_flopsbudget.safe_text import visible
from pytest_flopsbudget.storage import report_file
from pytest_flopsbudget.storage.baseline_totals import Totals
from pytest_flopsbudget.storage.history import Revision, Step, trace
from pytest_flopsbudget.storage.run_record import Entry, pack_verdicts

#: Parts of names that a terminal, the log of a CI system or a reader of a file would take as a command.
PIECES = (
    "\x1b[2J", "\0", "\n", "\r\n", "\u2028", "\x85", "\u202e", "\u200b", "\ud800", "::error::x", " ::error::x",
    "::set-output name=a::b", "##[error]x", "##vso[task.complete]", "|", "`", "=1+1", ",", '"', "a" * 61, ".", " ", "#",
    "->", "3x3", "é", "漢", "<b>", "%0A",
)  # fmt: skip
hostile = st.lists(st.sampled_from(PIECES), min_size=1, max_size=4).map("".join)


@st.composite
def complexities(draw):
    """Draw a measurement whose names are all hostile."""
    number = draw(st.integers(1, 2**70))
    device = draw(st.sampled_from([DEVICE.name, "T4\n::error::x"]))
    metrics = {"flops": number, "params": 3, "peak_memory": 7, key_for("memory_time", device): 5}
    path, kind, operator = draw(hostile), draw(hostile), draw(hostile)
    return Complexity(
        model=kind,
        inputs=(draw(hostile),),
        execution=draw(st.sampled_from(["shapes", "real", "watched"])),
        metrics=metrics,
        modules={
            "": Module(type=kind, calls=1, metrics=metrics),
            path: Module(type=draw(hostile), shape=draw(hostile), calls=2, metrics=metrics),
        },
        operators={operator: Operator(calls=3, metrics={"flops": number})},
        phases={"forward": Phase(metrics=metrics)} if draw(st.booleans()) else {},
        unknown_operators={draw(hostile): UnknownOperator(calls=1, modules=(path,))},
        memory_at_peak=MemoryAtPeak(total=7, operator=operator, module=path, gradients=7),
        notes=(draw(hostile),),
    )


@st.composite
def runs(draw):
    old, new = draw(complexities()), draw(complexities())
    limits = {"flops": draw(st.sampled_from([1, 2**80]))}
    limited = budget(draw(hostile), limits, {draw(hostile): {"flops": 1}} if draw(st.booleans()) else {})
    settings = Settings(unknown_operators=draw(st.sampled_from(["fail", "warn"])))
    name = draw(hostile)
    verdict = judge(
        Measurement(name=name, complexity=new), [limited], settings, draw(st.none() | st.just(old)), accepts=False
    )
    nodeid = draw(hostile)
    test = a_test(verdict, nodeid=nodeid, file=draw(hostile), vanished=(draw(hostile),))
    run = msgspec.structs.replace(
        RUN, errors=(draw(hostile),), show=draw(st.sampled_from(["flops", "time[T4\n::error::x|]"]))
    )
    return report(test, run=run), verdict, old


def check_line(line):
    """Check that a line has no control character and no command to a CI system."""
    assert not [sign for sign in line if unicodedata.category(sign) in {"Cc", "Cf", "Cs", "Zl", "Zp", "Co", "Cn"}]
    assert not line.lstrip().startswith("::")
    assert "##[" not in line
    assert "##vso[" not in line


def check_text(text):
    for line in text.split("\n"):
        check_line(line)


screens = st.builds(
    Screen,
    width=st.sampled_from([20, 40, 80, 200]),
    colour=st.just(False),
    encoding=st.sampled_from(["utf-8", "ascii"]),
)


@settings(max_examples=40)
@given(runs())
def test_reports(run):
    written, verdict, _ = run
    for text in (markdown_run.text(written), csv.text(written), gitlab.text(written)):
        check_text(text)
    # JSON contains each name exactly, with JSON's own escapes.
    for line in report_file.dumps(written).split("\n"):
        assert line.isprintable()
        assert not line.lstrip().startswith("::")
    check_text(explain(written.tests[0].nodeid, [verdict]))
    for name, value in junit.properties([verdict]):
        check_line(name)
        check_line(str(value))


@settings(max_examples=40)
@given(runs())
def test_annotations(run):
    """Each annotation is exactly one command to GitHub."""
    for line in github.commands(run[0], "."):
        level, place, text = re.fullmatch(r"::(\w+) ([^\n]*?)::(.*)", line).groups()
        assert level in {"error", "warning", "notice"}
        check_line(place)
        check_text(text.replace("%0D", "").replace("%0A", "\n").replace("%25", "%"))


@settings(max_examples=40)
@given(runs(), screens, st.integers(-1, 1))
def test_summary(run, screen, verbosity):
    written, verdict, _ = run
    test = written.tests[0]
    packed = pack_verdicts(test.nodeid, Path("a.py"), 0, [verdict], test.vanished)
    entry = Entry.from_builtins(packed, passed=True)
    for line in summary(
        [entry], screen, lambda _: Settings(), show=written.run.show, verbosity=verbosity, accepts=False
    ):
        check_line(line)
    for line in explain_page(test.nodeid, verdict, [DEVICE], screen):
        check_line(line)


@settings(max_examples=40)
@given(complexities(), complexities(), st.sampled_from([None, 40, 80, 120]))
def test_results(new, old, width):
    difference = compare(old, new)
    texts = [new.table(width=width), difference.table(width=width), str(new), repr(new), str(difference)]
    for text in (*texts, repr(difference), new._repr_html_(), difference._repr_html_()):
        check_text(text)
    assert "<b>" not in new._repr_html_() + difference._repr_html_()


@settings(max_examples=40)
@given(runs(), screens, hostile, hostile)
def test_changes(run, screen, nodeid, other):
    _, verdict, old = run
    found = changes(
        {Key(nodeid, verdict.name): old, Key(f"{nodeid}1", "model"): old},
        {Key(nodeid, verdict.name): verdict.complexity},
    )
    check_text(markdown_changes.text(found, nodeid, other))
    check_text(markdown_changes.text(found, nodeid, other, verbose=True))
    for verbose in (False, True):
        for line in terminal_changes.lines(found, screen, verbose=verbose):
            check_line(line)
    steps = []
    for number, flops in enumerate((8, 9)):
        totals = Totals(model="Net", inputs=(), metrics={"flops": flops, "params": 1})
        steps.append(
            Step(Revision(f"c{number}", "2026-01-01", visible(other)), {nodeid: {other: {verdict.name: totals}}})
        )
    series = trace(steps)
    for one in series:
        for line in history.series_lines(one, one.points, "flops", screen, limit=0):
            check_line(line)
    for line in history.overview(series, "flops", screen):
        check_line(line)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("tests/test_a.py::test_b[x::y]", "tests/test_a.py::test_b[x::y]"),
        ("::error::x", r"\x3a:error::x"),
        ("a ::error::x", r"a \x3a:error::x"),
        ("a\n::error::x", r"a\n::error::x"),
        ("##[error]x # [1] ##", r"\x23#[error]x # [1] ##"),
        ("a##vso[task]", r"a\x23#vso[task]"),
        ("\x1b[31mred\0", r"\x1b[31mred\x00"),
        ("a\u202eb", r"a\u202eb"),
        ("layers.0 é 漢", "layers.0 é 漢"),
    ],
)
def test_visible(text, shown):
    """Only dangerous characters are shown as Python's escapes."""
    assert visible(text) == shown


def test_large_amounts():
    metrics = {"flops": 10**99, "params": 10**400, "memory_traffic": 1}
    new = Complexity(
        model="Net", inputs=(), execution="shapes", metrics=metrics, modules={"": Module(type="Net", metrics=metrics)}
    )
    old = msgspec.structs.replace(new, metrics=metrics | {"params": 10**350})
    limits = {"flops": 10**98, "params": 10**100 - 1, "arithmetic_intensity": Fraction(10**100 - 1)}
    verdict = judge(Measurement(name="model", complexity=new), [budget("here", limits)], Settings(), old, accepts=False)
    written = report(a_test(verdict))
    # 10^99 is 10^81 E, and 10^400 is 10^382 E. From 10^350 to 10^400 is a growth by 10^50, which is 10^32 E.
    text = markdown_run.text(written)
    assert "1.000e+81 EFLOPs" in text
    assert "1.000e+382 E" in text
    assert "x100000000000000000000000000000000E" in text
    for write in (csv.text, gitlab.text, report_file.dumps):
        assert f"1{'0' * 400}" in write(written)
    assert ("flops_budget.params", 10**400) in list(junit.properties([verdict]))
    assert explain("t", [verdict])
