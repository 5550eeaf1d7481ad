"""Count the operators that a program runs for real inside a ``with`` block, without changing what the program computes.

Nothing is cloned and nothing is restored. Operators run unchanged, and a dispatch mode finds the cost of each operator.
"""

from __future__ import annotations

import functools
import sys
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch

from pytest_flopsbudget.counting.aggregation.result import build_complexity
from pytest_flopsbudget.counting.attempts import describe
from pytest_flopsbudget.counting.cloning.wrapped import unwrap_compiled
from pytest_flopsbudget.counting.distributed.dtensor import propagation_hidden
from pytest_flopsbudget.counting.higher_order import flex_attention
from pytest_flopsbudget.counting.isolation.compiler_import import compiler_imported_undisturbed
from pytest_flopsbudget.counting.isolation.global_state import measurement_depth
from pytest_flopsbudget.counting.isolation.modes import observers_aside
from pytest_flopsbudget.counting.isolation.patching import patched
from pytest_flopsbudget.counting.tensors.packed import packed_weights
from pytest_flopsbudget.counting.tensors.traversal import iterate_tensors
from pytest_flopsbudget.counting.torch_private import (
    compiler_is_loaded,
    compiles_under_modes,
    keep_uncompiled,
    without_torch_function,
)
from pytest_flopsbudget.counting.tracing.canary import canary_notes
from pytest_flopsbudget.counting.tracing.module_calls import (
    CALL,
    following_call,
    following_script_call,
    room_for_counting,
)
from pytest_flopsbudget.counting.tracing.other_threads import other_threads_tracked
from pytest_flopsbudget.counting.tracing.phases import following_steps
from pytest_flopsbudget.counting.tracing.resident import record_module_tensors, record_packed_weights
from pytest_flopsbudget.counting.tracing.stepping_aside import explaining_undisturbed, tracers_undisturbed
from pytest_flopsbudget.counting.tracing.timeline import keeping_timelines
from pytest_flopsbudget.counting.tracing.undispatched import compiled_kernels_noted, undispatched_noted
from pytest_flopsbudget.counting.tracing.watched import WatchTracer
from pytest_flopsbudget.counting.tracing.watched_modules import WatchedModules
from pytest_flopsbudget.hardware.catalog import resolve_devices

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from typing_extensions import Self

    from pytest_flopsbudget.hardware.profile import Device
    from pytest_flopsbudget.results.complexity import Complexity
    from pytest_flopsbudget.results.data import Operator


