"""The texts of CSV, GitLab's metrics, JUnit properties and GitHub's annotations."""

from __future__ import annotations

import csv
import io
import re
import shlex
from fractions import Fraction

import pytest
from budgets import budget
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from reporting import RUN, a_test, complexity, measurement, over, report, reports
from timed import estimated, net, timed

from pytest_flopsbudget.reports.ci import csv as csv_report
from pytest_flopsbudget.reports.ci import gitlab
from pytest_flopsbudget.reports.ci.github import commands
from pytest_flopsbudget.reports.ci.junit import properties
from pytest_flopsbudget.results.data import UnknownOperator


class TestCsv:
    def rows(self, *tests):
        return list(csv.DictReader(io.StringIO(csv_report.text(report(*tests)))))

    def test_row(self):
        """A row has the value, the baseline's value and the limit of each metric, as whole numbers."""
        one = measurement(complexity(3001, 20), complexity(2000, 20), budget("here", {"macs": 1000}))
        (row,) = self.rows(a_test(one, nodeid='a.py::t[x, "y"]', line=7))
        expected = {
            "nodeid": 'a.py::t[x, "y"]',
            "name": "model",
            "file": "a.py",
            "line": "7",
            "test_outcome": "failed",
            "verdict": "over limit",
            "fails": "true",
            "inputs": "float32[1]",
            "flops": "3001",
            "flops_baseline": "2000",
            "flops_limit": "",
            # Half of 3001, rounded down.
            "macs": "1500",
            "macs_baseline": "1000",
            "macs_limit": "1000",
            "params": "20",
            "params_baseline": "20",
            "buffer_bytes": "",
            "total_flops": "",
        }
        assert {key: row[key] for key in expected} == expected

    def test_new(self):
        """Without a baseline, the columns of the baseline are empty."""
        (row,) = self.rows(a_test(measurement()))
        assert (row["verdict"], row["flops"], row["flops_baseline"]) == ("new", "2000", "")

    def test_a_metric_of_few_models(self):
        """Only if a model has experts, there are columns for its active parameters."""
        experts = complexity().metrics | {"active_params": 9}
        with_experts = a_test(measurement(replace(complexity(), metrics=experts)))
        first, second = self.rows(a_test(measurement()), with_experts)
        assert (first["active_params"], second["active_params"], second["active_params_baseline"]) == ("", "9", "")
        assert not {"active_params", "non_embedding_params"} & {*columns_of_every_report()}

    def test_nothing_measured(self):
        assert csv_report.text(report()).count("\n") == 1
        assert columns_of_every_report()[:2] == ["nodeid", "name"]

    @pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)"])
    def test_no_formulas(self, name):
        (row,) = self.rows(a_test(measurement(name=name)))
        assert row["name"] == f"'{name}"

    @pytest.mark.parametrize("sign", ["\n", "\r", "\r\n", "\u2028", "\x00"])
    def test_a_row_is_a_line(self, sign):
        text = csv_report.text(report(a_test(measurement(name=f"a{sign}b"))))
        assert len(text.splitlines()) == 2
        assert ascii(f"a{sign}b")[1:-1] in text

    def test_digits_beyond_floats(self):
        (row,) = self.rows(a_test(measurement(complexity(2**70))))
        assert row["flops"] == "1180591620717411303424"

    @given(reports)
    @settings(max_examples=20)
    def test_any(self, given_report):
        rows = list(csv.reader(io.StringIO(csv_report.text(given_report), newline="")))
        assert len(rows) == 1 + sum(len(test.measurements) for test in given_report.tests)
        assert {len(row) for row in rows} == {len(rows[0])}
        assert rows[0][: len(columns_of_every_report())] == columns_of_every_report()


def columns_of_every_report():
    return csv_report.text(report()).removesuffix("\n").split(",")


def read_as_gitlab(text):
    """Parse the text as GitLab does (``Gitlab::Ci::Parsers::Metrics::Generic``)."""
    words = (shlex.split(re.sub("#.*$", "", line)) for line in text.split("\n"))
    return {name: values[0] for name, *values in filter(None, words)}


