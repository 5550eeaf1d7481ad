"""Reports beyond the size that is read."""

from __future__ import annotations

import os
import threading

import pytest
from samples import linear, report, reported_test

from pytest_flopsbudget.errors import ReportError
from pytest_flopsbudget.storage import report_file


@pytest.fixture
def text():
    return report_file.dumps(report(reported_test("test_a.py::t", linear(5))))


@pytest.mark.parametrize("beyond", [0, 1, 100])
def test_the_largest_size(tmp_path, monkeypatch, text, beyond):
    """A report of exactly the largest size is read, and one of a byte more is refused."""
    path = tmp_path / "report.json"
    path.write_text(text, encoding="utf-8")
    monkeypatch.setattr(report_file, "MAX_BYTES", len(text.encode()) - beyond)
    if not beyond:
        assert len(report_file.load(path).tests) == 1
        return
    with pytest.raises(ReportError, match=r"report\.json: is larger than 0 MiB"):
        report_file.load(path)


def test_a_pipe(tmp_path, monkeypatch, text):
    """A pipe has no size."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    monkeypatch.setattr(report_file, "MAX_BYTES", 9)
    writer = threading.Thread(target=lambda: pipe.write_bytes(text[:50].encode()))
    writer.start()
    with pytest.raises(ReportError, match="is larger than"):
        report_file.load(pipe)
    writer.join()
