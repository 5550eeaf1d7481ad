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

from pytest_flopsbudget.counting.costs import FREE
from pytest_flopsbudget.counting.higher_order import RULES, body_of
from pytest_flopsbudget.counting.metadata import PLAIN, has_no_dispatcher
from pytest_flopsbudget.counting.operators import OperatorInfo, operator_info
from pytest_flopsbudget.counting.phases import Steps, phase_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import TypeAlias

    import torch

    from pytest_flopsbudget.counting.costs import Cost
    from pytest_flopsbudget.counting.modules import ModuleTracker, Node
    from pytest_flopsbudget.results.complexity import PhaseName

    _Credits: TypeAlias = tuple[
        dict[Node, tuple[int, ...]], dict[str, "Tally"], dict[str, "Tally"], dict[PhaseName, "Tally"]
    ]


_ALL = Fraction(1)
_UNINITIALIZED = (UninitializedParameter, UninitializedBuffer)
_PLAIN = frozenset(PLAIN)


def counts_by_metadata(kind: type) -> bool:
    """Whether tensors of this class are like plain ones to whoever counts."""
    return has_no_dispatcher(kind) or issubclass(kind, FakeTensor)


class Tally:
    """Calls and work of one operator."""

    __slots__ = ("calls", "communication", "flops", "other_flops", "paths", "recomputed_flops")

    def __init__(self) -> None:
        self.calls = 0
        self.flops = 0
        self.other_flops = 0
        #: Bytes of the messages between processes.
        self.communication = 0
        self.recomputed_flops = 0
        #: Where it ran; kept only for unknown operators.
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
        self.seen = 0
        self.counted: dict[str, Tally] = {}
        self.unknown: dict[str, Tally] = {}
        #: Work by phase, and the optimizers' steps, which are one.
        self.phases: dict[PhaseName, Tally] = {}
        #: The phase that work belongs to, where its surroundings do not tell.
        self.phase: PhaseName | None = None
        self.steps = Steps()
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
        self.seen += 1
        if args and type(args[0]) in _UNINITIALIZED:
            return func(*args, **kwargs)  # a lazy module asks on which device its parameter will be
        if type(func) is not OpOverload and isinstance(func, HigherOrderOperator):
            return self._taken_apart(func, args, kwargs)
        info = operator_info(func)
        if info.decomposes and info.registered is None and not info.runs_nested(args):
            with self:
                output = self.decomposed(func, args, kwargs)
            if output is not NotImplemented:
                return output
        output, cost = self.answer(info, args, kwargs)
        if info.message is not None:
            self.credit_message(info.name, cost, info.communication(args, kwargs, output))
        elif cost is not FREE:
            self.credit(info.name, cost)
        elif not info.known:
            self.note_unknown(info.name)
        return output

    def credit_message(self, name: str, cost: Cost, message: int) -> None:
        """Add a call that passed ``message`` bytes between processes."""
        if not message and cost is FREE:
            return
        self.credit(name, cost)
        message *= self._times
        self.tracker.current().communication += message
        self.phases[self.phase or phase_of(self.steps)].communication += message
        self.counted[name].communication += message

    def _part_of(self, cost: Cost) -> tuple[int, int]:
        flops, other_flops = (part * self._share for part in cost)
        return int(flops), int(other_flops)

    def _taken_apart(self, operator: HigherOrderOperator, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run an operator on functions in plain PyTorch, whose operators are seen."""
        before = self.seen
        rule = RULES.get(operator.name())
        body = body_of(operator)
        if rule is not None:
            output = rule(self, operator, *args, **kwargs)
        elif body is operator:
            output = operator(*args, **kwargs)
        else:
            with self:
                output = body(*args, **kwargs)
        if self.seen == before and rule is None:
            self.note_unknown(f"higher_order.{operator.name()}")
        return output

    def decomposed(self, operator: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run an operator that arrived whole as those that it is made of."""
        return operator.decompose(*args, **kwargs)

    def need_data(self, name: str) -> None:
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

    def dearest(self, branches: Iterable[Callable[[], Any]]) -> Any:
        """Run every branch, and go on with the one that costs most as if it were the only one.

        Operators that are unknown in any of them stay named: which branch costs most may hang on them.

        Returns:
            The output of that branch.
        """
        start, best = self._save(), None
        unknown: dict[str, Tally] = {}
        for branch in branches:
            self._load(start)
            output = branch()
            unknown = {**unknown, **self.unknown}
            if best is None or self._work() > best[0]:
                best = (self._work(), self._save(), output)
        if best is None:
            raise ValueError("no branches")
        self._load(best[1])
        self.unknown = {**unknown, **self.unknown}
        return best[2]

    def _work(self) -> int:
        return sum(tally.flops + tally.other_flops for tally in self.counted.values())

    def _save(self) -> _Credits:
        return self.tracker.save(), copy.deepcopy(self.counted), copy.deepcopy(self.unknown), copy.deepcopy(self.phases)

    def _load(self, saved: _Credits) -> None:
        nodes, counted, unknown, phases = saved
        self.tracker.load(nodes)
        self.counted, self.unknown = copy.deepcopy(counted), copy.deepcopy(unknown)
        self.phases = copy.deepcopy(phases)

    def answer(self, info: OperatorInfo, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, Cost]:
        """The output of one operator, and what it costs."""
        raise NotImplementedError

    def credit(self, name: str, cost: Cost) -> None:
        """Add a call of the operator ``name`` to what has been counted."""
        flops, other_flops = cost if self._share is _ALL else self._part_of(cost)
        times = self._times
        if times != 1:
            flops, other_flops = flops * times, other_flops * times
        node = self.tracker.current()
        node.flops += flops
        node.other_flops += other_flops
        of_phase = self.phase or phase_of(self.steps)
        phase = self.phases.get(of_phase)
        if phase is None:
            phase = self.phases[of_phase] = Tally()
        phase.flops += flops
        phase.other_flops += other_flops
        if flops and of_phase == "backward" and self.tracker.recomputes():
            node.recomputed_flops += flops
            phase.recomputed_flops += flops
        tally = self.counted.get(name)
        if tally is None:
            tally = self.counted[name] = Tally()
        tally.calls += times
        tally.flops += flops
        tally.other_flops += other_flops

    def note_unknown(self, name: str) -> None:
        """Name an operator that no formula covers, and where it ran."""
        tally = self.unknown.setdefault(name, Tally())
        tally.calls += self._times
        tally.paths.add(self.tracker.current().path)
