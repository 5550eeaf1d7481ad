"""Lists of modules in which the numbers of children shifted."""

from __future__ import annotations

import pytest
from build import complexity
from hypothesis import given
from hypothesis import strategies as st

from pytest_flopsbudget.config.settings import Settings
from pytest_flopsbudget.reports.failure import explain
from pytest_flopsbudget.results.alignment import aligned
from pytest_flopsbudget.results.complexity_diff import compare
from pytest_flopsbudget.results.data import Module
from pytest_flopsbudget.results.diff import diff
from pytest_flopsbudget.results.verdict import Measurement, judge

#: One letter for each kind of layer → (class, settings, FLOPs).
KINDS = {
    "a": ("Conv2d", "8->8, 3x3", 900),
    "b": ("ReLU", "", 8),
    "c": ("Linear", "8->8", 64),
    "d": ("Conv2d", "8->8, 5x5", 2500),
}


def net(letters, parent="net", inside="", flops=None):
    """Build a model with a list of layers. ``inside`` is the path of the costly layer below each child."""
    own = {kind: (flops or {}).get(kind, KINDS[kind][2]) for kind in KINDS}
    total = {"flops": sum(own[letter] for letter in letters)}
    modules = {"": Module(type="Net", calls=1, metrics=total)}
    if parent:
        modules[parent] = Module(type="Sequential", calls=1, metrics=total)
    for number, letter in enumerate(letters):
        path = f"{parent}.{number}" if parent else str(number)
        kind, shape, _ = KINDS[letter]
        layer = Module(type=kind, shape=shape, calls=1, metrics={"flops": own[letter]})
        if inside:
            modules[path] = Module(type="Block", calls=1, metrics=layer.metrics)
        modules[f"{path}.{inside}" if inside else path] = layer
    return complexity(total, modules)


def changes(old, new):
    return [(one.kind, one.path, one.change) for one in diff(old, new).modules]


@pytest.mark.parametrize("inside", ["", "conv"])
@pytest.mark.parametrize("parent", ["net", ""])
@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ("abab", "dabab", [("added", 0, 2500)]),
        ("abab", "abdab", [("added", 2, 2500)]),
        ("abab", "adbadb", [("added", (1, 4), 5000)]),
        ("abab", "ababd", [("added", 4, 2500)]),
        ("dabab", "abab", [("removed", 0, -2500)]),
        ("abdab", "abab", [("removed", 2, -2500)]),
        ("ababd", "abab", [("removed", 4, -2500)]),
        ("aaaa", "aaaaa", [("added", 4, 900)]),
        ("dabcb", "abcbcb", [("removed", 0, -2500), ("added", 1, 8), ("added", 2, 64)]),
    ],
)
def test_only_the_new_layer_is_listed(old, new, found, parent, inside):
    start = f"{parent}." if parent else ""
    texts = {(1, 4): "{1,4}"}
    expected = [(kind, f"{start}{texts.get(place, place)}", change) for kind, place, change in found]
    assert sorted(changes(net(old, parent, inside), net(new, parent, inside))) == sorted(expected)


def test_a_layer_that_costs_more_behind_a_new_one():
    """Layer 2 is layer 1 of before. It has equal settings and a larger input: 100 FLOPs instead of 64."""
    found = changes(net("ac"), net("adc", flops={"c": 100}))
    assert found == [("added", "net.1", 2500), ("changed", "net.2", 36)]


def test_lists_inside_of_a_shifted_list():
    """Stages of different lengths. The new first stage has one layer; the others are as before."""

    def stages(*lengths):
        modules = {"": Module(type="Net", calls=1, metrics={"flops": 900 * sum(lengths)})}
        for stage, length in enumerate(lengths):
            modules[f"{stage}"] = Module(type="Sequential", calls=1, metrics={"flops": 900 * length})
            modules |= {
                f"{stage}.{place}": Module(type="Conv2d", shape="8->8", calls=1, metrics={"flops": 900})
                for place in range(length)
            }
        return complexity(modules[""].metrics, modules)

    old, new = stages(2, 3, 4), stages(1, 2, 3, 4)
    assert changes(old, new) == [("added", "0", 900)]
    verdict = judge(Measurement(name="model", complexity=new), (), Settings(), old, accepts=False)
    assert [(edit.kind, edit.path) for edit in verdict.edits] == [("added", "0")]


@given(st.text("abc", max_size=8), st.integers(0, 8), st.booleans())
def test_any_list(letters, place, removed):
    """A new layer that no other layer equals is the only change, at any place."""
    longer = letters[:place] + "d" + letters[place:]
    sides = net(letters), net(longer)
    at = f"net.{min(place, len(letters))}"
    if removed:
        assert changes(*sides[::-1]) == [("removed", at, -2500)]
    else:
        assert changes(*sides) == [("added", at, 2500)]


def test_paths_stay_unique():
    old, new = net("dab").modules, net("abcb").modules
    assert list(aligned(old, new)) == ["", "net", "net.0 (before)", "net.0", "net.3"]
    assert aligned(new, new) == new


def test_the_text_of_a_failure():
    verdict = judge(Measurement(name="model", complexity=net("dabab")), (), Settings(), net("abab"), accepts=False)
    # 1,816 FLOPs before, 4,316 now.
    assert explain("a.py::test_net", [verdict]).splitlines() == [
        "flops +137.7% over its baseline by net.0 in test_net",
        "  net.0: new Conv2d(8->8, 5x5)",
        "  metric        before           now   change    allowed  set by",
        "  flops   1.816 kFLOPs  4.316 kFLOPs  +137.7%  no growth  baseline",
        "to accept: pytest --flops-budget-update a.py::test_net",
    ]


def test_compare():
    table = str(compare(net("abab"), net("dabab")))
    assert "added" in table
    assert "4 unchanged modules not shown" in table
    assert "was " not in table
    table = str(compare(net("dabab"), net("abab")))
    assert "0 (before)" in table
    assert "removed" in table
