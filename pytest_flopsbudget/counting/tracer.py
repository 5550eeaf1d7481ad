"""The dispatch mode: sees each operator once, asks for its cost, credits it to the module that it ran in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch._ops import HigherOrderOperator
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter
from torch.utils._python_dispatch import TorchDispatchMode

from pytest_flopsbudget.counting.costs import FREE
from pytest_flopsbudget.counting.higher_order import body_of
from pytest_flopsbudget.counting.metadata import PLAIN, has_no_dispatcher
from pytest_flopsbudget.counting.operators import OperatorInfo, operator_info

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_flopsbudget.counting.costs import Cost
    from pytest_flopsbudget.counting.modules import ModuleTracker


_UNINITIALIZED = (UninitializedParameter, UninitializedBuffer)


def _counts_by_metadata(kind: type) -> bool:
    return has_no_dispatcher(kind) or issubclass(kind, FakeTensor)


class Tally:
    """Calls and work of one operator."""

    __slots__ = ("calls", "flops", "other_flops", "paths")

    def __init__(self) -> None:
        self.calls = 0
        self.flops = 0
        self.other_flops = 0
        #: Where it ran; kept only for unknown operators.
        self.paths: set[str] = set()


class Tracer(TorchDispatchMode):
    """Counts what passes the dispatcher. How an operator is answered is the subclasses' matter."""

    supports_higher_order_operators = True

    def __init__(self, tracker: ModuleTracker) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.tracker = tracker
        #: Operators seen so far.
        self.seen = 0
        self.counted: dict[str, Tally] = {}
        self.unknown: dict[str, Tally] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Otherwise PyTorch wraps the method below so that its compiler leaves it alone, and imports the whole compiler
        # for it on the first operator: a second or more, for something that runs while compiling is off.
        return False

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Answer one operator and count it."""
        if any(kind not in PLAIN for kind in types) and not all(map(_counts_by_metadata, types)):
            # A subclass with a dispatcher of its own (nested, distributed, quantized tensors) takes the operator apart;
            # the operators on its parts come by here again.
            return NotImplemented
        kwargs = kwargs or {}
        self.seen += 1
        if args and type(args[0]) in _UNINITIALIZED:
            return func(*args, **kwargs)  # a lazy module asks on which device its parameter will be
        if isinstance(func, HigherOrderOperator):
            return self._taken_apart(func, args, kwargs)
        info = operator_info(func)
        if info.decomposes and info.registered is None:
            with self:
                output = func.decompose(*args, **kwargs)
            if output is not NotImplemented:
                return output
        output, cost = self.answer(info, args, kwargs)
        if cost is not FREE:
            self._credit(info, cost)
        elif not info.known:
            self._note_unknown(info.name)
        return output

    def _taken_apart(self, operator: HigherOrderOperator, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run an operator on functions in plain PyTorch, whose operators are seen."""
        before = self.seen
        body = body_of(operator)
        if body is operator:
            output = operator(*args, **kwargs)
        else:
            with self:
                output = body(*args, **kwargs)
        if self.seen == before:
            self._note_unknown(f"higher_order.{operator.name()}")
        return output

    def answer(self, info: OperatorInfo, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, Cost]:
        """The output of one operator, and what it costs."""
        raise NotImplementedError

    def _credit(self, info: OperatorInfo, cost: Cost) -> None:
        flops, other_flops = cost
        node = self.tracker.current()
        node.flops += flops
        node.other_flops += other_flops
        tally = self.counted.get(info.name)
        if tally is None:
            tally = self.counted[info.name] = Tally()
        tally.calls += 1
        tally.flops += flops
        tally.other_flops += other_flops

    def _note_unknown(self, name: str) -> None:
        tally = self.unknown.setdefault(name, Tally())
        tally.calls += 1
        tally.paths.add(self.tracker.current().path)
