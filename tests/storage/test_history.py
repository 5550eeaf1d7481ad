from hypothesis import given
from hypothesis import strategies as st

from pytest_flopsbudget.storage.baseline_totals import Totals
from pytest_flopsbudget.storage.history import Address, Revision, Step, trace


def totals(flops, params=1):
    return Totals(model="Net", inputs=("float32[1]",), metrics={"flops": flops, "params": params})


def step(number, moved=None, **files):
    """Return step ``number`` of a history. ``files`` is {file: {test: FLOPs}}, ``moved`` is {new file: old file}."""
    tests = {
        f"{name}.py": {test: {"model": totals(flops)} for test, flops in tests.items()} for name, tests in files.items()
    }
    return Step(Revision(f"c{number}", "", ""), tests, moved or {})


def told(series):
    """Return each point of a series as (commit, node id, FLOPs). FLOPs are None if the measurement was removed."""
    return [
        (point.revision.commit, point.address.nodeid, point.totals and point.totals.value("flops"))
        for point in series.points
    ]


class TestTrace:
    def test_a_value_commit_by_commit(self):
        (series,) = trace([step(1, a={"t": 8}), step(2, a={"t": 9})])
        assert told(series) == [("c1", "a.py::t", 8), ("c2", "a.py::t", 9)]
        assert series.lives

    def test_a_file_that_a_step_leaves_alone_keeps_its_tests(self):
        first, second = trace([step(1, a={"t": 8}, b={"u": 5}), step(2, a={"t": 9})])
        assert len(first.points) == 2
        assert told(second) == [("c1", "b.py::u", 5)]

    def test_what_goes_and_comes_back_is_one_series(self):
        (series,) = trace([step(1, a={"t": 8}), step(2, a={}), step(3, a={"t": 9})])
        assert told(series) == [("c1", "a.py::t", 8), ("c2", "a.py::t", None), ("c3", "a.py::t", 9)]

    def test_what_is_gone_lives_no_longer(self):
        (series,) = trace([step(1, a={"t": 8}), step(2, a={})])
        assert not series.lives

    def test_a_renamed_test_is_followed(self):
        (series,) = trace([step(1, a={"t": 8}), step(2, a={"u": 8}), step(3, a={"u": 9})])
        assert told(series) == [("c1", "a.py::t", 8), ("c2", "a.py::u", 8), ("c3", "a.py::u", 9)]
        assert series.nodeids == {"a.py::t", "a.py::u"}

    def test_a_test_that_took_another_ones_place_at_another_cost_is_no_renamed_one(self):
        assert len(trace([step(1, a={"t": 8}), step(2, a={"u": 9})])) == 2

    def test_of_two_that_cost_the_same_neither_is_guessed(self):
        found = trace([step(1, a={"t": 8, "u": 8}), step(2, a={"v": 8, "w": 8})])
        assert [len(series.points) for series in found] == [2, 2, 1, 1]

    def test_of_two_that_cost_the_same_the_one_that_kept_its_name_moved(self):
        found = trace([step(1, a={"t": 8, "u": 8}), step(2, a={}, b={"u": 8, "t": 8})])
        assert [told(series) for series in found] == [
            [("c1", "a.py::t", 8), ("c2", "b.py::t", 8)],
            [("c1", "a.py::u", 8), ("c2", "b.py::u", 8)],
        ]

    def test_the_parameters_of_a_renamed_function_are_followed_though_they_cost_the_same(self):
        found = trace([step(1, a={"t[x]": 8, "t[y]": 8}), step(2, a={"u[x]": 8, "u[y]": 8})])
        assert [told(series) for series in found] == [
            [("c1", "a.py::t[x]", 8), ("c2", "a.py::u[x]", 8)],
            [("c1", "a.py::t[y]", 8), ("c2", "a.py::u[y]", 8)],
        ]

    def test_in_a_file_that_moved_a_test_is_followed_though_its_cost_changed(self):
        (series,) = trace([step(1, a={"t": 8}), step(2, moved={"b.py": "a.py"}, a={}, b={"t": 9})])
        assert told(series) == [("c1", "a.py::t", 8), ("c2", "b.py::t", 9)]

    def test_a_test_of_the_same_name_in_another_file_is_the_same_at_another_cost(self):
        (series,) = trace([step(1, a={"t": 8}), step(2, a={}, b={"t": 9})])
        assert told(series) == [("c1", "a.py::t", 8), ("c2", "b.py::t", 9)]

    def test_a_copy_is_another_series(self):
        found = trace([step(1, a={"t": 8}), step(2, a={"t": 8, "u": 8})])
        assert [len(series.points) for series in found] == [2, 1]

    @given(
        st.lists(
            st.dictionaries(
                st.sampled_from("ab"),
                st.dictionaries(st.sampled_from("tuv"), st.integers(1, 3), max_size=3),
                min_size=1,
            ),
            max_size=6,
        )
    )
    def test_every_value_of_every_revision_is_in_one_series(self, history):
        steps = [step(number, **files) for number, files in enumerate(history)]
        found = trace(steps)
        points = [
            (point.revision.commit, point.address, point.totals)
            for series in found
            for point in series.points
            if point.totals is not None
        ]
        written = [
            (one.revision.commit, Address(file, test, "model"), entries["model"])
            for one in steps
            for file, tests in one.files.items()
            for test, entries in tests.items()
        ]
        assert sorted(points, key=repr) == sorted(written, key=repr)
        last = {}
        for one in steps:
            last.update(one.files)
        there = {Address(file, test, "model") for file, tests in last.items() for test in tests}
        assert {series.address for series in found if series.lives} == there


class TestChanges:
    def test_the_first_and_those_where_a_metric_changed(self):
        (series,) = trace([step(number, a={"t": flops}) for number, flops in enumerate([8, 8, 9, 9, 8])])
        assert [point.revision.commit for point in series.changes(["flops"])] == ["c0", "c2", "c4"]

    def test_of_another_metric(self):
        (series,) = trace([step(number, a={"t": flops}) for number, flops in enumerate([8, 9])])
        assert [point.revision.commit for point in series.changes(["params"])] == ["c0"]
