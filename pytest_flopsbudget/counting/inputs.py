"""The inputs of a measurement: those handed over, or, where there are none, the example that the model carries."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from pytest_flopsbudget.counting.cloning.cloner import is_exported_program, unwrap_compiled
from pytest_flopsbudget.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable


#: Where models keep an example: Lightning's modules, then those of transformers.
_ATTRIBUTES = ("example_input_array", "dummy_inputs")


class Inputs(NamedTuple):
    """What a model is called with."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    #: The attribute of the model that they come from; empty where they were handed over.
    source: str = ""

    @property
    def note(self) -> str:
        """What a reader of the numbers should know; empty where the inputs were handed over."""
        return f"inputs: the model's own {self.source}" if self.source else ""


def find_inputs(model: Callable[..., Any], args: Any, kwargs: Mapping[str, Any] | None) -> Inputs:
    """The inputs that were handed over; those that the model carries, where none were; else none.

    Args:
        model: what is measured.
        args: the positional arguments. A list or a tuple, and not a class of its own made from one (a packed sequence
            is a tuple too), stands for several; anything else is the one argument.
        kwargs: the keyword arguments.

    Raises:
        UsageError: none were handed over, and those that the model carries are not for it.
    """
    positional = tuple(args) if type(args) in (tuple, list) else (args,)
    if positional or kwargs:
        return Inputs(positional, dict(kwargs or {}))
    return _find_example(unwrap_compiled(model)) or Inputs((), {})


def _find_example(model: Any) -> Inputs | None:
    if is_exported_program(model):
        known = model.example_inputs
        return None if known is None else Inputs(tuple(known[0]), dict(known[1]), "example_inputs")
    module = model if isinstance(model, torch.nn.Module) else getattr(model, "__self__", None)
    if not isinstance(module, torch.nn.Module) or (model is not module and getattr(model, "__name__", "") != "forward"):
        return None  # the example is what the model's call takes, and not its other methods
    for name in _ATTRIBUTES:
        example = getattr(module, name, None)
        if isinstance(example, Mapping):
            _refuse_misfit(module, name, example)
            return Inputs((), dict(example), name)
        if isinstance(example, (list, tuple)):
            return Inputs(tuple(example), {}, name)
        if isinstance(example, torch.Tensor):
            return Inputs((example,), {}, name)
    return None


def _refuse_misfit(module: torch.nn.Module, name: str, example: Mapping[str, Any]) -> None:
    """Refuse what transformers gives to all models alike: token ids, to those of images and sounds too."""
    main = getattr(module, "main_input_name", None)
    if isinstance(main, str) and main not in example:
        raise UsageError(
            f"{type(module).__name__} takes {main}, and its own {name} hold {', '.join(example) or 'nothing'}; "
            f"hand over its input, as in (model, kwargs={{{main!r}: torch.empty(...)}})"
        )


def required_arguments(model: Callable[..., Any]) -> list[str]:
    """The names of the arguments without which the model cannot be called, as far as it tells."""
    target = model.forward if isinstance(model, torch.nn.Module) else model
    try:
        parameters = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):  # made in C++
        return []
    optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [item.name for item in parameters if item.default is item.empty and item.kind not in optional]
