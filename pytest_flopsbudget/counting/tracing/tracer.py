"""The base class of the tracers: a dispatch mode that sees each operator once and credits its work to a module."""

from __future__ import annotations

import copy
from contextlib import contextmanager
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import torch

from pytest_flopsbudget.counting.higher_order.control_flow import RULES, body_of
from pytest_flopsbudget.counting.meta.mask_pairs import keeps, may_be_mask
from pytest_flopsbudget.counting.operators.accounting import deciding_tensors, work_of
from pytest_flopsbudget.counting.operators.info import OperatorInfo, operator_info
from pytest_flopsbudget.counting.operators.work import NOTHING
from pytest_flopsbudget.counting.tensors.metadata import PLAIN_TYPES, UNINITIALIZED, has_data, has_no_dispatcher
from pytest_flopsbudget.counting.tensors.storages import storage_address
from pytest_flopsbudget.counting.torch_private import (
    DispatchMode,
    FakeTensor,
    HigherOrderOperator,
    OpOverload,
    current_autograd_node,
    disable_current_modes,
)
from pytest_flopsbudget.counting.tracing.complex_convolutions import ComplexConvolutions
from pytest_flopsbudget.counting.tracing.masks import AttentionMasks
from pytest_flopsbudget.counting.tracing.phases import OptimizerSteps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import Literal, TypeAlias

    from pytest_flopsbudget.counting.operators.work import Work
    from pytest_flopsbudget.counting.tracing.modules import ModuleTracker
    from pytest_flopsbudget.counting.tracing.nodes import Node
    from pytest_flopsbudget.counting.tracing.weight_reads import WeightReads
    from pytest_flopsbudget.results.data import PhaseName

    WorkPhase: TypeAlias = PhaseName | Literal["recomputed"]
    _Credits: TypeAlias = dict[tuple[Node, Work, WorkPhase], int]


_ALL = Fraction(1)
#: A note about an operator whose cost depends on values that are not known.
UPPER_BOUND = "{} is counted as an upper bound: the values that decide its work are not known without data"
_PLAIN = frozenset(PLAIN_TYPES)


def counts_by_metadata(kind: type) -> bool:
    """Return whether counting needs only the metadata of tensors of this class, as with plain tensors."""
    return has_no_dispatcher(kind) or issubclass(kind, FakeTensor)


class UnknownCalls:
    """The calls of one operator without a cost formula."""

    __slots__ = ("calls", "paths")

    def __init__(self) -> None:
        self.calls = 0
        #: The paths of the modules that called the operator.
        self.paths: set[str] = set()


