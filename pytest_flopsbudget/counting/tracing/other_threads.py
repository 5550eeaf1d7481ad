"""Name the work that other threads do for a measurement."""

from __future__ import annotations

import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from torch.utils._python_dispatch import TorchDispatchMode

from pytest_flopsbudget.counting.costs import FREE
from pytest_flopsbudget.counting.isolation.patching import patched
from pytest_flopsbudget.counting.isolation.threads import _LOCAL, on_this_thread, serves_a_measurement
from pytest_flopsbudget.counting.operators.accounting import cost_of
from pytest_flopsbudget.counting.operators.info import operator_info

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch._ops import OpOverload

    from pytest_flopsbudget.counting.tracing.modules import ModuleTracker


class _OtherThreadMode(TorchDispatchMode):
    """Says where work was started that another thread does."""

    supports_higher_order_operators = True

    def __init__(self, tracker: ModuleTracker) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._tracker = tracker
        self._place = tracker.current().path

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # as in `tracer`

    def __torch_dispatch__(
        self, func: OpOverload, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        if not self._tracker.is_on_followed_thread():
            info = operator_info(func)
            if not info.known or cost_of(info, args, kwargs, output) is not FREE:
                self._tracker.uncounted_modules.add(self._place)
        return output


#: Where pools of threads come from, and in there: what their workers run, the pool, its methods that take a function.
_POOLS = (
    ("concurrent.futures.thread", "_worker", "ThreadPoolExecutor", ("submit",)),
    ("multiprocessing.pool", "worker", "ThreadPool", ("apply_async", "_map_async", "imap", "imap_unordered")),
)


@contextmanager
def other_threads_tracked(tracker: ModuleTracker) -> Iterator[None]:
    """Notice the work of threads that the model starts, and of what it hands to threads that wait for it."""

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
        # A worker of a pool outlives the measurement, and is heard by what it is handed.
        target = getattr(thread, "_target", None)
        if target is None or target not in workers:
            thread.run = tracked(thread.run)  # type: ignore[method-assign]
        start(thread)

    with patched([(threading.Thread, "start", on_this_thread(start_tracked, start)), *patches]):
        yield
