"""Check the arguments of ``measure`` and of the fixture, and add hints to errors of models that got wrong arguments."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Mapping
from typing import Any

from torch.nn import Module

from pytest_flopsbudget.counting.tensors.traversal import iterate_tensors
from pytest_flopsbudget.errors import UsageError


def check_call(call: str, model: object, kwargs: object = None, *, second: str = "args") -> None:
    """Refuse a model that cannot be called, the class of a module, and keyword arguments that are no dictionary.

    Args:
        call: the name of the function that the user called: "measure", "flops_budget".
        model: its first argument.
        kwargs: its argument ``kwargs``.
        second: the name of its second argument.

    Raises:
        UsageError: one of the arguments is refused.
    """
    if not callable(model):
        raise UsageError(
            f"{call}(model, {second}): the model is a value of type {type(model).__name__}, which cannot be called; "
            f"hand over a torch.nn.Module or a function first, then {'its input' if second == 'args' else second}"
        )
    if isinstance(model, type) and issubclass(model, Module):
        name = model.__name__
        raise UsageError(
            f"{call}(model, {second}): the model is the class {name}; hand over an instance, as in "
            f"{call}({name}(...), {second})"
        )
    if kwargs is not None and not isinstance(kwargs, Mapping):
        raise UsageError(
            f"{call}(model, args, kwargs): kwargs is a value of type {type(kwargs).__name__}, not a dictionary; "
            f"several inputs are a tuple, as in {call}(model, (image, mask))"
        )


def add_hint(error: Exception, call: str, args: Any) -> None:
    """Add a hint to the model's error if the positional arguments of the call are probably in a wrong form.

    Python (since 3.11) and pytest show the hint below the message of the error.

    Args:
        error: what the model raised.
        call: the name of the function that the user called: "measure", "flops_budget".
        args: its argument ``args``.
    """
    hint = _hint(error, call, args)
    if hint:
        # `BaseException.add_note` is new in Python 3.11. pytest shows the notes on every version.
        error.__notes__ = [*getattr(error, "__notes__", ()), hint]


def _hint(error: Exception, call: str, args: Any) -> str:
    if isinstance(args, Mapping):
        return (
            "hint: the dict was passed to the model as one argument; to pass its items by name: "
            f"{call}(model, kwargs={{...}})"
        )
    no_tensor = _without_tensor(args)
    if no_tensor or not isinstance(error, TypeError) or "positional argument" not in str(error):
        return no_tensor
    if isinstance(args, (tuple, list)) and len(args) > 1 and re.search(r"takes .* but \d+ ", str(error)):
        items = "two items" if len(args) == 2 else f"{len(args):,} items"  # noqa: PLR2004 -- a pair
        return (
            f"hint: the {items} were passed to the model as separate arguments; if they are a batch such as (input, "
            f"target), pass the input alone: {call}(model, batch[0])"
        )
    if "missing" in str(error):
        return f"hint: pass several inputs as a tuple, {call}(model, (a, b)), or by name with kwargs={{...}}"
    return ""


def _without_tensor(args: Any) -> str:
    if args == () or next(iterate_tensors(args), None) is not None:
        return ""
    shown = reprlib.repr(args)
    if isinstance(args, (tuple, list)) and all(type(size) is int for size in args):
        return f"hint: {shown} is no tensor; for an input of this shape, pass torch.empty({', '.join(map(str, args))})"
    return f"hint: there is no tensor among the arguments, which are {shown}"
