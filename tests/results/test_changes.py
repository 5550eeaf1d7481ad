import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from samples import linear

from pytest_flopsbudget.reports.markdown import changes as in_markdown
from pytest_flopsbudget.reports.terminal import changes as in_terminal
from pytest_flopsbudget.reports.terminal.screen import Screen
from pytest_flopsbudget.results.changes import Key, changes, differing


def side(**tests):
    """Return one side of a comparison: the measurements of tests in ``a.py``."""
    return {Key(f"a.py::{name}", "model"): entry for name, entry in tests.items()}


def moved(entries, file):
    return {Key(f"{file}::{key.nodeid.partition('::')[2]}", key.name): entry for key, entry in entries.items()}


def told(old, new):
    """Return (kind, node id) for each change, or (kind, node id, old node id) if the test was renamed."""
    return [
        (change.kind, change.key.nodeid, *([change.old_key.nodeid] if change.old_key else []))
        for change in changes(old, new)
    ]


class TestChanges:
    def test_each_kind_in_its_order(self):
        old = side(same=linear(4), expensive=linear(4), cheaper=linear(4), gone=linear(9), other=linear(4))
        new = side(same=linear(4), expensive=linear(5), cheaper=linear(3), come=linear(8), other=linear(4))
        new |= side(other=replace(linear(4), inputs=("float16[2, 4]",)))
        assert told(old, new) == [
            ("regressed", "a.py::expensive"),
            ("improved", "a.py::cheaper"),
            ("changed", "a.py::other"),
            ("new", "a.py::come"),
            ("removed", "a.py::gone"),
            ("unchanged", "a.py::same"),
        ]

    def test_what_grows_in_one_metric_and_shrinks_in_another_regressed(self):
        # From 64 FLOPs and 20 parameters to 36 + 100 FLOPs and 12 parameters.
        assert told(side(t=linear(4)), side(t=linear(3, extra=100))) == [("regressed", "a.py::t")]

    def test_a_metric_that_is_no_longer_measured_is_told(self):
        fewer = replace(linear(4), metrics={"flops": 64})
        assert told(side(t=linear(4)), side(t=fewer)) == [("changed", "a.py::t")]

    def test_a_renamed_test(self):
        assert told(side(t=linear(4)), side(u=linear(4))) == [("renamed", "a.py::u", "a.py::t")]

    def test_a_test_that_moved_and_grew(self):
        assert told(side(t=linear(4)), moved(side(t=linear(5)), "b.py")) == [("regressed", "b.py::t", "a.py::t")]

    def test_of_two_of_one_name_none_is_guessed(self):
        new = moved(side(t=linear(5)), "b.py") | moved(side(t=linear(6)), "c.py")
        assert [kind for kind, *_ in told(side(t=linear(4)), new)] == ["new", "new", "removed"]

    def test_a_measurement_of_a_test_that_is_still_there(self):
        old = {Key("a.py::t", "one"): linear(4)}
        new = {Key("a.py::t", "two"): linear(4)}
        assert [(change.kind, change.key.name) for change in changes(old, new)] == [("new", "two"), ("removed", "one")]

    @given(
        st.dictionaries(st.sampled_from("tuvw"), st.integers(1, 3)),
        st.dictionaries(st.sampled_from("tuvw"), st.integers(1, 3)),
        st.booleans(),
    )
    def test_each_measurement_is_told_once(self, old, new, moves):
        before = side(**{name: linear(width) for name, width in old.items()})
        after = side(**{name: linear(width) for name, width in new.items()})
        after = moved(after, "b.py") if moves else after
        found = changes(before, after)
        assert sorted(change.old_key or change.key for change in found if change.old) == sorted(before)
        assert sorted(change.key for change in found if change.new) == sorted(after)
        assert bool(differing(found)) == (before != after)
        assert all(change.old == before[change.old_key or change.key] for change in found if change.old)


def shown(old, new, width=100, encoding="utf-8"):
    return list(in_terminal.lines(changes(old, new), Screen(width=width, colour=False, encoding=encoding)))