class Tracer(DispatchMode):
    """Counts the operators that reach the dispatcher. Each subclass decides how it gets the output of an operator."""

    #: Whether operators compute on data. If not, only shapes are known.
    has_data = False

    def __init__(self, tracker: ModuleTracker) -> None:
        super().__init__()
        self.tracker = tracker
        #: The number of operators that were seen so far.
        self.operators_seen = 0
        #: (module, work, phase) → the number of equal calls. The work is summed up when the run is over.
        self.credits: _Credits = {}
        self.unknown_calls: dict[str, UnknownCalls] = {}
        self.memory = tracker.memory
        #: The phase of the current work, if autograd and the optimizers' steps do not show it.
        self.phase: PhaseName | None = None
        #: The steps of optimizers that are running.
        self.steps = OptimizerSteps(self.memory)
        self._complex_convolutions = ComplexConvolutions()
        #: Addresses of the storages of tables from which operators looked up rows.
        self.tables: set[int] = set()
        #: The key of `credits` of the last call.
        self._credited: Any = None
        #: What the masks of attention leave.
        self.masks = AttentionMasks(tracker)
        #: Notes for the user about the measurement.
        self.notes: set[str] = set()
        #: Records the bytes of weights that operators read; None if nobody asked for them.
        self.weight_reads: WeightReads | None = None
        #: The share of each operator's work that counts. It is less than 1 if a mask excludes blocks.
        self._share = _ALL
        #: The share of each product's FLOPs, of all blocks, that masks leave.
        self._pairs = _ALL
        #: Whether operators are counted. If not, only the values of masks are followed.
        self._counts = True
        #: The number of times that each operator counts. It is more than 1 if one step of a loop represents many steps.
        self._times = 1

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Return the output of one operator, and count the operator."""
        if types and not (_PLAIN.issuperset(types) or all(map(counts_by_metadata, types))):
            # A tensor subclass with `__torch_dispatch__` (nested, distributed, quantized tensors) replaces the operator
            # with other operators on its inner tensors. This tracer sees these operators in later calls.
            return NotImplemented
        if kwargs is None:
            kwargs = {}
        self.operators_seen += 1
        if args and type(args[0]) in UNINITIALIZED:
            return func(*args, **kwargs)  # a lazy module reads the device of its uninitialized parameter
        if type(func) is not OpOverload and isinstance(func, HigherOrderOperator):
            return self._run_higher_order(func, args, kwargs)
        info = operator_info(func)
        if info.decomposes and info.registered is None and not info.runs_nested(args):
            with self:
                output = self.decompose(func, args, kwargs)
            if output is not NotImplemented:
                return output
        output, work = self.answer(info, args, kwargs)
        if not info.is_view:
            self.follow(info, args, kwargs, output, work)
        return output

    def follow(
        self, info: OperatorInfo, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any, work: Work
    ) -> None:
        """Count a call, and record the memory that the call allocated."""
        if not self._counts:
            return
        if not info.known:
            self.note_unknown(info.name)
        if info.table:
            self.tables.add(storage_address(kwargs[info.table] if info.table in kwargs else args[0]))
        if self.weight_reads is not None:
            self.weight_reads.record(info, args, kwargs)
        if info.is_convolution and info.registered is None:
            work = self._complex_convolutions.counted(info, args, work, self.operators_seen)
        if info.is_maskable and work.flops:
            work = self.masks.masked(info, *self.with_values(info, args, kwargs, output), output, work, self)
        elif info.multiplies and self.masks.between:
            work = self.masks.of_product(args, work)
        node, phase = self.credit(work)
        if info.touches_scores and self._pairs is _ALL and (self.masks.between or (info.multiplies and work.flops)):
            self.masks.follow(info, args, output, (self._credited, self._times), self._is_weight, self)
        self.memory.record_call(info, args, kwargs, output, node, phase, work.steps * self._times)

    def _run_higher_order(self, operator: HigherOrderOperator, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run an operator that takes functions, and count the operators that run in these functions."""
        before = self.operators_seen
        rule = RULES.get(operator.name())
        body = body_of(operator)
        if rule is not None:
            output = rule(self, operator, *args, **kwargs)
        elif body is operator:
            output = operator(*args, **kwargs)
        else:
            with self:
                output = body(*args, **kwargs)
        if self.operators_seen == before and rule is None:
            self.note_unknown(f"higher_order.{operator.name()}")
        return output

    def decompose(self, operator: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run the operators that the composite operator consists of, in place of the composite operator."""
        return operator.decompose(*args, **kwargs)

    def require_data(self, name: str) -> None:
        """Record that the operator ``name`` is about to read data.

        Raises:
            NeedsDataError: this run is on shapes, so there is no data.
        """

    def read_mask(self, mask: torch.Tensor, *, drops: bool) -> object | None:
        """Return what a mask of attention leaves; None if its values are not known.

        If ``drops``, truth values are true for the pairs that the mask removes.
        """
        if not (has_data(mask) and may_be_mask(mask)):
            return None
        with disable_current_modes(), torch.no_grad():
            # Along a dimension of stride 0, all elements share their memory.
            one = mask[tuple(slice(0, 1) if stride == 0 else slice(None) for stride in mask.stride())]
            left = keeps(one, drops=drops)
            return left.clone() if left is one else left  # a view would keep the memory of the mask alive

    def share_left(self, masks: Sequence[Any]) -> Fraction | None:
        """Return the share of the pairs that all of these masks (`read_mask`) leave; None if it is not known."""
        with disable_current_modes():
            left = masks[0]
            for mask in masks[1:]:
                left = left & mask
            return Fraction(int(left.sum()), left.numel()) if left.numel() else _ALL

    def share_of_mask(self, make: Callable[[], torch.Tensor]) -> Fraction | None:
        """Return the share of the pairs that a mask leaves; None if its values are not known.

        Args:
            make: returns the mask. The operators that make it are not counted.
        """
        with disable_current_modes(), torch.no_grad():
            read = self.read_mask(make(), drops=False)
        return None if read is None else self.share_left([read])

    def note_unknown_mask(self, name: str) -> None:
        """Record that the values of the mask of the operator ``name`` are not known."""
        self.masks.note_unknown(name)

    def read_number(self, value: object) -> float | None:
        """Return the number that an argument holds; None if it is not known, or is no single number."""
        if isinstance(value, torch.Tensor):
            known = self.known_value(value) if value.numel() == 1 else None
            with disable_current_modes():
                value = None if known is None else known.item()
        return value if isinstance(value, (int, float)) else None

    def known_value(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """Return a tensor with the values of ``tensor``; None if the values are not known."""
        raise NotImplementedError

    @contextmanager
    def counting(self, share: Fraction, pairs: Fraction | None = None) -> Iterator[None]:
        """Count the operators that run in place of another operator, while the context lasts.

        Only the fraction ``share`` (1 for all) of the work of these operators counts. Of all FLOPs of products, masks
        leave the fraction ``pairs`` for `masked_flops`, which is ``share`` by default.
        """
        before = self._share, self._pairs
        pairs = share if pairs is None else pairs
        if share != 1:
            self._share *= share
        if pairs != 1:
            self._pairs *= pairs
        try:
            with self:
                yield
        finally:
            self._share, self._pairs = before

    @contextmanager
    def repeating(self, times: int) -> Iterator[None]:
        """Count every operator ``times`` times while the context lasts."""
        before = self._times
        self._times = before * times
        try:
            yield
        finally:
            self._times = before

    def run_most_expensive(self, branches: Iterable[Callable[[], Any]]) -> Any:
        """Run every branch, keep the count of the most expensive branch, and drop the counts of the other branches.

        The unknown operators of all branches are kept, because an unknown operator may make any branch the most
        expensive one.

        Returns:
            The output of the most expensive branch.
        """
        calls, counts, noted = self.tracker.calls(), self.credits, self.unknown_calls
        best: tuple[int, dict[Node, int], _Credits, Any] | None = None
        unknown = dict(noted)
        for branch in branches:
            self.tracker.set_calls(calls)
            self.credits, self.unknown_calls = dict(counts), copy.deepcopy(noted)
            output = branch()
            unknown |= self.unknown_calls
            cost = sum((work.flops + work.other_flops) * times for (_, work, _), times in self.credits.items())
            if best is None or cost > best[0]:
                best = cost, self.tracker.calls(), self.credits, output
        if best is None:
            raise ValueError("no branches")
        _, calls, self.credits, output = best
        self.tracker.set_calls(calls)
        self.unknown_calls = unknown
        return output

    def answer(self, info: OperatorInfo, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, Work]:
        """Return the output of one operator, and its work."""
        raise NotImplementedError

    def work_by_values(self, info: OperatorInfo, args: Sequence[Any], kwargs: Mapping[str, Any], output: Any) -> Work:
        """Return the work of a call whose formula reads the values of arguments (`Facets.values`).

        If one of these values is not known, the formula returns an upper bound, and a note says so.
        """
        if any(self.known_value(tensor) is None for tensor in deciding_tensors(info, args, kwargs, output)):
            self.notes.add(UPPER_BOUND.format(info.name))
        return work_of(info, *self.with_values(info, args, kwargs, output), output)

    def with_values(
        self, info: OperatorInfo, args: Sequence[Any], kwargs: Mapping[str, Any], output: Any
    ) -> tuple[Sequence[Any], Mapping[str, Any]]:
        """Return the arguments of a call. Those that decide its work are replaced by their values, if these are known.

        If no value decides the work of the operator (`Facets.values`), return the arguments as they are.
        """
        if info.facets.values is None:
            return args, kwargs
        values = {id(tensor): self.known_value(tensor) for tensor in deciding_tensors(info, args, kwargs, output)}

        def valued(argument: Any) -> Any:
            known = values.get(id(argument))
            return argument if known is None else known

        return tuple(map(valued, args)), {name: valued(value) for name, value in kwargs.items()}

    def credit(self, work: Work) -> tuple[Node, PhaseName]:
        """Credit a call to the current module and phase, and return this module and phase."""
        autograd_node = current_autograd_node()
        node = self.tracker.node_at(autograd_node)
        phase = self.phase or ("backward" if autograd_node is not None else self.steps.phase())
        if work is not NOTHING:
            when: WorkPhase = phase
            if work.flops and phase == "backward" and self.tracker.is_recomputing():
                when = "recomputed"
            if self._pairs is not _ALL:
                masked = int(work.masked_flops * self._pairs)
                work = work.part(self._share).masked(masked)
            key = self._credited = (node, work, when)
            try:
                self.credits[key] += self._times
            except KeyError:
                self.credits[key] = self._times
        return node, phase

    def credit_again(self, key: Any, times: int, work: Work) -> None:
        """Replace the work of ``times`` calls that were credited under ``key``, if they still are."""
        count = self.credits.get(key, 0)
        if count < times:
            return  # they were the work of a branch that is not the most expensive one, or of a setup
        if count == times:
            del self.credits[key]
        else:
            self.credits[key] = count - times
        new = (key[0], work, key[2])
        self.credits[new] = self.credits.get(new, 0) + times

    def _is_weight(self, tensor: torch.Tensor) -> bool:
        return not self.memory.has_allocated(tensor)

    def release(self) -> None:
        """Drop all references to modules and tensors. Call this method after the result is built."""
        self.tracker.release()
        self.masks.release()
        self._credited = None

    def note_unknown(self, name: str) -> None:
        """Record a call of an operator that no formula covers, and the module that called the operator."""
        unknown = self.unknown_calls.setdefault(name, UnknownCalls())
        unknown.calls += self._times
        unknown.paths.add(self.tracker.current().path)
