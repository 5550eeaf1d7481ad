"""Build a `Complexity` from a finished trace: add up the module tree, and count shared parameters and buffers once."""

from __future__ import annotations

import operator
from itertools import starmap
from typing import TYPE_CHECKING

import torch

from pytest_flopsbudget.counting.aggregation.parameters import params_left_out
from pytest_flopsbudget.counting.aggregation.sources import sources_of
from pytest_flopsbudget.counting.aggregation.sums import Sums
from pytest_flopsbudget.counting.distributed.dtensor import local_tensor
from pytest_flopsbudget.counting.distributed.world import has_process_group
from pytest_flopsbudget.counting.tensors.metadata import PLAIN_TYPES, UNINITIALIZED, count_values, stored_bytes
from pytest_flopsbudget.counting.tensors.packed import packed_weights
from pytest_flopsbudget.counting.tracing.labels import describe_output, shape_of
from pytest_flopsbudget.results.complexity import Complexity
from pytest_flopsbudget.results.data import PHASES, Execution, MemoryAtPeak, Module, Operator, Phase, UnknownOperator

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_flopsbudget.counting.tensors.packed import PackedSize
    from pytest_flopsbudget.counting.tracing.memory import Memory
    from pytest_flopsbudget.counting.tracing.modules import ModuleTracker
    from pytest_flopsbudget.counting.tracing.nodes import Node
    from pytest_flopsbudget.counting.tracing.tracer import Tracer
    from pytest_flopsbudget.hardware.profile import Device
    from pytest_flopsbudget.results.data import PhaseName


#: The minor version of PyTorch: "2.13".
_PYTORCH = ".".join(torch.__version__.split(".")[:2])
#: Metrics that every operator has, even if they are 0.
_ALWAYS_KEPT = ("flops", "other_flops")
#: This metric is part of the result only if there may be other ranks.
_COMMUNICATION = "communication"
#: This metric is part of the result only if masks of attention leave out a part of the FLOPs.
_MASKED = "masked_flops"
#: Metrics of parameters and buffers. A tensor that several submodules hold counts once in the module above them.
_TENSOR_METRICS = ("params", "trainable_params", "param_bytes", "buffer_bytes")
#: The note of a measurement that does not list all modules.
OPAQUE = (
    "the parts of a scripted module are not listed: TorchScript ran them, and their work counts for the scripted module"
)


def _self_metrics(node: Node, work: Sequence[int], tensors: list[int], packed: Mapping[int, PackedSize]) -> list[int]:
    """Return the metrics of a module without its submodules: ``work``, then the values of `_TENSOR_METRICS`.

    Args:
        node: the node of the module.
        work: the sums over the operators of the module.
        tensors: a list to which the ids of the module's parameters, packed weights and buffers are added.
        packed: address → size, for the packed weights of the whole model.
    """
    params = trainable = param_bytes = buffer_bytes = 0
    module = node.module
    if module is not None:
        parameters, buffers = module._parameters, module._buffers
        if parameters:
            for parameter in parameters.values():
                if parameter is not None and type(parameter) not in UNINITIALIZED:
                    tensors.append(id(parameter))
                    part = parameter if type(parameter) in PLAIN_TYPES else local_tensor(parameter)
                    count = count_values(part)
                    params += count
                    param_bytes += stored_bytes(part)
                    if parameter.requires_grad:
                        trainable += count
        if buffers:
            for buffer in buffers.values():
                if buffer is not None and type(buffer) not in UNINITIALIZED:
                    tensors.append(id(buffer))
                    buffer_bytes += stored_bytes(buffer if type(buffer) in PLAIN_TYPES else local_tensor(buffer))
        if packed:
            sizes = _packed_sizes(module, packed)
            tensors += sizes
            params += sum(size.elements for size in sizes.values())
            param_bytes += sum(size.stored for size in sizes.values())
    return [*work, params, trainable, param_bytes, buffer_bytes]


def _packed_sizes(module: torch.nn.Module, packed: Mapping[int, PackedSize]) -> dict[int, PackedSize]:
    """Return address → size for the packed weights that the module itself holds and that ``packed`` lists."""
    return {identity: packed[identity] for identity in packed_weights(module) if identity in packed}


