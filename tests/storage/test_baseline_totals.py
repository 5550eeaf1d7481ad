from pathlib import Path

import pytest
from msgspec.structs import replace
from samples import linear, write_baseline
from timed import estimated, timed

from pytest_flopsbudget.errors import BaselineError
from pytest_flopsbudget.storage.baseline import load
from pytest_flopsbudget.storage.baseline_totals import Totals, read_totals

TESTS = {
    "t": {"model": linear(4), "large": replace(linear(9), backward=True)},
    "TestU::u[a, b]": {"model": replace(linear(5), inputs=())},
}


@pytest.fixture
def data(tmp_path):
    return write_baseline(tmp_path / "test_a.py", TESTS).read_bytes()


def test_the_totals_of_each_measurement(data):
    # 2·2·4² FLOPs, and 4² + 4 parameters of 4 bytes each.
    metrics = {"flops": 64, "params": 20, "trainable_params": 20, "param_bytes": 80}
    found = read_totals(data, Path("x"))
    assert found["t"]["model"] == Totals("Net", ("float32[2, 4]",), metrics)
    assert found["t"]["large"].backward
    assert found["TestU::u[a, b]"]["model"].inputs == ()


@pytest.mark.parametrize(
    "change",
    [lambda data: data, lambda data: data.replace(b"\n", b"\r\n"), lambda data: b"\xef\xbb\xbf" + data],
    ids=["as written", "line ends turned", "byte order mark"],
)
def test_what_the_strict_reader_reads_it_reads_alike(data, tmp_path, change):
    path = tmp_path / "changed.json"
    path.write_bytes(change(data))
    strictly = load(path).tests
    found = read_totals(path.read_bytes(), path)
    assert found.keys() == strictly.keys()
    for test_id, entries in strictly.items():
        for name, entry in entries.items():
            own = found[test_id][name]
            assert (own.model, own.inputs, own.metrics) == (entry.model, entry.inputs, entry.metrics)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"flops": 64', b'"flops": 64.5'),
        (b'{"metrics"', b'{"metric"'),
        (b'"format": 2', b'"format": 1'),
        (b'"format": 2', b'"format": 3'),
        (b"lines", b"<<<<<<< HEAD\nlines"),
        (b"float32", b"\xff"),
    ],
)
def test_what_is_at_fault_is_refused_as_ever(data, old, new):
    with pytest.raises(BaselineError, match=r"^rev:path(, line \d+)?: "):
        read_totals(data.replace(old, new, 1), Path("rev:path"))


def test_two_lines_that_contradict_each_other_are_refused(data):
    line = next(line for line in data.split(b"\n") if line.startswith(b'{"metrics"'))
    other = line.replace(b'"flops": ', b'"flops": 1')
    with pytest.raises(BaselineError, match="another line says otherwise"):
        read_totals(data.replace(line, line + b"\n" + other), Path("x"))


def test_a_measurement_without_its_metrics_is_refused(data):
    line = next(line for line in data.split(b"\n") if line.startswith(b'{"metrics"'))
    with pytest.raises(BaselineError, match="metrics is missing"):
        read_totals(data.replace(line + b"\n", b""), Path("x"))


def test_values_of_devices_and_machines(tmp_path):
    path = write_baseline(tmp_path / "test_a.py", {"t": timed(7, complexity=estimated())})
    (found,) = read_totals(path.read_bytes(), path)["t"].values()
    assert found.metrics == load(path).tests["t"]["model"].metrics
    assert (found.value("time[A100]"), found.value("latency[box]")) == (1400, 7)
    # The identity has no times and latencies, so that these do not hide a rename.
    assert found.identity == Totals("Net", ("float32[1]",), {"flops": 2500, "params": 15}).identity
