"""What is known of an operator from the operator itself: how it behaves, and which rule counts it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Literal

import torch

from pytest_flopsbudget.counting.costs import (
    FREE,
    Call,
    Cost,
    attention,
    elementary,
    formula_of,
    is_free,
    other_formula_of,
    recurrent,
    reduction,
    registered_formula,
)
from pytest_flopsbudget.counting.costs.activations import products_outputs
from pytest_flopsbudget.counting.costs.communication import COLLECTIVES
from pytest_flopsbudget.counting.costs.messages import message_of
from pytest_flopsbudget.counting.operators.traffic import launches, memory_traffic, moves_nothing
from pytest_flopsbudget.counting.operators.work import NOTHING, Work, dtype_of, precision_of
from pytest_flopsbudget.counting.tensors.metadata import tensors_in
from pytest_flopsbudget.counting.torch_private import OpOverload, has_kernel, is_tensor_type, schema_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pytest_flopsbudget.counting.costs.registry import Formula


#: "functional": returns new tensors, whose metadata follow from the arguments'; "inplace": returns arguments it wrote
#: to, their metadata unchanged; "alias": returns views, resizes, or writes to ``out=``, so it has to run.
Behaviour = Literal["functional", "inplace", "alias"]

#: Arguments that batch norms write to, which their schemas do not say.
_STATISTICS = frozenset({"running_mean", "running_var"})


#: Operators that return views, which their schemas do not say.
_UNDECLARED_VIEWS = frozenset({"aten._unsafe_view", "aten.unsafe_split", "aten.unsafe_split_with_sizes"})

#: Tags that older versions of PyTorch do not know.
_REDUCTION, _VIEW_COPY = (getattr(torch.Tag, name, None) for name in ("reduction", "view_copy"))


#: Operators whose output is a sum over the components of nested tensors too; their formulas read no sizes of these.
_ACROSS_COMPONENTS = frozenset({"aten.linear_backward"})


class OperatorInfo:
    """One operator overload, looked at once."""

    __slots__ = (
        "behaviour",
        "by_gradients",
        "computes",
        "creates_only",
        "decomposes",
        "formula",
        "has_device",
        "has_nested_kernel",
        "is_collective",
        "is_constant",
        "is_plain",
        "is_pointwise",
        "is_random",
        "is_view",
        "known",
        "message",
        "moves_nothing",
        "name",
        "needs_data",
        "operator",
        "other_formula",
        "outputs",
        "registered",
        "returned",
        "takes_tensors",
        "writes_out",
        "written",
    )

    def __init__(self, operator: OpOverload) -> None:
        schema = schema_of(operator)
        arguments = schema.arguments  # made anew whenever it is asked for
        tags = set(operator.tags)
        self.operator = operator
        #: As people read it: "aten.mm".
        self.name = str(operator).rpartition(".")[0]
        #: Whether it is made of other operators, which are to be counted in its place. Such an operator arrives whole
        #: only under inference mode.
        self.decomposes = has_kernel(operator.name(), "CompositeImplicitAutograd")
        self.has_nested_kernel = self.decomposes and has_kernel(operator.name(), "NestedTensorCPU")
        #: Whether the sizes or values of its outputs depend on data.
        self.needs_data = bool({torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape} & tags)
        self.has_device = any(argument.name == "device" for argument in arguments)
        self.takes_tensors = any("Tensor" in str(argument.type) for argument in arguments)
        self.is_pointwise = torch.Tag.pointwise in tags
        self.outputs = len(schema.returns)
        self.is_random = torch.Tag.nondeterministic_seeded in tags
        #: Whether its values follow from its other arguments alone: ``arange``, ``zeros``, not ``rand`` or ``empty``.
        self.is_constant = (
            (
                self.name.startswith("aten.")
                and not self.takes_tensors
                and not self.is_random
                and "empty" not in self.name
                and is_tensor_type(schema.returns[0].type)
            )
            if schema.returns
            else False
        )
        #: Positions of the arguments that it writes to, and of those that it returns, one per output.
        self.written = tuple(
            index
            for index, argument in enumerate(arguments)
            if (argument.alias_info is not None and argument.alias_info.is_write) or argument.name in _STATISTICS
        )
        #: Whether what it writes to is given for its results.
        self.writes_out = any(argument.is_out for argument in arguments)
        #: Whether it deals with other processes, so that what it returns hangs on their number.
        self.is_collective = self.name.rstrip("_") in COLLECTIVES
        #: The bytes that it passes to or gets from them.
        self.message = message_of(self.name)
        if self.name.startswith("c10d.") and self.name.endswith("_"):
            self.written = (0,)  # their schemas do not say so
        #: Whether it writes to nothing, and what it makes is where its arguments are.
        self.creates_only = not (self.has_device or self.written)
        self.behaviour, self.returned = self._behaviour(schema, tags)
        #: Whether its cost or its output hangs on which gradients are asked for.
        self.by_gradients = self.name in attention.BY_GRADIENTS or self.name in recurrent.BY_GRADIENTS
        #: What somebody said from outside, which goes before the rest.
        self.registered = registered_formula(self.name)
        #: Its sums of products.
        self.formula: Formula | None = formula_of(self.name) or _flop_counter_formula(operator)
        #: All its other arithmetic.
        self.other_formula: Formula | None = other_formula_of(self.name) or self._rule_by_tags(tags)
        self.known = bool(self.registered or self.formula or self.other_formula) or self._is_free(schema, tags)

        #: Whether anything counts it.
        self.computes = bool(self.registered or self.formula or self.other_formula)

        #: Whether what it returns follows from its arguments' metadata, wherever they are.
        self.is_plain = (
            self.behaviour != "alias"
            and self.known
            and not (self.needs_data or self.is_random or self.is_constant or self.is_collective)
            and self.name not in ("aten.index", "aten.lift_fresh")
        )

        #: Whether it returns views of its first argument and does nothing else.
        self.is_view = (
            self.behaviour == "alias"
            and not (self.written or self.needs_data or self.registered or self.formula or self.other_formula)
            and bool(arguments)
            and is_tensor_type(arguments[0].type)
            and self._is_free(schema, tags)
        )
        #: Whether it computes nothing and moves no data either.
        self.moves_nothing = moves_nothing(self)

    def _behaviour(self, schema: torch.FunctionSchema, tags: set[torch.Tag]) -> tuple[Behaviour, tuple[int, ...]]:
        if self.name in _UNDECLARED_VIEWS:
            return "alias", ()
        aliased = [result.alias_info for result in schema.returns]
        if not any(aliased):
            # A functional operator may still note statistics in its arguments (batch norm); their metadata stay.
            return ("inplace" if not schema.returns else "functional"), ()
        if torch.Tag.inplace_view in tags or any(argument.is_out for argument in schema.arguments):
            return "alias", ()
        if self.name.rpartition(".")[2].startswith(("resize", "set_", "as_strided_", "_resize")):
            return "alias", ()
        positions: list[int] = []
        for info in aliased:
            if info is None or not info.is_write:
                return "alias", ()
            positions.extend(
                index
                for index, argument in enumerate(schema.arguments)
                if argument.alias_info is not None and argument.alias_info.before_set == info.before_set
            )
        return ("inplace", tuple(positions)) if len(positions) == len(aliased) else ("alias", ())

    def _rule_by_tags(self, tags: set[torch.Tag]) -> Formula | None:
        """PyTorch's tags are promises about its own operators, and about no others."""
        if not self.name.startswith("aten.") or is_free(self.name):
            return None
        if torch.Tag.pointwise in tags:
            return elementary
        return reduction if _REDUCTION in tags else None

    def _is_free(self, schema: torch.FunctionSchema, tags: set[torch.Tag]) -> bool:
        if self.name.startswith(("prim.", "profiler.")):
            return True  # the dispatcher's questions about a tensor: its device, its layout; marks in a trace
        if is_free(self.name):
            return True
        if self.name.startswith("aten.") and (not self.takes_tensors or _VIEW_COPY in tags):
            return True
        # Of other operators, only what returns views is surely free.
        return bool(schema.returns) and all(
            result.alias_info is not None and not result.alias_info.is_write for result in schema.returns
        )

    def writes_to(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Iterator[torch.Tensor]:
        """The tensors, among the arguments of one call, that it writes to."""
        for position in self.written:
            if position < len(args):
                yield from tensors_in(args[position])
            else:
                yield from tensors_in(kwargs.get(schema_of(self.operator).arguments[position].name))

    def runs_nested(self, args: Sequence[Any]) -> bool:
        """Whether the operator runs as one on nested tensors, though it is made of others for plain ones."""
        return self.has_nested_kernel and any(tensor.is_nested for tensor in tensors_in(args))

    def communication(self, args: Sequence[Any], kwargs: Mapping[str, Any], output: Any) -> int:
        """Bytes of the message of one call."""
        return 0 if self.message is None else self.message(Call(self.operator, args, kwargs, output))

    def cost(self, args: Sequence[Any], kwargs: Mapping[str, Any], output: Any) -> Cost:
        """What one call costs; `FREE` where no formula applies."""
        if self.name not in _ACROSS_COMPONENTS and any(tensor.is_nested for tensor in tensors_in(args)):
            costs = [self.cost_of_component(*part) for part in _components(args, kwargs, output)]
            return Cost(sum(cost.flops for cost in costs), sum(cost.other_flops for cost in costs))
        return self.cost_of_component(args, kwargs, output)

    def cost_of_component(self, args: Sequence[Any], kwargs: Mapping[str, Any], output: Any) -> Cost:
        """The same for a call without nested tensors."""
        formula, other_formula = self.formula, self.other_formula
        if formula is None and other_formula is None and self.registered is None:
            return FREE
        call = Call(self.operator, args, kwargs, output)
        if self.registered is not None:
            cost = self.registered(call)
        else:
            cost = Cost(formula(call) if formula else 0, other_formula(call) if other_formula else 0)
        return cost if any(cost) else FREE

    def activations(self, args: Sequence[Any], kwargs: Mapping[str, Any], output: Any) -> int:
        """Elements of the outputs of the products that one call consists of."""
        if self.name not in _ACROSS_COMPONENTS and any(tensor.is_nested for tensor in tensors_in(args)):
            return sum(products_outputs(Call(self.operator, *part)) for part in _components(args, kwargs, output))
        return products_outputs(Call(self.operator, args, kwargs, output))

    def work(self, args: Sequence[Any], kwargs: Mapping[str, Any], output: Any) -> Work:
        """What one call is in all respects; `NOTHING` where nothing runs."""
        launched = launches(self, args, kwargs, output)
        cost = self.cost(args, kwargs, output)
        message = self.communication(args, kwargs, output)
        if not (launched or message) and cost is FREE:
            return NOTHING
        return Work(
            self.name,
            flops=cost.flops,
            other_flops=cost.other_flops,
            communication=message,
            activations=self.activations(args, kwargs, output) if cost.flops else 0,
            memory_traffic=memory_traffic(self, args, kwargs, output) if launched else 0,
            launches=launched,
            steps=recurrent.chain_of(Call(self.operator, args, kwargs, output))
            if self.name in recurrent.CHAINS
            else None,
            dtype=precision_of(self.name, dtype_of(args, kwargs.values(), output)),
        )


def _components(
    args: Sequence[Any], kwargs: Mapping[str, Any], output: Any
) -> Iterator[tuple[Sequence[Any], Mapping[str, Any], Any]]:
    """The call, once for each component of its nested tensors, each a batch of one."""
    count = next(tensor.size(0) for tensor in tensors_in(args) if tensor.is_nested)

    def component(value: Any, index: int) -> Any:
        if isinstance(value, torch.Tensor):
            return value.select(0, index).unsqueeze(0) if value.is_nested else value
        if isinstance(value, (list, tuple)):
            return type(value)(component(item, index) for item in value)
        return value

    for index in range(count):
        keywords = {name: component(value, index) for name, value in kwargs.items()}
        yield component(args, index), keywords, component(output, index)


def _flop_counter_formula(operator: OpOverload) -> Formula | None:
    """A formula that somebody registered with PyTorch's own counter, `torch.utils.flop_counter.register_flop_formula`.

    Many libraries register theirs there. Not imported to look: who registered one has imported it.
    """
    counter = sys.modules.get("torch.utils.flop_counter")
    registered: Callable[..., int] | None = (
        None if counter is None else counter.flop_registry.get(operator.overloadpacket)
    )
    if registered is None:
        return None
    return lambda call: int(registered(*call.args, **call.kwargs, out_val=call.output))


#: Facts about PyTorch's operators, so nothing ever has to reset it.
_INFOS: dict[OpOverload, OperatorInfo] = {}


def operator_info(operator: OpOverload) -> OperatorInfo:
    """What is known of ``operator``; looked up once a process, or until somebody registers a formula for it."""
    info = _INFOS.get(operator)
    if info is None or not info.known or info.registered is not registered_formula(info.name):
        info = _INFOS[operator] = OperatorInfo(operator)
    return info
