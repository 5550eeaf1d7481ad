"""Name the work on threads that a model or a watched test starts. This work is not counted, but listed as unknown."""

from __future__ import annotations

import sys
import threading
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pytest_flopsbudget.counting.costs import FREE
from pytest_flopsbudget.counting.isolation.patching import patched
from pytest_flopsbudget.counting.isolation.threads import _LOCAL, serves_a_measurement
from pytest_flopsbudget.counting.operators.accounting import cost_of
from pytest_flopsbudget.counting.operators.info import operator_info
from pytest_flopsbudget.counting.tensors.numbers import run_operator
from pytest_flopsbudget.counting.torch_private import DispatchMode, OpOverload, is_tracing, keep_uncompiled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pytest_flopsbudget.counting.tracing.modules import ModuleTracker


class _OtherThreadMode(DispatchMode):
    """A dispatch mode on a thread that a module started or passed work to.

    If an operator with a cost runs on the thread, the mode notes the module.
    """

    only_observes = True

    def __init__(self, tracker: ModuleTracker, started_by: str) -> None:
        super().__init__()
        # This is a weak reference, because the thread may outlive the measurement.
        self._tracker = weakref.ref(tracker)
        #: The path of the module that started the thread or passed work to it.
        self._started_by = started_by
        self._noted = False

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        """Return true, so that PyTorch may compile functions on the thread."""
        return True

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if not isinstance(func, OpOverload):  # it runs functions, whose operators arrive here too
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


#: Thread pools of the standard library: (module, function that a worker thread runs, class, methods that take work).
_POOLS = (
    ("concurrent.futures.thread", "_worker", "ThreadPoolExecutor", ("submit",)),
    ("multiprocessing.pool", "worker", "ThreadPool", ("apply_async", "_map_async", "imap", "imap_unordered")),
)


class _TrackedThread(threading.local):
    """The module that gave the current thread its work. Each thread has a separate value."""

    #: The path of the module that passed the work; None on the counting thread and on threads that are not tracked.
    started_by: str | None = None


@contextmanager
def other_threads_tracked(tracker: ModuleTracker, *, measuring: bool = True) -> Iterator[None]:
    """While the context lasts, notice work on the threads that this thread starts, and on threads of pools.

    Threads that a noticed thread starts are noticed too. Work in a pool is noticed if a noticed thread passed it.

    Args:
        tracker: records the modules that start threads.
        measuring: whether the threads serve a measurement on this thread. A measurement on such a thread then does not
            wait for the end of the measurement on this thread.
    """
    here, current = threading.get_ident(), _TrackedThread()

    def tracked(run: Callable[..., Any]) -> Callable[..., Any]:
        started_by = tracker.current().path if current.started_by is None else current.started_by
        listener = _OtherThreadMode(tracker, started_by)

        def run_tracked(*args: Any, **kwargs: Any) -> Any:
            before = serves_a_measurement(), current.started_by
            _LOCAL.works, current.started_by = before[0] or measuring, started_by
            try:
                with listener:
                    return run(*args, **kwargs)
            finally:
                _LOCAL.works, current.started_by = before

        return run_tracked

    def on_tracked_threads(replacement: Callable[..., Any], original: Callable[..., Any]) -> Callable[..., Any]:
        def either(*args: Any, **kwargs: Any) -> Any:
            is_tracked = threading.get_ident() == here or current.started_by is not None
            return (replacement if is_tracked else original)(*args, **kwargs)

        return either

    with patched(_patches(tracked, on_tracked_threads)):
        yield


def _patches(
    tracked: Callable[[Callable[..., Any]], Callable[..., Any]],
    on_tracked_threads: Callable[[Callable[..., Any], Callable[..., Any]], Callable[..., Any]],
) -> Iterator[tuple[Any, str, Any]]:
    """Yield (owner, attribute, value) for each attribute that starts threads or passes work to threads.

    Args:
        tracked: takes a function, and returns a function that does the same and whose work is noticed.
        on_tracked_threads: takes two functions, and returns a function. That function calls the first one on tracked
            threads and the second one on all other threads.
    """

    def handing_over(method: Callable[..., Any]) -> Callable[..., Any]:
        def hand_over(pool: Any, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
            return method(pool, tracked(function), *args, **kwargs)

        return on_tracked_threads(hand_over, method)

    start, workers = threading.Thread.start, set()
    for home, worker, pool, methods in _POOLS:
        if home in sys.modules:
            workers.add(getattr(sys.modules[home], worker, None))
            kind = getattr(sys.modules[home], pool)
            yield from [(kind, name, handing_over(getattr(kind, name))) for name in methods]

    def start_tracked(thread: threading.Thread) -> None:
        # A worker thread of a pool outlives the measurement. `handing_over` notices the work of such a thread.
        target = getattr(thread, "_target", None)
        if target is None or target not in workers:
            run = tracked(thread.run)

            def run_once() -> None:
                thread.__dict__.pop("run", None)  # the thread belongs to the user, and is left as it was
                run()

            thread.run = run_once  # type: ignore[method-assign]
        start(thread)

    yield threading.Thread, "start", on_tracked_threads(start_tracked, start)
