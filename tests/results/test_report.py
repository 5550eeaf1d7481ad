"""Reading and writing the file of a report."""

from __future__ import annotations

import json
import re
import sys
from fractions import Fraction
from pathlib import Path

import jsonschema
import msgspec
import pytest
from budgets import budget
from build import laws
from hypothesis import example, given, settings
from hypothesis import strategies as st
from long_runs import examples
from msgspec.structs import replace
from paths import DOCS
from reporting import RUN, a_test, complexity, measurement, over, report, reports
from timed import estimated, peaking, timed

from pytest_flopsbudget.errors import ReportError
from pytest_flopsbudget.reports.ci import csv, github, gitlab
from pytest_flopsbudget.reports.markdown import run
from pytest_flopsbudget.results.data import Module
from pytest_flopsbudget.results.report import ordered
from pytest_flopsbudget.storage.report_file import dumps, load, loads, save

sys.path.append(str(DOCS))

import report_schema

PATH = Path("report.json")
SCHEMA = jsonschema.Draft202012Validator(json.loads(report_schema.PATH.read_text(encoding="utf-8")))
MANY = examples(200, of_many=10_000)

#: A measurement with metrics other than work, and with all kinds of limits on them.
BEYOND = measurement(
    timed(1000, 900, complexity=replace(estimated(memory=500), memory_at_peak=peaking().memory_at_peak)),
    estimated(),
    budget("here", {"time[A100]": 1, "average_parallelism": 5, "latency": 1, "flops": 1}),
    name="beyond",
)
#: A report in which each field has a value.
FULL = report(
    a_test(BEYOND, nodeid="tests/test_net.py::test_c"),
    a_test(over(), measurement(complexity(), name="second"), vanished=("third",)),
    a_test(measurement(complexity(1000), complexity()), nodeid="tests/test_net.py::test_b", own_failure=True),
)


