"""Find the tensors in what a model takes and returns: lists, dicts, named tuples, dataclasses, other objects."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any

import torch

from pytest_flopsbudget.counting.tensors.objects import attributes_of, is_cloneable, slots_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def iterate_tensors(value: Any) -> Iterator[torch.Tensor]:
    """Yield every tensor in ``value``, in order; a tensor that occurs twice, twice."""
    return _tensors(value, set())


def _tensors(value: Any, within: set[int]) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
        return
    parts = _parts(value)
    if parts is None or id(value) in within:
        return
    within.add(id(value))
    for part in parts:
        yield from _tensors(part, within)
    within.discard(id(value))


def _parts(value: Any) -> Iterable[Any] | None:
    if isinstance(value, Mapping):
        return value.values()
    if isinstance(value, (list, tuple, AbstractSet)):
        return value
    if isinstance(value, torch.nn.Module):
        return None
    if (dataclasses.is_dataclass(value) and not isinstance(value, type)) or is_cloneable(type(value)):
        return [*attributes_of(value).values(), *(item for _, item in slots_of(value))]
    return None