class Watch:
    """Counts all operators inside a ``with`` block, on this thread and on the threads of its backward passes.

    Args:
        name: the name of the measurement if the block calls several models or none.
        reuse_answers: the option of `measure`. It is used for compiled models, which are counted in a separate run on
            shapes.
        devices: devices for which to estimate the time.
        keeps_timeline: whether the result has the bytes alive over the course of the block: ``memory_over_time``.
    """

    def __init__(
        self,
        name: str,
        *,
        reuse_answers: bool = True,
        devices: Sequence[Device] = (),
        keeps_timeline: bool = False,
    ) -> None:
        self._name = name
        self._keeps_timeline = keeps_timeline
        self._devices = devices
        self._reuse_answers = reuse_answers
        self._stack = ExitStack()
        self._out = False
        self._tracer: WatchTracer | None = None
        self._complexity: Complexity | None = None

    def __enter__(self) -> Self:
        if self._tracer is not None or self._complexity is not None:
            raise RuntimeError("a watch can be entered only once")
        canary_notes()  # its first call in a process runs modules, which the watch must not count
        with keeping_timelines(self._keeps_timeline):
            tracker = WatchedModules(self._name)
        tracker.begin_below(sys._getframe(1))
        self._tracer = tracer = WatchTracer(tracker)
        with ExitStack() as stack:
            stack.enter_context(room_for_counting())
            stack.enter_context(compiler_imported_undisturbed(self._leave_explaining_alone))
            stack.enter_context(undispatched_noted(tracer))
            stack.enter_context(flex_attention.countable(on_meta=False))
            if not (compiles_under_modes or compiler_is_loaded()):
                # Only a loaded compiler can be switched off.
                stack.enter_context(patched([(torch, "compile", self._compile_of(torch.compile))]))
            stack.enter_context(following_steps(tracer.steps))
            stack.enter_context(other_threads_tracked(tracker, measuring=False))
            stack.enter_context(tracer.memory.following_resizes())
            stack.enter_context(propagation_hidden())
            stack.enter_context(patched([(torch.nn.Module, "__call__", self._call_following())]))
            stack.enter_context(patched([(torch.ScriptMethod, "__call__", self._script_call_following())]))
            stack.enter_context(compiled_kernels_noted(tracer))
            stack.enter_context(tracers_undisturbed())
            stack.enter_context(explaining_undisturbed())
            stack.enter_context(tracer)
            self._stack = stack.pop_all()
        if compiler_is_loaded() and not compiles_under_modes:
            self._keep_compiler_out()
        return self

    def _keep_compiler_out(self) -> None:
        """Make compiled functions run eagerly until the watch ends, if PyTorch does not compile under a dispatch mode.

        Such a version of PyTorch runs compiled functions eagerly anyway. But it would compile the compiler's operators
        for branches and loops, together with this package's code that counts these operators.
        """
        if not self._out:
            self._out = True
            self._stack.enter_context(torch.compiler.set_stance("force_eager"))

    def _leave_explaining_alone(self) -> None:
        """Keep the watch out of `torch._dynamo.explain`, after the watched block imported PyTorch's compiler."""
        if self._tracer is not None:
            self._stack.enter_context(explaining_undisturbed())

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
        """Stop counting. If counting has stopped already, do nothing."""
        self._stack.close()
        tracer, self._tracer = self._tracer, None
        if tracer is not None:
            with without_torch_function():
                self._complexity = _sum_up(tracer, self._devices)

    @property
    def has_run(self) -> bool:
        """Return whether an operator with a cost ran, or a module was called."""
        seen = self._complexity
        return seen is not None and (seen.runs_model or any(map(_computes, seen.operators.values())))

    @property
    def complexity(self) -> Complexity:
        """Return the costs that were counted. The watch must have ended.

        Raises:
            RuntimeError: the watch has not ended.
        """
        if self._complexity is None:
            raise RuntimeError("a watch sums up its counts when the block ends; read the complexity after the block")
        return self._complexity

    def _call_following(self) -> Callable[..., Any]:
        """Return the method that calls a module while the watch is active.

        Code that a test imports may keep the method. So the method refers only to the watch, and does nothing extra
        after the watch has ended.
        """
        before = torch.nn.Module.__call__
        depth = measurement_depth()
        #: Class → whether its modules are scripted.
        scripted: dict[type, bool] = {}

        def enter(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            tracer = self._tracer
            if tracer is None or tracer.steps_aside or measurement_depth() != depth:
                return None
            kind = type(module)
            if kind not in scripted:
                scripted[kind] = issubclass(kind, torch.jit.ScriptModule)
            if scripted[kind] and _hides_kernels(module):
                tracer.note_unknown("torch.jit.optimize_for_inference")
            return tracer.tracker.enter(module, args, kwargs)

        def leave(entered: Any, output: Any) -> None:
            if entered is not None and self._tracer is not None:
                self._tracer.tracker.leave(entered, output)

        def run_compiled(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            tracer = self._tracer
            if tracer is None or tracer.steps_aside or measurement_depth() != depth:
                return before(module, *args, **kwargs)
            _count_separately(tracer, module, args, kwargs, reuse_answers=self._reuse_answers)
            return _run_compiled(tracer, before, module, args, kwargs)

        keep_uncompiled(enter)
        keep_uncompiled(leave)
        keep_uncompiled(run_compiled)
        return following_call(before, enter, leave, run_compiled)

    def _script_call_following(self) -> Callable[..., Any]:
        """Return the method that calls methods of scripted modules from Python while the watch is active."""
        depth = measurement_depth()

        def enter(method: torch.ScriptMethod[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            tracer = self._tracer
            if tracer is None or tracer.steps_aside or measurement_depth() != depth:
                return None
            return tracer.tracker.enter_scripted(method, args, kwargs, tracer.notes)

        def leave(entered: Any, output: Any) -> None:
            if entered is not None and self._tracer is not None:
                self._tracer.tracker.leave(entered, output)

        keep_uncompiled(enter)
        keep_uncompiled(leave)
        method = following_script_call(torch.ScriptMethod.__call__, enter, leave)
        keep_uncompiled(method)
        return method


def _computes(operator: Operator) -> bool:
    return any(operator.metrics.get(key) for key in ("flops", "other_flops", "communication"))


def watch(name: str = "watch", *, reuse_answers: bool = True, devices: Sequence[str | Device] = ()) -> Watch:
    """Return a `Watch`, which counts all operators inside a ``with`` block.

    Raises:
        UsageError: a device name is unknown.
    """
    return Watch(name, reuse_answers=reuse_answers, devices=resolve_devices(devices))


@contextmanager
def watches_paused() -> Iterator[None]:
    """Let all watches of this thread ignore what runs, while the context lasts."""
    with patched([(torch.nn.Module, "__call__", CALL)]), observers_aside():
        yield


def _sum_up(tracer: WatchTracer, devices: Sequence[Device]) -> Complexity:
    tracker = tracer.tracker
    model = tracker.settle()
    modules = [node.module for node in tracker.nodes.values() if node.module is not None]
    record_module_tensors(tracer.memory, modules)
    packed = {identity: weight for module in modules for identity, weight in packed_weights(module).items()}
    record_packed_weights(tracker, packed.values())
    tracer.memory.close()
    tracker.uncounted_modules = {tracker.settled(path) for path in tracker.uncounted_modules}
    for tally in tracer.unknown_calls.values():
        tally.paths = {tracker.settled(path) for path in tally.paths}
    return build_complexity(
        tracer,
        model=model,
        inputs=tracker.inputs(),
        execution="watched",
        backward=any(when in {"backward", "recomputed"} for _, _, when in tracer.credits),
        devices=devices,
    )


def _hides_kernels(module: Any) -> bool:
    from pytest_flopsbudget.counting.cloning.frozen_torchscript import hides_kernels  # noqa: PLC0415 -- few models are scripted

    return hides_kernels(module)


def _count_separately(
    tracer: WatchTracer, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], *, reuse_answers: bool
) -> None:
    """Count the model from which a compiled model was made, in a separate run on shapes.

    No tracer sees the operators in compiled kernels.
    """
    from pytest_flopsbudget.counting.inputs import Inputs  # noqa: PLC0415 -- few models are compiled
    from pytest_flopsbudget.counting.measure import trace_inputs  # noqa: PLC0415

    try:
        _, counted = trace_inputs(module, Inputs(args, kwargs), reuse_answers=reuse_answers)
    except Exception as error:  # noqa: BLE001 -- if the call is wrong, the run itself raises
        tracer.note_unknown("torch.compile")
        tracer.notes.add(f"a compiled model could not be counted on shapes beside its run ({describe(error)})")
    else:
        tracer.take_over(unwrap_compiled(module), counted, args, kwargs)


def _run_compiled(
    tracer: WatchTracer,
    before: Callable[..., Any],
    module: torch.nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """Run a compiled model unchanged.

    When the compiled backward pass runs, it is noted as an unknown operator.
    """
    if before is not CALL:  # an outer watch does the steps below
        output = before(module, *args, **kwargs)
    else:
        stance = torch.compiler.set_stance("default")
        with stance, watches_paused():
            output = before(module, *args, **kwargs)
    for node in {tensor.grad_fn for tensor in iterate_tensors(output) if tensor.grad_fn is not None}:
        node.register_prehook(lambda _gradients: tracer.note_unknown("torch.compile"))
    return output