class TestFile:
    @given(reports)
    @settings(max_examples=MANY // 6)
    def test_round_trip(self, given_report):
        text = dumps(given_report)
        read = loads(text, PATH)
        assert read == given_report
        assert dumps(read) == text

    @given(reports)
    @settings(max_examples=MANY // 12)
    def test_schema(self, given_report):
        SCHEMA.validate(json.loads(dumps(given_report)))

    def test_a_module_a_line(self):
        metrics = {"flops": 500, "params": 5}
        layers = {f"layers.{i}": Module(type="Linear", calls=1, metrics=metrics) for i in range(4)}
        text = dumps(report(a_test(measurement(complexity(modules=layers)))))
        (line,) = [line for line in text.splitlines() if "Linear" in line]
        assert line.strip().startswith('"layers.{0-3}": {')

    def test_a_ratio_is_exact(self):
        one = complexity()
        one = replace(one, metrics=one.metrics | {"other_flops": 0, "memory_traffic": 6000})
        text = dumps(report(a_test(measurement(one, None, budget("here", {"arithmetic_intensity": Fraction(2, 3)})))))
        assert '"measured": {"numerator": 1, "denominator": 3}' in text
        assert '"minimum": {"numerator": 2, "denominator": 3}' in text

    def test_what_names_no_metric(self):
        """If a time has no device, the error names the line."""
        text = dumps(report(a_test(measurement(estimated()))))
        for old, new in (('"compute_time[A100]"', '"compute_time"'), ('"flops"', '"flops[A100]"')):
            with pytest.raises(ReportError, match=r"line .*no such metric"):
                loads(text.replace(old, new, 1), PATH)
        with pytest.raises(ReportError, match=r"show.*no such metric"):
            loads(text.replace('"show": "flops"', '"show": "time"', 1), PATH)

    def test_whole_numbers_of_any_size(self):
        text = dumps(report(a_test(measurement(complexity(2**70)))))
        assert '"flops": 1180591620717411303424' in text
        assert loads(text, PATH).tests[0].measurements[0].complexity.flops == 2**70

    def test_what_cannot_be_seen_is_written_as_its_number(self):
        text = dumps(report(a_test(measurement(), nodeid="tests/test_net.py::test_a[\u202e\ud800]")))
        assert "\\u202e\\ud800" in text

    def test_order(self):
        """Tests are sorted by file, then by line."""
        tests = [
            a_test(nodeid="b.py::test"),
            a_test(nodeid="a.py::test[10]", line=5),
            a_test(nodeid="a.py::test[9]", line=5),
            a_test(nodeid="a.py::last", line=50),
        ]
        assert [test.nodeid for test in ordered(tests)] == [
            "a.py::test[9]",
            "a.py::test[10]",
            "a.py::last",
            "b.py::test",
        ]


class TestSchema:
    def test_up_to_date(self):
        """The schema in the repository is current. If this test fails, run `make report-schema`."""
        assert report_schema.PATH.read_text(encoding="utf-8") == report_schema.text()

    def test_a_schema(self):
        jsonschema.Draft202012Validator.check_schema(SCHEMA.schema)

    def test_every_field_is_explained(self):
        unexplained = {
            f"{name}.{field}"
            for name, definition in SCHEMA.schema["$defs"].items()
            for field, about in definition["properties"].items()
            if "description" not in about
        }
        assert {field.partition(".")[2] for field in unexplained} <= {
            "format", "run", "metric", "measured", "limit", "source", "old", "new", "type", "shape", "calls",
            "operator", "old_calls", "new_calls", "pattern", "maximum",
        }  # fmt: skip

    @pytest.mark.parametrize(
        "damage",
        [
            lambda data: data.pop("format"),
            lambda data: data["run"].update(extra=1),
            lambda data: data["tests"][0].update(line=-1),
            lambda data: data["tests"][0]["measurements"][0]["complexity"]["metrics"].update(flop=1),
            lambda data: data["tests"][0]["measurements"][0]["limits"].update(flop={"maximum": 1, "source": ""}),
            lambda data: data["tests"][0]["measurements"][0]["diffs"][0].update(metric="flop"),
            lambda data: data["tests"][0].update(outcome="skipped"),
        ],
    )
    def test_what_is_refused_by_the_schema_is_refused_here(self, damage):
        data = json.loads(dumps(FULL))
        damage(data)
        assert not SCHEMA.is_valid(data)
        with pytest.raises(ReportError):
            loads(json.dumps(data), PATH)


class TestFaults:
    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ('"outcome": "failed"', '"outcome": "fail"', "tests[0].outcome: Invalid enum value 'fail'; allowed: "),
            ('"line": 3', '"line": "3"', "tests[0].line: Expected `int`, got `str`"),
            ('"line": 3', '"line": 3.5', "tests[0].line: Expected `int`, got `float`"),
            ('"own_failure"', '"own_failur"', 'tests[0].own_failur: unknown key (did you mean "own_failure"?)'),
            ('"nodeid": "tests/test_net.py::test_a",', "", "tests[0]: Object missing required field `nodeid`"),
            ('"status": "regressed"', '"status": 1', "tests[0].measurements[0].comparison.status: Expected `str`"),
            (
                '"shape": "3->20, 3x3", "calls": 1, "outputs": [], "metrics": {"flops": 3000,',
                '"shape": "3->20, 3x3", "calls": 1, "outputs": [], "metrics": {"flops": -3000,',
                "tests[0].measurements[0].complexity.modules.stem.metrics.flops: Expected `int` >= 0",
            ),
            (
                '"shape": "3->20, 3x3", "calls": 1, "outputs": [], "metrics": {"flops": 3000,',
                '"shape": "3->20, 3x3", "calls": 1, "outputs": [], "metrics": {"flop": 3000,',
                "tests[0].measurements[0].complexity.modules.stem.metrics.flop: no such metric; there are flops, ",
            ),
            ('"inputs": ["float32[1]"]', '"inputs": [1]', "complexity.inputs[0]: Expected `str`, got `int`"),
            ('"stem": {', '"layers.{3-1}": {', "complexity.modules: "),
        ],
    )
    def test_place(self, old, new, message):
        """An error has the line of the fault and the path to it."""
        text = dumps(FULL)
        damaged = text.replace(old, new, 1)
        assert damaged != text
        with pytest.raises(ReportError) as error:
            loads(damaged, PATH)
        assert message in str(error.value)
        line = next(
            number
            for number, (before, after) in enumerate(zip(text.splitlines(), damaged.splitlines(), strict=True), start=1)
            if before != after
        )
        found = int(str(error.value).removeprefix("report.json, line ").partition(":")[0])
        # If a field is missing, or a whole object is wrong, the line is that of the object.
        nearest = {"missing required": 1, "complexity.modules: ": 2}
        assert line - found in {0, *(by for words, by in nearest.items() if words in message)}

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ('"n^2": 4', '"k^2": 4', "flops.pieces[0].terms[\"k^2\"]: character 1: unknown name 'k'; there are n."),
            ('"n^2": 4', '"n^2": 0', 'terms["n^2"]: a coefficient of 0; leave the term out.'),
            ('"flops": {"pieces"', '"flop": {"pieces"', "laws.totals.flop: no such metric; there are flops, "),
            ('"layers.{0-1}": {"flops": {"p', '"layers.{1-0}": {"flops": {"p', "'{1-0}' is no list of rising numbers"),
            ('"first": 1', '"first": 9', "laws.sizes: n: no range from 9 to 8 in steps of 1."),
            ('"counted": [[1], [8]]', '"counted": [[1], [8, 9]]', "laws.counted[1]: 2 sizes; the laws are of n."),
            ('"counts": [4, 256]', '"counts": [4]', "laws.totals.flops.counts: 1 counts at 2 counted sizes."),
        ],
    )  # fmt: skip
    def test_damaged_laws(self, old, new, message):
        found = laws({"n": range(1, 9)}, {"flops": {"n^2": 4}}, {"layers.{0-1}": {"flops": {"n^2": 2}}})
        counted = replace(found.metrics["flops"], counts=(4, 256))
        found = replace(found, metrics={"flops": counted}, counted=((1,), (8,)))
        text = dumps(report(a_test(measurement(complexity(laws=found)))))
        assert loads(text, PATH).tests[0].measurements[0].complexity.laws == found
        damaged = text.replace(old, new, 1)
        assert damaged != text
        with pytest.raises(ReportError, match=re.escape(message)):
            loads(damaged, PATH)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "report.json, line 1: no JSON from column 1 on"),
            ("[]", "report.json, line 1: no report, which is a JSON object"),
            ("{}", 'report.json, line 1: the key "format" is missing'),
            (
                '{\n"format": 2}',
                "report.json, line 2: format: written by a newer pytest-flopsbudget: it is 2, and this",
            ),
            ('{"format": 1,\n"format": 1}', "report.json, line 2: format: the key is there twice"),
            ('{"format": 1, "tests": {}}', "report.json, line 1: a baseline, and no report"),
            ("[" * 100_000, "report.json, line 1: no JSON"),
            ('{"format": %s}' % ("9" * 5000), "report.json, line 1: 99999999999999999999... is no amount"),
            ('{"format": 1, "run": %s}' % ("9" * 500), "report.json, line 1: 99999999999999999999... is no amount"),
            ('{"format": NaN}', "report.json, line 1: format: "),
        ],
    )
    def test_no_report(self, text, message):
        with pytest.raises(ReportError) as error:
            loads(text, PATH)
        assert str(error.value).startswith(message)
        assert "Upgrade" in str(error.value) or "Take it anew" in str(error.value)

    def test_not_utf8(self, tmp_path):
        path = tmp_path / "report.json"
        path.write_bytes(b'{\n"format": "\xff"}')
        with pytest.raises(ReportError, match=r"report\.json, line 2: not UTF-8"):
            load(path)

    @pytest.mark.parametrize("name", ["missing.json", "."])
    def test_no_file(self, tmp_path, name):
        with pytest.raises(ReportError, match=r"cannot be read: .*Name a report"):
            load(tmp_path / name)

    def test_windows_ends_of_lines_and_a_byte_order_mark(self, tmp_path):
        path = tmp_path / "report.json"
        path.write_bytes(b"\xef\xbb\xbf" + dumps(FULL).replace("\n", "\r\n").encode())
        assert load(path) == FULL


