"""The registry of operators: the formulas and rules of each operator, and the `Call` that they read."""

from __future__ import annotations

from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from pytest_flopsbudget.counting.torch_private import OpOverload, schema_of
from pytest_flopsbudget.errors import UsageError
from pytest_flopsbudget.identifiers import OPERATOR
from pytest_flopsbudget.quantities.parsing import TOO_LARGE, quote_value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from fractions import Fraction
    from typing import Protocol, TypeGuard

    class Kept(Protocol):
        """Returns the share of the pairs (query, key) that a mask leaves; None if the mask's values are not known."""

        def __call__(self, mask: torch.Tensor, *, drops: bool) -> Fraction | None:
            """Return the share. If ``drops``, a boolean mask is true for the pairs that it removes."""

    Formula = Callable[["Call"], int]
    #: A function of a call, of `Kept` and of the call's FLOPs. It returns the FLOPs for the pairs that masks leave, or
    #: None if the values of a mask are not known.
    MaskedFormula = Callable[["Call", "Kept", int], int | None]
    Deciding = Callable[["Call"], Iterable[torch.Tensor]]
    OperandBits = Callable[["Call"], tuple[int, int]]
    Choosing = Callable[["Call"], "Choice | None"]
    CostFormula = Callable[["Call"], "Cost"]
    OutsideFormula = Callable[["Call"], int | tuple[int, int]]
    #: A function that receives a call's arguments, with tensors on the meta device, and returns the output. It returns
    #: None if the rule does not apply.
    ShapeRule = Callable[[Sequence[Any], Mapping[str, Any]], Any]


class Cost(NamedTuple):
    """The FLOPs of one call of an operator."""

    #: Sums of products, 2 per multiply-accumulate.
    flops: int
    #: All other arithmetic on floating-point numbers, 1 per elementary operation.
    other_flops: int


FREE = Cost(0, 0)


class Choice(NamedTuple):
    """One call of an operator that chooses some of several candidates, row by row, as routers of experts do."""

    rows: int
    #: The number of candidates in each row.
    candidates: int
    #: The number of candidates that are chosen in each row.
    chosen: int
    #: Whether the operator only chooses. A maximum may be wanted for its value alone.
    ranks: bool = False


@cache  # PyTorch's schemas never change, so this cache is never cleared
def _signature(operator: OpOverload) -> tuple[str, tuple[str, ...], dict[str, Any]]:
    """Return the operator's name, the names of its arguments, and the default values by name."""
    schema = schema_of(operator)
    names = tuple(argument.name for argument in schema.arguments)
    defaults = {item.name: item.default_value for item in schema.arguments if item.has_default_value()}
    return REGISTRY.implemented(schema.name.replace("::", ".")), names, defaults


class Call:
    """One call of an operator: the arguments, under their names in the operator's schema, and the output.

    Formulas read metadata only (shape, dtype, layout), so they also work on the meta device. If a formula must read the
    values of an argument, the operator registers this argument under ``values`` (see `Facets`).
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
        #: The output of the operator.
        self.output: Any = output

    @classmethod
    def by_names(cls, name: str, arguments: Mapping[str, Any]) -> Call:
        """Make the `Call` of a GPU kernel, which has no schema and no output."""
        call = cls.__new__(cls)
        call.name, call.args, call.kwargs, call.output = name, (), arguments, None
        call._arguments = dict(arguments)
        return call

    @property
    def names(self) -> Iterable[str]:
        """The names of the arguments."""
        return self._arguments.keys()

    def __getitem__(self, name: str) -> Any:
        """Return the argument that has this name in the operator's schema."""
        return self._arguments[name]

    def tensor(self, *names: str) -> torch.Tensor:
        """Return the first of the named arguments that is a tensor.

        Related operators name the same argument differently, so a formula for several operators passes all these names.

        Raises:
            KeyError: none of these arguments is a tensor.
        """
        for name in names:
            value = self._arguments.get(name)
            if isinstance(value, torch.Tensor):
                return value
        raise KeyError(f"none of {', '.join(names)} among {', '.join(self._arguments)}")

    @property
    def first_output(self) -> torch.Tensor:
        """The output of the call, or its first output if it has several.

        Raises:
            TypeError: this output is no tensor.
        """
        output = self.output[0] if isinstance(self.output, (tuple, list)) else self.output
        if not isinstance(output, torch.Tensor):
            raise TypeError(f"expected a tensor, got {type(output).__name__}")
        return output


