"""The method that calls modules while a watch lasts, which looks like PyTorch's own to Python and to the compiler."""

from __future__ import annotations

import ast
import sys
import weakref
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, MutableMapping
    from types import CodeType, FunctionType
    from typing import TypeAlias

    #: (module, positional arguments, keyword arguments) → what is passed to the function that is called at the end.
    Enter: TypeAlias = Callable[[torch.nn.Module, tuple[Any, ...], dict[str, Any]], Any]
    Leave: TypeAlias = Callable[[Any], None]


#: The methods that `following_call` returned and that are still in use, with the functions that they call.
_FOLLOWING: MutableMapping[Callable[..., Any], tuple[Enter, Leave]] = weakref.WeakKeyDictionary()
#: The method that calls a module while no watch is active.
CALL = torch.nn.Module.__call__

# A call of a module has as many frames of Python as without a watch: a model that is nested as deeply as Python allows
# runs, and the ``stacklevel`` of a warning leads to the same frame. PyTorch's compiler follows a call of a module in
# Python code. `is_compiling` is true for it, so that it sees what it sees without a watch.
_SOURCE = """
def bind(enter, leave, run_compiled, is_compiling, call):
    def {name}(self, *args, **kwargs):
        if is_compiling():
            return call(self, *args, **kwargs) if self._compiled_call_impl is not None else {call}
        if self._compiled_call_impl is not None or type(self).__name__ == "OptimizedModule":
            return run_compiled(self, args, kwargs)
        entered = enter(self, args, kwargs)
        try:
            return {call}
        finally:
            leave(entered)
    return {name}
"""


#: Frames of Python that counting one operator or one call of a module takes at most.
_ROOM = 100


@contextmanager
def room_for_counting() -> Iterator[None]:
    """Raise Python's limit of recursion by the frames that counting takes, so that deeply nested models still run."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(before + _ROOM)
    try:
        yield
    finally:
        if sys.getrecursionlimit() == before + _ROOM:  # else the test set it meanwhile
            sys.setrecursionlimit(before)


@cache
def _compiled(call: str) -> Callable[..., FunctionType]:
    """Return the function ``bind`` of the source, in which the expression ``call`` calls a module.

    Its file, lines and globals are those of PyTorch's method, because warnings and tracebacks show them. All its lines
    are the one in which PyTorch calls a module that is not compiled, the last one of the method.
    """
    original: CodeType = CALL.__code__
    line = max(line for _, _, line in original.co_lines() if line is not None)
    tree = ast.parse(_SOURCE.format(name=original.co_name, call=call))
    for node in ast.walk(tree):
        if isinstance(node, (ast.stmt, ast.expr, ast.arg)):
            node.lineno = node.end_lineno = line
            node.col_offset = node.end_col_offset = 0
    made: dict[str, Callable[..., FunctionType]] = {}
    exec(compile(tree, original.co_filename, "exec"), CALL.__globals__, made)  # noqa: S102 -- the source above
    return made["bind"]


def following_call(
    before: Callable[..., Any],
    enter: Enter,
    leave: Leave,
    run_compiled: Callable[[torch.nn.Module, tuple[Any, ...], dict[str, Any]], Any],
) -> Callable[..., Any]:
    """Return a method to set as `torch.nn.Module.__call__`.

    Args:
        before: the method that it replaces. If another watch made it, its functions are called too, since a call of
            the method would be one more frame. If another library made it, it is called in place of ``_call_impl``.
        enter: called before a module is called; its return value goes to ``leave``.
        leave: called after a module returned or raised.
        run_compiled: called in place of a module that `torch.compile` or `torch.nn.Module.compile` compiled.
    """
    outer = _FOLLOWING.get(before)
    if outer is not None:
        enter, leave = _both(*outer, enter, leave)
    call = "call(self, *args, **kwargs)" if outer is None and before is not CALL else "self._call_impl(*args, **kwargs)"
    method = _compiled(call)(enter, leave, run_compiled, torch.compiler.is_compiling, before)
    method.__qualname__ = CALL.__qualname__
    _FOLLOWING[method] = enter, leave
    return method


def _both(outer_enter: Enter, outer_leave: Leave, inner_enter: Enter, inner_leave: Leave) -> tuple[Enter, Leave]:
    """Return the functions of two watches, one within the other, as one pair."""

    def enter(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return outer_enter(module, args, kwargs), inner_enter(module, args, kwargs)

    def leave(entered: Any) -> None:
        outer, inner = entered
        inner_leave(inner)
        outer_leave(outer)

    return enter, leave
