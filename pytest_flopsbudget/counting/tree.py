"""From what was traced to a `Complexity`: sums up the tree, counts shared parameters and buffers once."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING

from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from pytest_flopsbudget.counting.description import shape_of
from pytest_flopsbudget.results.complexity import Complexity, Execution, Module, Operator, UnknownOperator

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch

    from pytest_flopsbudget.counting.modules import ModuleTracker, Node
    from pytest_flopsbudget.counting.tracer import Tracer


#: Metrics of what modules hold.
_HELD = ("params", "trainable_params", "param_bytes", "buffer_bytes")
_WITHOUT_SIZE = (UninitializedParameter, UninitializedBuffer)

#: Metrics that are sums of work; nodes and tallies keep each under its name.
_SUMMED = ("flops", "other_flops", "recomputed_flops")
_OF_OPERATORS = ("flops", "other_flops")


def _size(tensor: torch.Tensor, *, is_parameter: bool) -> tuple[int, int, int, int]:
    """What one parameter or buffer adds to each of `_HELD`."""
    if type(tensor) in _WITHOUT_SIZE:
        return 0, 0, 0, 0
    if not is_parameter:
        return 0, 0, 0, tensor.nbytes
    count = tensor.numel()
    return count, count if tensor.requires_grad else 0, tensor.nbytes, 0


class _Held:
    """The parameters and buffers at or below one module, each once."""

    __slots__ = ("sizes", "sums")

    def __init__(self, module: torch.nn.Module | None) -> None:
        #: By identity, while something may be held twice.
        self.sizes: dict[int, tuple[int, int, int, int]] = {}
        if module is not None:
            for is_parameter, tensors in ((True, module._parameters), (False, module._buffers)):  # noqa: SLF001
                for tensor in tensors.values():
                    if tensor is not None:
                        self.sizes[id(tensor)] = _size(tensor, is_parameter=is_parameter)
        self.sums = [sum(column) for column in zip(*self.sizes.values(), strict=True)] or [0] * len(_HELD)

    def add(self, other: _Held, *, each_is_held_once: bool) -> None:
        if each_is_held_once:
            self.sums = list(map(operator.add, self.sums, other.sums))
        else:
            self.sizes.update(other.sizes)
            self.sums = [sum(column) for column in zip(*self.sizes.values(), strict=True)] or [0] * len(_HELD)


def _held(nodes: Mapping[str, Node]) -> dict[str, _Held]:
    """What each node holds by itself; one module under several names is counted under each."""
    return {path: _Held(node.module) for path, node in nodes.items()}


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
    held = _held(nodes)
    # Nearly always so; then a module's totals are sums over its parts.
    each_is_held_once = len(set().union(*(one.sizes for one in held.values()))) == sum(
        len(one.sizes) for one in held.values()
    )
    work = {path: {key: getattr(node, key) for key in _SUMMED} for path, node in nodes.items()}
    # Children before parents: a longer path is never above a shorter one.
    for path in sorted(nodes, key=lambda path: path.count("."), reverse=True):
        if path:
            parent = _parent(path)
            for key in _SUMMED:
                work[parent][key] += work[path][key]
            held[parent].add(held[path], each_is_held_once=each_is_held_once)
    modules = {
        path: Module(
            type=node.type,
            shape="" if node.module is None else shape_of(node.module),
            calls=node.calls,
            metrics=work[path] | dict(zip(_HELD, held[path].sums, strict=True)),
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
