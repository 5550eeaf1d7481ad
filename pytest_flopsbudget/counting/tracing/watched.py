"""The tracer of a watched run (``execution="watched"``). It does not change how operators run.

`counting.watch` enters this tracer as a dispatch mode.
"""

from __future__ import annotations

from sys import _getframe
from typing import TYPE_CHECKING, Any

import torch

from pytest_flopsbudget.counting.higher_order.control_flow import EAGER_BODIES
from pytest_flopsbudget.counting.operators.accounting import work_of
from pytest_flopsbudget.counting.operators.info import operator_info
from pytest_flopsbudget.counting.operators.work import NOTHING, Work
from pytest_flopsbudget.counting.tensors.metadata import PLAIN_TYPES, UNINITIALIZED, has_data, has_no_dispatcher
from pytest_flopsbudget.counting.tensors.numbers import with_tensors
from pytest_flopsbudget.counting.torch_private import (
    TRACED_TENSORS,
    HigherOrderOperator,
    count_function_modes,
    has_kernel,
    keep_uncompiled,
    run_parts,
    tracking_views,
    without_torch_function,
)
from pytest_flopsbudget.counting.tracing.tracer import Tracer, UnknownCalls

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import TypeAlias

    from pytest_flopsbudget.counting.operators.info import OperatorInfo
    from pytest_flopsbudget.counting.tracing.watched_modules import WatchedModules

    #: (info, whether the `_key` of a call decides its work, whether the key has the values of all numbers).
    _Known: TypeAlias = tuple[OperatorInfo, bool, bool]


#: Call → its work. The work depends only on the call and on PyTorch, so an entry never becomes wrong.
_WORK: dict[tuple[Any, ...], Work] = {}
#: The number of entries at which the cache is emptied. An entry takes 1 to 2 kB, and a suite of tests with many
#: different shapes adds entries without end.
_MAX_WORK = 2_048
_INTEGERS = frozenset((int,))
_PLAIN = frozenset(PLAIN_TYPES)
_STRIDED = torch.strided
_FACTOR_NAMES = ["add", "sub", "mul", "div", "addcmul", "addcdiv", "lerp", "pow", "clamp", "clamp_min", "clamp_max"]
#: Operators whose cost depends on a number among the arguments only if the number is whole: a factor of 1 costs
#: nothing, and a complex square costs less than another power. Optimizers pass other numbers on each step, such as bias
#: corrections. All such calls are one entry of the cache.
_FACTORS = frozenset(
    f"aten.{prefix}{name}{suffix}" for name in _FACTOR_NAMES for prefix in ("", "_foreach_") for suffix in ("", "_")
)


