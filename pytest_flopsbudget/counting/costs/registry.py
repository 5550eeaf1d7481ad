"""Where formulas are registered, and what a formula is given."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from pytest_flopsbudget.counting.torch_private import OpOverload, schema_of
from pytest_flopsbudget.errors import UsageError
from pytest_flopsbudget.identifiers import OPERATOR

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import TypeGuard

    Formula = Callable[["Call"], int]
    CostFormula = Callable[["Call"], "Cost"]
    OutsideFormula = Callable[["Call"], int | tuple[int, int]]


class Cost(NamedTuple):
    """What one call of an operator costs."""

    #: Sums of products, 2 per multiply-accumulate.
    flops: int
    #: All other arithmetic on floating-point numbers, 1 per elementary operation.
    other_flops: int


FREE = Cost(0, 0)

_FORMULAS: dict[str, Formula] = {}
_OTHER_FORMULAS: dict[str, Formula] = {}
#: Formulas from outside, which go before our own.
_REGISTERED: dict[str, CostFormula] = {}


@cache  # of PyTorch's operators, so nothing ever has to reset it
def _signature(operator: OpOverload) -> tuple[str, tuple[str, ...], dict[str, Any]]:
    """The operator's name, the names of its arguments, and the defaults of those that have one."""
    schema = schema_of(operator)
    names = tuple(argument.name for argument in schema.arguments)
    defaults = {item.name: item.default_value for item in schema.arguments if item.has_default_value()}
    return schema.name.replace("::", "."), names, defaults


class Call:
    """One call of an operator: its arguments by the names of its schema, and what it returned.

    Only metadata are read (shape, dtype, layout), never values, so that one formula serves every way of running.
    """

    __slots__ = ("_arguments", "args", "kwargs", "name", "output")

    def __init__(self, operator: OpOverload, args: Sequence[Any], kwargs: Mapping[str, Any], output: Any) -> None:
        name, names, defaults = _signature(operator)
        #: The operator's name, without overload: "aten.mm".
        self.name = name
        self._arguments: dict[str, Any] = {**dict(zip(names, args, strict=False)), **kwargs}
        for missing, default in defaults.items():
            self._arguments.setdefault(missing, default)
        #: The arguments as they were passed.
        self.args, self.kwargs = args, kwargs
        #: What the operator returned.
        self.output: Any = output

    @classmethod
    def by_names(cls, name: str, arguments: Mapping[str, Any]) -> Call:
        """A call of something without a schema, which returns nothing: a kernel."""
        call = cls.__new__(cls)
        call.name, call.args, call.kwargs, call.output = name, (), arguments, None
        call._arguments = dict(arguments)  # noqa: SLF001 -- its own class
        return call

    @property
    def names(self) -> Iterable[str]:
        """The names of the arguments."""
        return self._arguments.keys()

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
    """Register a function from a `Call` to its sums of products, in FLOPs, for ``operators``.

    They are named without overload: "aten.mm".
    """

    def register(function: Formula) -> Formula:
        for operator in operators:
            _FORMULAS[operator] = function
        return function

    return register


def other_formula(*operators: str) -> Callable[[Formula], Formula]:
    """Register a function from a `Call` to the FLOPs that are no sums of products, for ``operators``."""

    def register(function: Formula) -> Formula:
        for operator in operators:
            if operator in _OTHER_FORMULAS:
                raise ValueError(f"{operator} has a formula")
            _OTHER_FORMULAS[operator] = function
        return function

    return register


def flops_formula(*operators: str) -> Callable[[OutsideFormula], OutsideFormula]:
    """Register a formula for operators of your own, or another one than ours.

    ::

        @flops_formula("mylib::scan")
        def scan(call):
            return 2 * call.tensor("x").numel()

    A formula is given the `Call` and returns its FLOPs, 2 per multiply-accumulate; 0 says that the operator is free.
    Where the operator computes more than sums of products it may return a pair: (flops, other_flops). It should look
    at shapes only: where a model is counted on shapes alone there are no values.

    Args:
        operators: qualified names, "namespace::name", without overload.

    Raises:
        UsageError: a name is not of that form.
    """
    for operator in operators:
        if not isinstance(operator, str) or not OPERATOR.fullmatch(operator):
            raise UsageError(
                f'flops_formula({operator!r}): an operator is named "namespace::name", as in "mylib::scan"'
            )

    def register(function: OutsideFormula) -> OutsideFormula:
        for operator in operators:
            _REGISTERED[operator.replace("::", ".")] = _checked(operator, function)
        return function

    return register


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _checked(operator: str, function: OutsideFormula) -> CostFormula:
    """``function``, with its own mistakes told as such: they are none of the model's."""
    name = getattr(function, "__qualname__", repr(function))

    def formula_from_outside(call: Call) -> Cost:
        try:
            cost = function(call)
        except Exception as error:
            raise UsageError(
                f"the formula {name} for {operator} raised {type(error).__name__}: {error}; "
                f"the operator's arguments are {', '.join(call.names)}"
            ) from error
        flops, other_flops = cost if isinstance(cost, tuple) and len(cost) == 2 else (cost, 0)  # noqa: PLR2004 -- a pair
        if not _is_count(flops) or not _is_count(other_flops):
            raise UsageError(
                f"the formula {name} for {operator} returned {cost!r}; FLOPs are a whole number, 0 or more, "
                "or a pair of such: (flops, other_flops)"
            )
        return Cost(flops, other_flops)

    return formula_from_outside


def registered_formula(operator: str) -> CostFormula | None:
    """The formula that was registered from outside for an operator named like "mylib.scan"."""
    return _REGISTERED.get(operator)


def formula_of(operator: str) -> Formula | None:
    """Our own formula for an operator named like "aten.mm", in place or not."""
    return _FORMULAS.get(operator) or _FORMULAS.get(operator.rstrip("_"))


def other_formula_of(operator: str) -> Formula | None:
    """Our own formula for what is no sum of products."""
    return _OTHER_FORMULAS.get(operator) or _OTHER_FORMULAS.get(operator.rstrip("_"))


def per_mac(tensor: torch.Tensor) -> int:
    """FLOPs of one multiply-accumulate in the tensor's dtype.

    2 for real numbers; a complex one is 4 multiplications and 4 additions (Golub and Van Loan, "Matrix
    Computations", 4th ed., §1.1.15).
    """
    return 8 if tensor.is_complex() else 2
