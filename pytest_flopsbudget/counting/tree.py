"""From what was traced to a `Complexity`: sums up the tree, counts shared parameters and buffers once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from pytest_flopsbudget.counting.description import shape_of
from pytest_flopsbudget.results.complexity import Complexity, Execution, Module, Operator, UnknownOperator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_flopsbudget.counting.modules import ModuleTracker, Node
    from pytest_flopsbudget.counting.tracer import Tracer


#: Metrics that are sums of work; nodes and tallies keep each under its name.
_SUMMED = ("flops", "other_flops", "recomputed_flops")
_OF_OPERATORS = ("flops", "other_flops")


class _Held:
    """The parameters and buffers at or below one module, each once."""

    __slots__ = ("buffers", "parameters")

    def __init__(self) -> None:
        self.parameters: dict[int, torch.nn.Parameter] = {}
        self.buffers: dict[int, torch.Tensor] = {}

    def add(self, module: torch.nn.Module) -> None:
        self.parameters.update((id(item), item) for item in module._parameters.values() if item is not None)  # noqa: SLF001
        self.buffers.update((id(item), item) for item in module._buffers.values() if item is not None)  # noqa: SLF001

    def merge(self, other: _Held) -> None:
        self.parameters.update(other.parameters)
        self.buffers.update(other.buffers)

    def metrics(self) -> dict[str, int]:
        parameters = [
            item for item in self.parameters.values() if not isinstance(item, torch.nn.parameter.UninitializedParameter)
        ]
        return {
            "params": sum(item.numel() for item in parameters),
            "trainable_params": sum(item.numel() for item in parameters if item.requires_grad),
            "param_bytes": sum(item.nbytes for item in parameters),
            "buffer_bytes": sum(
                item.nbytes
                for item in self.buffers.values()
                if not isinstance(item, torch.nn.parameter.UninitializedBuffer)
            ),
        }


def _parent(path: str) -> str:
    return path.rpartition(".")[0]


def _complete(tracker: ModuleTracker) -> dict[str, Node]:
    """The nodes, parents before children, with the places between an alias's name and the root filled in."""
    nodes = tracker.nodes
    for path in list(nodes):
        parent = _parent(path)
        while parent and parent not in nodes:
            nodes[parent] = type(tracker.root)(parent, "", None)
            parent = _parent(parent)
    return nodes


def _unknown(tracer: Tracer) -> dict[str, UnknownOperator]:
    unknown = {
        name: UnknownOperator(calls=tally.calls, modules=tuple(sorted(tally.paths)))
        for name, tally in sorted(tracer.unknown.items())
    }
    unfollowed = tracer.tracker.unfollowed
    if unfollowed:
        unknown["threading.Thread"] = UnknownOperator(calls=len(unfollowed), modules=tuple(sorted(unfollowed)))
    return unknown


def complexity(
    tracer: Tracer, *, model: str, inputs: Sequence[str], execution: Execution, backward: bool
) -> Complexity:
    """What ``tracer`` saw, summed up."""
    nodes = _complete(tracer.tracker)
    held = {path: _Held() for path in nodes}
    work = {path: {key: getattr(node, key) for key in _SUMMED} for path, node in nodes.items()}
    for path, node in nodes.items():
        if node.module is not None:
            held[path].add(node.module)
    # Children before parents: a longer path is never above a shorter one.
    for path in sorted(nodes, key=lambda path: path.count("."), reverse=True):
        if path:
            parent = _parent(path)
            for key in _SUMMED:
                work[parent][key] += work[path][key]
            held[parent].merge(held[path])
    modules = {
        path: Module(
            type=node.type,
            shape="" if node.module is None else shape_of(node.module),
            calls=node.calls,
            metrics=work[path] | held[path].metrics(),
        )
        for path, node in nodes.items()
    }
    return Complexity(
        model=model,
        inputs=tuple(inputs),
        execution=execution,
        backward=backward,
        metrics=modules[""].metrics,
        modules=modules,
        operators={
            name: Operator(calls=tally.calls, metrics={key: getattr(tally, key) for key in _OF_OPERATORS})
            for name, tally in sorted(tracer.counted.items())
        },
        unknown_operators=_unknown(tracer),
        notes=tuple(sorted(tracer.notes)),
    )