class TestInTheTerminal:
    def test_a_regression(self):
        # From 2·2·4² = 64 to 2·2·5² = 100 FLOPs, and from 20 to 30 parameters.
        lines = shown(side(t=linear(4), u=linear(6)), side(t=linear(5), u=linear(6)))
        assert lines[2].split() == ["a.py::t", "64", "FLOPs", "100", "FLOPs", "+56.2%", "+50.0%", "regressed"]
        assert lines[4] == "a.py::t: regressed"
        assert "    flops: 64 FLOPs → 100 FLOPs, +36 FLOPs (+56.2%)" in lines
        assert "        layer: Linear 4→4 → 5→5, +36 FLOPs" in lines
        assert "    the input changed: float32[2, 4] → float32[2, 5]" in lines
        assert lines[-1] == "2 measurements: 1 regressed, 1 unchanged"

    def test_nothing_changed(self):
        assert shown(side(t=linear(4)), side(t=linear(4))) == ["1 measurement: 1 unchanged"]

    def test_nothing_at_all(self):
        assert shown({}, {}) == ["no measurements on either side"]

    def test_what_changed_in_neither_column(self):
        other = linear(4)
        buffers = replace(other, metrics=other.metrics | {"buffer_bytes": 8})
        bigger = replace(other, metrics=other.metrics | {"buffer_bytes": 9})
        assert shown(side(t=buffers), side(t=bigger))[2].split()[-3:] == ["(other)", "=", "regressed"]

    @pytest.mark.parametrize(
        ("metrics", "change"),
        [
            ({"peak_memory": (8, 9)}, "(not held)"),
            ({"launches": (8, 9), "depth": (3, 4)}, "(not held)"),
            ({"peak_memory": (8, 9), "buffer_bytes": (8, 9)}, "(other)"),
        ],
    )
    def test_metrics_that_are_not_held(self, metrics, change):
        """Metrics that a baseline does not hold by default are marked, and a line explains the mark."""
        old, new = (
            replace(linear(4), metrics=linear(4).metrics | {key: values[index] for key, values in metrics.items()})
            for index in range(2)
        )
        lines = shown(side(t=old), side(t=new))
        assert f"  {change}  " in lines[2]
        marked = [line.split(":")[0].strip() for line in lines if line.endswith(" (not held)")]
        assert set(marked) == metrics.keys() - {"buffer_bytes"}
        assert sum(line.startswith("(not held): growth of this metric fails no test") for line in lines) == 1
        assert lines[-1] == "1 measurement: 1 regressed"
        text = in_markdown.text(changes(side(t=old), side(t=new)), "main", "HEAD")
        assert "1 measurement: 1 regressed.\n\n(not held): growth of this metric fails no test" in text

    def test_of_very_many_the_first_are_shown(self):
        lines = shown({}, side(**{f"t{number}": linear(4) for number in range(1_234)}))
        assert len(lines) == 2 + 50 + 1 + 1 + 1
        assert lines[52].split() == ["and", "1,184", "more", "new"]

    @pytest.mark.parametrize("width", [80, 120])
    def test_it_fits_the_screen(self, width):
        lines = shown({}, side(**{"t" * 300: linear(4)}), width=width, encoding="ascii")
        assert max(map(len, lines)) == width
        assert all(line.isascii() for line in lines)


class TestInMarkdown:
    def test_a_regression(self):
        text = in_markdown.text(changes(side(t=linear(4)), side(t=linear(5))), "main", "HEAD")
        assert text.startswith("### Complexity: `main` → `HEAD`\n\n1 measurement: 1 regressed.\n")
        assert "| ⬆️ | `a.py::t` | 64 FLOPs | 100 FLOPs | +56.2% | +50.0% | regressed |\n" in text
        assert "<details><summary><code>a.py::t: regressed</code></summary>\n\n```text\n" in text
        assert "\n    layer: Linear 4→4 → 5→5, +36 FLOPs\n" in text

    def test_nothing_changed(self):
        text = in_markdown.text(changes(side(t=linear(4)), side(t=linear(4))), "main", "HEAD")
        assert text == "### Complexity: `main` → `HEAD`\n\n1 measurement: 1 unchanged.\n\n"

    def test_a_test_id_cannot_break_the_table(self):
        text = in_markdown.text(changes({}, side(**{"t[a|b`<script>]": linear(4)})), "main", "x|`<y>")
        assert "<script>" not in text
        assert "<y>" not in text
        rows = [line for line in text.splitlines() if line.startswith("|")]
        assert {row.count("|") for row in rows} == {8}

    @pytest.mark.parametrize("count", [10, 400, 5_000])
    def test_it_keeps_to_githubs_size_and_says_what_it_left_out(self, count):
        old = side(**{f"test_number_{number}": linear(4) for number in range(count)})
        new = side(**{f"test_number_{number}": linear(5) for number in range(count)})
        text = in_markdown.text(changes(old, new), "main", "HEAD")
        assert len(text.encode()) <= 65_000
        rows = text.count("| `a.py::test_number_")
        assert ("left out to keep to GitHub's size" in text) == (rows < count)
        if rows < count:
            assert f"… and {count - rows:,} regressed, left out" in text
        details = text.count("<details>")
        assert f"… and the details of {count - details:,} regressed, left out" in text or details == count
