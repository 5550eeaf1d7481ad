"""Handle lazy outputs, which do a model's work only when they are used: generators, other iterators, and coroutines."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from types import GeneratorType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable


#: The maximum number of items that are taken from one output, since a generator may never end.
MAX_ITEMS = 1_000
#: Python's lazy iterators. They do no work besides that of the iterators and functions that they were made from.
_LAZY = (GeneratorType, map, filter, zip, enumerate)


def take_lazy_outputs(output: Any, notes: set[str], *, keep: bool) -> Any:
    """Take all items of a lazy output, or await it, so that its work is done and counted.

    Args:
        output: the value that a model returned. Lazy outputs in a list, a tuple or a dict are used too.
        notes: a set to which notes for the user are added.
        keep: whether the items are returned. If not, each item is freed before the next one is made, as in a loop.

    Returns:
        The output, with a list of items in place of each iterator.
    """
    kind = type(output)
    if (kind is list or kind is tuple) and any(map(_may_be_lazy, output)):
        return [take_lazy_outputs(item, notes, keep=keep) for item in output]
    if kind is dict and any(map(_may_be_lazy, output.values())):
        return {key: take_lazy_outputs(item, notes, keep=keep) for key, item in output.items()}
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


def _may_be_lazy(value: Any) -> bool:
    return isinstance(value, Iterator) or inspect.iscoroutine(value) or inspect.isasyncgen(value)


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
    """Run a coroutine that waits for other coroutines only. If it waits for anything else, add a note and stop it."""
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
