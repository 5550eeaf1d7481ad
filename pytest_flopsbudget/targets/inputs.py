"""Make the arguments of a model from the sizes that the user typed, or from the example that the model holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn

from pytest_flopsbudget.counting.cloning.wrapped import is_exported_program
from pytest_flopsbudget.counting.inputs import find_inputs, required_arguments
from pytest_flopsbudget.errors import UsageError
from pytest_flopsbudget.targets.errors import described
from pytest_flopsbudget.targets.grammar import check_names

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_flopsbudget.targets.grammar import CallOptions, InputSpec


class Arguments(NamedTuple):
    """The arguments with which a model is called."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    #: Where the arguments come from; empty if the user gave them.
    note: str = ""


def make_arguments(model: Any, options: CallOptions, example: Arguments | None) -> Arguments:
    """Return the arguments that the user typed, or else ``example``, or else the example that the model holds.

    Raises:
        UsageError: the model needs arguments, and there are none; or two inputs have the same name.
    """
    check_names(options.inputs)
    if options.inputs:
        made = [(one.name, _tensor(one, options.batch, _device_of(model))) for one in options.inputs]
        args = tuple(tensor for name, tensor in made if not name)
        named = {name: tensor for name, tensor in made if name}
        return Arguments(args, {**named, **_checked(options.kwargs, named)})
    found = example
    if found is None:
        found = _held_by(model)
    if not (found.args or found.kwargs or options.kwargs or is_exported_program(model)):
        required = required_arguments(model)
        if required:
            raise UsageError(
                f"the model takes {', '.join(required)}, and no input was given; write --input 1x3x224x224, or "
                "?input=1x3x224x224 after the name of the model"
            )
    args = tuple(_with_batch(value, options.batch) for value in found.args)
    kwargs = {name: _with_batch(value, options.batch) for name, value in found.kwargs.items()}
    sizes = ", ".join(
        f"{'' if name is None else f'{name}='}{'x'.join(map(str, value.shape))}"
        for name, value in (*((None, value) for value in args), *kwargs.items())
        if isinstance(value, torch.Tensor)
    )
    note = f"{found.note} ({sizes}), as no input was given" if found.note else ""
    return Arguments(args, {**kwargs, **options.kwargs}, note)


def _held_by(model: Any) -> Arguments:
    """Return the example that the model holds; no arguments if it holds none."""
    try:
        held = find_inputs(model, (), None)
    except UsageError as error:
        # The example is for other models: transformers gives token ids to models of images too.
        name = getattr(model, "main_input_name", "")
        sizes = "1x3x224x224" if name == "pixel_values" else "SIZES"
        raise UsageError(
            f"{type(model).__name__} takes {name}, and no input was given; write --input {name}={sizes}"
        ) from error
    args = tuple(_with_values("", value) for value in held.args)
    return Arguments(args, {name: _with_values(name, value) for name, value in held.kwargs.items()}, held.note)


def _with_values(name: str, value: Any) -> Any:
    """Return a tensor with values in the place of a tensor on meta, which a model without weights may make."""
    if not isinstance(value, torch.Tensor) or not value.is_meta:
        return value
    return _fill(name)(value.shape, dtype=value.dtype)


def _fill(name: str) -> Callable[..., torch.Tensor]:
    # Zeros are indices that every embedding has, and the system allocates their memory when it is first used. A mask of
    # zeros would hide the whole input.
    return torch.ones if name.endswith("mask") else torch.zeros


def _checked(kwargs: Any, inputs: dict[str, torch.Tensor]) -> Any:
    twice = sorted(kwargs.keys() & inputs.keys())
    if twice:
        raise UsageError(f"{twice[0]!r} is given both as an input and in kwargs; give it once")
    return kwargs


def _tensor(spec: InputSpec, batch: int | None, device: torch.device) -> torch.Tensor:
    sizes = spec.sizes if batch is None else (batch, *spec.sizes[1:])
    try:
        return _fill(spec.name)(sizes, dtype=getattr(torch, spec.dtype), device=device)
    except (RuntimeError, MemoryError) as error:
        shown = "x".join(map(str, sizes))
        raise UsageError(f"input {shown}:{spec.dtype}: PyTorch cannot make this tensor: {described(error)}") from error


def _device_of(model: Any) -> torch.device:
    """Return the device of the model's first parameter; the CPU if the parameter has no data or there is none."""
    first = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    return torch.device("cpu") if first is None or first.is_meta else first.device


def _with_batch(value: Any, batch: int | None) -> Any:
    """Return the tensor with ``batch`` copies of its first row. Return other values, and scalars, as they are."""
    if batch is None or not isinstance(value, torch.Tensor) or not value.dim() or not len(value):
        return value
    return value[:1].expand(batch, *value.shape[1:]).contiguous()
