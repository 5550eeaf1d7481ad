import errno
import json
import os
import stat
from pathlib import Path

import pytest
from build import complexity, small
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from timed import estimated, peaking, timed

from pytest_flopsbudget.errors import BaselineError, UsageError
from pytest_flopsbudget.identifiers import baseline_path, split_nodeid
from pytest_flopsbudget.quantities.metrics import STORED, key_for, metric_of
from pytest_flopsbudget.results.comparison import compare
from pytest_flopsbudget.results.complexity import Complexity
from pytest_flopsbudget.results.data import Module, Operator, Phase, UnknownOperator
from pytest_flopsbudget.storage.baseline import BaselineFile, dumps, load, save, update_entries

#: In EXAMPLE, "@" at the end of a line means this text.
TAIL = ', "test": "TestX::test_y[a]", "name": "model"},'

EXAMPLE = """\
{
"format": 2,
"lines": [

{"test": "TestX::test_y[a]", "name": "model"},
{"model": "Net", "execution": "shapes", "backward": false, "inputs": ["float32[1, 8]", "mask=int64[1, 8]"]@
{"metrics": {"flops": 384, "params": 136, "trainable_params": 64, "param_bytes": 544, "buffer_bytes": 0}@
{"module": "", "type": "Net", "calls": 1, "flops": 384, "params": 136, "trainable_params": 64, "param_bytes": 544@
{"module": "block.{0-1}", "type": "Linear", "shape": "8->8", "calls": 1, "flops": 128, "params": 64, "param_bytes": 64@
{"module": "scale", "type": "Scale", "calls": 0, "params": 8, "trainable_params": 0, "param_bytes": 32@
{"operator": "aten.mm", "calls": 3, "flops": 384@
{"unknown_operator": "mylib.op", "calls": 1, "modules": ["block.0"]@
{"end": true@

{}
]
}
""".replace("@", TAIL)


def metrics(flops=0, params=0, trainable=None, param_bytes=0):
    trainable = params if trainable is None else trainable
    return {
        "flops": flops,
        "params": params,
        "trainable_params": trainable,
        "param_bytes": param_bytes,
        "buffer_bytes": 0,
    }


def net():
    """Return the measurement that EXAMPLE contains."""
    linear = Module(type="Linear", shape="8->8", calls=1, metrics=metrics(128, 64, param_bytes=64))
    return Complexity(
        model="Net",
        inputs=("float32[1, 8]", "mask=int64[1, 8]"),
        execution="shapes",
        metrics=metrics(384, 136, 64, 544),
        modules={
            "": Module(type="Net", calls=1, metrics=metrics(384, 136, 64, 544)),
            "scale": Module(type="Scale", metrics=metrics(0, 8, 0, 32)),
            "block.0": linear,
            "block.1": linear,
        },
        operators={"aten.mm": Operator(calls=3, metrics={"flops": 384})},
        unknown_operators={"mylib.op": UnknownOperator(calls=1, modules=("block.0",))},
    )


@pytest.fixture
def path(tmp_path):
    return tmp_path / "__flops__" / "test_net.json"


@pytest.fixture
def written(path):
    """Write EXAMPLE to the baseline file, and return its path."""
    path.parent.mkdir()
    path.write_bytes(EXAMPLE.encode())
    return path


def refusal(path, text):
    """Write ``text`` to the baseline file, and return the message with which `load` refuses it."""
    path.parent.mkdir(exist_ok=True)
    data = text if isinstance(text, bytes) else text.encode()
    path.write_bytes(data)
    with pytest.raises(BaselineError) as caught:
        load(path)
    assert path.read_bytes() == data
    return str(caught.value)


class TestBaselinePath:
    def test_beside_the_test_file(self):
        """The baseline of ``test_a.py`` is ``__flops__/test_a.json`` in the same folder."""
        assert baseline_path(Path("tests/test_backbone.py")) == Path("tests/__flops__/test_backbone.json")


