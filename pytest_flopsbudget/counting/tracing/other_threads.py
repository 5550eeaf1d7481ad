"""Notice work on threads that the model starts: it is not counted, but named as unknown."""

from __future__ import annotations

import sys
import threading
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pytest_flopsbudget.counting.costs import FREE
from pytest_flopsbudget.counting.isolation.patching import patched
from pytest_flopsbudget.counting.isolation.threads import _LOCAL, on_this_thread, serves_a_measurement
from pytest_flopsbudget.counting.operators.accounting import cost_of
from pytest_flopsbudget.counting.operators.info import operator_info
from pytest_flopsbudget.counting.tensors.numbers import run_operator
from pytest_flopsbudget.counting.torch_private import DispatchMode, OpOverload, is_tracing, keep_uncompiled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pytest_flopsbudget.counting.tracing.modules import ModuleTracker


class _OtherThreadMode(DispatchMode):
    """Note which module started a thread, or gave work to one, if operators with a cost run on that thread."""

    only_observes = True

    def __init__(self, tracker: ModuleTracker) -> None:
        super().__init__()
        # The thread may last longer than the measurement.
        self._tracker = weakref.ref(tracker)
        self._started_by = tracker.current().path
        self._noted = False

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        """Let PyTorch compile functions on the thread."""
        return True

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if not isinstance(func, OpOverload):  # an operator that takes functions, whose own operators arrive here
            with self:
                return func(*args, **kwargs)
        output = run_operator(func, args, kwargs)
        tracker = None if self._noted or is_tracing() else self._tracker()
        if tracker is not None and not tracker.is_on_followed_thread():
            info = operator_info(func)
            if not info.known or cost_of(info, args, kwargs, output) is not FREE:
                self._noted = True
                tracker.uncounted_modules.add(self._started_by)
        return output

    keep_uncompiled(__torch_dispatch__)


#: Thread pools of the standard library: module, function that a worker thread runs, class, methods that take work.
_POOLS = (
    ("concurrent.futures.thread", "_worker", "ThreadPoolExecutor", ("submit",)),
    ("multiprocessing.pool", "worker", "ThreadPool", ("apply_async", "_map_async", "imap", "imap_unordered")),
)


@contextmanager
def other_threads_tracked(tracker: ModuleTracker) -> Iterator[None]:
    """Notice the work of threads that the model starts, and the work that it gives to thread pools."""

    def tracked(run: Callable[..., Any]) -> Callable[..., Any]:
        listener = _OtherThreadMode(tracker)

        def run_tracked(*args: Any, **kwargs: Any) -> Any:
            before = serves_a_measurement()
            _LOCAL.works = True
            try:
                with listener:
                    return run(*args, **kwargs)
            finally:
                _LOCAL.works = before

        return run_tracked

    def handing_over(method: Callable[..., Any]) -> Callable[..., Any]:
        def hand_over(pool: Any, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
            return method(pool, tracked(function), *args, **kwargs)

        return on_this_thread(hand_over, method)

    start, workers, patches = threading.Thread.start, set(), []
    for home, worker, pool, methods in _POOLS:
        if home in sys.modules:
            workers.add(getattr(sys.modules[home], worker, None))
            kind = getattr(sys.modules[home], pool)
            patches += [(kind, name, handing_over(getattr(kind, name))) for name in methods]

    def start_tracked(thread: threading.Thread) -> None:
        # A worker thread of a pool outlives the measurement. Its work is noticed by `handing_over`.
        target = getattr(thread, "_target", None)
        if target is None or target not in workers:
            run = tracked(thread.run)

            def run_once() -> None:
                try:
                    run()
                finally:
                    vars(thread).pop("run", None)  # it refers to the thread, which would not be freed

            thread.run = run_once  # type: ignore[method-assign]
        start(thread)

    with patched([(threading.Thread, "start", on_this_thread(start_tracked, start)), *patches]):
        yield
