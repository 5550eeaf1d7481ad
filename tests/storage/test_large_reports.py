"""Reports and baselines that are too large to be read."""

from __future__ import annotations

import os
import threading

import pytest
from samples import linear, report, reported_test, write_baseline

from pytest_flopsbudget.errors import BaselineError, ReportError
from pytest_flopsbudget.storage import report_file
from pytest_flopsbudget.storage.baseline import load


@pytest.fixture
def text():
    return report_file.dumps(report(reported_test("test_a.py::t", linear(5))))


@pytest.mark.parametrize("beyond", [0, 1, 100])
def test_the_largest_size(tmp_path, monkeypatch, text, beyond):
    path = tmp_path / "report.json"
    path.write_text(text, encoding="utf-8")
    monkeypatch.setattr(report_file, "MAX_BYTES", len(text.encode()) - beyond)
    if not beyond:
        assert len(report_file.load(path).tests) == 1
        return
    with pytest.raises(ReportError, match=r"report\.json: is larger than 0 MiB"):
        report_file.load(path)


def test_a_pipe(tmp_path, monkeypatch, text):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    monkeypatch.setattr(report_file, "MAX_BYTES", 9)
    writer = threading.Thread(target=lambda: pipe.write_bytes(text[:50].encode()))
    writer.start()
    with pytest.raises(ReportError, match="is larger than"):
        report_file.load(pipe)
    writer.join()


@pytest.mark.parametrize("digits", [101, 309, 400, 4300])
def test_an_amount_in_a_baseline(tmp_path, digits):
    """If a baseline or a report has an absurdly large number, the message has the line."""
    path = write_baseline(tmp_path / "test_a.py", {"t": linear(5)})
    lines = path.read_text(encoding="utf-8").replace('"flops": 100', f'"flops": 1{"0" * (digits - 1)}')
    assert "0" * 99 in lines
    number = next(n for n, line in enumerate(lines.splitlines(), start=1) if "0" * 99 in line)
    path.write_text(lines, encoding="utf-8")
    with pytest.raises(BaselineError, match=rf"line {number}: .*10000000000000000000\.\.\. is no amount"):
        load(path)
    report_path = tmp_path / "report.json"
    written = report_file.dumps(report(reported_test("test_a.py::t", linear(5))))
    report_path.write_text(written.replace('"flops": 100', f'"flops": 1{"0" * (digits - 1)}'), encoding="utf-8")
    with pytest.raises(ReportError, match=r"line \d\d+: 10000000000000000000\.\.\. is no amount"):
        report_file.load(report_path)