class Facets(NamedTuple):
    """Everything that is registered for one operator. Each formula receives a `Call`."""

    #: FLOPs of sums of products, 2 per multiply-accumulate.
    flops: Formula | None = None
    #: FLOPs of all other arithmetic.
    other: Formula | None = None
    #: Number of elements in the outputs of the operator's products. By default, all elements of its first output count.
    activations: Formula | None = None
    #: Bits of one number in the two operands of the operator's products. By default, both have the bits of the first
    #: operand with floating-point numbers.
    bits: OperandBits | None = None
    #: Bytes that one call reads and writes. By default, every operand and every output counts once.
    traffic: Formula | None = None
    #: Makes the output. For operators whose meta kernel in PyTorch is right but slow.
    shape: ShapeRule | None = None
    #: Makes the output. For operators without a meta kernel, or with a meta kernel that disagrees with the CPU's
    #: kernel.
    corrected_shape: ShapeRule | None = None
    #: Bytes of the message that one call passes between processes.
    message: Formula | None = None
    #: Number of steps that run one after another within one call, for example in a recurrent layer.
    chain: Formula | None = None
    #: Returns the arguments whose values change the cost of a call, for example the offsets of packed sequences. If a
    #: run does not know these values, the formula gets the arguments without data and returns an upper bound.
    values: Deciding | None = None
    #: What one call chooses from; None if the call chooses nothing.
    choice: Choosing | None = None
    #: Name of the first argument, if the operator looks up rows of it: a table of embeddings.
    table: str = ""
    #: Whether the operator multiplies groups of rows, each with its own matrix, as layers of experts do.
    grouped: bool = False
    #: The part of the FLOPs of sums of products that the masks of attention leave. By default, all of them.
    masked: MaskedFormula | None = None
    #: Whether the size of the output depends on the values of the inputs, although PyTorch's tags do not say so.
    needs_data: bool = False
    #: Whether the operator's cost or output depends on which gradients are requested.
    by_gradients: bool = False
    #: Whether the operator communicates with other processes. Its output then depends on the number of processes.
    collective: bool = False
    #: Whether the operator does no floating-point arithmetic.
    free: bool = False


_NO_FACETS = Facets()
_NATIVE = "_native."
#: Facets that an in-place form such as "aten.add_" shares with its base form "aten.add". The two forms read, write and
#: return different tensors, so the rules for bytes and shapes are registered for each form.
_SHARED_BY_IN_PLACE_FORMS = ("flops", "other", "message", "collective", "free")


class Registry:
    """The registered formulas and rules of each operator. A user's formula replaces a built-in formula.

    Operators are named without overload: "aten.mm".
    """

    def __init__(self) -> None:
        self._facets: dict[str, Facets] = {}
        self._users: dict[str, CostFormula] = {}
        #: Grows with every registration. A cache of the registry's contents compares this number to see if it is
        #: outdated.
        self.version = 0

    def add(self, names: Iterable[str], facets: Facets) -> None:
        """Register formulas and rules for operators.

        Raises:
            ValueError: one of the operators has one of these formulas or rules already.
        """
        given = {facet: value for facet, value in facets._asdict().items() if value}
        for name in names:
            before = self._facets.get(name, _NO_FACETS)
            twice = [facet for facet in given if getattr(before, facet)]
            if twice:
                raise ValueError(f"{name} has {', '.join(twice)} already")
            self._facets[name] = before._replace(**given)
        self.version += 1

    def facets(self, name: str) -> Facets:
        """Return the formulas and rules of an operator.

        An in-place form such as "aten.add_" shares some formulas with its base form "aten.add".
        """
        name = self.implemented(name)
        facets = self._facets.get(name, _NO_FACETS)
        base = self._facets.get(name.rstrip("_"), _NO_FACETS)
        if base is facets:
            return facets
        return facets._replace(
            **{facet: getattr(facets, facet) or getattr(base, facet) for facet in _SHARED_BY_IN_PLACE_FORMS}
        )

    def implemented(self, name: str) -> str:
        """Return the name of the ATen operator that an operator of PyTorch's namespace ``_native`` implements.

        Such an operator has the schema of the ATen operator. Its name begins with that operator's name and ends with a
        backend and a number, as in "_native.bmm_triton_0". Any other operator implements itself.
        """
        if not name.startswith(_NATIVE):
            return name
        known = name.removeprefix(_NATIVE)
        while known and f"aten.{known}" not in self._facets:
            known = known.rpartition("_")[0]
        return f"aten.{known}" if known else name

    def items(self) -> Iterable[tuple[str, Facets]]:
        """Return the names of all operators with their formulas and rules."""
        return self._facets.items()

    def add_user_formula(self, name: str, formula: CostFormula) -> None:
        """Register a user's formula. It replaces any earlier formula of a user for this operator."""
        self._users[name] = formula
        self.version += 1

    def user_formula(self, name: str) -> CostFormula | None:
        """Return the formula that a user registered for an operator named like "mylib.scan"."""
        return self._users.get(name)

    @contextmanager
    def restored(self) -> Iterator[None]:
        """Undo, at the end of the ``with`` block, all registrations that were made inside the block."""
        before = self._facets.copy(), self._users.copy()
        try:
            yield
        finally:
            self._facets, self._users = before
            self.version += 1


