"""Read what ``make_inputs`` returns: a tensor, arguments, arguments with keywords, or a model with its inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from pytest_flopsbudget.counting.inputs import Inputs, find_inputs
from pytest_flopsbudget.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable


def read_made(model: Callable[..., Any] | None, made: Any) -> tuple[Callable[..., Any], Inputs]:
    """Return the model and its arguments for one size.

    Args:
        model: the model; None if ``make_inputs`` returns one for each size.
        made: the value that ``make_inputs`` returned: a tensor, a tuple of arguments, a dict of keyword arguments, a
            tuple (arguments, keyword arguments), or a tuple (model, any of these).

    Raises:
        UsageError: there is no model.
    """
    if isinstance(made, tuple) and len(made) == _PAIR:
        first = made[0]
        # A function beside the inputs is an argument, unless there is no other model.
        if isinstance(first, torch.nn.Module) or (
            model is None and callable(first) and not isinstance(first, torch.Tensor)
        ):
            model, made = made
    if model is None:
        raise UsageError(
            "law(None, make_inputs): make_inputs has to return (model, inputs), and it returned a value of type "
            f"{type(made).__name__}"
        )
    if isinstance(made, Mapping):
        return model, find_inputs(model, (), dict(made))
    if isinstance(made, tuple) and len(made) == _PAIR and isinstance(made[0], (tuple, list)):
        args, kwargs = made
        if isinstance(kwargs, Mapping):
            return model, find_inputs(model, args, dict(kwargs))
    return model, find_inputs(model, made, None)


_PAIR = 2
