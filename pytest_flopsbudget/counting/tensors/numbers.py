"""Run operators within a dispatch mode, where PyTorch passes some tensors as numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from pytest_flopsbudget.counting.torch_private import is_tensor_type, schema_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_flopsbudget.counting.torch_private import OpOverload


#: The dtypes of tensors that PyTorch makes of numbers.
_DTYPES = {bool: torch.bool, int: torch.int64, float: torch.float64, complex: torch.complex128}


def run_operator(operator: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Run an operator with the arguments that a dispatch mode received.

    A tensor that PyTorch made of a number (the sizes in a traced model, for example) is received as that number. Only
    arithmetic accepts it. For all other operators it is made a tensor again.
    """
    try:
        return operator(*args, **kwargs)
    except RuntimeError:
        tensors = with_tensors(operator, args)
        if tensors is None:
            raise
    return operator(*tensors, **kwargs)


def with_tensors(operator: OpOverload, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """Return ``args`` with a tensor for each number that the operator takes as a tensor; None if there is none."""
    found = {
        index: torch.scalar_tensor(value, dtype=_DTYPES[type(value)])
        for index, (value, argument) in enumerate(zip(args, schema_of(operator).arguments, strict=False))
        if type(value) in _DTYPES and is_tensor_type(argument.type)
    }
    return tuple(found.get(index, value) for index, value in enumerate(args)) if found else None