#: The registry that counting uses.
REGISTRY = Registry()


def operator(  # noqa: PLR0913 -- one keyword a facet
    *names: str,
    flops: Formula | None = None,
    other: Formula | None = None,
    activations: Formula | None = None,
    bits: OperandBits | None = None,
    traffic: Formula | None = None,
    shape: ShapeRule | None = None,
    corrected_shape: ShapeRule | None = None,
    message: Formula | None = None,
    chain: Formula | None = None,
    values: Deciding | None = None,
    choice: Choosing | None = None,
    table: str = "",
    grouped: bool = False,
    masked: MaskedFormula | None = None,
    needs_data: bool = False,
    by_gradients: bool = False,
    collective: bool = False,
    free: bool = False,
) -> None:
    """Register formulas and rules for operators. The class `Facets` describes each keyword.

    Raises:
        ValueError: an operator already has one of the given formulas or rules.
    """
    facets = Facets(
        *(flops, other, activations, bits, traffic, shape, corrected_shape, message, chain, values),
        *(choice, table, grouped, masked),
        *(needs_data, by_gradients, collective, free),
    )
    REGISTRY.add(names, facets)


def formula(*names: str) -> Callable[[Formula], Formula]:
    """Register the decorated function as the formula for the ``flops`` of operators."""

    def register(function: Formula) -> Formula:
        REGISTRY.add(names, Facets(flops=function))
        return function

    return register


def other_formula(*names: str) -> Callable[[Formula], Formula]:
    """Register the decorated function as the formula for the other FLOPs of operators."""

    def register(function: Formula) -> Formula:
        REGISTRY.add(names, Facets(other=function))
        return function

    return register


def flops_formula(*operators: str) -> Callable[[OutsideFormula], OutsideFormula]:
    """Register a formula for your own operators, or one that replaces a built-in formula.

    ::

        @flops_formula("mylib::scan")
        def scan(call):
            return 2 * call.tensor("x").numel()

    The formula receives the `Call` and returns its FLOPs, 2 per multiply-accumulate; 0 means that the operator is free.
    If the operator computes more than sums of products, the formula may return a pair: (flops, other_flops). The
    formula should read shapes only, because tensors have no values while a model is counted on shapes.

    Args:
        operators: qualified names, "namespace::name", without overload.

    Raises:
        UsageError: a name does not have the form "namespace::name".
    """
    for operator in operators:
        if not isinstance(operator, str) or not OPERATOR.fullmatch(operator):
            raise UsageError(
                f'flops_formula({operator!r}): an operator is named "namespace::name", as in "mylib::scan"'
            )

    def register(function: OutsideFormula) -> OutsideFormula:
        for operator in operators:
            REGISTRY.add_user_formula(operator.replace("::", "."), _checked(operator, function))
        return function

    return register


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < TOO_LARGE


def _checked(operator: str, function: OutsideFormula) -> CostFormula:
    """Wrap a user's formula. If it raises an error or returns no number of FLOPs, the wrapper raises a UsageError."""
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
                f"the formula {name} for {operator} returned {quote_value(cost)}; FLOPs are a whole "
                "number, 0 or more and below 10^100, or a pair of such: (flops, other_flops)"
            )
        return Cost(flops, other_flops)

    return formula_from_outside


def per_mac(tensor: torch.Tensor) -> int:
    """Return the FLOPs of one multiply-accumulate in the tensor's dtype.

    A multiply-accumulate of real numbers is 2 FLOPs. A multiply-accumulate of complex numbers is 4 real multiplications
    and 4 real additions, which are 8 FLOPs (Golub and Van Loan, "Matrix Computations", 4th ed., §1.1.15).
    """
    return 8 if tensor.is_complex() else 2