def _everywhere(value, place=()):
    """Yield the paths to all values in JSON data."""
    yield place
    if isinstance(value, (dict, list)):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from _everywhere(value[key], (*place, key))


PLACES = [place for place in _everywhere(json.loads(dumps(FULL))) if place]
BYTES = dumps(FULL).encode()


def read_and_show(text):
    """Read a report, and make each kind of report from it."""
    try:
        found = loads(text, PATH)
    except ReportError:
        return
    assert dumps(loads(dumps(found), PATH)) == dumps(found)
    for made in (csv.text, gitlab.text, run.text, lambda one: "".join(github.commands(one, "."))):
        made(found).encode("utf-8", "backslashreplace")


class TestFuzz:
    @given(st.sampled_from(PLACES), st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
           | st.just({}) | st.just([]) | st.just(10**99) | st.just([[]]) | st.just({"": {}}))  # fmt: skip
    @settings(max_examples=MANY)
    @example(("tests", 0, "measurements", 0, "complexity", "metrics", "flops"), 10**99)
    @example(("tests", 0, "measurements", 0, "complexity", "metrics"), {})
    @example(("tests", 0, "measurements", 0, "comparison", "changes"), [])
    def test_another_value_anywhere(self, place, value):
        data = json.loads(dumps(FULL))
        inner = data
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = value
        read_and_show(json.dumps(data))

    @given(st.integers(0, len(BYTES) - 1), st.integers(0, 255), st.booleans())
    @settings(max_examples=MANY)
    def test_another_byte_or_the_rest_missing(self, tmp_path_factory, offset, byte, cut):
        path = tmp_path_factory.getbasetemp() / "fuzzed.json"
        path.write_bytes(BYTES[:offset] if cut else BYTES[:offset] + bytes([byte]) + BYTES[offset + 1 :])
        try:
            found = load(path)
        except ReportError:
            return
        read_and_show(dumps(found))

    @given(st.binary(max_size=200))
    @settings(max_examples=MANY)
    def test_any_bytes(self, tmp_path_factory, data):
        path = tmp_path_factory.getbasetemp() / "fuzzed.json"
        path.write_bytes(data)
        with pytest.raises(ReportError):
            load(path)


def test_saved_is_loaded(tmp_path):
    path = tmp_path / "new" / "folder" / "report.json"
    save(FULL, path)
    assert load(path) == FULL


def test_run_facts_are_kept():
    run = msgspec.structs.replace(
        RUN, root="packages/vision", exit_status=1, stopped=True, update="new", written=("a",)
    )
    assert loads(dumps(report(run=run)), PATH).run == run