class WatchTracer(Tracer):
    """Counts operators, and runs each operator unchanged."""

    has_data = True
    only_observes = True
    tracker: WatchedModules

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        """Return true, so that PyTorch may compile code under this mode. The mode sees the operators of such code."""
        return True

    def __init__(self, tracker: WatchedModules) -> None:
        super().__init__(tracker)
        #: `id` of an operator → facts that keep the operator alive. The function `operator_info` is slower: it looks
        #: for a new formula on each call, and the hash of an operator is computed in Python.
        self._known: dict[int, _Known] = {}
        #: Composite operator → whether PyTorch runs its parts, because the operator has no kernel for a device.
        self._runs_parts: dict[OperatorInfo, bool] = {}
        tracker.before_first_module = self._end_setup

    def _end_setup(self) -> None:
        """Credit the forward work so far to the phase "setup", if there is arithmetic in it."""
        if not any(work.flops or work.other_flops for _, work, when in self.credits if when == "forward"):
            return
        forward = {key: count for key, count in self.credits.items() if key[2] == "forward"}
        for (node, work, when), count in forward.items():
            del self.credits[node, work, when]
            self.credits[node, work, "setup"] = count

    def release(self) -> None:
        """Drop all references to modules and tensors."""
        self.tracker.before_first_module = None
        super().release()

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run one operator and count it."""
        if kwargs is None:
            kwargs = {}
        if types and not all(map(has_no_dispatcher, types)):
            # Fake and functional tensors belong to a model that is being traced or exported. Nothing is computed there.
            traced = any(issubclass(kind, TRACED_TENSORS) for kind in types)
            return func(*args, **kwargs) if traced else NotImplemented
        if args and type(args[0]) in UNINITIALIZED:
            return func(*args, **kwargs)  # the parameter of a lazy module has no shape and no storage
        self.operators_seen += 1
        self.tracker.look(_getframe(1))
        known = self._known.get(id(func)) or self._learn(func)
        if known is None:
            return self._run_higher_order(func, args, kwargs)
        info = known[0]
        if info.decomposes and info.registered is None and self._decomposes(info) and not info.runs_nested(args):
            with tracking_views(), self:
                return run_parts(func, *args, **kwargs)  # PyTorch runs the same C++ code without a tracer
        try:
            output = func(*args, **kwargs)
        except RuntimeError:
            tensors = with_tensors(func, args)
            if tensors is None:
                raise
            output = func(*tensors, **kwargs)
        if not info.is_view:
            self._count(known, args, kwargs, output)
        return output

    keep_uncompiled(__torch_dispatch__)

    def _count(self, known: _Known, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        """Count a call."""
        key = None if count_function_modes() else _key(known, args, kwargs, output, plain=True)
        if key is not None:
            self.follow(known[0], args, kwargs, output, self._known_work(known, key, args, kwargs, output))
            return
        with without_torch_function():
            key = _key(known, args, kwargs, output, plain=False)
            self.follow(known[0], args, kwargs, output, self._known_work(known, key, args, kwargs, output))

    def _known_work(
        self,
        known: _Known,
        key: tuple[Any, ...] | None,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        output: Any,
    ) -> Work:
        """Return the work of a call. If an earlier call had the same ``key``, do not compute the work again."""
        info, by_key, _ = known
        if key is None or not by_key:
            return self._work(info, args, kwargs, output)
        try:
            work = _WORK.get(key)
        except (TypeError, NotImplementedError):  # an argument cannot be hashed or compared
            return self._work(info, args, kwargs, output)
        if work is None:
            work = self._work(info, args, kwargs, output)
            if len(_WORK) >= _MAX_WORK:
                _WORK.clear()
            _WORK[key] = work
        return work

    def _learn(self, func: Any) -> _Known | None:
        """Return the facts about an operator at its first call; None for an operator that takes functions."""
        if isinstance(func, HigherOrderOperator):
            return None
        info = operator_info(func)
        facets = info.facets
        varies = info.is_collective or facets.values or facets.by_gradients or not info.known
        by_whole_numbers = info.name in _FACTORS and info.registered is None and info.formula is None
        known = info, not (varies or info.moves_nothing), not by_whole_numbers
        if info.known:
            self._known[id(func)] = known
        return known

    def _run_higher_order(self, operator: HigherOrderOperator, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        body = EAGER_BODIES.get(operator.name())
        if body is None:
            return super()._run_higher_order(operator, args, kwargs)
        with self:
            return body(*args, **kwargs)

    def _decomposes(self, info: OperatorInfo) -> bool:
        """Return whether a composite operator has neither a kernel for the CPU nor a kernel for CUDA.

        PyTorch then runs the operators that the composite operator consists of.
        """
        known = self._runs_parts.get(info)
        if known is None:
            name = info.operator.name()
            known = self._runs_parts[info] = not (has_kernel(name, "CPU") or has_kernel(name, "CUDA"))
        return known

    def answer(self, info: OperatorInfo, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, Work]:
        """Run the operator, and return its output and its work."""
        output = info.operator(*args, **kwargs)
        return output, self._work(info, args, kwargs, output)

    def _work(self, info: OperatorInfo, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any) -> Work:
        if info.moves_nothing:
            return NOTHING
        if info.facets.values:
            return self.work_by_values(info, args, kwargs, output)
        return work_of(info, args, kwargs, output)

    def take_over(
        self, module: torch.nn.Module, counted: Tracer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """Credit to ``module`` the work that another tracer counted when it measured this call of the module.

        ``counted`` is the other tracer.
        """
        top = self.tracker.called(module, args, kwargs)
        top.calls -= 1  # the other tracer counted this call too
        nodes = {path: self.tracker.place(top, path, node.type) for path, node in counted.tracker.nodes.items()}
        for path, node in counted.tracker.nodes.items():
            nodes[path].calls += node.calls
            nodes[path].outputs = nodes[path].outputs or node.outputs
            nodes[path].peak_growth = max(nodes[path].peak_growth, node.peak_growth)
        for (node, work, when), times in counted.credits.items():
            key = (nodes[node.path], work, when)
            self.credits[key] = self.credits.get(key, 0) + times
        for name, unknown in counted.unknown_calls.items():
            known = self.unknown_calls.setdefault(name, UnknownCalls())
            known.calls += unknown.calls
            known.paths.update(nodes[path].path for path in unknown.paths)
        self.memory.depth = max(self.memory.depth, counted.memory.depth)
        self.notes.update(counted.notes)

    def known_value(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """Return the tensor itself; None if the tensor holds no data."""
        return tensor if has_data(tensor) else None


def _key(
    known: _Known, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any, *, plain: bool
) -> tuple[Any, ...] | None:
    """Return everything that decides the cost of a call; None if a tensor is sparse or nested.

    The output is a part of the key if its sizes depend on data. If it is a number, only the type of the number is.

    If ``plain`` is true, return None for tensors of subclasses too: reading their attributes may run code of the
    subclass.
    """
    info, _, exact = known
    parts: list[Any] = [info]
    try:
        if not _append_sizes(parts, args, exact=exact, plain=plain):
            return None
        if kwargs:
            parts.extend(kwargs)
            if not _append_sizes(parts, kwargs.values(), exact=exact, plain=plain):
                return None
        if info.needs_data:
            results = (output,) if isinstance(output, (torch.Tensor, list, tuple)) else (type(output),)
            if not _append_sizes(parts, results, exact=exact, plain=plain):
                return None
    except RuntimeError:  # a nested tensor has no shape
        return None
    return tuple(parts)


def _append_sizes(parts: list[Any], values: Any, *, exact: bool, plain: bool) -> bool:
    """Append the part of a `_key` that describes these arguments. Return false if there is no key.

    If ``exact`` is false, all numbers that are not whole are alike: only their type is appended.
    """
    for value in values:
        kind = type(value)
        if kind is int or value is None:
            parts.append(value)
        elif kind is float:
            parts += (kind, value if exact or value.is_integer() else None)
        elif kind in _PLAIN or isinstance(value, torch.Tensor):
            if (plain and kind not in _PLAIN) or value.layout is not _STRIDED:
                return False
            parts += (value.shape, value.stride(), value.dtype)
        elif kind is list or kind is tuple:
            if _INTEGERS.issuperset(map(type, value)):
                parts.append(tuple(value))
            else:
                parts.append(len(value))
                if not _append_sizes(parts, value, exact=exact, plain=plain):
                    return False
        else:
            parts += (kind, value)
    return True
