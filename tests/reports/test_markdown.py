"""The Markdown report for pull requests."""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser

import pytest
from budgets import budget
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from msgspec.structs import replace
from reporting import RUN, a_test, complexity, measurement, over, report, reports
from timed import estimated, peaking, timed

from pytest_flopsbudget.quantities.bounds import Bounds
from pytest_flopsbudget.quantities.metrics import COMPARED
from pytest_flopsbudget.reports.markdown.markup import COMMENT, STEP_SUMMARY
from pytest_flopsbudget.reports.markdown.run import text
from pytest_flopsbudget.results.data import UnknownOperator

#: GitHub's limits, from https://docs.github.com and https://github.github.com/gfm/.
COMMENT_CHARACTERS = 65_536
SUMMARY_BYTES = 1024 * 1024


class Page(HTMLParser):
    """Parses a page, and collects the rows of its table and its details."""

    def __init__(self, markdown):
        super().__init__(convert_charrefs=True)
        self.tags = []
        self.rows = []
        self.titles = []
        self.behind = []
        self.head = ""
        self.known = set()
        self.feed(MarkdownIt("commonmark", {"html": True}).enable("table").render(markdown))

    def handle_starttag(self, tag, attrs):
        self.known.add(tag)
        self.tags.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in {"td", "th"}:
            self.rows[-1].append("")
        elif tag == "summary":
            self.titles.append("")
        elif tag == "pre":
            self.behind.append("")

    def handle_endtag(self, tag):
        assert self.tags.pop() == tag

    def handle_data(self, data):
        if "td" in self.tags or "th" in self.tags:
            self.rows[-1][-1] += data
        elif "summary" in self.tags:
            self.titles[-1] += data
        elif "pre" in self.tags:
            self.behind[-1] += data
        elif "h3" in self.tags:
            self.head += data


OK = measurement(complexity(), complexity())
#: A layer with twice the parameters, and half as many FLOPs again.
GREW = measurement(complexity(3000, 20), complexity(2000, 10))
UNKNOWN = complexity(unknown_operators={"mine.op": UnknownOperator(calls=1, modules=("",))})

HEADS = ["", "measurement", "FLOPs", "change", "limit", "params", "verdict"]


def page(*tests, **fields):
    return Page(text(report(*tests, **fields)))


class TestVerdict:
    def test_over(self):
        tests = [
            a_test(over(), nodeid="a.py::a"),
            a_test(over(), over(name="b"), nodeid="a.py::b"),
            a_test(measurement()),
        ]
        found = text(report(*tests))
        assert found.startswith("### ❌ Complexity budgets: broken in 2 of 3 tests: 2 over a limit\n")
        # The sum of the FLOPs: 3 · 3,000 and 2,000.
        assert "4 measurements: 3 over limit, 1 new; 11 kFLOPs counted.\n" in found

    def test_within(self):
        found = text(report(a_test(measurement(complexity(), complexity()))))
        assert found.startswith("### ✅ Complexity budgets: 1 test within budget\n")

    def test_nothing(self):
        assert text(report()) == "### Complexity budgets: nothing was measured\n\n\n"

    def test_what_else_happened(self):
        run = replace(RUN, stopped=True, errors=("a.json: cannot be written: it is read-only",))
        found = text(report(a_test(measurement(), own_failure=True, outcome="failed"), run=run))
        assert "1 test failed for a reason other than its budget." in found
        assert "The run stopped before all of its tests ran." in found
        assert "`a.json: cannot be written: it is read-only`" in found

    @pytest.mark.parametrize(
        ("tests", "head"),
        [
            ([over(), over()], "broken in 2 of 2 tests: 2 over a limit"),
            ([GREW, GREW, GREW, GREW], "broken in 4 of 4 tests: 4 grown beyond the baseline"),
            ([over(), GREW, OK], "broken in 2 of 3 tests: 1 over a limit, 1 grown beyond the baseline"),
            ([measurement(missing_baseline="fail"), OK], "broken in 1 of 2 tests: 1 without a baseline"),
            (
                [
                    measurement(complexity(), None, budget("here", {"flops": Bounds(minimum=10**9)})),
                    OK,
                    measurement(complexity(), None, budget("here", modules={"sten": {"flops": 1}})),
                ],
                "broken in 2 of 3 tests: 1 under a limit, 1 with a limit that cannot be checked",
            ),
            (
                [measurement(complexity(1000), complexity(), improved_baseline="fail")],
                "broken in 1 of 1 test: 1 cheaper than the baseline",
            ),
            (
                [measurement(UNKNOWN, UNKNOWN, unknown_operators="fail")],
                "broken in 1 of 1 test: 1 with operators without a formula",
            ),
        ],
        ids=["limits", "baselines", "both", "new", "under", "improved", "unknown"],
    )
    def test_says_what_is_broken(self, tests, head):
        """The headline agrees with the verdicts: a test is over a limit only if a limit is broken."""
        found = text(report(*(a_test(one, nodeid=f"a.py::t{place}") for place, one in enumerate(tests))))
        assert found.startswith(f"### ❌ Complexity budgets: {head}\n")

    def test_failures_without_a_measurement(self):
        """Tests that failed before they measured anything are in the headline."""
        own = [a_test(nodeid=f"a.py::t{place}", own_failure=True, outcome="failed") for place in range(3)]
        found = text(report(a_test(OK), *own))
        assert found.startswith("### ⚠️ Complexity budgets: 1 test measured, 3 failed for another reason\n")
        assert "3 tests failed for a reason other than their budget." in found


