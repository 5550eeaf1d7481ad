"""Run operators that a dispatch mode received. PyTorch passes some tensors to the mode as Python numbers.

If an operator refuses a number, it gets a tensor again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from pytest_flopsbudget.counting.torch_private import is_tensor_type, schema_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_flopsbudget.counting.torch_private import OpOverload


#: The dtypes of tensors that PyTorch makes from Python numbers.
_DTYPES = {bool: torch.bool, int: torch.int64, float: torch.float64, complex: torch.complex128}


def run_operator(operator: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Run an operator with the arguments that a dispatch mode received.

    If PyTorch made a tensor from a number (for example from a size in a traced model), the mode receives the number.
    Only arithmetic operators accept a number. For all other operators, the number is converted to a tensor again.
    """
    try:
        return operator(*args, **kwargs)
    except RuntimeError:
        tensors = with_tensors(operator, args)
        if tensors is None:
            raise
    return operator(*tensors, **kwargs)


def with_tensors(operator: OpOverload, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """Convert each number to a tensor where the operator takes a tensor. Return None if there is no such number."""
    found = {
        index: torch.scalar_tensor(value, dtype=_DTYPES[type(value)])
        for index, (value, argument) in enumerate(zip(args, schema_of(operator).arguments, strict=False))
        if type(value) in _DTYPES and is_tensor_type(argument.type)
    }
    return tuple(found.get(index, value) for index, value in enumerate(args)) if found else None
