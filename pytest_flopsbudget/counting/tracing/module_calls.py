"""Create the methods that replace `torch.nn.Module.__call__` and `torch.ScriptMethod.__call__` while a watch lasts.

Warnings, tracebacks and the compiler treat them as PyTorch's own methods. The first one adds no Python frame.
"""

from __future__ import annotations

import ast
import sys
import weakref
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

import torch

from pytest_flopsbudget.counting.torch_private import keep_uncompiled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, MutableMapping
    from types import CodeType, FunctionType
    from typing import TypeAlias

    #: (module, positional arguments, keyword arguments) → the first value that is passed to `Leave` after the call.
    Enter: TypeAlias = Callable[[torch.nn.Module, tuple[Any, ...], dict[str, Any]], Any]
    #: Called with the value that `Enter` returned and with the output of the module; None if the module raised.
    Leave: TypeAlias = Callable[[Any, Any], None]


#: Method that `following_call` returned → the functions that the method calls, for all methods that are in use.
_FOLLOWING: MutableMapping[Callable[..., Any], tuple[Enter, Leave]] = weakref.WeakKeyDictionary()
#: PyTorch's method that calls a module. It is in place while no watch is active.
CALL = torch.nn.Module.__call__

# The method below adds no Python frame to the call of a module. So a model that is nested as deeply as Python allows
# still runs, and the ``stacklevel`` of a warning leads to the same frame. When PyTorch's compiler traces the method,
# `is_compiling` is true, and the compiler sees the same call as without a watch.
_SOURCE = """
def bind(enter, leave, run_compiled, is_compiling, call):
    def {name}(self, *args, **kwargs):
        if is_compiling():
            return call(self, *args, **kwargs) if self._compiled_call_impl is not None else {call}
        if self._compiled_call_impl is not None or type(self).__name__ == "OptimizedModule":
            return run_compiled(self, args, kwargs)
        entered, output = enter(self, args, kwargs), None
        try:
            output = {call}
            return output
        finally:
            leave(entered, output)
    return {name}
"""

# TorchScript's methods are called without Python, so this method adds the frame of a call of a module.
_SCRIPT_SOURCE = """
def bind(enter, leave, call):
    def {name}(self, *args, **kwargs):
        entered = enter(self, args, kwargs)
        output = None
        try:
            output = call(self, *args, **kwargs)
            return output
        finally:
            leave(entered, output)
    return {name}
"""


#: The maximum number of Python frames that counting one operator or one call of a module takes.
_ROOM = 100


@contextmanager
def room_for_counting() -> Iterator[None]:
    """Raise Python's recursion limit by the number of frames that counting needs.

    Deeply nested models then still run.
    """
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(before + _ROOM)
    try:
        yield
    finally:
        if sys.getrecursionlimit() == before + _ROOM:  # the test may have changed the limit meanwhile
            sys.setrecursionlimit(before)


@cache
def _compiled(source: str, call: str = "") -> Callable[..., FunctionType]:
    """Compile a source above, in which the expression ``call`` calls the module. Return the function ``bind``.

    Warnings and tracebacks show a method's file, line and globals. So the compiled method has the file and the globals
    of PyTorch's method, and each line has the number of the last line of PyTorch's method.
    """
    original: CodeType = CALL.__code__
    line = max(line for _, _, line in original.co_lines() if line is not None)
    tree = ast.parse(source.format(name=original.co_name, call=call))
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
        before: the method that the new method replaces. If another watch made ``before``, the new method calls
            ``enter`` and ``leave`` of that watch too, because a call of ``before`` would add a frame. If another
            library made ``before``, the new method calls ``before`` in place of PyTorch's ``_call_impl``.
        enter: called before a module is called. Its return value is passed to ``leave``.
        leave: called after a module returned or raised.
        run_compiled: called in place of a module that `torch.compile` or `torch.nn.Module.compile` compiled.
    """
    outer = _FOLLOWING.get(before)
    if outer is not None:
        enter, leave = _both(*outer, enter, leave)
    call = "call(self, *args, **kwargs)" if outer is None and before is not CALL else "self._call_impl(*args, **kwargs)"
    method = _compiled(_SOURCE, call)(enter, leave, run_compiled, torch.compiler.is_compiling, before)
    method.__qualname__ = CALL.__qualname__
    _FOLLOWING[method] = enter, leave
    return method


def following_script_call(
    before: Callable[..., Any],
    enter: Callable[[torch.ScriptMethod[..., Any], tuple[Any, ...], dict[str, Any]], Any],
    leave: Leave,
) -> Callable[..., Any]:
    """Return a method to set as `torch.ScriptMethod.__call__`, which Python calls for a method of a scripted module.

    Args:
        before: the method that the new method replaces and calls.
        enter: called before a method of a scripted module is called. Its return value is passed to ``leave``.
        leave: called after the method returned or raised.
    """
    return _compiled(_SCRIPT_SOURCE)(enter, leave, before)


def _both(outer_enter: Enter, outer_leave: Leave, inner_enter: Enter, inner_leave: Leave) -> tuple[Enter, Leave]:
    """Return one ``enter`` and one ``leave`` that call the functions of both watches. The inner watch enters last."""

    def enter(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return outer_enter(module, args, kwargs), inner_enter(module, args, kwargs)

    def leave(entered: Any, output: Any) -> None:
        outer, inner = entered
        inner_leave(inner, output)
        outer_leave(outer, output)

    keep_uncompiled(enter)
    keep_uncompiled(leave)
    return enter, leave
