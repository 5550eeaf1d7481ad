"""Watching what runs for real: everything that is computed while a context lasts, without changing any of it.

No double, no shapes, nothing put back: operators run as they are, and pass by a dispatch mode that looks up their cost.
"""

from __future__ import annotations

import functools
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import torch
from torch._ops import HigherOrderOperator
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import _disable_current_modes

from pytest_flopsbudget.counting.aggregation.result import complexity
from pytest_flopsbudget.counting.cloning.cloner import uncompiled
from pytest_flopsbudget.counting.distributed.dtensor import propagation_unseen
from pytest_flopsbudget.counting.higher_order import flex_attention
from pytest_flopsbudget.counting.higher_order.control_flow import RUN
from pytest_flopsbudget.counting.holdings import name_modules
from pytest_flopsbudget.counting.isolation.global_state import measurements_around
from pytest_flopsbudget.counting.isolation.patching import replaced
from pytest_flopsbudget.counting.operators.info import operator_info
from pytest_flopsbudget.counting.operators.work import NOTHING, Work
from pytest_flopsbudget.counting.phases import following_steps
from pytest_flopsbudget.counting.tensors.metadata import has_no_dispatcher
from pytest_flopsbudget.counting.tensors.traversal import tensors_of
from pytest_flopsbudget.counting.tracer import Tracer, Unknown
from pytest_flopsbudget.counting.unseen import unseen_named
from pytest_flopsbudget.counting.watched_modules import WatchedModules
from pytest_flopsbudget.hardware.catalog import devices_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from typing_extensions import Self

    from pytest_flopsbudget.counting.operators.info import OperatorInfo
    from pytest_flopsbudget.hardware.profile import Device
    from pytest_flopsbudget.results.complexity import Complexity, Operator