def _total_metrics(
    nodes: Mapping[str, Node], sums: Sums, parents: Sequence[tuple[str, str]], packed: Mapping[int, PackedSize]
) -> dict[str, list[int]]:
    """Return path → metrics of the module with all its submodules.

    The metrics are the values of ``sums.keys``, then the values of `_TENSOR_METRICS`.
    """
    tensors: list[int] = []
    totals = {
        path: _self_metrics(node, sums.by_path.get(path, sums.nothing), tensors, packed) for path, node in nodes.items()
    }
    for path, parent in parents:
        totals[parent] = list(map(operator.add, totals[parent], totals[path]))
    if len(set(tensors)) < len(tensors):
        for path, metrics in _tensor_metrics_once(nodes, parents, packed).items():
            totals[path][len(sums.keys) :] = metrics
    return totals


def _parents(nodes: Mapping[str, Node]) -> list[tuple[str, str]]:
    """Return (path, path of the parent) for all paths but the root. Children are listed before their parents."""
    if all(node.parent is not None for node in nodes.values() if node.path):
        # The nodes are in the order in which they were found: parents before their children.
        return [(node.path, node.parent.path) for node in reversed(list(nodes.values())) if node.parent is not None]
    # A parent's path has fewer parts than the paths of its children.
    paths = sorted(filter(None, nodes), key=lambda path: path.count("."), reverse=True)
    return [(path, _parent(path)) for path in paths]


def _tensor_metrics_once(
    nodes: Mapping[str, Node], parents: Sequence[tuple[str, str]], packed: Mapping[int, PackedSize]
) -> dict[str, list[int]]:
    """Return path → values of `_TENSOR_METRICS`. A tensor that several submodules share counts once."""
    sizes: dict[str, dict[int, tuple[int, ...]]] = {}
    for path, node in nodes.items():
        of_module = sizes[path] = {}
        if node.module is not None:
            for parameter in node.module._parameters.values():
                if parameter is not None and _has_size(parameter):
                    part = local_tensor(parameter)
                    count = count_values(part)
                    of_module[id(parameter)] = (count, count if parameter.requires_grad else 0, stored_bytes(part), 0)
            for buffer in node.module._buffers.values():
                if buffer is not None and _has_size(buffer):
                    of_module[id(buffer)] = (0, 0, 0, stored_bytes(local_tensor(buffer)))
            for identity, size in _packed_sizes(node.module, packed).items() if packed else ():
                of_module[identity] = (size.elements, 0, size.stored, 0)
    for path, parent in parents:
        sizes[parent].update(sizes[path])
    nothing = (0,) * len(_TENSOR_METRICS)
    return {
        path: [sum(column) for column in zip(nothing, *tensors.values(), strict=True)]
        for path, tensors in sizes.items()
    }


def _has_size(tensor: torch.Tensor) -> bool:
    """Return whether the tensor has a shape. A parameter of a lazy module has none before the module's first call."""
    return type(tensor) not in UNINITIALIZED


def _parent(path: str) -> str:
    return path.rpartition(".")[0]


def _complete(tracker: ModuleTracker) -> dict[str, Node]:
    """Return path → node for all modules. Missing nodes between a shared module and the root are added."""
    nodes = tracker.nodes
    for path in [path for path, node in nodes.items() if node.parent is None]:
        parent = _parent(path)
        while parent and parent not in nodes:
            nodes[parent] = type(tracker.root)(parent, "", None)
            parent = _parent(parent)
    return nodes


def _unknown_operators(tracer: Tracer) -> dict[str, UnknownOperator]:
    unknown = {
        name: UnknownOperator(calls=calls.calls, modules=tuple(sorted(calls.paths)))
        for name, calls in sorted(tracer.unknown_calls.items())
    }
    uncounted = tracer.tracker.uncounted_modules
    if uncounted:
        unknown["threading.Thread"] = UnknownOperator(calls=len(uncounted), modules=tuple(sorted(uncounted)))
    return unknown


def _peak_growths(nodes: Mapping[str, Node], parents: Sequence[tuple[str, str]]) -> dict[str, int]:
    """Return path → the largest growth of memory, in bytes, in one call of the module or of a submodule."""
    growths = {path: node.peak_growth for path, node in nodes.items()}
    for path, parent in parents:
        growths[parent] = max(growths[parent], growths[path])
    return growths


def _metrics(keys: Sequence[str], totals: Sequence[int], peak_growth: int, not_stored: Sequence[str]) -> dict[str, int]:
    metrics = dict(zip(keys, totals))  # noqa: B905 -- equally long, and called for every module
    for key in not_stored:
        del metrics[key]
    # This is the peak of the module without the rest of the model: its parameters and buffers, and the memory of one
    # call.
    metrics["peak_memory"] = metrics["param_bytes"] + metrics["buffer_bytes"] + peak_growth
    return metrics


