"""Facts about an operator: how it behaves, and which formulas count it.

With these facts, the file `accounting.py` counts calls of the operator.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Literal

import torch

from pytest_flopsbudget.counting.costs import REGISTRY, elementary, reduction
from pytest_flopsbudget.counting.tensors.metadata import tensors_in
from pytest_flopsbudget.counting.torch_private import OpOverload, has_kernel, is_tensor_type, schema_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pytest_flopsbudget.counting.costs.registry import Formula


#: How an operator treats its arguments:
#:
#: - "functional": returns new tensors, whose metadata follow from the metadata of the arguments.
#: - "inplace": returns arguments that it wrote to, with unchanged metadata.
#: - "alias": returns views, resizes, or writes to ``out=``. Such an operator must run, even in a run on shapes.
Behaviour = Literal["functional", "inplace", "alias"]

#: Arguments that batch norms write to, although their schemas do not declare the write.
_STATISTICS = frozenset({"running_mean", "running_var"})

#: Operators that return views, although their schemas do not declare the views.
_UNDECLARED_VIEWS = frozenset({"aten._unsafe_view", "aten.unsafe_split", "aten.unsafe_split_with_sizes"})

#: Operators whose output sums over the components of nested tensors. Their formulas do not read the components' sizes.
_ACROSS_COMPONENTS = frozenset({"aten.linear_backward"})

#: Tags that older versions of PyTorch do not have.
_REDUCTION, _VIEW_COPY = (getattr(torch.Tag, name, None) for name in ("reduction", "view_copy"))

#: Operators that allocate memory without filling it, or that read only the metadata of a tensor.
_NO_KERNEL_NAMES = """
empty empty_like empty_permuted empty_strided new_empty new_empty_strided _efficientzerotensor
detach alias lift lift_fresh _unsafe_view set_ resize_ resize_as_ _resize_output_ record_stream is_same_size
_has_same_storage_numel _fused_sdp_choice _assert_tensor_metadata _functional_sym_constrain_range
_functional_sym_constrain_range_for_size sym_constrain_range sym_constrain_range_for_size
_sparse_coo_tensor_with_dims_and_tensors sparse_dim dense_dim _dimI _dimV _nnz is_coalesced _coalesced_ is_pinned
is_set_to qscheme q_scale q_zero_point q_per_channel_axis
"""
_NO_KERNEL = {f"aten.{name}" for name in _NO_KERNEL_NAMES.split()} | {
    f"_c10d_functional{name}"
    for name in (".wait_tensor", ".wait_tensors", "._wrap_tensor_autograd", "_autograd.wait_tensor")
}


#: Operators that fill a tensor with one number, which is an argument or follows from the operator's name. The memory of
#: "empty" tensors may have any values, and code that reads these values before it writes them is wrong on every device.
#: So "empty" tensors count as filled with zeros.
_FILLING_NAMES = """
empty empty_like empty_strided new_empty new_empty_strided new_zeros new_ones new_full zeros_like ones_like full_like
fill_ zero_
"""
_FILLING = frozenset(f"aten.{name}" for name in _FILLING_NAMES.split())


#: The operator that packs sequences of known lengths. The lengths are always on the CPU.
PACKS = "aten._pack_padded_sequence"


#: Products of matrices.
PRODUCTS = frozenset(("aten.bmm", "aten.baddbmm", "aten.mm"))
SOFTMAX = ("aten._softmax", "aten._safe_softmax")
SOFTMAX_BACKWARD = "aten._softmax_backward_data"
#: Operators that copy all values, or set some of them to 0.
COPIES = frozenset(("aten.clone", "aten._to_copy", "aten.native_dropout", "aten.native_dropout_backward"))
#: Operators other than pointwise ones that attention runs on its scores and weights.
_OF_SCORES = frozenset((*PRODUCTS, *SOFTMAX, SOFTMAX_BACKWARD, *COPIES))
#: Operators that make masks, other than pointwise ones.
FOLLOWED = frozenset(("aten.tril", "aten.triu", "aten._to_copy", "aten.clone", "aten.index", "aten.copy_"))


class OperatorInfo:
    """Facts about one operator overload."""

    __slots__ = (
        "across_components",
        "behaviour",
        "computes",
        "creates_only",
        "decomposes",
        "facets",
        "fills",
        "formula",
        "has_device",
        "has_nested_kernel",
        "is_collective",
        "is_constant",
        "is_convolution",
        "is_maskable",
        "is_plain",
        "is_pointwise",
        "is_random",
        "is_view",
        "keeps_values",
        "known",
        "moves_nothing",
        "multiplies",
        "name",
        "needs_data",
        "operator",
        "other_formula",
        "outputs",
        "registered",
        "returned",
        "table",
        "takes_tensors",
        "touches_scores",
        "version",
        "writes_out",
        "written",
    )

    def __init__(self, operator: OpOverload) -> None:
        schema = schema_of(operator)
        arguments = schema.arguments  # each access to the attribute makes a new list
        tags = set(operator.tags)
        self.operator = operator
        #: The name without overload: "aten.mm".
        self.name = str(operator).rpartition(".")[0]
        #: The registry's version when these facts were computed.
        self.version = REGISTRY.version
        self.facets = REGISTRY.facets(self.name)
        self._read_schema(schema, arguments, tags)
        self.behaviour, self.returned = self._behaviour(schema, tags)
        #: The user's formula for the operator. It takes precedence over ours.
        self.registered = REGISTRY.user_formula(self.name)
        #: Our formula for sums of products.
        self.formula: Formula | None = self.facets.flops or _flop_counter_formula(operator)
        #: Our formula for all other arithmetic.
        self.other_formula: Formula | None = self.facets.other or self._rule_by_tags(tags)
        #: Whether any formula counts the operator.
        self.computes = bool(self.registered or self.formula or self.other_formula)
        is_free = self._is_free(schema, tags)
        self.known = self.computes or is_free
        #: For nested tensors: whether one cost applies to the whole call, instead of one cost for each component.
        self.across_components = self.name in _ACROSS_COMPONENTS
        #: Whether the operator communicates with other processes. Its output then depends on the number of processes.
        self.is_collective = self.facets.collective
        #: Whether, on every device, the metadata of the output follow from the metadata of the arguments.
        self.is_plain = (
            self.behaviour != "alias"
            and self.known
            and not (self.needs_data or self.is_random or self.is_constant or self.is_collective or self.facets.values)
            and not (self.fills and self.written)
            and self.name not in ("aten.index", "aten.lift_fresh", PACKS)
        )
        #: Name of the first argument, if the operator looks up rows of it; empty for nearly all operators.
        self.table = self.facets.table
        #: Whether the operator only returns views of its first argument.
        self.is_view = (
            self.behaviour == "alias"
            and not (self.written or self.needs_data or self.computes)
            and bool(arguments)
            and is_tensor_type(arguments[0].type)
            and is_free
        )
        #: Whether no call of the operator computes or moves data: views, queries about tensors, allocations.
        self.moves_nothing = (
            self.is_view
            or self.name in _NO_KERNEL
            or self.name.startswith(("prim.", "profiler."))
            or torch.Tag.inplace_view in tags  # for example, ``transpose_``
            or (self.known and self.behaviour == "alias" and not (self.written or self.computes))
        )

    def _read_schema(self, schema: torch.FunctionSchema, arguments: Sequence[Any], tags: set[torch.Tag]) -> None:
        #: Whether the operator consists of other operators, which are counted instead. The tracer receives such an
        #: operator undecomposed only under inference mode.
        self.decomposes = has_kernel(self.operator.name(), "CompositeImplicitAutograd")
        self.has_nested_kernel = self.decomposes and has_kernel(self.operator.name(), "NestedTensorCPU")
        #: Whether the sizes or values of the operator's outputs depend on data.
        self.needs_data = self.facets.needs_data or bool(
            {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape} & tags
        )
        #: Whether the operator is a product of matrices, as unfused attention has two.
        self.multiplies = self.name in PRODUCTS
        self.has_device = any(argument.name == "device" for argument in arguments)
        self.takes_tensors = any("Tensor" in str(argument.type) for argument in arguments)
        #: Whether the operator works element by element. PyTorch tags only the functional form of some operators.
        self.is_pointwise = torch.Tag.pointwise in tags or _has_pointwise_form(self.operator)
        #: Whether the operator is a convolution or the backward pass of one. (It may be a part of a convolution of
        #: complex numbers.)
        self.is_convolution = self.name in ("aten.convolution", "aten.convolution_backward")
        #: Whether masks can leave out a part of the operator's products.
        self.is_maskable = self.facets.masked is not None
        #: Whether unfused attention may run the operator on its scores or weights.
        self.touches_scores = self.is_pointwise or self.name in _OF_SCORES
        self.outputs = len(schema.returns)
        self.is_random = torch.Tag.nondeterministic_seeded in tags
        #: Whether the output's values follow from arguments that are no tensors. This is true for ``arange`` and
        #: ``zeros``, and false for ``rand`` and ``empty``.
        self.is_constant = (
            bool(schema.returns)
            and self.name.startswith("aten.")
            and not self.takes_tensors
            and not self.is_random
            and "empty" not in self.name
            and is_tensor_type(schema.returns[0].type)
        )
        #: Whether the operator fills a tensor with one number.
        self.fills = self.name in _FILLING
        #: Whether the values of the output may follow from known values without much arithmetic, as those of masks do.
        self.keeps_values = self.is_pointwise or self.is_constant or self.fills or self.name in FOLLOWED
        #: Positions of the arguments that the operator writes to.
        self.written = tuple(
            index
            for index, argument in enumerate(arguments)
            if (argument.alias_info is not None and argument.alias_info.is_write) or argument.name in _STATISTICS
        )
        if self.name.startswith("c10d.") and self.name.endswith("_"):
            self.written = (0,)  # the schemas of these operators do not declare this write
        self.keeps_values = self.keeps_values or bool(self.written)
        #: Whether the operator has ``out=`` arguments, to which it writes its results.
        self.writes_out = any(argument.is_out for argument in arguments)
        #: Whether the operator writes to no argument, and its outputs are on the device of its arguments.
        self.creates_only = not (self.has_device or self.written)

    def _behaviour(self, schema: torch.FunctionSchema, tags: set[torch.Tag]) -> tuple[Behaviour, tuple[int, ...]]:
        if self.name in _UNDECLARED_VIEWS:
            return "alias", ()
        aliased = [result.alias_info for result in schema.returns]
        if not any(aliased):
            # A functional operator may write statistics to arguments, as batch norm does. The metadata of these
            # arguments do not change.
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
        """Return the formula of an ATen operator that PyTorch tags as pointwise or as a reduction.

        Return None for any other operator, and for a free operator.
        """
        if not self.name.startswith("aten.") or self.facets.free:
            return None
        if torch.Tag.pointwise in tags:
            return elementary
        return reduction if _REDUCTION in tags else None

    def _is_free(self, schema: torch.FunctionSchema, tags: set[torch.Tag]) -> bool:
        if self.name.startswith(("prim.", "profiler.")):
            return True  # these operators query the device or layout of a tensor, or mark a trace
        if self.facets.free:
            return True
        if self.name.startswith("aten.") and (_VIEW_COPY in tags or not _reads_tensors(schema)):
            return True  # ``eye`` and similar operators read no tensor; their only tensor may be ``out=``
        # Among all other operators, only those that return views are certainly free.
        return bool(schema.returns) and all(
            result.alias_info is not None and not result.alias_info.is_write for result in schema.returns
        )

    def writes_to(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Iterator[torch.Tensor]:
        """Yield the arguments of one call that the operator writes to."""
        for position in self.written:
            if position < len(args):
                yield from tensors_in(args[position])
            else:
                yield from tensors_in(kwargs.get(schema_of(self.operator).arguments[position].name))

    def runs_nested(self, args: Sequence[Any]) -> bool:
        """Return whether an argument is a nested tensor and PyTorch has a kernel of the operator for nested tensors."""
        return self.has_nested_kernel and any(tensor.is_nested for tensor in tensors_in(args))


def _reads_tensors(schema: torch.FunctionSchema) -> bool:
    return any("Tensor" in str(argument.type) and not argument.is_out for argument in schema.arguments)


def _has_pointwise_form(operator: OpOverload) -> bool:
    """Return whether the operator writes to its first argument, and its form that does not is tagged as pointwise."""
    name, _, overload = operator.name().partition(".")
    if not name.startswith("aten::") or not name.endswith("_") or name.endswith("__"):
        return False
    packet = getattr(torch.ops.aten, name.removeprefix("aten::").removesuffix("_"), None)
    functional = getattr(packet, overload or "default", None)
    return functional is not None and torch.Tag.pointwise in functional.tags


def _flop_counter_formula(operator: OpOverload) -> Formula | None:
    """Return the formula from `torch.utils.flop_counter.register_flop_formula`, or None if there is none."""
    counter = sys.modules.get("torch.utils.flop_counter")
    registered: Callable[..., int] | None = (
        None if counter is None else counter.flop_registry.get(operator.overloadpacket)
    )
    if registered is None:
        return None
    return lambda call: int(registered(*call.args, **call.kwargs, out_val=call.output))


_INFOS: dict[OpOverload, OperatorInfo] = {}


def operator_info(operator: OpOverload) -> OperatorInfo:
    """Return the facts about ``operator``, which are computed once and kept.

    The facts are computed again if a formula was registered since then, or if no formula covers ``operator``.
    """
    info = _INFOS.get(operator)
    if info is None or not info.known or info.version != REGISTRY.version:
        info = _INFOS[operator] = _renewed(info, operator)
    return info


def _renewed(info: OperatorInfo | None, operator: OpOverload) -> OperatorInfo:
    """Return ``info`` if the registry still has the same formulas for the operator. Otherwise return new facts."""
    if (
        info is None
        or not info.known
        or info.registered is not REGISTRY.user_formula(info.name)
        or info.facets != REGISTRY.facets(info.name)
    ):
        return OperatorInfo(operator)
    # The remembered outputs of operators refer to this object, so it is kept.
    info.version = REGISTRY.version
    return info