class TestCauses:
    def test_one_line_for_all_tests(self):
        found = text(report(*(a_test(GREW, nodeid=f"a.py::t[{place}]") for place in range(11))))
        assert found.count("accept all of them") == 1
        assert (
            "- **`Conv2d 3→10 → 3→20 in stem: 11 tests, flops +50.0%, params +100.0%`**; accept all of them: "
            "`pytest --flops-budget-update a.py`\n"
        ) in found

    def test_shown_in_full_once(self):
        found = page(*(a_test(GREW, nodeid=f"a.py::t[{place}]") for place in range(3)))
        assert [behind.count("\n") for behind in found.behind[1:]] == [2, 2]
        assert found.behind[1].splitlines()[1] == "  the change that a.py::t[0] shows: Conv2d 3→10 → 3→20"

    def test_none_of_a_single_test(self):
        assert "accept all of them" not in text(report(a_test(GREW)))


class TestTable:
    def test_rows(self):
        """Failing measurements come first, then changed ones. Measurements that need no look have another table."""
        found = page(
            a_test(measurement(complexity(), complexity()), line=1, nodeid="a.py::ok"),
            a_test(
                measurement(complexity(), complexity(), budget("here", {"flops": 4000})), line=2, nodeid="a.py::half"
            ),
            a_test(measurement(complexity(1000), complexity()), line=3, nodeid="a.py::better"),
            a_test(measurement(), line=4, nodeid="a.py::new"),
            a_test(over(), over(name="b"), line=5, nodeid="a.py::over"),
        )
        assert found.rows == [
            HEADS,
            ["❌", "a.py::over model", "3 kFLOPs", "+50.0%", "300.0%", "20", "over limit"],
            ["❌", "a.py::over b", "3 kFLOPs", "+50.0%", "300.0%", "20", "over limit"],
            ["⬇️", "a.py::better", "1 kFLOPs", "-50.0%", "", "20", "improved"],
            ["🆕", "a.py::new", "2 kFLOPs", "", "", "20", "new"],
            # These rows are shown after a click.
            HEADS,
            ["✅", "a.py::ok", "2 kFLOPs", "=", "", "20", "ok"],
            ["✅", "a.py::half", "2 kFLOPs", "=", "50.0%", "20", "ok"],
        ]

    def test_macs(self):
        found = page(a_test(measurement()), run=replace(RUN, show="macs"))
        assert [row[2] for row in found.rows] == ["MACs", "1 kMACs"]


