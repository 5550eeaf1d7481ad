"""From what was traced to a `Complexity`: sums up the tree, counts shared parameters and buffers once."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING

from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from pytest_flopsbudget.counting.aggregation.sums import Sums
from pytest_flopsbudget.counting.distributed.dtensor import local
from pytest_flopsbudget.counting.distributed.world import has_process_group
from pytest_flopsbudget.counting.tensors.metadata import PLAIN, bytes_of
from pytest_flopsbudget.counting.tracing.labels import shape_of
from pytest_flopsbudget.results.complexity import (
    PHASES,
    Complexity,
    Execution,
    MemoryAtPeak,
    Module,
    Operator,
    Phase,
    UnknownOperator,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch

    from pytest_flopsbudget.counting.tracing.memory import Memory
    from pytest_flopsbudget.counting.tracing.modules import ModuleTracker
    from pytest_flopsbudget.counting.tracing.nodes import Node
    from pytest_flopsbudget.counting.tracing.tracer import Tracer
    from pytest_flopsbudget.hardware.profile import Device
    from pytest_flopsbudget.results.complexity import PhaseName


#: What every operator has, be it 0.
_OF_OPERATORS = ("flops", "other_flops")
#: Measured only where there may be other processes.
_COMMUNICATION = "communication"
#: Metrics of what modules hold, after those: a parameter that several hold is held once by what is above them.
_HELD = ("params", "trainable_params", "param_bytes", "buffer_bytes")
_WITHOUT_SIZE: tuple[type, ...] = (UninitializedParameter, UninitializedBuffer)


def _own(node: Node, work: Sequence[int], held: list[int]) -> list[int]:
    """The node's own part of each of ``sums.keys`` and `_HELD`; the ids of what it holds are added to ``held``."""
    params = trainable = param_bytes = buffer_bytes = 0
    module = node.module
    if module is not None:
        parameters, buffers = module._parameters, module._buffers  # noqa: SLF001 -- `named_parameters` is slow
        if parameters:
            for parameter in parameters.values():
                if parameter is not None and type(parameter) not in _WITHOUT_SIZE:
                    held.append(id(parameter))
                    part = parameter if type(parameter) in PLAIN else local(parameter)
                    count = part.numel()
                    params += count
                    param_bytes += bytes_of(part)
                    if parameter.requires_grad:
                        trainable += count
        if buffers:
            for buffer in buffers.values():
                if buffer is not None and type(buffer) not in _WITHOUT_SIZE:
                    held.append(id(buffer))
                    buffer_bytes += bytes_of(buffer if type(buffer) in PLAIN else local(buffer))
    return [*work, params, trainable, param_bytes, buffer_bytes]


def _totals(nodes: Mapping[str, Node], sums: Sums, upwards: Sequence[tuple[str, str]]) -> dict[str, list[int]]:
    """For each path, its own part of each of ``sums.keys`` and `_HELD`, and those below it."""
    held: list[int] = []
    totals = {path: _own(node, sums.by_path.get(path, sums.nothing), held) for path, node in nodes.items()}
    for path, parent in upwards:
        totals[parent] = list(map(operator.add, totals[parent], totals[path]))
    if len(set(held)) < len(held):
        for path, of_held in _held_once(nodes, upwards).items():
            totals[path][len(sums.keys) :] = of_held
    return totals


def _upwards(nodes: Mapping[str, Node]) -> list[tuple[str, str]]:
    """Every path but the root's with that above it, children before parents."""
    if all(node.parent is not None for node in nodes.values() if node.path):
        # All stand where they were found, on the way down.
        return [(node.path, node.parent.path) for node in reversed(list(nodes.values())) if node.parent is not None]
    # A longer path is never above a shorter one.
    paths = sorted(filter(None, nodes), key=lambda path: path.count("."), reverse=True)
    return [(path, _parent(path)) for path in paths]


def _held_once(nodes: Mapping[str, Node], upwards: Sequence[tuple[str, str]]) -> dict[str, list[int]]:
    """For each path, `_HELD` where something is held in several places."""
    sizes: dict[str, dict[int, tuple[int, ...]]] = {}
    for path, node in nodes.items():
        own = sizes[path] = {}
        if node.module is not None:
            for parameter in node.module._parameters.values():  # noqa: SLF001
                if parameter is not None and _has_size(parameter):
                    part = local(parameter)
                    count = part.numel()
                    own[id(parameter)] = (count, count if parameter.requires_grad else 0, bytes_of(part), 0)
            for buffer in node.module._buffers.values():  # noqa: SLF001
                if buffer is not None and _has_size(buffer):
                    own[id(buffer)] = (0, 0, 0, bytes_of(local(buffer)))
    for path, parent in upwards:
        sizes[parent].update(sizes[path])
    nothing = (0,) * len(_HELD)
    return {path: [sum(column) for column in zip(nothing, *own.values(), strict=True)] for path, own in sizes.items()}


