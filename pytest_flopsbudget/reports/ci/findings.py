"""Failing tests in two formats of CI systems: SARIF 2.1.0, and GitLab's code quality report."""

from __future__ import annotations

import hashlib
import json
import posixpath
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_flopsbudget.reports.broken_limits import total_lines
from pytest_flopsbudget.reports.failure import explain
from pytest_flopsbudget.safe_text import visible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_flopsbudget.results.report import Report
    from pytest_flopsbudget.results.verdict import Outcome

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
#: Outcome of a failing measurement → (rule, description of the rule).
_RULES: dict[Outcome, tuple[str, str]] = {
    "over limit": ("over-limit", "A model is over a limit of its budget."),
    "under limit": ("under-limit", "A model is under a limit of its budget."),
    "unchecked limit": ("unchecked-limit", "A limit of a model's budget cannot be checked."),
    "regressed": ("regressed", "A metric of a model grew beyond its tolerance of the baseline."),
    "unknown operators": ("unknown-operators", "A model runs operators without a formula."),
    "new": ("no-baseline", "A model has no baseline."),
    "improved": ("baseline-to-follow", "A model is cheaper than its baseline, which has to follow."),
    "changed": ("baseline-to-follow", "A model is cheaper than its baseline, which has to follow."),
}


class _Finding(NamedTuple):
    """A failing test."""

    rule: str
    nodeid: str
    message: str
    #: The path of the test's file from the top of the repository, and the test's line.
    file: str
    line: int

    @property
    def fingerprint(self) -> str:
        """A text that stays the same as long as the test fails for the same kind of reason."""
        return hashlib.sha256(f"{self.rule} {self.nodeid}".encode("utf-8", "backslashreplace")).hexdigest()


def sarif(report: Report) -> str:
    """Return the failing tests as SARIF 2.1.0, which code scanning services and editors read."""
    found = [*_findings(report)]
    described = {**dict(_RULES.values()), "broken-total": "A run breaks a limit on its total."}
    rules = {rule: {"id": rule, "shortDescription": {"text": text}} for rule, text in described.items()}
    results = [
        {
            "ruleId": one.rule,
            "level": "error",
            "message": {"text": one.message},
            "locations": [
                {
                    "physicalLocation": {
                        "artifactLocation": {"uri": one.file},
                        "region": {"startLine": one.line},
                    }
                }
            ],
            "partialFingerprints": {"test/v1": one.fingerprint},
        }
        for one in found
    ]
    driver = {"name": "pytest-flopsbudget", "version": report.run.plugin, "rules": [*rules.values()]}
    return _json({"$schema": _SCHEMA, "version": "2.1.0", "runs": [{"tool": {"driver": driver}, "results": results}]})


def code_quality(report: Report) -> str:
    """Return the failing tests as GitLab's code quality report, which merge requests show in every tier."""
    return _json(
        [
            {
                "description": one.message.partition("\n")[0],
                "check_name": one.rule,
                "fingerprint": one.fingerprint,
                "severity": "major",
                "location": {"path": one.file, "lines": {"begin": one.line}},
            }
            for one in _findings(report)
        ]
    )


def _findings(report: Report) -> Iterator[_Finding]:
    for line in total_lines(report.total.broken):
        file = posixpath.normpath(posixpath.join(report.run.root, "pyproject.toml"))
        yield _Finding(rule="broken-total", nodeid="total", message=line, file=file, line=1)
    for test in report.tests:
        failing = [one for one in test.measurements if one.fails]
        if failing:
            yield _Finding(
                rule=_RULES.get(failing[0].outcome, ("over-budget", ""))[0],
                nodeid=visible(test.nodeid),
                message=explain(test.nodeid, test.measurements, own_failure=test.own_failure),
                file=visible(posixpath.normpath(posixpath.join(report.run.root, test.file))),
                line=max(1, test.line),
            )


def _json(data: Any) -> str:
    return json.dumps(data, indent=2) + "\n"