def _operators(tracer: Tracer, sums: Sums) -> dict[str, Operator]:
    operators = {}
    for name, values in sorted(sums.by_operator.items()):
        if name not in tracer.unknown_calls:
            metrics = dict(zip(sums.keys, values, strict=True))
            masked = metrics.pop(_MASKED)
            kept = {key: value for key, value in metrics.items() if value or key in _ALWAYS_KEPT}
            if masked != metrics["flops"]:
                kept[_MASKED] = masked
            operators[name] = Operator(calls=sums.calls[name], metrics=kept)
    return operators


def _phases(sums: Sums, not_stored: Sequence[str]) -> dict[PhaseName, Phase]:
    """Return the work by phase, or an empty dict if only a forward pass ran.

    The metrics ``not_stored`` are not part of the result.
    """
    if not sums.by_phase.keys() - {"forward"}:
        return {}
    phases = {}
    for name in PHASES:
        if name == "setup" and name not in sums.by_phase:
            continue
        metrics = dict(zip(sums.keys, sums.by_phase.get(name, sums.nothing), strict=True))
        for key in not_stored:
            del metrics[key]
        phases[name] = Phase(metrics=metrics)
    return phases


def _memory_over_time(memory: Memory, at_peak: MemoryAtPeak) -> tuple[int, ...]:
    if memory.timeline is None:
        return ()
    resident = at_peak.total - memory.peak.size
    return tuple(resident + alive for alive in memory.timeline.points)


def _memory_at_peak(memory: Memory) -> MemoryAtPeak:
    kinds, peak = memory.at_peak, memory.peak
    return MemoryAtPeak(total=sum(kinds.values()), operator=peak.operator, module=peak.module, **kinds)


def _inside_opaque(tracker: ModuleTracker) -> set[str]:
    """Return the paths of modules inside of a scripted module, if the calls inside of it could not be followed."""
    opaque = {id(module) for module in tracker.opaque_modules}
    inside = {id(part) for module in tracker.opaque_modules for part in module.modules() if part is not module}
    nodes = tracker.nodes.items() if opaque else ()
    return {path for path, node in nodes if path and id(node.module) in inside}


def build_complexity(  # noqa: PLR0913 -- the fields of a result that no trace knows
    tracer: Tracer,
    *,
    model: str,
    inputs: Sequence[str],
    execution: Execution,
    backward: bool,
    devices: Sequence[Device] = (),
) -> Complexity:
    """Sum up the operators that ``tracer`` counted, with the estimated time on each of ``devices``."""
    nodes = _complete(tracer.tracker)
    sums, parents, at_peak = Sums(tracer.credits, devices), _parents(nodes), _memory_at_peak(tracer.memory)
    totals, growths = _total_metrics(nodes, sums, parents, tracer.tracker.packed_weights), _peak_growths(nodes, parents)
    keys = (*sums.keys, *_TENSOR_METRICS)
    hidden = _inside_opaque(tracer.tracker)
    not_stored = []
    if not (has_process_group() or totals[""][keys.index(_COMMUNICATION)]):
        not_stored.append(_COMMUNICATION)
    if totals[""][keys.index(_MASKED)] == totals[""][keys.index("flops")]:
        not_stored.append(_MASKED)
    modules = {
        path: Module(
            type=node.type,
            shape="" if node.module is None else shape_of(node.module),
            calls=node.calls,
            metrics=_metrics(keys, totals[path], growths[path], not_stored),
            outputs=tuple(starmap(describe_output, node.outputs or ())),
        )
        for path, node in nodes.items()
        if path not in hidden
    }
    modules[""].metrics["peak_memory"] = at_peak.total
    for metric, left_out in params_left_out(tracer, nodes, parents).items():
        for path, module in modules.items():
            module.metrics[metric] = module.metrics["params"] - left_out.get(path, 0)
    return Complexity(
        model=model,
        inputs=tuple(inputs),
        execution=execution,
        backward=backward,
        pytorch=_PYTORCH,
        metrics={**modules[""].metrics, "depth": tracer.memory.depth},
        modules=modules,
        operators=_operators(tracer, sums),
        unknown_operators=_unknown_operators(tracer),
        phases=_phases(sums, not_stored),
        memory_at_peak=at_peak,
        memory_over_time=_memory_over_time(tracer.memory, at_peak),
        sources=sources_of(nodes.values()),
        notes=tuple(sorted({*tracer.notes, *tracer.masks.notes(), *([OPAQUE] if hidden else [])})),
    )