_COMPILER = "torch._dynamo"
#: What a call of a module is when nobody watches.
_CALL = torch.nn.Module.__call__
#: Call → what it is. Facts about PyTorch only, so nothing ever has to reset it.
_WORK: dict[tuple[Any, ...], Work] = {}
_MOST_WORK = 200_000

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
        self.seen += 1
        info = self._infos.get(func) or self._met(func)
        if info is None:
            return self._taken_apart(func, args, kwargs)
        if info.decomposes and info.registered is None and self._comes_apart(info) and not info.runs_nested(args):
            with _tracking_views(), self:
                return func._op_dk(_COMPOSITE, *args, **kwargs)  # noqa: SLF001 -- the C++ that runs without us, too
        output = func(*args, **kwargs)
        if not info.is_view:
            self.follow(info, args, kwargs, output, self._work(info, args, kwargs, output))
        return output

    def _met(self, func: Any) -> OperatorInfo | None:
        """What is known of an operator that is met for the first time; None of one that takes functions."""
        if isinstance(func, HigherOrderOperator):
            return None
        info = operator_info(func)
        if info.known:
            self._infos[func] = info
        return info

    def _taken_apart(self, operator: HigherOrderOperator, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        body = RUN.get(operator.name())
        if body is None:
            return super()._taken_apart(operator, args, kwargs)
        with self:
            return body(*args, **kwargs)

    def _comes_apart(self, info: OperatorInfo) -> bool:
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
        if info.needs_data or info.is_collective or info.by_gradients or not info.known:
            return info.work(args, kwargs, output)
        parts: list[Any] = [info]
        if not _append_sizes(parts, args):
            return info.work(args, kwargs, output)
        if kwargs:
            parts.extend(kwargs)
            if not _append_sizes(parts, kwargs.values()):
                return info.work(args, kwargs, output)
        key = tuple(parts)
        try:
            work = _WORK.get(key)
        except (TypeError, NotImplementedError):  # an argument that cannot be hashed, or compared
            return info.work(args, kwargs, output)
        if work is None:
            work = info.work(args, kwargs, output)
            if len(_WORK) >= _MOST_WORK:
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
            places[path].rise = max(places[path].rise, node.rise)
        for (node, work, when), times in counted.credits.items():
            key = (places[node.path], work, when)
            self.credits[key] = self.credits.get(key, 0) + times
        for name, unknown in counted.unknown.items():
            known = self.unknown.setdefault(name, Unknown())
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


class Watch:
    """Counts all that runs on this thread, and on autograd's for it, from entering to leaving.

    Args:
        name: what is watched, in words; the name of the measurement where several models are called, or none.
        shortcuts: as `measure` has them, for what has to be counted on shapes beside the run.
        devices: for which to estimate the time.
    """

    def __init__(self, name: str, *, shortcuts: bool = True, devices: Sequence[Device] = ()) -> None:
        self._name = name
        self._devices = devices
        self._shortcuts = shortcuts
        self._stack = ExitStack()
        self._out = False
        self._tracer: WatchTracer | None = None
        self._complexity: Complexity | None = None

    def __enter__(self) -> Self:
        if self._tracer is not None or self._complexity is not None:
            raise RuntimeError("a watch is entered once")
        tracker = WatchedModules(self._name)
        self._tracer = tracer = WatchTracer(tracker)
        with ExitStack() as stack:
            stack.enter_context(unseen_named(tracer))
            stack.enter_context(flex_attention.countable(on_meta=False))
            if _COMPILER not in sys.modules:
                # Only a loaded compiler can be told to stay out.
                stack.enter_context(replaced([(torch, "compile", self._compile_of(torch.compile))]))
            stack.enter_context(following_steps(tracer.steps))
            stack.enter_context(tracer.memory.following_resizes())
            stack.enter_context(propagation_unseen())
            stack.enter_context(replaced([(torch.nn.Module, "__call__", self._call_of(tracer))]))
            stack.enter_context(tracer)
            self._stack = stack.pop_all()
        if _COMPILER in sys.modules:
            self._keep_compiler_out()
        return self

    def _keep_compiler_out(self) -> None:
        """Let functions run eagerly that were compiled.

        Under a dispatch mode they do so anyway, and PyTorch would not compile them afterwards either; and its branches
        and loops would be compiled with what counts them.
        """
        if not self._out:
            self._out = True
            self._stack.enter_context(torch.compiler.set_stance("force_eager"))

    def _compile_of(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def compiling(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            if self._tracer is not None:
                self._keep_compiler_out()
            return result

        return compiling

    def __exit__(self, *exception: object) -> None:
        self.end()

    def end(self) -> None:
        """Stop counting, if it was not stopped before."""
        self._stack.close()
        tracer, self._tracer = self._tracer, None
        if tracer is not None:
            self._complexity = _summed_up(tracer, self._devices)

    @property
    def ran(self) -> bool:
        """Whether anything ran that the dispatcher saw computing, or a module was called."""
        seen = self._complexity
        return seen is not None and (seen.runs_model or any(map(_computes, seen.operators.values())))

    @property
    def complexity(self) -> Complexity:
        """What was counted; there once the watch has ended.

        Raises:
            RuntimeError: it has not.
        """
        if self._complexity is None:
            raise RuntimeError("what is watched is counted when the block ends; read it behind the block")
        return self._complexity

    def _call_of(self, tracer: WatchTracer) -> Any:
        """What a call of any module is while the watch lasts."""
        before = torch.nn.Module.__call__
        follow, depth = tracer.tracker.follow, measurements_around()
        #: Classes whose modules are called like any.
        plain: dict[type, bool] = {}

        def __call__(module: torch.nn.Module, /, *args: Any, **kwargs: Any) -> Any:  # noqa: N807 -- it is that method
            __tracebackhide__ = True
            kind = type(module)
            if kind not in plain:
                plain[kind] = not (kind.__name__ == "OptimizedModule" or issubclass(kind, torch.jit.ScriptModule))
            if measurements_around() != depth:
                return before(module, *args, **kwargs)
            if plain[kind] and module._compiled_call_impl is None:  # noqa: SLF001
                return follow(before, module, args, kwargs)
            if not isinstance(module, torch.jit.ScriptModule):
                _count_beside(tracer, module, args, kwargs, shortcuts=self._shortcuts)
                return _run_compiled(tracer, before, module, args, kwargs)
            if _runs_unseen(module):
                tracer.note_unknown("torch.jit.optimize_for_inference")
            return follow(before, module, args, kwargs)

        return __call__


def _computes(operator: Operator) -> bool:
    return any(operator.metrics.get(key) for key in ("flops", "other_flops", "communication"))


def watch(name: str = "watch", *, shortcuts: bool = True, devices: Sequence[str | Device] = ()) -> Watch:
    """Count all that runs in a ``with`` block; see `Watch`.

    Raises:
        UsageError: no device has one of the names.
    """
    return Watch(name, shortcuts=shortcuts, devices=devices_of(devices))


def _summed_up(tracer: WatchTracer, devices: Sequence[Device]) -> Complexity:
    tracker = tracer.tracker
    model = tracker.settle()
    modules = [node.module for node in tracker.nodes.values() if node.module is not None]
    name_modules(tracer.memory, modules)
    tracer.memory.close()
    for tally in tracer.unknown.values():
        tally.paths = {tracker.settled(path) for path in tally.paths}
    return complexity(
        tracer,
        model=model,
        inputs=tracker.inputs(),
        execution="watched",
        backward=any(when in {"backward", "recomputed"} for _, _, when in tracer.credits),
        devices=devices,
    )


def _runs_unseen(module: torch.jit.ScriptModule) -> bool:
    from pytest_flopsbudget.counting.cloning.frozen_torchscript import runs_unseen  # noqa: PLC0415 -- few models are scripted

    return runs_unseen(module)


def _count_beside(
    tracer: WatchTracer, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], *, shortcuts: bool
) -> None:
    """Count what a compiled model was compiled from, on shapes: nobody sees into its kernels."""
    from pytest_flopsbudget.counting.measure import measure_traced  # noqa: PLC0415 -- few models are compiled

    try:
        _, counted = measure_traced(module, args, kwargs, shortcuts=shortcuts)
    except Exception:  # noqa: BLE001 -- the run itself shows what is wrong with the call
        tracer.note_unknown("torch.compile")
    else:
        tracer.take_over(uncompiled(module), counted, args, kwargs)


def _run_compiled(
    tracer: WatchTracer,
    before: Callable[..., Any],
    module: torch.nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """Run a compiled model as it is. Its backward pass is compiled too, and named as unknown where it runs."""
    if before is not _CALL:  # another watch around this one, which does the same
        output = before(module, *args, **kwargs)
    else:
        stance = torch.compiler.set_stance("default")
        with stance, replaced([(torch.nn.Module, "__call__", _CALL)]), _disable_current_modes():
            output = before(module, *args, **kwargs)
    for node in {tensor.grad_fn for tensor in tensors_of(output) if tensor.grad_fn is not None}:
        node.register_prehook(lambda _gradients: tracer.note_unknown("torch.compile"))
    return output
