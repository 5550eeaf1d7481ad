"""The HTML page of a run, without a browser."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from importlib.resources import files

import pytest
from budgets import budget
from build import laws
from hypothesis import given, settings
from msgspec.structs import replace
from reporting import RUN, a_test, complexity, measurement, report, reports

from pytest_flopsbudget.reports.html import page
from pytest_flopsbudget.reports.html.tree import Tree, value
from pytest_flopsbudget.results.data import Module
from pytest_flopsbudget.storage.baseline_totals import Totals
from pytest_flopsbudget.storage.history import Address, Point, Revision, Series

HOSTILE = "</script><img src=x onerror=alert(1)>\u202e\x1b[31m" + "a" * 4000


class Reader(HTMLParser):
    """Collects the elements, the text and the scripts of a page."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.words, self.scripts, self.addresses = [], [], [], []
        self.inside = ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append(tag)
        self.inside = tag
        self.addresses += [value for name, value in attributes if name in {"src", "href", "srcset", "action"}]

    def handle_data(self, data):
        (self.scripts if self.inside == "script" else self.words).append(data)

    def handle_endtag(self, _):
        self.inside = ""


@given(reports)
@settings(max_examples=40)
def test_any_report(one):
    read = Reader(page.text(one))
    assert read.elements.count("script") == 2
    assert all(address.startswith("#") for address in read.addresses)
    json.loads(read.scripts[0])


def test_hostile_names():
    modules = {"": Module(type=HOSTILE, metrics={"flops": 1}), HOSTILE: Module(type=HOSTILE, metrics={"flops": 1})}
    one = measurement(complexity(modules=modules, notes=(HOSTILE,), inputs=(HOSTILE,)), name=HOSTILE)
    text = page.text(report(a_test(one, nodeid=f"a.py::{HOSTILE}")))
    read = Reader(text)
    assert read.elements.count("script") == 2
    assert "img" not in read.elements
    assert not re.search("[\u202e\x1b]", text)


def test_small_and_alone():
    own = [
        files(page.__name__.rpartition(".")[0]).joinpath(f"page.{kind}").read_text("utf-8") for kind in ("js", "css")
    ]
    assert sum(len(text.encode()) for text in own) < 60_000
    assert not any("http" in text or "url(" in text or "@import" in text for text in own)


def test_what_stands_first():
    """A failing measurement comes before the others, with the reasons and its row of the changed metric."""
    broken = measurement(complexity(3000), complexity(2000), budget("here", {"flops": 2500}))
    tests = [a_test(measurement(complexity(), complexity()), nodeid="a.py::ok"), a_test(broken, nodeid="b.py::broken")]
    text = page.text(report(*tests))
    assert text.index("b.py::broken") < text.index("a.py::ok")
    assert "Broken in 1 of 2 tests: 1 over a limit." in text
    row = next(line for line in text.splitlines() if line.startswith('<tr class="bad"><th scope="row">flops</th>'))
    assert re.findall(r'<td class="number">(.*?)</td>', row) == ["2 kFLOPs", "3 kFLOPs", "+50.0%", "2.5 kFLOPs"]


@pytest.mark.parametrize(
    ("failing", "passing", "listed", "others"),
    [
        (1, 60, 1, "60 more measurements: 60 ok"),
        (12, 3, 10, "5 more measurements: 2 regressed, 3 ok"),
        (0, 12, 10, "2 more measurements: 2 ok"),
        (0, 1, 1, ""),
        (10, 0, 10, ""),
    ],
)
def test_measurements_that_need_a_look_are_at_the_top(failing, passing, listed, others):
    grew, same = measurement(complexity(3000), complexity(2000)), measurement(complexity(), complexity())
    tests = [a_test(one, nodeid=f"a.py::t{place}") for place, one in enumerate([*[same] * passing, *[grew] * failing])]
    text = page.text(report(*tests))
    top, _, rest = text[: text.index('<section class="measurement"')].partition("<summary>")
    assert top.count('<tr><th scope="row">') == listed
    assert rest.count('<tr><th scope="row">') == failing + passing - listed
    assert rest.partition("<")[0] == others


OLD = {
    "": Module(type="Net", metrics={"flops": 50}),
    "a": Module(type="A", metrics={"flops": 30}),
    "a.0": Module(type="Linear", metrics={"flops": 10}),
    "a.1": Module(type="Linear", metrics={"flops": 10}),
    "gone": Module(type="B", metrics={"flops": 20}),
}
NEW = {
    "": Module(type="Net", metrics={"flops": 70}),
    "a": Module(type="A", metrics={"flops": 70}),
    "a.0": Module(type="Linear", metrics={"flops": 30}),
    "a.1": Module(type="Linear", metrics={"flops": 30}),
}


def test_history():
    revisions = [Revision("a1", "2026-01-02", "first"), Revision("b2", "2026-02-03", "wider <b>")]
    address = Address("tests/test_net.py", "test_a", "model")
    points = [
        Point(revision, address, Totals("Net", (), {"flops": flops, "params": 20}))
        for revision, flops in zip(revisions, (1000, 2000), strict=True)
    ]
    text = page.text(report(a_test(measurement())), [Series(points)])
    assert text.index("2026-02-03") < text.index("2026-01-02")
    assert "wider &lt;b&gt;" in text