class TestSplitNodeid:
    @pytest.mark.parametrize(
        ("nodeid", "parts"),
        [
            ("tests/test_a.py::test_x", ("tests/test_a.py", "test_x")),
            ("test_a.py::TestX::test_y[a::b/c]", ("test_a.py", "TestX::test_y[a::b/c]")),
            ("README.md", ("README.md", "")),
        ],
    )
    def test_parts(self, nodeid, parts):
        """The first "::" of a node id ends the name of the file."""
        assert split_nodeid(nodeid) == parts


class TestDumps:
    def test_layout(self, path):
        assert dumps(BaselineFile(path, {"TestX::test_y[a]": {"model": net()}})) == EXAMPLE

    def test_empty(self, path):
        assert dumps(BaselineFile(path, {})) == '{\n"format": 2,\n"lines": [\n\n{}\n]\n}\n'

    def test_sorted(self, path):
        """Tests, names and operators are sorted, whatever the order of the input is."""
        operators = {name: Operator(calls=1, metrics={"flops": 1}) for name in ("aten.mm", "aten.bmm")}
        entry = small(operators=operators)
        text = dumps(BaselineFile(path, {"test_b": {"y": entry, "x": entry}, "test_a": {"model": entry}}))
        lines = json.loads(text)["lines"]
        titles = [(line["test"], line["name"]) for line in lines if len(line) == 2]
        assert titles == [("test_a", "model"), ("test_b", "x"), ("test_b", "y")]
        assert [line["operator"] for line in lines if "operator" in line] == ["aten.bmm", "aten.mm"] * 3

    def test_invisible_characters_are_numbered(self, path):
        """Line separators and text direction marks are written as escapes."""
        text = dumps(BaselineFile(path, {"test[\u2028\u202e]": {"größe": small()}}))
        assert '"test": "test[\\u2028\\u202e]"' in text
        assert "\u2028" not in text
        assert '"name": "größe"' in dumps(BaselineFile(path, {"test": {"größe": small()}}))


class TestLoad:
    def test_missing_file(self, path):
        """If the file does not exist, there are no entries."""
        assert load(path) == BaselineFile(path, {})

    def test_example(self, written):
        """`load` restores the fields that the file leaves out."""
        assert load(written) == BaselineFile(written, {"TestX::test_y[a]": {"model": net()}})

    def test_windows_line_ends(self, path):
        path.parent.mkdir()
        path.write_bytes(EXAMPLE.replace("\n", "\r\n").encode())
        assert load(path).tests == {"TestX::test_y[a]": {"model": net()}}

    def test_unmeasured_metrics(self, path):
        """If a metric was not measured, it is missing after reading too."""
        file = BaselineFile(path, {"test": {"model": small()}})
        save(file)
        assert load(path) == file
        assert list(load(path).tests["test"]["model"].modules[""].metrics) == ["flops"]

    def test_large_numbers(self, path):
        file = BaselineFile(path, {"test": {"model": small(flops=2**70 + 1)}})
        save(file)
        assert load(path) == file