class TestDetails:
    def test_why_a_test_fails(self):
        """The text of a failure is below the name of its test."""
        found = page(a_test(over()))
        assert found.titles == ["tests/test_net.py::test_a"]
        lines = found.behind[0].splitlines()
        assert lines[0] == "flops +200.0% over its limit by stem in test_a"
        assert "    stem: Conv2d, +1 kFLOPs" in lines
        assert (
            lines[-1] == "to accept, once the limits allow it: pytest --flops-budget-update tests/test_net.py::test_a"
        )

    def test_what_changed_without_failing(self):
        lines = page(a_test(measurement(complexity(1000), complexity()))).behind[0].splitlines()
        assert lines[0] == "flops: 2 kFLOPs → 1 kFLOPs, -1 kFLOPs (-50.0%)"
        assert "    aten.convolution: -1 kFLOPs" in lines

    def test_nothing_to_say(self):
        assert page(a_test(measurement(complexity(), complexity()))).titles == ["1 measurement as in the baseline"]

    @pytest.mark.parametrize(("reaction", "told"), [("warn", 2), ("ignore", 0)])
    def test_unknown_operators(self, reaction, told):
        """The page lists unknown operators if the setting is "warn", but not if it is "ignore"."""
        unknown = {"mine.op": UnknownOperator(calls=2, modules=("stem",))}
        one = measurement(complexity(unknown_operators=unknown), complexity())
        found = page(a_test(one), run=replace(RUN, unknown_operators=reaction))
        assert len(found.titles) == told
        if told:
            assert "    mine.op: 2 calls in stem" in found.behind[0]
            assert '@flops_formula("mine::op")' in found.behind[1]

    def test_no_longer_measured(self):
        found = page(a_test(vanished=("student",)))
        assert found.behind == ["in the baseline, but no longer measured: student\n"]

    def test_a_test_that_failed_by_itself(self):
        found = page(a_test(measurement(complexity(), complexity()), own_failure=True, outcome="failed"))
        assert found.behind == [
            "the test failed for another reason than its budget, so its numbers may be incomplete\n"
        ]


class TestAdvice:
    def test_commands(self):
        found = text(
            report(a_test(measurement(complexity(1000), complexity())), a_test(measurement(), nodeid="b.py::b"))
        )
        assert "1 measurement improved; tighten the baseline: `pytest --flops-budget-update" in found
        assert "1 measurement without a baseline; write it: `pytest --flops-budget-update" in found

    def test_none_for_what_was_accepted(self):
        found = text(report(a_test(measurement(complexity(1000), complexity(), accepts=True))))
        assert "pytest" not in found

    def test_none_where_the_pyproject_keeps_quiet(self):
        found = text(report(a_test(measurement()), run=replace(RUN, missing_baseline="ignore")))
        assert "pytest" not in found


#: Texts that Markdown or HTML could read as markup.
HOSTILE = [
    "a|b", "a`b", "``", "`a", "a\\", "a\\|b", "<img src=x onerror=alert(1)>", "</code>", "&amp;", "*a*", "_a_ __b__",
    "[a](b)", "![a](b)", "</summary></details>", "```", "~~~", "# a", "@team", "a\nb", "a\r\n\r\n| b |", "\u202eabc",
    "a\u2028b", "", " a ",
    "$a$", "<!--", "]]>", "|", "\\`", "http://example.invalid", "\ud800", "~a~",
]  # fmt: skip

WRITTEN = {"h3", "p", "table", "thead", "tbody", "tr", "th", "td", "code", "strong", "details", "summary", "pre"}


class TestSafety:
    @given(st.text(max_size=30) | st.text("|`\\<>&*_[]()!#~\n -=$\"'", max_size=12))
    @settings(max_examples=150)
    @pytest.mark.filterwarnings("error")
    def test_ids_are_shown_as_they_are(self, name):
        """Any text in an id is shown unchanged, and creates no tag and no cell."""
        self.check(name)

    @pytest.mark.parametrize("name", HOSTILE)
    def test_signs_of_markdown(self, name):
        self.check(name)

    def check(self, name):
        nodeid = f"a.py::t[{name}]"
        found = page(a_test(over(name=f"n{name}"), nodeid=nodeid))
        assert found.known <= WRITTEN
        assert len(found.rows) == 2
        assert len(found.rows[1]) == 7
        shown = "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in f"{nodeid} n{name}")
        shown = shown.replace("##[", r"\x23#[")  # the beginning of a command in the logs of Azure Pipelines
        assert found.rows[1][1] == shown
        assert found.titles == [shown]

    @pytest.mark.parametrize("name", HOSTILE)
    def test_what_is_behind(self, name):
        """If the source of a limit contains Markdown, the details show the Markdown as plain text."""
        broken = measurement(complexity(), complexity(1000), budget(f"marker {name}", {"flops": 1}))
        found = page(a_test(broken))
        assert found.known <= WRITTEN
        assert len(found.behind) == 1
        visible = "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in name)
        if "\n" not in name:
            assert f"limit set by marker {visible}" in found.behind[0]


