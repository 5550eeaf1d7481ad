"""Find calls of ``forward`` that do not go through the call of a module, by the Python frames that are running.

A watched test may call ``part.forward(x)``. Replacing ``forward`` in every class would add a frame to every call, and a
test, the compiler or TorchScript would see the replacement. So nothing is replaced: when an operator runs, the frames
above the operator show which functions ``forward`` are running, and their first argument is the module.
"""

from __future__ import annotations

import inspect
import sys
from types import FunctionType
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, FrameType

    from pytest_flopsbudget.counting.tracing.nodes import Node


#: Names in the code of a function that may read the dict of its local variables.
_READERS = frozenset(("locals", "vars", "eval", "exec", "dir", "_getframe", "currentframe", "f_locals", "getargvalues"))


class Mark:
    """Marks a frame as known, so that the next operator in the same call of a function does not count a second call.

    The mark is the trace function of the frame. Python never calls it unless a debugger or a coverage tool traces the
    frame; the mark then calls the trace function that the frame had before. The mark ends with the frame. Unlike a
    reference to the frame, a mark keeps no variable of the frame alive.
    """

    __slots__ = ("before", "node", "owner")

    def __init__(self, owner: object, node: Node | None, before: Callable[..., Any] | None) -> None:
        #: An object that identifies one watch. Nested watches may all mark the same frame.
        self.owner = owner
        #: The node of the called module; None if the frame is no call to count.
        self.node = node
        #: The trace function that the frame had before.
        self.before = before

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Mark:
        """Pass one event of the frame to the trace function that the frame had before, and return this mark."""
        if self.before is not None:
            following = self.before(frame, event, argument)
            self.before = self.before if following is None else following
        return self


def find_mark(frame: FrameType, owner: object) -> Mark | None:
    """Return the mark of ``owner`` on this frame; None if there is none."""
    mark = frame.f_trace
    while type(mark) is Mark:
        if mark.owner is owner:
            return mark
        mark = mark.before
    return None


def set_mark(frame: FrameType, owner: object, node: Node | None) -> Mark:
    """Mark the frame, and return the mark. ``node`` is None if the call in the frame is not counted."""
    mark = Mark(owner, node, frame.f_trace)
    frame.f_trace = mark
    return mark


def forward_code(kind: type) -> CodeType | None:
    """Return the code of the method ``forward`` of this class, without decorators; None if it is no function."""
    method = getattr(kind, "forward", None)
    function = inspect.unwrap(method) if callable(method) else None
    return function.__code__ if isinstance(function, FunctionType) else None


def is_forward(code: CodeType, module: torch.nn.Module) -> bool:
    """Return whether this is the code of a method ``forward`` of the module, and not of a function with this name."""
    if code.co_name == "forward" and code.co_varnames[0] == "self":
        return True
    return any(forward_code(kind) is code for kind in type(module).__mro__)


def arguments_of(
    frame: FrameType, *, in_tracer: bool = False
) -> tuple[torch.nn.Module | None, tuple[Any, ...], dict[str, Any]]:
    """Return the module whose method runs in the frame, and the other positional and keyword arguments of the call.

    An argument that may be passed in both ways is listed as positional, because the frame does not show the way.

    If the first argument is no module, return None and no arguments.

    Args:
        frame: the frame.
        in_tracer: whether a trace function of the frame, such as a debugger's, is running now. Python then copies the
            dict of variables back to the frame, so the dict must not be emptied.
    """
    code = frame.f_code
    count = code.co_argcount
    if not count or not code.co_flags & inspect.CO_OPTIMIZED:
        return None, (), {}
    values, names = frame.f_locals, code.co_varnames
    module, *others = (values.get(name) for name in names[:count])
    last = count + code.co_kwonlyargcount
    keywords = {name: values.get(name) for name in names[count:last]}
    if code.co_flags & inspect.CO_VARARGS:
        others += values.get(names[last], ())
        last += 1
    if code.co_flags & inspect.CO_VARKEYWORDS:
        keywords |= values.get(names[last], {})
    if not in_tracer and type(values) is dict and not _reads_variables(code):
        # Before Python 3.13 this dict belongs to the frame, and would keep tensors alive that the function replaces.
        values.clear()
    return (module, tuple(others), keywords) if isinstance(module, torch.nn.Module) else (None, (), {})


def runs_tracer(frame: FrameType, inner: FrameType | None) -> bool:
    """Return whether ``inner``, which ``frame`` calls, is the frame of a trace function that traces ``frame``."""
    if inner is None or sys.gettrace() is None:
        return False
    tracer = frame.f_trace
    while type(tracer) is Mark:
        tracer = tracer.before
    return inner.f_code in {_code_of(sys.gettrace()), _code_of(tracer)}


def _code_of(function: Any) -> CodeType | None:
    """Return the code of a function, of a method, or of an object that can be called; None if it has none."""
    function = getattr(function, "__func__", function)
    if not isinstance(function, FunctionType):
        function = vars(type(function)).get("__call__")
    return getattr(function, "__code__", None)


def _reads_variables(code: CodeType) -> bool:
    """Return whether the function may use the dict of its local variables, for example by calling ``locals()``."""
    return not _READERS.isdisjoint(code.co_names)
