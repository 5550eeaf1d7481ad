"""Measurements in the two file formats of Model Explorer: a graph of the modules, and a value for each of its nodes.

The formats are those of ``graph_builder.py`` and ``node_data_builder.py`` in github.com/google-ai-edge/model-explorer.
Node data refers to nodes of a graph by their ids. The graphs that Model Explorer makes have other ids than modules, so
the graph is written too. It has no edges, because a measurement does not know them.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pytest_flopsbudget.quantities.formatting import format_value
from pytest_flopsbudget.quantities.metrics import metric_of, title_of
from pytest_flopsbudget.reports.profiles.stacks import stacks
from pytest_flopsbudget.results.module_tree import ADDING
from pytest_flopsbudget.safe_text import visible

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_flopsbudget.results.complexity import Complexity

#: The node with the work of the model itself, outside of all modules.
_MODEL = "(model)"
#: The label of a node with the work that a module with child modules does itself.
_ITSELF = "(itself)"
#: The colours of the smallest and of the largest value.
_GRADIENT = [{"stop": 0, "bgColor": "#fff7ec"}, {"stop": 1, "bgColor": "#fc8d59"}]


def graph_text(measurements: Sequence[tuple[str, Complexity]]) -> str:
    """Return the JSON of a graph for each measurement. A node is a module, and a layer holds its child modules.

    Args:
        measurements: label and measurement. The label is the id of the graph.
    """
    return _json([_graph(label, complexity) for label, complexity in measurements])


def node_data_text(measurements: Sequence[tuple[str, Complexity]], key: str) -> str:
    """Return the JSON of node data: the value that each module has itself, without the modules below it.

    Args:
        measurements: label and measurement.
        key: the metric.

    Raises:
        UsageError: a measurement has no sum of this metric over modules.
    """
    found = {}
    for label, complexity in measurements:
        results = {stack.path or _MODEL: {"value": stack.value} for stack in stacks(complexity, key)}
        found[visible(label)] = {"results": results, "gradient": _GRADIENT}
    return _json(found)


def _json(document: object) -> str:
    return json.dumps(document, separators=(",", ":"))


def _graph(label: str, complexity: Complexity) -> dict[str, Any]:
    keys = [key for key, value in complexity.metrics.items() if value and metric_of(key).aggregation in ADDING]
    own: dict[str, dict[str, int]] = {path: {} for path in ("", *complexity.modules)}
    for key in keys:
        for stack in stacks(complexity, key):
            own[stack.path][key] = stack.value
    parents = {path.rpartition(".")[0] for path in complexity.modules if path}
    return {
        "id": visible(label),
        "nodes": [
            _node(path, complexity, values, has_children=path in parents)
            for path, values in own.items()
            if path not in parents or values
        ],
        "groupNodeAttributes": {
            # The empty namespace has the attributes of the whole graph.
            _namespace(path, complexity) if path else "": _attributes(path, complexity, _total(path, complexity, keys))
            for path in own
            if not path or path in parents
        },
    }


def _node(path: str, complexity: Complexity, values: Mapping[str, int], *, has_children: bool) -> dict[str, Any]:
    attributes = _attributes(path, complexity, values)
    name = _ITSELF if has_children else f"{_visible(path.rpartition('.')[2])} ({attributes['class']})"
    return {
        "id": path or _MODEL,
        "label": name if path or has_children else attributes["class"],
        "namespace": _namespace(path if has_children or not path else path.rpartition(".")[0], complexity),
        "attrs": [{"key": key, "value": value} for key, value in attributes.items()],
    }


def _namespace(path: str, complexity: Complexity) -> str:
    """Return the layers of a module with its own: "Net/layer1/0"."""
    return "/".join(map(_visible, (complexity.model, *path.split(".")) if path else (complexity.model,)))


def _visible(name: str) -> str:
    # A slash separates layers.
    return visible(name).replace("/", "|")


def _total(path: str, complexity: Complexity, keys: Sequence[str]) -> dict[str, int]:
    metrics = complexity.modules[path].metrics if path else complexity.metrics
    return {key: metrics[key] for key in keys if metrics.get(key)}


def _attributes(path: str, complexity: Complexity, values: Mapping[str, int]) -> dict[str, str]:
    module = complexity.modules.get(path)
    found = {"class": visible(complexity.model if module is None else module.type)}
    if module is not None and module.shape:
        found["settings"] = visible(module.shape)
    return found | {title_of(key): format_value(value, metric_of(key)) for key, value in values.items()}
