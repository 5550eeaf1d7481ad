from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from samples import linear

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
