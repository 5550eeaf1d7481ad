"""Find what was edited in a model."""

from __future__ import annotations

import pytest
from build import complexity

from pytest_flopsbudget.config.settings import Settings
from pytest_flopsbudget.results.data import Module
from pytest_flopsbudget.results.verdict import Measurement, judge


def net(layers, **fields):
    """Build a model from {path: (class, settings, FLOPs of its own)}. A fourth value is the number of calls."""
    whole = {
        path: sum(own[2] for other, own in layers.items() if f"{other}.".startswith(f"{path}.")) for path in layers
    }
    modules = {
        path: Module(type=kind, shape=shape, calls=calls[0] if calls else 1, metrics={"flops": whole[path]})
        for path, (kind, shape, _, *calls) in layers.items()
    }
    flops = {"flops": sum(own for _, _, own, *_ in layers.values())}
    root = {"": Module(type=fields.pop("root", "Net"), calls=1, metrics=flops)}
    return complexity(flops, root | modules, **fields)


def edits(old, new, **fields):
    """Return (kind, path) of each edit between two models."""
    verdict = judge(Measurement(name="model", complexity=net(new, **fields)), [], Settings(), net(old), accepts=False)
    return [(edit.kind, edit.path) for edit in verdict.edits]


CONV = ("Conv2d", "8->8, 3x3", 900)
WIDER = ("Conv2d", "8->8, 5x5", 2500)
LINEAR = ("Linear", "8->4", 60)
RELU = ("ReLU", "", 8)


def blocks(names, parts):
    """Build equal blocks; ``parts`` are {path below a block: its layer}."""
    return {f"{name}{path}": part for name in names for path, part in parts.items()}


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ({"a": CONV}, {"a": CONV}, []),
        ({"a": CONV, "b": LINEAR}, {"a": WIDER, "b": LINEAR}, [("changed", "a")]),
        # The edit with the larger effect is first.
        (
            {"a": LINEAR, "b": CONV},
            {"a": ("Linear", "8->5", 75), "b": WIDER},
            [("changed", "b"), ("changed", "a")],
        ),
        # A stride changes what later layers cost. Only the edited layer is listed.
        (
            {"a": CONV, "b": CONV},
            {"a": ("Conv2d", "8->8, 3x3, stride 2x2", 225), "b": ("Conv2d", "8->8, 3x3", 225)},
            [("changed", "a")],
        ),
        # Nothing was edited: another input size, or work of a function.
        ({"a": CONV, "b": LINEAR}, {"a": ("Conv2d", "8->8, 3x3", 950), "b": LINEAR}, [("cost", "a")]),
        ({"a": CONV}, {"a": CONV, "b": LINEAR}, [("added", "b")]),
        ({"a": CONV, "b": LINEAR}, {"a": CONV}, [("removed", "b")]),
        # Below a replaced module, nothing is listed.
        (
            {"a": ("Block", "", 0), "a.conv": CONV},
            {"a": ("Bottleneck", "", 0), "a.conv": WIDER, "a.more": LINEAR},
            [("changed", "a")],
        ),
        # A class that was only renamed is no edit that explains anything.
        (
            {"a": ("Block", "", 0), "a.conv": CONV, "b": LINEAR},
            {"a": ("ConvBlock", "", 0), "a.conv": CONV, "b": ("Linear", "8->5", 75)},
            [("changed", "b")],
        ),
        # A module that is called twice, with everything below it.
        (
            {"a": ("Block", "", 0), "a.conv": CONV},
            {"a": ("Block", "", 0, 2), "a.conv": ("Conv2d", "8->8, 3x3", 1800, 2)},
            [("changed", "a")],
        ),
        # Equal siblings are one edit.
        (
            {f"blocks.{i}.conv": CONV for i in range(4)},
            {f"blocks.{i}.conv": WIDER for i in range(4)},
            [("changed", "blocks.{0-3}.conv")],
        ),
        ({"{0}": CONV}, {"{0}": WIDER}, [("changed", "\\{0}")]),
        (
            {f"blocks.{i}": CONV for i in range(4)},
            {f"blocks.{i}": CONV for i in range(6)},
            [("added", "blocks.{4-5}")],
        ),
        # A new layer shifts the numbers of the layers behind it.
        (
            {"net.0": CONV, "net.1": ("ReLU", "", 8), "net.2": CONV},
            {"net.0": CONV, "net.1": LINEAR, "net.2": ("ReLU", "", 8), "net.3": CONV},
            [("added", "net.1")],
        ),
        (
            {"0": CONV, "1": LINEAR, "1.a": LINEAR, "2": WIDER},
            {"0": CONV, "1": WIDER},
            [("removed", "1")],
        ),
        (
            {"0": CONV, "1": LINEAR},
            {"0": WIDER, "1": CONV, "2": LINEAR},
            [("added", "0")],
        ),
        # Among equal layers, and with the modules of the baseline in another order than those of the measurement.
        (
            blocks("012", {"": LINEAR, ".act": RELU, ".conv": CONV}),
            blocks("023", {"": LINEAR, ".conv": CONV, ".act": RELU}) | {"1": WIDER},
            [("added", "1")],
        ),
    ],
    ids=[
        "none", "one", "two", "later layers", "no edit", "added", "removed", "replaced", "renamed class", "calls",
        "siblings", "braces", "deeper", "inserted", "taken out", "in front", "among equals",
    ],
)  # fmt: skip
def test_edits(old, new, found):
    assert edits(old, new) == found


def test_another_input_explains_the_costs():
    """If the input changed, modules that merely cost more are no edits."""
    assert edits({"a": CONV}, {"a": ("Conv2d", "8->8, 3x3", 1800)}, inputs=("float32[2]",)) == []
    assert edits({"a": CONV}, {"a": WIDER}, inputs=("float32[2]",)) == [("changed", "a")]


def test_another_model():
    """The class of the whole model is an edit only if nothing else is."""
    assert edits({"a": CONV}, {"a": WIDER}, root="Net2") == [("changed", "a")]
    assert edits({"a": CONV}, {"a": ("Conv2d", "8->8, 3x3", 950)}, root="Net2") == [("changed", "")]