def _has_size(tensor: torch.Tensor) -> bool:
    """Whether it is known by now; that of a lazy module's parameters may not be."""
    return type(tensor) not in _WITHOUT_SIZE


def _parent(path: str) -> str:
    return path.rpartition(".")[0]


def _complete(tracker: ModuleTracker) -> dict[str, Node]:
    """The nodes, parents before children, with the places between an alias's name and the root filled in."""
    nodes = tracker.nodes
    for path in [path for path, node in nodes.items() if node.parent is None]:
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


def _rises(nodes: Mapping[str, Node], upwards: Sequence[tuple[str, str]]) -> dict[str, int]:
    """For each path, the most bytes that a call of it or of a module below it had alive at once."""
    rises = {path: node.rise for path, node in nodes.items()}
    for path, parent in upwards:
        rises[parent] = max(rises[parent], rises[path])
    return rises


def _metrics(keys: Sequence[str], totals: Sequence[int], rise: int, *, alone: bool) -> dict[str, int]:
    metrics = dict(zip(keys, totals))  # noqa: B905 -- as many, and asked for often
    if alone:
        del metrics[_COMMUNICATION]
    # As it would be by itself: what it holds, and what a call of it needs beyond that.
    metrics["peak_memory"] = metrics["param_bytes"] + metrics["buffer_bytes"] + rise
    return metrics


def _operators(tracer: Tracer, sums: Sums) -> dict[str, Operator]:
    operators = {}
    for name, values in sorted(sums.by_operator.items()):
        if name not in tracer.unknown:
            metrics = dict(zip(sums.keys, values, strict=True))
            kept = {key: value for key, value in metrics.items() if value or key in _OF_OPERATORS}
            operators[name] = Operator(calls=sums.calls[name], metrics=kept)
    return operators


def _phases(sums: Sums, *, alone: bool) -> dict[PhaseName, Phase]:
    """Work by phase; none where there is but the forward pass, whose work is the total."""
    if not sums.by_phase.keys() - {"forward"}:
        return {}
    phases = {}
    for name in PHASES:
        metrics = dict(zip(sums.keys, sums.by_phase.get(name, sums.nothing), strict=True))
        if alone:
            del metrics[_COMMUNICATION]
        phases[name] = Phase(metrics=metrics)
    return phases


def _memory_at_peak(memory: Memory) -> MemoryAtPeak:
    kinds, peak = memory.at_peak, memory.peak
    return MemoryAtPeak(
        total=sum(kinds.values()), operator=peak.operator, module="" if peak.node is None else peak.node.path, **kinds
    )


def complexity(  # noqa: PLR0913 -- what is said of a run
    tracer: Tracer,
    *,
    model: str,
    inputs: Sequence[str],
    execution: Execution,
    backward: bool,
    devices: Sequence[Device] = (),
) -> Complexity:
    """What ``tracer`` saw, summed up; the time on ``devices`` with it."""
    nodes = _complete(tracer.tracker)
    sums, upwards, at_peak = Sums(tracer.credits, devices), _upwards(nodes), _memory_at_peak(tracer.memory)
    totals, rises = _totals(nodes, sums, upwards), _rises(nodes, upwards)
    keys = (*sums.keys, *_HELD)
    alone = not (has_process_group() or totals[""][keys.index(_COMMUNICATION)])
    modules = {
        path: Module(
            type=node.type,
            shape="" if node.module is None else shape_of(node.module),
            calls=node.calls,
            metrics=_metrics(keys, totals[path], rises[path], alone=alone),
        )
        for path, node in nodes.items()
    }
    modules[""].metrics["peak_memory"] = at_peak.total
    return Complexity(
        model=model,
        inputs=tuple(inputs),
        execution=execution,
        backward=backward,
        metrics={**modules[""].metrics, "depth": tracer.memory.depth},
        modules=modules,
        operators=_operators(tracer, sums),
        unknown_operators=_unknown(tracer),
        phases=_phases(sums, alone=alone),
        memory_at_peak=at_peak,
        notes=tuple(sorted(tracer.notes)),
    )
