"""Follow the calls of modules inside of scripted and traced modules. TorchScript runs such calls without Python.

The graph of a scripted module names each submodule that it calls. In the clone of the module, an operator of this
package is inserted before and after each such call. These operators do nothing but notify the `ModuleTracker`.
"""

from __future__ import annotations

import re
import weakref
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

import torch

from pytest_flopsbudget.counting.torch_private import script_methods

if TYPE_CHECKING:
    from collections.abc import Iterator


#: A call of a method. The first input of the node is the object that has the method.
_CALL = "prim::CallMethod"
#: `torch.jit.trace` numbers the calls of a module: ``forward``, ``forward1``, ``forward2``.
_FORWARD = re.compile(r"forward\d*")


class Follower(Protocol):
    """The object that the inserted operators notify."""

    def begin_part(self, path: str, *, is_call: bool) -> None:
        """Note that the running scripted module calls a method of its submodule ``path``.

        ``is_call`` is true if the method is ``forward``.
        """

    def end_part(self) -> None:
        """Note that the last call for which `begin_part` was called has returned."""


#: `id` → object to notify. A graph can hold a number, but no Python object.
_FOLLOWERS: weakref.WeakValueDictionary[int, Follower] = weakref.WeakValueDictionary()


def _begin(follower: int, path: str, *, is_call: bool) -> None:
    known = _FOLLOWERS.get(follower)
    if known is not None:
        known.begin_part(path, is_call=is_call)


def _end(follower: int) -> None:
    known = _FOLLOWERS.get(follower)
    if known is not None:
        known.end_part()


@cache
def _library() -> torch.library.Library:
    """Define the two operators, once per process, and return the library that keeps them defined."""
    library = torch.library.Library("pytest_flopsbudget", "FRAGMENT")
    # An operator whose effects TorchScript does not know is neither removed nor moved.
    library.define("begin_part(int follower, str path, bool is_call) -> ()", alias_analysis="CONSERVATIVE")
    library.define("end_part(int follower) -> ()", alias_analysis="CONSERVATIVE")
    # Tracers replace an operator with this dispatch key by the function that it consists of.
    key = "CompositeImplicitAutograd"
    library.impl("begin_part", lambda follower, path, is_call: _begin(follower, path, is_call=is_call), key)
    library.impl("end_part", _end, key)
    return library


def follow_calls(module: torch.jit.ScriptModule, follower: Follower) -> bool:
    """Insert the operators into the graphs of a scripted module, which must be a clone that has not run yet.

    Returns:
        Whether all calls of submodules are followed. A call is not followed if the graph chooses the submodule at run
            time.
    """
    _library()
    _FOLLOWERS[id(follower)] = follower
    followed = [_follow_in(method.graph, id(follower)) for method in script_methods(module)]
    return all(followed)


def _follow_in(graph: Any, follower: int) -> bool:
    if graph.findAllNodes("pytest_flopsbudget::begin_part"):
        return True  # modules of one class may have one graph
    itself = next(graph.inputs()).debugName()
    complete = not graph.findAllNodes("prim::fork")  # a fork has a graph and a thread of its own
    for node in graph.findAllNodes(_CALL):
        origin, names = _origin(next(node.inputs()))
        if origin != itself:
            complete = False
        elif names:
            method = node.s("name")
            with graph.insert_point_guard(node):
                number = graph.insertConstant(follower)
                arguments = number, graph.insertConstant(".".join(names))
                is_call = graph.insertConstant(_FORWARD.fullmatch(method) is not None)
                graph.create("pytest_flopsbudget::begin_part", [*arguments, is_call], 0).insertBefore(node)
            graph.create("pytest_flopsbudget::end_part", [number], 0).insertAfter(node)
    return complete


def _origin(value: Any) -> tuple[str, list[str]]:
    """Return the value that attributes are read from, and the names of these attributes: ``self.a.b`` → self, a, b."""
    names = [node.s("name") for node in _attribute_reads(value)]
    for node in _attribute_reads(value):
        value = next(node.inputs())
    return value.debugName(), names[::-1]


def _attribute_reads(value: Any) -> Iterator[Any]:
    node = value.node()
    while node.kind() == "prim::GetAttr":
        yield node
        node = next(node.inputs()).node()