class TestGitlab:
    def test_lines(self):
        """The values of a metric are on consecutive lines, as the format requires."""
        made = gitlab.text(
            report(a_test(measurement()), a_test(measurement(complexity(5, 6), name="b"), nodeid="b.py::b"))
        )
        assert made.splitlines() == [
            "# TYPE flops_budget_flops gauge",
            "# HELP flops_budget_flops sums of products, 2 per multiply-accumulate",
            'flops_budget_flops{test="b.py::b",name="b"} 5',
            'flops_budget_flops{test="tests/test_net.py::test_a",name="model"} 2000',
            "# TYPE flops_budget_params gauge",
            "# HELP flops_budget_params distinct parameters",
            'flops_budget_params{test="b.py::b",name="b"} 6',
            'flops_budget_params{test="tests/test_net.py::test_a",name="model"} 20',
            "# EOF",
        ]

    def test_nothing_measured(self):
        assert gitlab.text(report()) == "# EOF\n"

    @pytest.mark.parametrize("name", ["a b", "a#b", 'a"b', "a\\b", "a\\", "a\nb", "a'b", "$a `b`", "{}", "a,b=c", "é"])
    def test_both_read_it(self, name):
        """For any name, GitLab's parser and a parser of the metrics format read the same values."""
        made = gitlab.text(report(a_test(measurement(name=name))))
        assert list(read_as_gitlab(made).values()) == ["2000", "20"]
        flops, params = text_string_to_metric_families(made)
        assert (flops.name, params.name) == ("flops_budget_flops", "flops_budget_params")
        (sample,) = flops.samples
        assert sample.value == 2000
        assert sample.labels == {"test": "tests/test_net.py::test_a", "name": name.replace("#", "%23")}

    @given(st.lists(st.text(max_size=8), min_size=2, max_size=2, unique=True))
    @settings(max_examples=100)
    def test_names_stay_apart(self, names):
        made = gitlab.text(report(a_test(*(measurement(name=name) for name in names))))
        list(text_string_to_metric_families(made))
        assert set(read_as_gitlab(made).values()) == {"2000", "20"}


class TestJunit:
    def test_pairs(self):
        one = measurement(complexity(3000), complexity(2000), budget("here", {"macs": 900}))
        assert list(properties([one])) == [
            ("flops_budget.flops", 3000),
            ("flops_budget.flops.baseline", 2000),
            ("flops_budget.macs.limit", 900),
            ("flops_budget.params", 20),
            ("flops_budget.verdict", "over limit"),
        ]

    def test_names(self):
        found = dict(properties([measurement(name="a"), measurement(name="\x00")]))
        assert found["flops_budget.a.flops"] == 2000
        assert found[r"flops_budget.\x00.flops"] == 2000


def unescaped(command):
    """Parse a command as GitHub's runner does. Return its level, properties and message."""
    level, _, rest = command.removeprefix("::").partition(" ")
    given, _, message = rest.partition("::")

    def plain(text):
        for code, sign in (("%2C", ","), ("%3A", ":"), ("%0A", "\n"), ("%0D", "\r"), ("%25", "%")):
            text = text.replace(code, sign)
        return text

    pairs = (pair.partition("=") for pair in given.split(","))
    return level, {key: plain(value) for key, _, value in pairs}, plain(message)


def of_input(size):
    """Build a failing measurement whose input had another size, so that no two sizes have one cause."""
    return measurement(complexity(3000, inputs=(f"float32[{size}]",)), complexity(inputs=("float32[99]",)))


class TestGithub:
    def test_error(self):
        """The annotation has the path of the test file in the repository and the message of the failure."""
        (command,) = commands(report(a_test(over(), line=7)), "packages/net")
        level, place, message = unescaped(command)
        assert level == "error"
        assert place == {
            "file": "packages/net/tests/test_net.py",
            "line": "7",
            "title": "flops budget: over limit",
        }
        assert message.splitlines()[:2] == [
            "tests/test_net.py::test_a",
            "flops +200.0% over its limit by stem in test_a",
        ]

    def test_a_root_beside_the_repository(self):
        """If the test file is outside of the root folder, the annotation has its path in the repository."""
        (command,) = commands(report(a_test(over(), file="../other/test_net.py")), "packages/net")
        assert unescaped(command)[1]["file"] == "packages/other/test_net.py"

    @pytest.mark.parametrize("sign", ["%", ",", ":", "::", "\n", "\r", "%0A", "é", "=", "::error::"])
    def test_escapes(self, sign):
        nodeid = f"a{sign}b.py::test"
        (command,) = commands(report(a_test(over(), nodeid=nodeid, file=f"a{sign}b.py")), ".")
        assert len(command.splitlines()) == 1
        level, place, message = unescaped(command)
        assert (level, place["file"]) == ("error", f"a{sign}b.py")
        assert message.startswith(nodeid)

    def test_warnings_and_notices(self):
        unknown = {"mine.op": UnknownOperator(calls=2, modules=("stem",))}
        tests = [
            a_test(measurement(complexity(unknown_operators=unknown), complexity()), nodeid="a.py::unknown", line=1),
            a_test(measurement(complexity(), complexity()), nodeid="a.py::gone", line=2, vanished=("b",)),
            a_test(measurement(), nodeid="a.py::new", line=3),
            a_test(measurement(complexity(1000), complexity()), nodeid="a.py::improved", line=4),
            a_test(measurement(complexity(), complexity()), nodeid="a.py::ok", line=5),
        ]
        found = [unescaped(command) for command in commands(report(*tests), ".")]
        assert [(level, place["title"], place["line"]) for level, place, _ in found] == [
            ("warning", "flops budget: unknown operators", "1"),
            ("warning", "flops budget: no longer measured", "2"),
            ("notice", "flops budget: no baseline", "3"),
            ("notice", "flops budget: improved", "4"),
        ]
        assert found[0][2].endswith("missing from the count: mine.op")

    def test_what_the_pyproject_keeps_quiet_about(self):
        unknown = {"mine.op": UnknownOperator(calls=2, modules=("stem",))}
        run = replace(RUN, missing_baseline="ignore", unknown_operators="ignore")
        assert commands(report(a_test(measurement(complexity(unknown_operators=unknown))), run=run), ".") == []

    def test_a_test_that_failed_by_itself_is_not_told(self):
        own = a_test(measurement(complexity(), complexity()), outcome="failed", own_failure=True)
        assert commands(report(own), ".") == []

    def test_more_than_github_shows(self):
        """If more than ten tests fail for different causes, the tenth annotation names all tests that are left."""
        many = [a_test(of_input(i), nodeid=f"a.py::test[{i}]") for i in range(12)]
        found = [unescaped(command) for command in commands(report(*many), ".")]
        assert len(found) == 10
        assert found[-1][1]["title"] == "flops budget: 3 more tests like these"
        assert found[-1][2].splitlines() == ["a.py::test[9]", "a.py::test[10]", "a.py::test[11]"]
        assert len(commands(report(*many[:10]), ".")) == 10

    def test_one_cause_has_one_annotation(self):
        """The annotation is at the first test, and says how many tests fail and how to accept all of them."""
        many = [a_test(over(), nodeid=f"a.py::test[{i}]", line=3 + i) for i in range(12)]
        (command,) = commands(report(*many), ".")
        _, place, message = unescaped(command)
        assert place["line"] == "3"
        assert message.splitlines()[-2:] == [
            "Conv2d with unchanged settings in stem: 12 tests, flops +50.0%",
            "to accept, once the limits allow it: pytest --flops-budget-update a.py",
        ]

    @given(reports)
    @settings(max_examples=20)
    def test_any(self, given_report):
        assert all(command.startswith("::") and "\n" not in command for command in commands(given_report, "."))


