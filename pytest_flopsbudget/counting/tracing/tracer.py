"""The dispatch mode: sees each operator once, asks for its cost, credits it to the module that it ran in."""

from __future__ import annotations

import copy
from contextlib import contextmanager
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from torch._ops import HigherOrderOperator, OpOverload
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter
from torch.utils._python_dispatch import TorchDispatchMode

from pytest_flopsbudget.counting.higher_order.control_flow import RULES, body_of
from pytest_flopsbudget.counting.operators.info import OperatorInfo, operator_info
from pytest_flopsbudget.counting.operators.work import NOTHING
from pytest_flopsbudget.counting.tensors.metadata import PLAIN_TYPES, has_no_dispatcher
from pytest_flopsbudget.counting.tracing.phases import OptimizerSteps, phase_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import Literal, TypeAlias

    import torch

    from pytest_flopsbudget.counting.operators.work import Work
    from pytest_flopsbudget.counting.tracing.modules import ModuleTracker
    from pytest_flopsbudget.counting.tracing.nodes import Node
    from pytest_flopsbudget.results.complexity import PhaseName

    WorkPhase: TypeAlias = PhaseName | Literal["recomputed"]
    _Credits: TypeAlias = dict[tuple[Node, Work, WorkPhase], int]


_ALL = Fraction(1)
_UNINITIALIZED = (UninitializedParameter, UninitializedBuffer)
_PLAIN = frozenset(PLAIN_TYPES)


def counts_by_metadata(kind: type) -> bool:
    """Whether tensors of this class are like plain ones to whoever counts."""
    return has_no_dispatcher(kind) or issubclass(kind, FakeTensor)


class UnknownCalls:
    """The calls of an operator that no formula covers."""

    __slots__ = ("calls", "paths")

    def __init__(self) -> None:
        self.calls = 0
        #: Where it ran.
        self.paths: set[str] = set()


class Tracer(TorchDispatchMode):
    """Counts what passes the dispatcher. How an operator is answered is the subclasses' matter."""

    supports_higher_order_operators = True
    #: Whether operators compute, or answer with shapes only.
    has_data = False

    def __init__(self, tracker: ModuleTracker) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.tracker = tracker
        #: Operators seen so far.
        self.operators_seen = 0
        #: What was counted. Sums are made at the end: equal calls in one place are one entry until then.
        self.credits: _Credits = {}
        self.unknown_calls: dict[str, UnknownCalls] = {}
        #: What is alive, and the longest chain of operators.
        self.memory = tracker.memory
        #: The optimizers' steps, which are a phase of their own.
        #: The phase that work belongs to, where its surroundings do not tell.
        self.phase: PhaseName | None = None
        self.steps = OptimizerSteps(self.memory)
        #: What a reader of the numbers should know.
        self.notes: set[str] = set()
        #: The part of the work that counts: less than 1 where a mask leaves blocks out.
        self._share = _ALL
        #: How often each operator counts: more than once where one step stands for many.
        self._times = 1

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Otherwise PyTorch wraps the method below so that its compiler leaves it alone, and imports the whole compiler
        # for it on the first operator: a second or more, for something that runs while compiling is off.
        return False

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Answer one operator and count it."""
        if types and not (_PLAIN.issuperset(types) or all(map(counts_by_metadata, types))):
            # A subclass with a dispatcher of its own (nested, distributed, quantized tensors) takes the operator apart;
            # the operators on its parts come by here again.
            return NotImplemented
        if kwargs is None:
            kwargs = {}
        self.operators_seen += 1
        if args and type(args[0]) in _UNINITIALIZED:
            return func(*args, **kwargs)  # a lazy module asks on which device its parameter will be
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
        """Count a call, and note what it made of which."""
        if not info.known:
            self.note_unknown(info.name)
        node, phase = self.credit(work)
        self.memory.record_call(info, args, kwargs, output, node, phase, work.steps * self._times)

    def _run_higher_order(self, operator: HigherOrderOperator, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run an operator on functions in plain PyTorch, whose operators are seen."""
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
        """Run an operator that arrived whole as those that it is made of."""
        return operator.decompose(*args, **kwargs)

    def require_data(self, name: str) -> None:
        """Say that the operator ``name`` is about to read data.

        Raises:
            NeedsDataError: there is none.
        """

    def known_value(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """What the tensor holds; None where that is not known."""
        raise NotImplementedError

    @contextmanager
    def counting(self, share: Fraction) -> Iterator[None]:
        """Count again, ``share`` of all work, from within the answer to an operator."""
        before = self._share
        self._share = before * share
        try:
            with self:
                yield
        finally:
            self._share = before

    @contextmanager
    def repeating(self, times: int) -> Iterator[None]:
        """Let every operator stand for ``times`` of its kind."""
        before = self._times
        self._times = before * times
        try:
            yield
        finally:
            self._times = before

    def run_most_expensive(self, branches: Iterable[Callable[[], Any]]) -> Any:
        """Run every branch, and go on with the one that costs most as if it were the only one.

        Operators that are unknown in any of them stay named: which branch costs most may hang on them.

        Returns:
            The output of that branch.
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
        """The output of one operator, and what the call was."""
        raise NotImplementedError

    def credit(self, work: Work) -> tuple[Node, PhaseName]:
        """Add a call to what has been counted; says where and when it ran."""
        node = self.tracker.current()
        phase = self.phase or phase_of(self.steps)
        if work is not NOTHING:
            when: WorkPhase = phase
            if work.flops and phase == "backward" and self.tracker.is_recomputing():
                when = "recomputed"
            if self._share is not _ALL:
                work = work.part(self._share)
            key = (node, work, when)
            counts = self.credits
            counts[key] = counts.get(key, 0) + self._times
        return node, phase

    def note_unknown(self, name: str) -> None:
        """Name an operator that no formula covers, and where it ran."""
        tally = self.unknown_calls.setdefault(name, UnknownCalls())
        tally.calls += self._times
        tally.paths.add(self.tracker.current().path)
