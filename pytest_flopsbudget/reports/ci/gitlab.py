"""The report for GitLab's merge requests: metrics in the OpenMetrics text format.

GitLab shows which metrics of a merge request differ from those of its target branch. GitLab splits a line like a
shell: the name of a metric with its labels, then its value. GitLab ignores everything from a ``#`` on. GitLab's parser
is ``Gitlab::Ci::Parsers::Metrics::Generic``; the specification is
https://prometheus.io/docs/specs/om/open_metrics_spec/.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pytest_flopsbudget.quantities.metrics import devices_in, key_for, metric_of, name_in, sort_metrics, value_of
from pytest_flopsbudget.safe_text import visible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_flopsbudget.results.report import Report
    from pytest_flopsbudget.results.verdict import Verdict


_PREFIX = "flops_budget_"

#: Characters that the format escapes, and "#": GitLab ignores the part of a line after "#". They are escaped as in a
#: URL.
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n", "\r": r"\n", "#": "%23"})


def text(report: Report) -> str:
    """Return the report as OpenMetrics text. Each metric has one line for each measurement with this metric."""
    return "".join(f"{line}\n" for line in (*_lines(report), "# EOF"))


def _lines(report: Report) -> Iterator[str]:
    # A latency that is too noisy to be judged would differ in every merge request.
    measured = [(test.nodeid, one.name, _judged(one)) for test in report.tests for one in test.measurements]
    keys = {key for *_, metrics in measured for key in metrics}
    keys |= {key_for("time", device) for device in devices_in(keys)}
    head = ""
    for key in sort_metrics(keys):
        row = metric_of(key)
        rows = [(nodeid, name, value_of(metrics, key)) for nodeid, name, metrics in measured]
        if row.key != head:
            head = row.key
            yield f"# TYPE {_PREFIX}{head} gauge"
            yield f"# HELP {_PREFIX}{head} {row.meaning}"
        place = f',{row.per}="{_escaped(name_in(key) or "")}"' if row.per else ""
        for nodeid, name, value in rows:
            if value is not None:
                yield f'{_PREFIX}{head}{{test="{_escaped(nodeid)}",name="{_escaped(name)}"{place}}} {value}'


def _judged(measurement: Verdict) -> dict[str, int]:
    uneven = {one.metric for one in measurement.unjudged}
    return {key: value for key, value in measurement.complexity.metrics.items() if key not in uneven}


def _escaped(label: str) -> str:
    # Line breaks are kept, because the format has escapes for them.
    return "\n".join(map(visible, re.split(r"\r\n|\r|\n", label))).translate(_ESCAPES)