class TestRefusals:
    def test_is_a_usage_error(self, path):
        assert issubclass(BaselineError, UsageError)
        assert str(path) in refusal(path, "")

    @pytest.mark.parametrize("end", [0, 1, 60, len(EXAMPLE) // 2, len(EXAMPLE) - 3])
    def test_truncated(self, path, end):
        text = EXAMPLE[:end]
        line = text.count("\n") + 1
        message = refusal(path, text)
        assert message.startswith(f"{path}, line ")
        # JSON's error may have the line where an unterminated string begins, or the line after the last blank.
        assert any(f", line {near}: no JSON from column " in message for near in (line - 1, line))
        assert message.endswith("Restore it from git, or delete it and rerun with --flops-budget-update.")

    @pytest.mark.parametrize("marker", ["<<<<<<< HEAD", "=======", ">>>>>>> topic", "||||||| base"])
    def test_conflict_marker(self, path, marker):
        """If a file has a conflict marker, the message says what to do."""
        lines = EXAMPLE.splitlines()
        lines.insert(9, marker)
        message = refusal(path, "\n".join(lines))
        assert message == (
            f"{path}: conflict marker, line 10: delete the lines with markers, keep those of both sides, then run with "
            "--flops-budget-update."
        )

    def test_conflict_marker_with_windows_line_ends(self, path):
        assert "conflict marker, line 2" in refusal(path, "{\r\n=======\r\n}")

    def test_newer_format(self, path):
        """If the format is newer, the message says to upgrade, and not to delete the file."""
        message = refusal(path, EXAMPLE.replace('"format": 2', '"format": 3'))
        assert message == (
            f'{path}, line 2: "format": written by a newer pytest-flopsbudget: it is 3, and this version reads up to 2'
            ". Upgrade pytest-flopsbudget."
        )

    def test_older_format(self, path):
        """If the format is older than the first release, the message says to delete the file."""
        assert refusal(path, '{\n"format": 1,\n"tests": {}\n}') == (
            f'{path}, line 2: "format": written by an unreleased pytest-flopsbudget: it is 1, and this version reads 2'
            ". Delete the file, then run with --flops-budget-update."
        )

    @pytest.mark.parametrize(
        "text",
        [
            '{"lines": []}',
            '{"format": 0, "lines": []}',
            '{"format": true, "lines": []}',
            '{"format": "2", "lines": []}',
        ],
    )
    def test_no_format(self, path, text):
        """If the number of the format is missing or invalid, the file is refused."""
        assert "format" in refusal(path, text)

    @pytest.mark.parametrize("text", ["[]", "null", "1", '"x"'])
    def test_other_json(self, path, text):
        assert ", line 1: no baseline, which is a JSON object." in refusal(path, text)

    @pytest.mark.parametrize(
        ("before", "after", "line", "told"),
        [
            (
                '"flops": 128',
                '"flops": -1',
                9,
                'module "block.{0-1}" of "TestX::test_y[a]": "flops": Expected `int` >= 0.',
            ),
            ('"flops": 128', '"flops": 1.0', 9, '"flops": Expected `int`, got `float`.'),
            ('"flops": 128', '"flops": NaN', 9, '"flops": Expected `int`, got `float`.'),
            ('"flops": 128', '"flops": true', 9, '"flops": Expected `int`, got `bool`.'),
            ('"flops": 128', '"flop": 128', 9, '"flop": unknown key (did you mean "flops"?).'),
            ('"flops": 128', '"macs": 64', 9, '"macs": unknown key (allowed: "test", "name", "module", "type", '),
            ('"flops": 128', '"flops": 128, "flops": 128', 9, '"flops": the key is there twice'),
            (
                '{"flops": 384, "params"',
                '{"flops": 384, "param"',
                7,
                '"metrics": "param": unknown key (did you mean "param',
            ),
            (
                '"type": "Scale", ',
                "",
                10,
                'module "scale" of "TestX::test_y[a]": Object missing required field `type`.',
            ),
            (
                '"execution": "shapes"',
                '"execution": "guess"',
                6,
                'enum value \'guess\'; allowed: "shapes", "real", "watched".',
            ),
            ('"inputs": [', '"inputs": [1, ', 6, '"inputs": Expected `str`, got `int`.'),
            ('"inputs"', '"input"', 6, '"input": unknown key (did you mean "inputs"?).'),
            (
                '"calls": 3',
                '"calls": "3"',
                11,
                'operator "aten.mm" of "TestX::test_y[a]": "calls": Expected `int`, got `str`.',
            ),
            (
                '["block.0"]',
                "null",
                12,
                'unknown operator "mylib.op" of "TestX::test_y[a]": "modules": Expected `array`',
            ),
            ("block.{0-1}", "block.{1-0}", 5, "'{1-0}' is no list of rising numbers"),
            ('"scale"', '"block.1"', 5, "which another entry names too"),
            ('{"metrics": {', '7, {"metrics": {', 7, "Expected `object`, got 7."),
            ('{"metrics": {', '"text", {"metrics": {', 7, 'Expected `object`, got "text".'),
            ('"module": "scale"', '"module": 3', 10, '"module": Expected `str`, got `int`.'),
            ('"module": "scale", ', "", 10, '"type": unknown key (allowed: "test", "name").'),
            (
                '"format": 2,',
                '"format": 2, "made_by": "me",',
                2,
                '"made_by": unknown key (allowed: "format", "lines").',
            ),
            ('"lines": [', '"lines": {}, "more": [', 3, '"lines": Expected `array`, got `object`.'),
            ('"lines": [', '"lines": [], "lines": [', 3, '"lines": the key is there twice'),
        ],
    )
    def test_wrong_content(self, path, before, after, line, told):
        assert EXAMPLE.count(before) == 1
        message = refusal(path, EXAMPLE.replace(before, after))
        assert message.startswith(f"{path}, line {line}: ")
        assert told in message
        assert "Restore it from git" in message

    def test_contradiction(self, path):
        """If a merge kept both versions of a line, the message has both lines."""
        lines = EXAMPLE.splitlines(keepends=True)
        lines.insert(10, lines[8].replace("128", "256"))
        message = refusal(path, "".join(lines))
        assert message == (
            f'{path}, line 11 (and line 9): module "block.{{0-1}}" of "TestX::test_y[a]": another line says otherwise; '
            "a merge kept both sides. Run this test with --flops-budget-update, which writes its lines anew; or delete "
            "all of them, or those that are wrong."
        )

    @pytest.mark.parametrize(
        ("line", "missing", "first"), [(5, "title", 8), (6, "model", 5), (7, "metrics", 5), (13, "end", 5)]
    )
    def test_part_of_an_entry(self, path, line, missing, first):
        """If a merge removed a line of an entry, the file is refused."""
        lines = EXAMPLE.splitlines(keepends=True)
        assert lines[line - 1].startswith(f'{{"{"test" if missing == "title" else missing}"')
        del lines[line - 1]
        # If the first line is removed, the line of the first module is one lower.
        first = first - 1 if missing == "title" else first
        message = refusal(path, "".join(lines))
        assert message.startswith(f"{path}, line {first}: ")
        assert f'of "TestX::test_y[a]": the entry\'s line of {missing} is missing; a merge took a part' in message

    @pytest.mark.parametrize("text", ["[" * 100_000, '{"format": ' + "9" * 5000 + "}"])
    def test_monstrous(self, path, text):
        """If a text is too deep or too large for Python's parser, the file is refused."""
        assert str(path) in refusal(path, text)

    def test_not_utf8(self, path):
        assert ", line 2: not UTF-8." in refusal(path, b'{\n"\xff": 1}')

    def test_directory(self, path):
        path.mkdir(parents=True)
        with pytest.raises(BaselineError, match="cannot be read"):
            load(path)

    def test_file_in_place_of_the_directory(self, path):
        """If __flops__ is a file and not a folder, reading and writing are refused."""
        path.parent.write_text("")
        with pytest.raises(BaselineError, match="cannot be read"):
            load(path)
        with pytest.raises(BaselineError, match="cannot be read: Not a directory"):
            save(BaselineFile(path, {}))


class TestSave:
    def test_creates_the_directory(self, path):
        """`save` creates the folder and writes UTF-8 with line feeds."""
        assert save(BaselineFile(path, {"TestX::test_y[a]": {"model": net()}}))
        assert path.read_bytes() == EXAMPLE.encode()

    def test_equal_bytes_are_not_written(self, written):
        os.utime(written, ns=(1, 1))
        assert not save(load(written))
        assert written.stat().st_mtime_ns == 1

    def test_leaves_nothing_else(self, written):
        assert save(BaselineFile(written, {}))
        assert list(written.parent.iterdir()) == [written]

    @pytest.mark.skipif(os.name == "nt", reason="POSIX modes")
    def test_keeps_the_mode(self, written):
        written.chmod(0o640)
        save(BaselineFile(written, {}))
        assert stat.S_IMODE(written.stat().st_mode) == 0o640

    @pytest.mark.skipif(os.name == "nt", reason="POSIX modes")
    def test_new_file_follows_the_umask(self, path):
        old = os.umask(0o027)
        try:
            save(BaselineFile(path, {}))
        finally:
            os.umask(old)
        assert stat.S_IMODE(path.stat().st_mode) == 0o640

    @pytest.mark.skipif(os.name == "nt", reason="symbolic links need rights there")
    def test_follows_a_symbolic_link(self, written, tmp_path):
        target = tmp_path / "elsewhere" / "target.json"
        target.parent.mkdir()
        written.rename(target)
        written.symlink_to(target)
        save(BaselineFile(written, {}))
        assert written.is_symlink()
        assert load(target).tests == {}
        assert list(target.parent.iterdir()) == [target]

    @pytest.mark.parametrize("step", ["fsync", "replace"])
    def test_full_disk(self, written, monkeypatch, step):
        def fail(*_, **__):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        if step == "fsync":
            monkeypatch.setattr(os, "fsync", fail)
        else:
            monkeypatch.setattr(Path, "replace", fail)
        with pytest.raises(BaselineError, match=r"cannot be written: .*\. The file is as it was\."):
            save(BaselineFile(written, {}))
        assert written.read_bytes() == EXAMPLE.encode()
        assert list(written.parent.iterdir()) == [written]

    def test_interrupted(self, written, monkeypatch):
        def interrupt(_):
            raise KeyboardInterrupt

        monkeypatch.setattr(os, "fsync", interrupt)
        with pytest.raises(KeyboardInterrupt):
            save(BaselineFile(written, {}))
        assert written.read_bytes() == EXAMPLE.encode()
        assert list(written.parent.iterdir()) == [written]

    def test_read_only(self, written, monkeypatch):
        # The root user can write to read-only files, and containers often run tests as root.
        monkeypatch.setattr(os, "access", lambda *_: False)
        with pytest.raises(BaselineError, match="read-only"):
            save(BaselineFile(written, {}))
        assert written.read_bytes() == EXAMPLE.encode()


counts = st.integers(0, 3) | st.integers(0, 2**80)
stored = (*STORED, key_for("compute_time", "A100"), key_for("compute_time", 'T4 "x" [1'), key_for("latency", "box"))
keys = st.sets(st.sampled_from(stored), min_size=1)
names = st.text(max_size=8)
paths = st.lists(st.sampled_from(["0", "1", "2", "10", "a", "{0-1}", "\\", "é\u2028"]), max_size=3).map(".".join)


@st.composite
def complexities(draw):
    measured = sorted(draw(keys))
    values = st.fixed_dictionaries(dict.fromkeys(measured, counts))
    # Baselines store no peaks of modules, and no metrics that only a whole model has.
    of_modules = [key for key in measured if metric_of(key).aggregation in {"sum", "distinct"}]
    own = st.fixed_dictionaries(dict.fromkeys(of_modules, counts))
    modules = st.builds(Module, type=names, shape=names, calls=counts, metrics=own)
    operators = st.builds(Operator, calls=counts, metrics=st.dictionaries(st.sampled_from(STORED), counts))
    unknown = st.builds(UnknownOperator, calls=counts, modules=st.lists(paths, max_size=2).map(tuple))
    return Complexity(
        model=draw(names),
        inputs=tuple(draw(st.lists(names, max_size=2))),
        execution=draw(st.sampled_from(["shapes", "real"])),
        backward=draw(st.booleans()),
        metrics=draw(values),
        modules=draw(st.dictionaries(paths, modules, max_size=6)),
        operators=draw(st.dictionaries(names, operators, max_size=2)),
        unknown_operators=draw(st.dictionaries(names, unknown, max_size=2)),
    )


tables = st.dictionaries(names, st.dictionaries(names, complexities(), min_size=1, max_size=2), max_size=2)


@given(tables)
def test_round_trip(tmp_path_factory, tests):
    file = BaselineFile(tmp_path_factory.mktemp("flops") / "test.json", tests)
    save(file)
    assert load(file.path) == file
    assert not save(load(file.path))


class TestUpdated:
    def test_replaces_the_whole_test(self, path):
        file = BaselineFile(path, {"test_a": {"x": small(1), "y": small(2)}, "test_b": {"model": small(3)}})
        new = update_entries(file, {"test_a": {"y": small(4)}, "test_c": {"model": small(5)}})
        assert new == BaselineFile(
            path,
            {"test_a": {"y": small(4)}, "test_b": {"model": small(3)}, "test_c": {"model": small(5)}},
        )
        assert file.tests["test_a"]["x"] == small(1)

    def test_test_without_measurements(self, path):
        file = BaselineFile(path, {"test_a": {"model": small()}})
        assert update_entries(file, {"test_a": {}}) == BaselineFile(path, {})


def test_phases(tmp_path):
    """Each phase has a line in the file."""
    path = tmp_path / "__flops__" / "test_net.json"
    phases = {
        "forward": Phase(metrics={"flops": 100, "other_flops": 7, "recomputed_flops": 0}),
        "backward": Phase(metrics={"flops": 200, "other_flops": 9, "recomputed_flops": 50}),
        "optimizer": Phase(metrics={"flops": 0, "other_flops": 272, "recomputed_flops": 0}),
    }
    entry = replace(net(), phases=phases)
    text = dumps(BaselineFile(path, {"test_net": {"model": entry}}))
    assert '{"phase": "backward", "flops": 200, "other_flops": 9, "recomputed_flops": 50, "test": "test_net"' in text
    path.parent.mkdir()
    path.write_text(text, encoding="utf-8")
    assert load(path).tests["test_net"]["model"].phases == phases
    path.write_text(text.replace('"phase": "backward"', '"phase": "backwards"'), encoding="utf-8")
    with pytest.raises(BaselineError, match='allowed: "setup", "forward", "backward", "optimizer"'):
        load(path)


def test_a_module_without_masks(tmp_path):
    """The line of a module has masked_flops only where they differ from its FLOPs."""
    path = tmp_path / "__flops__" / "test_net.json"
    modules = {
        "attn": Module(type="Attention", calls=1, metrics={"flops": 60, "masked_flops": 40}),
        "mlp": Module(type="MLP", calls=1, metrics={"flops": 40, "masked_flops": 40}),
        "norm": Module(type="Norm", calls=1, metrics={"flops": 0, "masked_flops": 0}),
    }
    entry = complexity({"flops": 100, "masked_flops": 80}, modules)
    text = dumps(BaselineFile(path, {"test_net": {"model": entry}}))
    assert '"module": "attn", "type": "Attention", "calls": 1, "flops": 60, "masked_flops": 40' in text
    assert '"module": "mlp", "type": "MLP", "calls": 1, "flops": 40, "test"' in text
    path.parent.mkdir()
    path.write_text(text, encoding="utf-8")
    assert load(path).tests["test_net"]["model"] == entry


class TestBeyondWork:
    """Metrics that have a value for each device or machine."""

    def test_lines(self, path):
        save(BaselineFile(path, {"t": {"model": estimated()}}))
        text = path.read_text()
        assert '{"metrics": {"flops": 2500, "params": 15, "compute_time": {"A100": 900}, ' in text
        assert '"memory_time": {"A100": 300}, "launch_time": {"A100": 200}}, "test": "t"' in text
        (stem,) = [line for line in text.splitlines() if '"module": "stem"' in line]
        assert '"compute_time": {"A100": 900}, "launch_time": {"A100": 100}, "test"' in stem
        assert "memory_time" not in stem
        assert load(path).tests == {"t": {"model": estimated()}}

    @pytest.mark.parametrize(
        ("old", "new", "told"),
        [
            ('"A100": 900', '"A100": -900', "Expected `int` >= 0"),
            ('{"A100": 900}', "900", "Expected `object`"),
            ('"A100": 900', '"": 900', "str"),
            ('"A100": 900', '"A]": 900', "str"),
            ('"compute_time"', '"time"', '"time"'),
            ('"flops": 2500', '"flops": {"A100": 1}', "Expected `int`"),
        ],
    )
    def test_what_is_at_fault(self, path, old, new, told):
        save(BaselineFile(path, {"t": {"model": estimated()}}))
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))
        with pytest.raises(BaselineError, match="line") as caught:
            load(path)
        assert told in str(caught.value)

    def test_modules_without_outputs(self, path):
        texts = []
        for outputs in ((), ("float32[2, 4]",)):
            layers = {str(i): Module(type="L", calls=1, metrics={"flops": 2}, outputs=outputs) for i in range(2)}
            file = update_entries(BaselineFile(path, {}), {"t": {"model": small(modules=layers)}})
            save(file)
            texts.append(path.read_text())
        assert texts[0] == texts[1]
        assert "float32[2, 4]" not in texts[0]

    def test_modules_without_peaks(self, path):
        """The modules of a baseline have no peaks, so equal layers share a line."""
        metrics = {"flops": 4, "peak_memory": 9, "depth": 2}
        layers = {str(i): Module(type="L", calls=1, metrics={"flops": 2, "peak_memory": i}) for i in range(2)}
        root = {"": Module(type="Net", calls=1, metrics=metrics)}
        file = update_entries(BaselineFile(path, {}), {"t": {"model": small(metrics=metrics, modules=root | layers)}})
        save(file)
        assert path.read_text().count('"module": "{0-1}"') == 1
        found = load(path).tests["t"]["model"]
        assert found.metrics == metrics
        assert {path: module.metrics for path, module in found.modules.items()} == {
            "": {"flops": 4},
            "0": {"flops": 2},
            "1": {"flops": 2},
        }

    def test_without_metrics_that_follow_from_others(self, path):
        metrics = {"flops": 4, "params": 8}
        more = metrics | {"active_params": 6, "non_embedding_params": 5}
        root = {"": Module(type="Net", calls=1, metrics=more)}
        save(update_entries(BaselineFile(path, {}), {"t": {"model": small(metrics=more, modules=root)}}))
        found = load(path).tests["t"]["model"]
        assert found.metrics == found[""].metrics == metrics

    def test_latencies_of_other_machines_stay(self, path):
        file = update_entries(BaselineFile(path, {}), {"t": {"model": timed(7, machine="one")}})
        file = update_entries(file, {"t": {"model": timed(9, machine="two")}})
        assert file.tests["t"]["model"].metrics == {
            "flops": 2500,
            "params": 15,
            "latency[one]": 7,
            "latency[two]": 9,
        }
        save(file)
        assert '"latency": {"one": 7, "two": 9}' in path.read_text()
        assert load(path).tests == file.tests

    def test_what_is_for_the_reader_of_a_run(self, path):
        """An update does not store the timing, the memory at the peak or the notes."""
        file = update_entries(BaselineFile(path, {}), {"t": {"model": timed(7, complexity=peaking())}})
        entry = file.tests["t"]["model"]
        assert (entry.timing, entry.memory_at_peak, entry.notes) == (None, None, ())
        save(file)
        assert load(path).tests == file.tests

    def test_a_baseline_without_it(self, written):
        """If an older baseline lacks a metric, the metric has no change."""
        old = load(written).tests["TestX::test_y[a]"]["model"]
        new = replace(old, metrics=old.metrics | {"activations": 5, "depth": 2, "compute_time[A100]": 1})
        comparison = compare(old, new, {})
        assert (comparison.status, comparison.changes) == ("unchanged", ())


def test_two_versions_of_pytorch(path):
    """If lines of one entry differ only in the version of PyTorch, as after a merge, the version is unknown."""
    texts = [
        dumps(BaselineFile(path, {"test_a": {"model": replace(small(), pytorch=minor)}})) for minor in ("2.12", "2.13")
    ]
    first, second = (next(line for line in text.split("\n") if '"execution"' in line) for text in texts)
    path.parent.mkdir(exist_ok=True)
    path.write_text(texts[0].replace(first, f"{first}\n{second}"))
    assert load(path).tests == {"test_a": {"model": small()}}