def test_first_sentences():
    own = a_test(measurement(), outcome="failed", own_failure=True)
    few = report(a_test(measurement()), run=replace(RUN, required_measurements=3))
    for one, mood, words in (
        (report(a_test(measurement())), "good", "1 test within budget."),
        (report(own), "note", "1 test measured, 1 failed for another reason."),
        (few, "bad", "1 of at least 3 measurements were made, which --flops-budget-require asks for."),
        (report(), "note", "Nothing was measured."),
    ):
        assert f'<p class="verdict {mood}">{words}</p>' in page.text(one)


class TestTree:
    @pytest.fixture
    def tree(self):
        one = measurement(complexity(70, modules=NEW), complexity(50, modules=OLD))
        return Tree(one.complexity, one.diffs)

    def test_values(self, tree):
        assert {group.path: value(group, "flops") for group in tree.groups} == {"": 70, "a": 70, "a.{0-1}": 60}

    def test_before(self, tree):
        """What was removed counts in the module that contained it."""
        assert {group.path: tree.before(group, "flops") for group in tree.groups} == {"": 50, "a": 30, "a.{0-1}": 20}

    def test_plain(self, tree):
        (below,) = tree.plain()["below"]
        assert (below["name"], below["now"]["flops"], below["before"]["flops"]) == ("a", 70, 30)
        assert below["below"][0]["path"] == "a.{0-1}"


def test_a_history_of_laws():
    made = [None, {"n": 2}, {"n^2": 4}]
    points = [
        Point(
            Revision(f"abc{number}", "2026-01-01", "change"),
            Address("tests/test_net.py", "test_a", "model"),
            Totals("Net", (), {"flops": 7, "params": 1}, laws=terms and laws({"n": range(1, 9)}, {"flops": terms})),
        )
        for number, terms in enumerate(made)
    ]
    text = page.text(report(a_test(measurement())), [Series(points)])
    assert text.index("4·n², for n = 1 … 8") < text.index("2·n, for n = 1 … 8") < text.index("abc0")
    without = page.text(report(a_test(measurement())), [Series(points[:1])])
    assert '<th scope="col" class="number">law</th>' in text
    assert '<th scope="col" class="number">law</th>' not in without


def points(text):
    """Return the horizontal places of the counts in each figure of a law."""
    figures = [part.partition("</svg>")[0] for part in text.split("the line is the law")[1:]]
    found = (re.findall(r'<circle class="point" cx="([\d.]+)"', one) for one in figures)
    return [[*map(float, one)] for one in found]


def page_of(found, **others):
    return page.text(report(a_test(measurement(complexity(laws=found, **others)))))


def counted(found, *sizes):
    flops = found.law("flops")
    values = tuple(flops.at(**dict(zip(found.sizes, point, strict=True))) for point in sizes)
    return replace(found, counted=sizes, metrics={"flops": replace(found.metrics["flops"], counts=values)})


def test_a_law_is_drawn_with_its_counts():
    found = counted(laws({"n": range(1, 1001)}, {"flops": {"n^2": 2}}), (1,), (10,), (1000,))
    text = page_of(found)
    # The axis is logarithmic from 1 to 1,000: 10 is at a third.
    (places,) = points(text)
    assert places == [76, pytest.approx(76 + (640 - 16 - 76) / 3, abs=0.1), 624]
    assert "flops = 2·n²" in text
    assert "doubling n costs x4" in text
    assert text.count('<path class="roof"') >= 1
    assert Reader(text).elements.count("script") == 2


def test_a_narrow_range_has_linear_axes():
    found = counted(laws({"n": range(200, 301)}, {"flops": {"n": 1}}), (200,), (300,))
    # The axis ends at 300.
    assert points(page_of(found)) == [[pytest.approx(76 + (640 - 16 - 76) * 2 / 3, abs=0.1), 624]]


def test_a_figure_for_each_size():
    found = counted(laws({"batch": range(1, 9), "n": range(1, 65)}, {"flops": {"batch*n": 2}}), (1, 1), (8, 1), (8, 64))
    text = page_of(found)
    assert "flops over batch, for n = 64: the line is the law" in text
    assert "flops over n, for batch = 8: the line is the law" in text
    # Counts at other sizes of the other symbol are no points of the figure.
    assert [len(one) for one in points(text)] == [1, 2]


@pytest.mark.parametrize("terms", [{}, {"1": 7}, ()])
def test_what_does_not_grow_has_no_figure(terms):
    text = page_of(laws({"n": range(1, 9)}, {"flops": terms}))
    assert "the line is the law" not in text


def test_values_of_any_size_are_drawn():
    found = counted(laws({"n": range(0, 2**53, 2**40)}, {"flops": {"n^4": 2**80, "n": -1}}), (0,), (2**52,))
    assert [len(one) for one in points(page_of(found))] == [1]


def test_a_changed_law_is_on_the_page():
    old, new = (complexity(laws=laws({"n": range(1, 9)}, {"flops": {"n": factor}})) for factor in (2, 4))
    assert "flops regressed: 2*n \u2192 4*n (+100.0%)" in page.text(report(a_test(measurement(new, old))))
