"""Find the tensors in a model's arguments and outputs: in lists, dicts, named tuples, dataclasses, other objects."""

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
    """Yield every tensor in ``value``, in order. A tensor that occurs twice is yielded twice."""
    # A stack of (id of a container, its remaining parts). There is no recursion, because objects may be deeply nested.
    waiting: list[tuple[int, Iterator[Any]]] = [(0, iter((value,)))]
    within: set[int] = set()
    while waiting:
        identity, remaining = waiting[-1]
        for part in remaining:
            if isinstance(part, torch.Tensor):
                yield part
                continue
            parts = _parts(part)
            if parts is not None and id(part) not in within:
                within.add(id(part))
                waiting.append((id(part), iter(parts)))
                break
        else:
            waiting.pop()
            within.discard(identity)


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
