"""Where formulas are registered, and what a formula is given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Formula = Callable[["Call"], int]

_FORMULAS: dict[str, Formula] = {}


class Call:
    """One call of an operator: its arguments by the names of its schema, and what it returned.

    Only metadata are read (shape, dtype, layout), never values, so that one formula serves every way of running.
    """

    __slots__ = ("_arguments", "args", "kwargs", "output")

    def __init__(
        self, operator: torch._ops.OpOverload, args: Sequence[Any], kwargs: Mapping[str, Any], output: Any
    ) -> None:
        names = [argument.name for argument in operator._schema.arguments]  # noqa: SLF001 -- torch names it so
        self._arguments: dict[str, Any] = {**dict(zip(names, args, strict=False)), **kwargs}
        for argument in operator._schema.arguments:  # noqa: SLF001
            if argument.name not in self._arguments and argument.has_default_value():
                self._arguments[argument.name] = argument.default_value
        #: The arguments as they were passed.
        self.args, self.kwargs = args, kwargs
        #: What the operator returned.
        self.output: Any = output

    def __getitem__(self, name: str) -> Any:
        """The argument of that name in the operator's schema."""
        return self._arguments[name]

    def tensor(self, *names: str) -> torch.Tensor:
        """The first tensor among the arguments of these names: kindred operators name the same operand differently."""
        for name in names:
            value = self._arguments.get(name)
            if isinstance(value, torch.Tensor):
                return value
        raise KeyError(f"none of {', '.join(names)} among {', '.join(self._arguments)}")

    @property
    def first_output(self) -> torch.Tensor:
        """The output, or the first of several."""
        output = self.output[0] if isinstance(self.output, (tuple, list)) else self.output
        if not isinstance(output, torch.Tensor):
            raise TypeError(f"expected a tensor, got {type(output).__name__}")
        return output


def formula(*operators: str) -> Callable[[Formula], Formula]:
    """Register a function from a `Call` to its FLOPs for ``operators``, named without overload: "aten.mm"."""

    def register(function: Formula) -> Formula:
        for operator in operators:
            _FORMULAS[operator] = function
        return function

    return register


def formula_of(operator: str) -> Formula | None:
    """The formula registered for an operator named like "aten.mm"."""
    return _FORMULAS.get(operator)


def per_mac(tensor: torch.Tensor) -> int:
    """FLOPs of one multiply-accumulate in the tensor's dtype.

    2 for real numbers; a complex one is 4 multiplications and 4 additions (Golub and Van Loan, "Matrix
    Computations", 4th ed., §1.1.15).
    """
    return 8 if tensor.is_complex() else 2
