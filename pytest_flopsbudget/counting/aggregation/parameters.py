"""Count the parameters that one token uses, and the parameters that are no embedding tables.

Both are the parameters of a module less some of them: the experts that a token does not use, and the tables.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING

import torch

from pytest_flopsbudget.counting.aggregation.experts import SETTING, Experts, find_experts
from pytest_flopsbudget.counting.distributed.dtensor import local_tensor
from pytest_flopsbudget.counting.tensors.metadata import UNINITIALIZED, count_values
from pytest_flopsbudget.counting.tensors.storages import storage_address

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pytest_flopsbudget.counting.tracing.nodes import Node
    from pytest_flopsbudget.counting.tracing.tracer import Tracer

    #: Path of a module → `id` of a parameter that the module itself holds → number of elements that do not count. Of a
    #: single expert, a fraction counts.
    _LeftOut = dict[str, dict[int, Fraction]]

_TABLES = (torch.nn.Embedding, torch.nn.EmbeddingBag)


def params_left_out(
    tracer: Tracer, nodes: Mapping[str, Node], parents: Sequence[tuple[str, str]]
) -> dict[str, dict[str, int]]:
    """Return metric → path → the number of parameters in the module that do not count. Empty paths are left out.

    The metrics are ``active_params`` and ``non_embedding_params``. A metric is left out if all parameters count.

    Args:
        tracer: the finished trace. Experts whose share is not known are noted in it.
        nodes: path → node, for all modules.
        parents: (path, path of the parent), children before their parents.
    """
    experts = find_experts(nodes, tracer.credits)
    tracer.notes.update(_notes(experts))
    found = {
        "active_params": _not_chosen(nodes, experts),
        "non_embedding_params": _tables(nodes, tracer.tables - {0}),
    }
    return {metric: _sums(parts, parents) for metric, parts in found.items() if parts}


def _sums(parts: _LeftOut, parents: Sequence[tuple[str, str]]) -> dict[str, int]:
    """Return path → the sum over the module and all modules below it, rounded down. Each parameter counts once."""
    for path, parent in parents:
        if path in parts:
            parts.setdefault(parent, {}).update(parts[path])
    return {path: math.floor(sum(amounts.values())) for path, amounts in parts.items()}


def _parameters(nodes: Mapping[str, Node]) -> Iterator[tuple[str, torch.nn.Module, torch.Tensor]]:
    for path, node in nodes.items():
        if node.module is not None:
            for parameter in node.module._parameters.values():
                if parameter is not None and type(parameter) not in UNINITIALIZED:
                    yield path, node.module, parameter


def _not_chosen(nodes: Mapping[str, Node], experts: Sequence[Experts]) -> _LeftOut:
    shares = {id(one): (of.chosen, of.number) for of in experts if of.chosen is not None for one in of.parameters}
    found: _LeftOut = {}
    for path, _, parameter in _parameters(nodes) if shares else ():
        chosen, number = shares.get(id(parameter), (1, 1))
        amount = Fraction(count_values(local_tensor(parameter)) * (number - chosen), number)
        if amount:
            found.setdefault(path, {})[id(parameter)] = amount
    return found


def _tables(nodes: Mapping[str, Node], storages: set[int]) -> _LeftOut:
    tables = {
        id(parameter): Fraction(count_values(local_tensor(parameter)))
        for _, module, parameter in _parameters(nodes)
        if isinstance(module, _TABLES) or (storages and storage_address(parameter) in storages)
    }
    found: _LeftOut = {}
    for path, _, parameter in _parameters(nodes) if tables else ():
        # An output layer may share the table of an embedding.
        if id(parameter) in tables:
            found.setdefault(path, {})[id(parameter)] = tables[id(parameter)]
    return found


def _notes(experts: Sequence[Experts]) -> Iterator[str]:
    unknown = [one.path for one in experts if one.chosen is None]
    if unknown:
        yield (
            f"active_params is an upper bound: how many experts of {_name(unknown)} each token uses is not known; set "
            f"{SETTING} = (chosen, experts) on the module, such as (2, 8)"
        )
    all_run = [one for one in experts if one.runs_all]
    if all_run:
        first = all_run[0]
        yield (
            f"all {first.number} experts of {_name([one.path for one in all_run])} ran for each token; active_params "
            f"counts the {first.chosen} that the router chooses"
        )


def _name(paths: Sequence[str]) -> str:
    first = repr(paths[0]) if paths[0] else "the model itself"
    return first if len(paths) == 1 else f"{first} and {len(paths) - 1} more"
