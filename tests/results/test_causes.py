"""Group the failures of a run by their cause."""

from __future__ import annotations

import pytest
from budgets import budget
from build import complexity

from pytest_flopsbudget.config.settings import Settings
from pytest_flopsbudget.results.causes import common_path, cover, find_causes, general_path
from pytest_flopsbudget.results.data import Module
from pytest_flopsbudget.results.verdict import Measurement, judge


def net(layers, inputs=("float32[1]",)):
    """Build a model from {path: (class, settings, FLOPs)}."""
    modules = {
        path: Module(type=kind, shape=shape, calls=1, metrics={"flops": own})
        for path, (kind, shape, own) in layers.items()
    }
    flops = {"flops": sum(own for *_, own in layers.values())}
    return complexity(flops, {"": Module(type="Net", calls=1, metrics=flops)} | modules, inputs=inputs)


def fails(old, new, *budgets, **settings):
    return judge(Measurement(name="model", complexity=new), budgets, Settings(**settings), old, accepts=False)


def widened(path, old="8->8, 3x3", new="8->8, 5x5", kind="Conv2d", flops=(9, 25)):
    """Judge a model in which the layer at ``path`` was edited."""
    return fails(net({path: (kind, old, flops[0])}), net({path: (kind, new, flops[1])}))


def by_cause(*verdicts):
    """Return the tests of each cause, as numbers."""
    causes = find_causes([(f"a.py::test_{number}", [verdict]) for number, verdict in enumerate(verdicts)])
    return [[int(nodeid.rpartition("_")[2]) for nodeid in cause.tests] for cause in causes]


SAME = fails(net({"a": ("Linear", "", 1)}), net({"a": ("Linear", "", 1)}))


@pytest.mark.parametrize(
    ("first", "second", "together"),
    [
        (widened("conv"), widened("conv"), True),
        (widened("blocks.0.conv"), widened("net.blocks.7.conv"), True),
        (widened("model.blocks.0.conv"), widened("net.blocks.0.conv"), True),
        (widened("conv"), widened(""), True),
        (widened("conv"), widened("pool"), False),
        # The size of the layer does not matter, the edited setting does.
        (widened("conv"), widened("conv", "64->64, 3x3", "64->64, 5x5"), True),
        (widened("conv"), widened("conv", "8->8, 3x3", "8->8, 7x7"), False),
        (widened("conv"), widened("conv", "8->8, 5x5", "8->8, 3x3", flops=(9, 25)), False),
        (widened("fc", "8->8", "8->16", "Linear"), widened("fc", "32->32", "32->64", "Linear"), True),
        (widened("fc", "8->8", "8->16", "Linear"), widened("fc", "32->32", "64->32", "Linear"), False),
        (widened("conv"), widened("conv", kind="Conv1d"), False),
        (widened("conv"), widened("conv", "8->8, 3x3", "8->8, 5x5, dilation 2x2"), False),
    ],
)
def test_equal_changes(first, second, together):
    assert by_cause(first, second) == ([[0, 1]] if together else [[0], [1]])


class TestKinds:
    def test_another_input(self):
        """Tests whose input changed in the same way have one cause, whatever their models are."""
        verdicts = [
            fails(net({name: ("Conv2d", "", 9)}, ("f[1]",)), net({name: ("Conv2d", "", 18)}, ("f[2]",)))
            for name in "ab"
        ]
        (cause,) = find_causes([("a.py::a", [verdicts[0]]), ("a.py::b", [verdicts[1]])])
        assert cause.inputs == (("f[1]",), ("f[2]",))
        assert cause.edits == ()

    def test_no_baseline(self):
        new = fails(None, net({"a": ("Linear", "", 1)}), missing_baseline="fail")
        (cause,) = find_causes([("a.py::a", [new]), ("a.py::b", [new])])
        assert cause.without_baseline
        assert cause.accept == "pytest --flops-budget-update a.py::a a.py::b"

    def test_a_limit_alone(self):
        """Tests over one limit whose cost did not change have one cause, and no update accepts them."""
        over = [
            fails(None, net({name: ("Linear", "", 5)}), budget(source, {"flops": 1}))
            for name, source in ("ax", "bx", "by")
        ]
        causes = find_causes([(f"a.py::{place}", [one]) for place, one in enumerate(over)])
        assert [(cause.limit_sources, len(cause.tests), cause.accept) for cause in causes] == [
            (("x",), 2, ""),
            (("y",), 1, ""),
        ]

    def test_what_fails_not_has_no_cause(self):
        assert find_causes([("a.py::a", [SAME])]) == ()


