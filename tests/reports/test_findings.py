"""Failing tests as SARIF and as GitLab's code quality report."""

from __future__ import annotations

import json

from hypothesis import given, settings
from msgspec.structs import replace
from reporting import RUN, a_test, measurement, over, report, reports

from pytest_flopsbudget.reports.ci import findings


def two():
    """Return a run in a folder of its repository: one test is over its limit, and one passes."""
    failing = a_test(over(), nodeid="test_net.py::test_a", line=7)
    return report(failing, a_test(measurement(), nodeid="b.py::ok"), run=replace(RUN, root="models"))


def test_sarif():
    (run,) = json.loads(findings.sarif(two()))["runs"]
    (found,) = run["results"]
    assert found["ruleId"] == "over-limit"
    assert found["ruleId"] in {rule["id"] for rule in run["tool"]["driver"]["rules"]}
    assert found["locations"][0]["physicalLocation"] == {
        "artifactLocation": {"uri": "models/test_net.py"},
        "region": {"startLine": 7},
    }
    assert "flops" in found["message"]["text"]


def test_code_quality():
    (found,) = json.loads(findings.code_quality(two()))
    assert found["location"] == {"path": "models/test_net.py", "lines": {"begin": 7}}
    assert "\n" not in found["description"]
    assert found.keys() == {"description", "check_name", "fingerprint", "severity", "location"}


def test_fingerprints():
    """The fingerprint of a test does not depend on its numbers or on its line."""
    more = report(a_test(over(limit=1500), nodeid="test_net.py::test_a", line=9), run=replace(RUN, root="models"))
    first, second = (json.loads(findings.code_quality(one))[0]["fingerprint"] for one in (two(), more))
    assert first == second


@given(reports)
@settings(max_examples=30)
def test_any(one):
    failing = sum(test.fails for test in one.tests)
    assert len(json.loads(findings.sarif(one))["runs"][0]["results"]) == failing
    assert len(json.loads(findings.code_quality(one))) == failing