class TestSize:
    @pytest.mark.parametrize(("maximum", "limit"), [(COMMENT, COMMENT_CHARACTERS), (STEP_SUMMARY, SUMMARY_BYTES)])
    def test_thousands_of_tests(self, maximum, limit):
        many = [
            a_test(measurement(complexity(1000), complexity()), nodeid=f"a.py::{'x' * 150}[{i}]") for i in range(2999)
        ]
        made = text(report(*many, a_test(over(), nodeid="z.py::test")), maximum)
        assert len(made) <= len(made.encode()) <= maximum <= limit
        assert len(made.encode()) > maximum * 0.7
        found = Page(made)
        assert found.rows[1][1] == "z.py::test"
        assert found.titles[0] == "z.py::test"
        rest = 3000 - (len(found.rows) - 1)
        assert f"… and {rest:,} more measurements, left out to keep to GitHub's size: {rest:,} improved." in made
        assert f"… and the details of {3000 - len(found.titles):,} more, left out" in made

    @given(reports, st.integers(-5, 5000))
    @settings(max_examples=30)
    @example(report(a_test(over(), nodeid="a.py::" + "x" * 70_000)), 3000)
    @example(report(a_test(over(name="é" * 70_000))), 65_000)
    def test_any(self, given_report, maximum):
        made = text(given_report, maximum)
        assert len(made.encode("utf-8", "backslashreplace")) <= max(maximum, 0)
        assert Page(made).known <= WRITTEN | {"ul", "li"}  # the list of causes

    def test_the_end_of_a_long_id_is_kept(self):
        nodeid = f"tests/{'deep/' * 100}test_net.py::test[end]"
        (row,) = page(a_test(measurement(), nodeid=nodeid)).rows[1:]
        assert row[1].startswith("…")
        assert row[1].endswith("test_net.py::test[end]")


def test_titles_are_html():
    made = text(report(a_test(over(), nodeid="a.py::t[<b>]")))
    assert f"<summary><code>{html.escape('a.py::t[<b>]')}</code></summary>" in made
    assert re.search(r"^<details>", made, re.MULTILINE)


class TestBeyondWork:
    def test_details(self):
        one = replace(estimated(), memory_at_peak=peaking().memory_at_peak)
        found = page(a_test(measurement(one, one)))
        (behind,) = found.behind
        assert behind.splitlines() == [
            "peak 100 B in stem (aten.convolution): 100 B activations",
            "A100: at least 1.4 us (estimate), compute-bound (compute 900 ns, memory 300 ns, launches 200 ns)",
        ]

    def test_memory_alone_is_no_news(self):
        assert page(a_test(measurement(peaking(), peaking()))).behind == []

    def test_a_time_shown_first(self):
        """The head of the table says that a time is an estimate."""
        run = replace(RUN, show="time[A100]")
        found = text(report(a_test(measurement(estimated(), estimated())), run=run))
        assert "| est. time A100 | change |" in found
        assert "| ≥1.4 us | = |" in found
        assert "; 2.5 kFLOPs counted." in found

    def test_growth(self):
        found = page(a_test(measurement(estimated(memory=500), estimated(), hold=COMPARED)))
        assert "time[A100]: at least 1.4 us → 1.6 us, +200 ns (+14.3%) (estimate)" in found.behind[0]
        assert "what changed in time[A100], by module:" in found.behind[0]

    def test_told_once(self):
        """The line about the time on a device occurs once in the details."""
        found = page(a_test(measurement(estimated(memory=500), estimated(), hold=COMPARED)))
        assert found.behind[0].count("A100: at least 1.6 us (estimate)") == 1

    def test_a_latency_that_is_not_judged(self):
        (found,) = page(a_test(measurement(timed(1000, 140), timed(1000), hold=COMPARED))).behind
        assert found.startswith("latency not judged: its spread, 14.0%")