class TestBeyondWork:
    """Reports of metrics whose keys contain the name of a device or machine."""

    @property
    def test(self):
        new, old = estimated(memory=500), estimated()
        one_budget = budget("here", {"time[A100]": 1500, "time[T4]": 3, "arithmetic_intensity": Fraction(1, 2)})
        return a_test(measurement(new, old, one_budget), measurement(timed(1000, 900), timed(9), name="uneven"))

    def test_csv(self):
        """The CSV has columns for the devices and machines of the run."""
        rows = list(csv.DictReader(io.StringIO(csv_report.text(report(self.test)))))
        heads = [head for head in rows[0] if head not in columns_of_every_report()]
        assert list(rows[0])[: len(columns_of_every_report())] == columns_of_every_report()
        assert [head for head in heads if "_" not in head.partition("]")[2]] == [
            "compute_time[A100]",
            "memory_time[A100]",
            "launch_time[A100]",
            "time[A100]",
            "time[T4]",
            "latency[box]",
        ]
        first, second = rows
        # 900 + 500 + 200 ns; in the baseline, memory took 300 ns.
        assert (first["time[A100]"], first["time[A100]_baseline"], first["time[A100]_limit"]) == (
            "1600",
            "1400",
            "1500",
        )
        assert (first["memory_time[A100]"], first["memory_time[A100]_baseline"]) == ("500", "300")
        assert (first["time[T4]"], first["time[T4]_limit"]) == ("", "3")
        assert first["arithmetic_intensity_limit"] == "0.5"
        assert (second["latency[box]"], second["latency[box]_judged"]) == ("1000", "false")
        assert (first["latency[box]"], first["latency[box]_judged"]) == ("", "")

    def test_csv_of_a_ratio(self):
        one = net({"flops": 7, "other_flops": 0, "memory_traffic": 2, "params": 1})
        (row,) = csv.DictReader(io.StringIO(csv_report.text(report(a_test(measurement(one))))))
        assert row["arithmetic_intensity"] == "3.5"

    def test_gitlab(self):
        """A noisy latency is left out of GitLab's metrics, because its value changes in each run."""
        made = gitlab.text(report(self.test))
        families = {family.name: family for family in text_string_to_metric_families(made)}
        (sample,) = families["flops_budget_time"].samples
        assert (sample.value, sample.labels["device"]) == (1600, "A100")
        assert "estimate, and a lower bound" in families["flops_budget_time"].documentation
        assert "flops_budget_latency" not in families
        even = gitlab.text(report(a_test(measurement(timed(1000)))))
        assert 'flops_budget_latency{test="tests/test_net.py::test_a",name="model",machine="box"} 1000' in even

    def test_junit(self):
        first, second = self.test.measurements
        found = dict(properties([first]))
        assert found["flops_budget.time[A100]"] == 1600
        assert found["flops_budget.time[A100].baseline"] == 1400
        assert found["flops_budget.time[A100].limit"] == 1500
        assert found["flops_budget.arithmetic_intensity.limit"] == "0.5"
        assert dict(properties([second]))["flops_budget.uneven.latency[box].judged"] == "false"

    def test_github(self):
        uneven = a_test(measurement(timed(9, 9), timed(9), hold={"latency"}))
        found = [unescaped(command) for command in commands(report(uneven), ".")]
        ((level, place, message),) = found
        assert (level, place["title"]) == ("warning", "flops budget: latency not judged")
        assert "its spread, 100.0%, is wider" in message
