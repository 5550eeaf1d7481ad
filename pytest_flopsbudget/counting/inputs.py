"""Find the inputs of a measurement: the arguments of the caller, or else the example inputs that the model holds."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from pytest_flopsbudget.counting.cloning.wrapped import is_exported_program, unwrap_compiled
from pytest_flopsbudget.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable


#: Attributes in which models keep example inputs: first the attribute of Lightning, then that of transformers.
_ATTRIBUTES = ("example_input_array", "dummy_inputs")


class Inputs(NamedTuple):
    """The arguments with which a model is called."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    #: The attribute of the model that holds the example inputs; empty if the caller gave the inputs.
    source: str = ""

    @property
    def note(self) -> str:
        """Return a note that names the attribute with the example inputs; empty if the caller gave the inputs."""
        return f"inputs: the model's own {self.source}" if self.source else ""


def find_inputs(model: Callable[..., Any], args: Any, kwargs: Mapping[str, Any] | None) -> Inputs:
    """Return the caller's arguments, or else the example inputs that the model holds, or else no inputs.

    Args:
        model: a module, a method of a module, or a function that calls modules.
        args: the positional arguments. A list or a tuple holds several arguments. Any other value is one argument, and
            so is an instance of a subclass of tuple, such as a packed sequence.
        kwargs: the keyword arguments.

    Raises:
        UsageError: the caller gave no arguments, and the example inputs of the model do not fit the model.
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
        return None  # the example inputs are for calling the model, not for its other methods
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
    """Refuse token ids as the example of a model for images or sounds: transformers sets them in every model."""
    main = getattr(module, "main_input_name", None)
    if isinstance(main, str) and main not in example:
        raise UsageError(
            f"{type(module).__name__} takes {main}, and its own {name} hold {', '.join(example) or 'nothing'}; "
            f"hand over its input, as in (model, kwargs={{{main!r}: torch.empty(...)}})"
        )


def required_arguments(model: Callable[..., Any]) -> list[str]:
    """Return the names of the arguments without a default; an empty list if the model has no readable signature."""
    target = model.forward if isinstance(model, torch.nn.Module) else model
    try:
        parameters = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):  # functions implemented in C++ may have no signature
        return []
    optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [item.name for item in parameters if item.default is item.empty and item.kind not in optional]
