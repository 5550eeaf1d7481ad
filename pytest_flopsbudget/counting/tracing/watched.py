"""Count operators while they run as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch._ops import HigherOrderOperator
from torch._subclasses.fake_tensor import FakeTensor

from pytest_flopsbudget.counting.higher_order.control_flow import EAGER_BODIES
from pytest_flopsbudget.counting.operators.accounting import work_of
from pytest_flopsbudget.counting.operators.info import operator_info
from pytest_flopsbudget.counting.operators.work import NOTHING, Work
from pytest_flopsbudget.counting.tensors.metadata import has_no_dispatcher
from pytest_flopsbudget.counting.tracing.tracer import Tracer, UnknownCalls

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_flopsbudget.counting.operators.info import OperatorInfo
    from pytest_flopsbudget.counting.tracing.watched_modules import WatchedModules


#: Call → what it is. Facts about PyTorch only, so nothing ever has to reset it.
_WORK: dict[tuple[Any, ...], Work] = {}


_MAX_WORK = 200_000


_INTEGERS = frozenset((int,))


_COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd  # noqa: SLF001 -- public in `torch.library` as a text only


_VIEWS = torch._C.DispatchKey.ADInplaceOrView  # noqa: SLF001


_has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key  # noqa: SLF001


class WatchTracer(Tracer):
    """Runs every operator as it is."""

    has_data = True
    tracker: WatchedModules

    def __init__(self, tracker: WatchedModules) -> None:
        super().__init__(tracker)
        #: Operators that were met, which saves looking for new formulas each time.
        self._infos: dict[Any, OperatorInfo] = {}
        #: Whether operators that arrive whole may be taken apart where they run.
        self._apart: dict[OperatorInfo, bool] = {}

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run one operator and count it."""
        if kwargs is None:
            kwargs = {}
        if types and not all(map(has_no_dispatcher, types)):
            # Fake tensors are those of a model that is traced or exported, which computes nothing.
            return func(*args, **kwargs) if any(map(_is_fake, types)) else NotImplemented
        self.operators_seen += 1
        info = self._infos.get(func) or self._info(func)
        if info is None:
            return self._run_higher_order(func, args, kwargs)
        if info.decomposes and info.registered is None and self._decomposes(info) and not info.runs_nested(args):
            with _tracking_views(), self:
                return func._op_dk(_COMPOSITE, *args, **kwargs)  # noqa: SLF001 -- the C++ that runs without us, too
        output = func(*args, **kwargs)
        if not info.is_view:
            self.follow(info, args, kwargs, output, self._work(info, args, kwargs, output))
        return output

    def _info(self, func: Any) -> OperatorInfo | None:
        """What is known of an operator that is met for the first time; None of one that takes functions."""
        if isinstance(func, HigherOrderOperator):
            return None
        info = operator_info(func)
        if info.known:
            self._infos[func] = info
        return info

    def _run_higher_order(self, operator: HigherOrderOperator, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        body = EAGER_BODIES.get(operator.name())
        if body is None:
            return super()._run_higher_order(operator, args, kwargs)
        with self:
            return body(*args, **kwargs)

    def _decomposes(self, info: OperatorInfo) -> bool:
        """Whether the operator has no kernel of its own, so that its parts are what runs anyway."""
        known = self._apart.get(info)
        if known is None:
            name = info.operator.name()
            known = self._apart[info] = not (_has_kernel(name, "CPU") or _has_kernel(name, "CUDA"))
        return known

    def answer(self, info: OperatorInfo, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, Work]:
        """The output, computed, and what the call was."""
        output = info.operator(*args, **kwargs)
        return output, self._work(info, args, kwargs, output)

    def _work(self, info: OperatorInfo, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any) -> Work:
        if info.moves_nothing:
            return NOTHING
        if info.needs_data or info.is_collective or info.facets.by_gradients or not info.known:
            return work_of(info, args, kwargs, output)
        parts: list[Any] = [info]
        if not _append_sizes(parts, args):
            return work_of(info, args, kwargs, output)
        if kwargs:
            parts.extend(kwargs)
            if not _append_sizes(parts, kwargs.values()):
                return work_of(info, args, kwargs, output)
        key = tuple(parts)
        try:
            work = _WORK.get(key)
        except (TypeError, NotImplementedError):  # an argument that cannot be hashed, or compared
            return work_of(info, args, kwargs, output)
        if work is None:
            work = work_of(info, args, kwargs, output)
            if len(_WORK) >= _MAX_WORK:
                _WORK.clear()
            _WORK[key] = work
        return work

    def take_over(
        self, module: torch.nn.Module, counted: Tracer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """Credit a call of ``module`` with what another tracer counted of it."""
        place = self.tracker.called(module, args, kwargs)
        place.calls -= 1
        places = {path: self.tracker.place(place, path, node.type) for path, node in counted.tracker.nodes.items()}
        for path, node in counted.tracker.nodes.items():
            places[path].calls += node.calls
            places[path].peak_growth = max(places[path].peak_growth, node.peak_growth)
        for (node, work, when), times in counted.credits.items():
            key = (places[node.path], work, when)
            self.credits[key] = self.credits.get(key, 0) + times
        for name, unknown in counted.unknown_calls.items():
            known = self.unknown_calls.setdefault(name, UnknownCalls())
            known.calls += unknown.calls
            known.paths.update(places[path].path for path in unknown.paths)
        self.memory.depth = max(self.memory.depth, counted.memory.depth)
        self.notes.update(counted.notes)

    def known_value(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """What the tensor holds; None if it is without data."""
        return None if tensor.is_meta else tensor


def _is_fake(kind: type) -> bool:
    return issubclass(kind, FakeTensor)


def _tracking_views() -> Any:
    """Let views be tracked as above the dispatch mode.

    PyTorch's matrix product asks whether a view of a weight takes gradients, and takes another way if not.
    """
    excluded = torch._C._dispatch_tls_local_exclude_set().remove(_VIEWS)  # noqa: SLF001
    return torch._C._ForceDispatchKeyGuard(torch._C._dispatch_tls_local_include_set(), excluded)  # noqa: SLF001


def _append_sizes(parts: list[Any], values: Any) -> bool:
    """Add to ``parts`` what the cost of a call hangs on; false where a tensor is more than its sizes say."""
    for value in values:
        kind = type(value)
        if isinstance(value, torch.Tensor):
            if value.layout is not torch.strided or value.is_nested:
                return False
            parts += (value.shape, value.stride(), value.dtype)
        elif kind is int or value is None:
            parts.append(value)
        elif kind is list or kind is tuple:
            if _INTEGERS.issuperset(map(type, value)):
                parts.append(tuple(value))
            else:
                parts.append(len(value))
                if not _append_sizes(parts, value):
                    return False
        else:
            parts += (kind, value)
    return True
