"""Collapsed stacks, and files for speedscope and Model Explorer, of a model whose values are written by hand."""

import json

import pytest

from pytest_flopsbudget.errors import UsageError
from pytest_flopsbudget.reports.profiles import collapsed, model_explorer, speedscope
from pytest_flopsbudget.results.complexity import Complexity
from pytest_flopsbudget.results.data import Module


def module(kind, flops, params, **more):
    return Module(type=kind, calls=1, metrics={"flops": flops, "params": params, **more})


#: The model does 5 FLOPs itself. Its two blocks share a weight of 4 parameters.
NET = Complexity(
    model="Net",
    inputs=(),
    execution="shapes",
    metrics={"flops": 100, "params": 6, "peak_memory": 7},
    modules={
        "": module("Net", 100, 6),
        "blocks": module("ModuleList", 90, 4),
        "blocks.0": module("Block", 60, 4),
        "blocks.0.a;b c": module("Linear", 60, 4),
        "blocks.1": module("Block", 30, 4),
        "head": module("Linear", 5, 2),
        "unused": module("Linear", 0, 0),
    },
)


def test_collapsed():
    assert collapsed.text([("net:build", NET)], "flops").splitlines() == [
        "Net 5",
        "Net;blocks;0;a,b c 60",
        "Net;blocks;1 30",
        "Net;head 5",
    ]


def test_a_shared_parameter_counts_in_each_module():
    assert collapsed.text([("net:build", NET)], "params").splitlines() == [
        "Net;blocks;0;a,b c 4",
        "Net;blocks;1 4",
        "Net;head 2",
    ]


def test_macs_are_half():
    assert collapsed.text([("net:build", NET)], "macs").splitlines()[1] == "Net;blocks;0;a,b c 30"


def test_several_measurements():
    lines = collapsed.text([("a::t\n", NET), ("b", NET)], "flops").splitlines()
    assert lines[0] == "a::t\\n;Net 5"
    assert lines[4] == "b;Net 5"


def test_speedscope():
    """The fields that https://www.speedscope.app/file-format-schema.json requires of a sampled profile."""
    found = json.loads(speedscope.text([("net:build", NET)], "flops"))
    assert found["$schema"] == "https://www.speedscope.app/file-format-schema.json"
    flops, params = found["profiles"]
    assert flops["name"] == "net:build: FLOPs"
    assert params["name"] == "net:build: params"
    assert (flops["type"], flops["unit"], flops["startValue"], flops["endValue"]) == ("sampled", "none", 0, 100)
    names = [frame["name"] for frame in found["shared"]["frames"]]
    stacks = [[names[number] for number in sample] for sample in flops["samples"]]
    assert dict(zip(map(tuple, stacks), flops["weights"], strict=True)) == {
        ("Net",): 5,
        ("Net", "blocks (ModuleList)", "0 (Block)", "a;b c (Linear)"): 60,
        ("Net", "blocks (ModuleList)", "1 (Block)"): 30,
        ("Net", "head (Linear)"): 5,
    }


def test_node_data_of_model_explorer():
    """The fields of ``ModelNodeData`` in Model Explorer's node_data_builder.py: graph id → ``GraphNodeData``."""
    found = json.loads(model_explorer.node_data_text([("net:build", NET)], "flops"))
    assert found["net:build"]["results"] == {
        "(model)": {"value": 5},
        "blocks.0.a;b c": {"value": 60},
        "blocks.1": {"value": 30},
        "head": {"value": 5},
    }
    assert [stop["stop"] for stop in found["net:build"]["gradient"]] == [0, 1]


def test_graph_of_model_explorer():
    """The fields of ``Graph`` in Model Explorer's graph_builder.py."""
    (graph,) = json.loads(model_explorer.graph_text([("net:build", NET)]))
    nodes = {node["id"]: (node["label"], node["namespace"]) for node in graph["nodes"]}
    assert graph["id"] == "net:build"
    assert nodes == {
        "(model)": ("(itself)", "Net"),
        "blocks.0.a;b c": ("a;b c (Linear)", "Net/blocks/0"),
        "blocks.1": ("1 (Block)", "Net/blocks"),
        "head": ("head (Linear)", "Net"),
        "unused": ("unused (Linear)", "Net"),
    }
    attributes = {node["id"]: {one["key"]: one["value"] for one in node["attrs"]} for node in graph["nodes"]}
    assert attributes["head"] == {"class": "Linear", "FLOPs": "5 FLOPs", "params": "2"}
    assert graph["groupNodeAttributes"] == {
        "": {"class": "Net", "FLOPs": "100 FLOPs", "params": "6"},
        "Net/blocks": {"class": "ModuleList", "FLOPs": "90 FLOPs", "params": "4"},
        "Net/blocks/0": {"class": "Block", "FLOPs": "60 FLOPs", "params": "4"},
    }


def test_names_of_model_explorer():
    """A slash separates layers, so a slash in a name becomes another sign."""
    modules = {"": module("N/et", 1, 1), "a/b": module("A", 1, 1), "a/b.c": module("Linear", 1, 1)}
    net = Complexity(model="N/et", inputs=(), execution="shapes", metrics={"flops": 1}, modules=modules)
    (graph,) = json.loads(model_explorer.graph_text([("x", net)]))
    assert [(node["id"], node["namespace"]) for node in graph["nodes"]] == [("a/b.c", "N|et/a|b")]


def test_a_function_in_model_explorer():
    net = Complexity(model="step", inputs=(), execution="shapes", metrics={"flops": 3}, modules={})
    (graph,) = json.loads(model_explorer.graph_text([("x", net)]))
    assert [(node["id"], node["label"], node["namespace"]) for node in graph["nodes"]] == [("(model)", "step", "step")]


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("flop", "no metric 'flop'; did you mean flops?"),
        ("peak_memory", "peak_memory does not add up over modules"),
        ("arithmetic_intensity", "does not add up over modules"),
        ("activations", "activations was not measured for Net; there are flops, params"),
        ("time[A100]", r"time\[A100\] was not measured"),
    ],
)
@pytest.mark.parametrize("write", [collapsed.text, speedscope.text, model_explorer.node_data_text])
def test_metrics_without_stacks(write, key, told):
    with pytest.raises(UsageError, match=told):
        write([("net:build", NET)], key)
