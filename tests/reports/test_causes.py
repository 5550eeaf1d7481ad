"""The causes of a run's failures in words."""

from __future__ import annotations

import pytest
from build import complexity

from pytest_flopsbudget.config.settings import Settings
from pytest_flopsbudget.reports.causes import cause_title
from pytest_flopsbudget.results.causes import find_causes
from pytest_flopsbudget.results.data import Module, Source
from pytest_flopsbudget.results.verdict import Measurement, judge

BLOCK = Source(type="Block", file="mypkg/net.py", line=12)
NET = Source(type="Net", file="mypkg/models.py", line=3)
TAIL = Source(type="Tail", file="mypkg/net.py", line=30)


def net(layers, **sources):
    """Build a model from {path: (class, settings, FLOPs)}, and name of a class → its source."""
    modules = {
        path: Module(type=kind, shape=shape, calls=1, metrics={"flops": own})
        for path, (kind, shape, own) in layers.items()
    }
    flops = {"flops": sum(own for *_, own in layers.values())}
    return complexity(flops, {"": Module(type="Net", calls=1, metrics=flops)} | modules, sources=sources)


def title(*sides):
    tests = [
        (f"a.py::{place}", [judge(Measurement(name="model", complexity=new), (), Settings(), old, accepts=False)])
        for place, (old, new) in enumerate(sides)
    ]
    (cause,) = find_causes(tests)
    return cause_title(cause)


def widened(path="blocks.0.conv", kind="Block", **sources):
    above = {path.rpartition(".")[0]: (kind, "", 0)} if "." in path else {}
    return (
        net(above | {path: ("Conv2d", "8->8, 3x3", 9)}),
        net(above | {path: ("Conv2d", "8->8, 5x5", 25)}, **sources),
    )


class TestSources:
    @pytest.mark.parametrize(
        ("path", "sources", "words"),
        [
            ("blocks.0.conv", {"Block": BLOCK, "Net": NET}, " (mypkg/net.py:12)"),
            ("blocks.0.conv", {"Net": NET}, " (mypkg/models.py:3)"),
            ("conv", {"Net": NET}, " (mypkg/models.py:3)"),
            ("conv", {"Block": BLOCK}, ""),
            ("conv", {"Conv2d": BLOCK, "Net": NET}, " (mypkg/net.py:12)"),
            ("conv", {}, ""),
            ("conv", {"Net": Source(type="Net", file="a.py")}, " (a.py)"),
        ],
    )
    def test_the_nearest_class_of_the_project(self, path, sources, words):
        assert title(widened(path, **sources)) == f"Conv2d 3x3 -> 5x5 in {path}{words}"

    def test_of_several_tests(self):
        sides = widened(Block=BLOCK), widened("other.7.conv", "Tail", Tail=TAIL)
        assert title(*sides) == "Conv2d 3x3 -> 5x5 in *.conv (mypkg/net.py)"
        assert title(*sides, widened("conv", Net=NET)) == "Conv2d 3x3 -> 5x5 in *.conv (mypkg/net.py and 1 more file)"

    @pytest.mark.parametrize(
        ("old", "new", "what"),
        [
            ({}, {"act": ("Block", "", 5)}, "new Block in act"),
            ({"act": ("ReLU", "", 1)}, {"act": ("Block", "", 5)}, "ReLU -> Block in act"),
        ],
    )
    def test_an_added_or_replaced_module_is_an_edit_of_the_module_around_it(self, old, new, what):
        conv = {"conv": ("Conv2d", "8->8, 3x3", 9)}
        sides = net(conv | old), net(conv | new, Block=BLOCK, Net=NET)
        assert title(sides) == f"{what} (mypkg/models.py:3)"

    def test_a_removed_module(self):
        layers = {"tail": ("Tail", "", 0), "tail.conv": ("Conv2d", "8->8, 3x3", 9)}
        old = net(layers | {"tail.more": ("Linear", "8->8", 5)})
        new = net(layers | {"wide": ("Conv2d", "8->8, 9x9", 81)}, Tail=TAIL, Net=NET)
        words = title((old, new))
        assert "new Conv2d(8->8, 9x9) in wide (mypkg/models.py:3)" in words
        assert "removed Linear(8->8) in tail.more (mypkg/net.py:30)" in words

    def test_a_class_with_another_cost_and_equal_settings(self):
        sides = net({"block": ("Block", "", 9)}), net({"block": ("Block", "", 25)}, Block=BLOCK, Net=NET)
        assert title(sides) == "Block with unchanged settings in block (mypkg/net.py:12)"