class TestCause:
    def test_ranges(self):
        """The smallest and the largest relative change are stored as exact values."""
        small, large = widened("conv", flops=(100, 110)), widened("conv", flops=(10, 20))
        (cause,) = find_causes([("a.py::a", [large]), ("a.py::b", [small])])
        (change,) = cause.changes
        assert (change.metric, change.smallest, change.largest) == ("flops", (100, 110), (10, 20))

    def test_edits(self):
        """Paths have "*" for numbers and for beginnings that differ, and all modules are counted."""
        (cause,) = find_causes([("a.py::a", [widened("blocks.0.conv")]), ("a.py::b", [widened("net.blocks.3.conv")])])
        (edit,) = cause.edits
        assert (edit.path, edit.count) == ("*.blocks.*.conv", 2)

    def test_edits_of_a_single_test(self):
        (cause,) = find_causes([("a.py::a", [widened("blocks.0.conv")])])
        assert [edit.path for edit in cause.edits] == ["blocks.0.conv"]

    def test_over_a_limit(self):
        over = fails(
            net({"conv": ("Conv2d", "8->8, 3x3", 9)}),
            net({"conv": ("Conv2d", "8->8, 5x5", 25)}),
            budget("here", {"flops": 20}),
        )
        (cause,) = find_causes([("a.py::a", [widened("conv")]), ("a.py::b", [over])])
        assert (cause.over_limit, cause.limit_sources) == (1, ("here",))

    def test_the_largest_cause_is_first(self):
        assert by_cause(widened("pool"), widened("conv"), SAME, widened("conv")) == [[1, 3], [0]]


@pytest.mark.parametrize(
    ("wanted", "others", "found"),
    [
        (["a.py::x", "a.py::y"], [], ["a.py::x", "a.py::y"]),
        ([f"a.py::x[{i}]" for i in range(4)], [], ["a.py"]),
        ([f"a.py::x[{i}]" for i in range(4)], ["a.py::y"], ["a.py::x"]),
        ([f"a.py::T::x[{i}]" for i in range(4)], ["a.py::y"], ["a.py::T"]),
        ([f"a.py::T::x[{i}]" for i in range(4)], ["a.py::T::y"], ["a.py::T::x"]),
        ([f"a.py::x[{i}]" for i in range(4)], ["a.py::x[a::b]"], [f"a.py::x[{i}]" for i in range(4)]),
        ([f"a.py::x[{i}]" for i in range(4)], ["a.py::x2", "b.py::x"], ["a.py::x"]),
        ([f"{file}.py::x" for file in "abcd"], ["d.py::y"], ["a.py", "b.py", "c.py", "d.py::x"]),
        ([f"d[1]/a.py::x[{i}::y]" for i in range(4)], [], ["d[1]/a.py"]),
    ],
)
def test_cover(wanted, others, found):
    """A command for many tests names files, classes or functions, but none with another test that changed."""
    assert cover(wanted, [*wanted, *others]) == found


def test_paths():
    assert general_path("blocks.3.conv2") == "blocks.*.conv2"
    assert common_path(["conv"]) == "conv"
    assert common_path(["a.*.conv", "b.*.conv"]) == "*.conv"
    assert common_path(["a.conv", "b.a.conv", "conv"]) == "*.conv"
    assert common_path(["a.conv", ""]) == "*.a.conv"
