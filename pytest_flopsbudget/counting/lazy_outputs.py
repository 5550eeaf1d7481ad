"""Handle lazy outputs, which do a model's work only when they are used: generators, other iterators, and coroutines."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator, Mapping
from types import GeneratorType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable


#: The maximum number of items that are taken from one output, since a generator may never end.
MAX_ITEMS = 1_000
#: How deep containers are searched for iterators.
_MAX_DEPTH = 20
#: Python's lazy iterators. They do no work besides that of the iterators and functions that they were made from.
_LAZY = (GeneratorType, map, filter, zip, enumerate)


def take_lazy_outputs(output: Any, notes: set[str], *, keep: bool) -> Any:
    """Take the items of iterators, and run coroutines to their end, so that their work is done and counted.

    At most `MAX_ITEMS` items of an iterator are taken.

    Args:
        output: the value that a model returned. Containers and dataclasses in it may hold iterators and coroutines.
        notes: a set to which notes for the user are added.
        keep: whether the items are returned. If not, each item is freed before the next one is made, as in a loop.

    Returns:
        The output, with a list of items in place of each iterator, and a result in place of each coroutine. If an
        object other than a list, a tuple or a dict holds iterators or coroutines, a list replaces the object. The list
        begins with the object itself, and goes on with the converted parts of the object.
    """
    kind = type(output)
    parts = _parts_of(output)
    if parts is not None:
        if not any(map(_holds_lazy, parts)):
            return output
        taken = [take_lazy_outputs(part, notes, keep=keep) for part in parts]
        if kind is dict:
            return dict(zip(output, taken, strict=True))
        return taken if kind is list or kind is tuple else [output, *taken]
    if isinstance(output, _LAZY) or (isinstance(output, Iterator) and kind.__module__ == "itertools"):
        return _take(output, notes, keep=keep)
    if inspect.iscoroutine(output):
        return _await(output, notes)
    if inspect.isasyncgen(output):
        return _take(_awaited_items(output, notes), notes, keep=keep)
    if isinstance(output, Iterator):
        notes.add(
            f"the output is an iterator of the class {kind.__name__}: what it computes when its items are taken is not "
            "counted; measure a function that takes them"
        )
    return output


def _parts_of(value: Any) -> list[Any] | None:
    """Return the parts of a container or a dataclass; None for any other value."""
    if isinstance(value, (list, tuple)):
        return list(value)
    if isinstance(value, Mapping):
        return list(value.values())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [getattr(value, field.name, None) for field in dataclasses.fields(value)]
    return None


def _holds_lazy(value: Any, depth: int = 0) -> bool:
    if isinstance(value, Iterator) or inspect.iscoroutine(value) or inspect.isasyncgen(value):
        return True
    parts = _parts_of(value) if depth < _MAX_DEPTH else None
    return parts is not None and any(_holds_lazy(part, depth + 1) for part in parts)


def _take(items: Iterator[Any], notes: set[str], *, keep: bool) -> list[Any]:
    kept, number = [], 0
    for number, item in enumerate(items, 1):
        used = take_lazy_outputs(item, notes, keep=keep)
        if keep:
            kept.append(used)
        del item, used  # free the item before the next item is made
        if number == MAX_ITEMS:
            notes.add(f"the output is an iterator: only the work of its first {MAX_ITEMS:,} items is counted")
            if isinstance(items, GeneratorType):
                items.close()
            break
    else:
        notes.add(f"the output is an iterator: the work of all its items ({number:,}) is counted")
    return kept


def _await(awaitable: Awaitable[Any], notes: set[str]) -> Any:
    """Run a coroutine to its end, and return its result.

    If the coroutine waits for anything but other coroutines, add a note, stop the coroutine, and return None.
    """
    steps = awaitable.__await__()
    try:
        while (waits_for := next(steps)) is None:  # None means that the coroutine only lets other tasks run
            pass
    except StopIteration as end:
        return end.value
    notes.add(
        f"the output is a coroutine that waits for a {type(waits_for).__name__}: what it computes after that is not "
        "counted; measure a function that runs it, as by asyncio.run"
    )
    if isinstance(steps, Iterator) and hasattr(steps, "close"):
        steps.close()
    return None


def _awaited_items(items: Any, notes: set[str]) -> Iterator[Any]:
    while True:
        try:
            item = _await(items.__anext__(), notes)
        except StopAsyncIteration:
            return
        yield item
        del item
