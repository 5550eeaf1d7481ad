"""Which module is running now: in the forward pass, in backward, in recomputed regions, in shared modules."""

from __future__ import annotations

import sys
import threading
from bisect import bisect_right
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from pytest_flopsbudget.counting.tracing.memory import Memory
from pytest_flopsbudget.counting.tracing.nodes import Node

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType


#: Where PyTorch's Python code enters a backward pass, called by a function that knows whether it makes a graph.
_RUNS_BACKWARD = torch.autograd.graph._engine_run_backward.__code__  # noqa: SLF001
_CHECKPOINTS = "torch.utils.checkpoint"

#: The number of the next node that autograd makes on this thread, and the node that it runs now.
_sequence_number = torch._C._autograd._get_sequence_nr  # noqa: SLF001 -- the one way to ask for it
_running_node = torch._C._current_autograd_node  # noqa: SLF001

#: The sequence number that autograd gives to nodes that no operator made, such as the accumulation of gradients.
_NO_SEQUENCE_NUMBER = 2**64 - 1


def _makes_graph(frame: FrameType | None) -> bool:
    """Whether the backward pass that is run from this frame was asked for a graph of its own."""
    caller = None if frame is None else frame.f_back
    return caller is not None and bool(caller.f_locals.get("create_graph"))


class ModuleTracker:
    """Follows the calls of modules by taking the place that `torch.nn.Module.compile` has on an instance.

    It is the first thing that a call looks for, which makes it cheap, and it is set on doubles only, so that nothing is
    left anywhere. A module that is made during the run is no part of the model: its work is its caller's.

    A shared module is found under the name by which the module that calls it holds it; without such a name, under its
    first one. The backward pass needs no hooks: autograd numbers its nodes in the order in which the forward pass makes
    them, so noting that counter wherever a module begins or ends tells, of every node, which module made it.
    """

    def __init__(self, root: torch.nn.Module | None, type_name: str, *, discovers_inputs: bool = False) -> None:
        self.root = Node("", type_name, root)
        self.nodes: dict[str, Node] = {"": self.root}
        #: Modules that were called on threads which the model started, where nobody counts, or that had them compute.
        self.uncounted_modules: set[str] = set()
        #: By identity, the nodes of modules under their first names; a node keeps its module, and so the identity.
        self._first: dict[int, Node] = {}
        #: By identity, all names of the modules that have several.
        self._paths: dict[int, list[str]] = {}
        # Beside each node: whether autograd was running one of its own nodes when the module was called.
        self._stack: list[tuple[Node, bool]] = [(self.root, False)]
        self._numbers: list[int] = []
        self._makers: list[Node] = []
        self._thread = threading.get_ident()
        self._elsewhere = threading.local()
        #: What is alive.
        self.memory = Memory(discovers_inputs=discovers_inputs)
        if root is not None:
            self._register(root, "")

    def _register(self, module: torch.nn.Module, prefix: str) -> None:
        """Make ``module`` and all below it known under ``prefix``."""
        nodes, first = self.nodes, self._first
        waiting: list[tuple[str, torch.nn.Module, Node | None]] = [(prefix, module, None)]
        while waiting:
            path, submodule, parent = waiting.pop()
            identity = id(submodule)
            node = first.get(identity)
            if node is None:
                node = nodes.get(path)
                if node is None:
                    node = nodes[path] = Node(path, type(submodule).__name__, submodule, parent)
                first[identity] = node
            else:
                self._paths.setdefault(identity, [node.path]).append(path)
                node = None  # for what it holds, a place of this name is made when it is called by it
            parts = submodule._modules  # noqa: SLF001 -- `named_modules` is recursive, and slow
            if parts:
                below = f"{path}." if path else ""
                waiting.extend(
                    [(below + name, part, node) for name, part in reversed(parts.items()) if part is not None]
                )

    def _node(self, module: torch.nn.Module) -> Node:
        caller = self._stack[-1][0]
        if id(module) not in self._first:
            base = f"{caller.path}.{type(module).__name__}" if caller.path else type(module).__name__
            name, number = base, 2
            while name in self.nodes:
                name, number = f"{base}_{number}", number + 1
            self._register(module, name)
        first = self._first[id(module)]
        paths = self._paths.get(id(module))
        if paths is None:
            return first
        prefix = f"{caller.path}." if caller.path else ""
        path = min((path for path in paths if path.startswith(prefix)), key=len, default=first.path)
        node = self.nodes.get(path)
        if node is None:
            node = self.nodes[path] = Node(path, type(module).__name__, module)
        return node

    def _note_sequence_number(self, node: Node) -> None:
        """What autograd makes from now on belongs to ``node``."""
        number: int = _sequence_number()
        numbers = self._numbers
        if numbers and numbers[-1] == number:
            self._makers[-1] = node
        else:
            numbers.append(number)
            self._makers.append(node)

    def _call(self, module: torch.nn.Module, /, *args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() != self._thread:
            return self._call_on_other_thread(module, *args, **kwargs)
        identity = id(module)
        node = self._first.get(identity)
        if node is None or identity in self._paths:
            node = self._node(module)
        node.calls += 1
        stack = self._stack
        depth = len(stack)
        stack.append((node, _running_node() is not None))
        self._note_sequence_number(node)
        memory = self.memory
        before, highest = memory.current, memory.max_since_call
        memory.max_since_call = before
        try:
            return module._call_impl(*args, **kwargs)  # noqa: SLF001 -- what a call is when nothing has taken its place
        finally:
            del stack[depth:]
            self._note_sequence_number(stack[-1][0])
            reached = memory.max_since_call
            node.peak_growth = max(node.peak_growth, reached - before)
            if highest > reached:
                memory.max_since_call = highest

    def _call_on_other_thread(self, module: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        """A call on a thread where nobody counts."""
        if _running_node() is None:  # not one of autograd's own threads
            self.uncounted_modules.update(node.path for node in [self._first.get(id(module))] if node is not None)
        before = self.is_on_followed_thread()
        self._elsewhere.follows = True
        try:
            return module._call_impl(*args, **kwargs)  # noqa: SLF001
        finally:
            self._elsewhere.follows = before

    def is_on_followed_thread(self) -> bool:
        """Whether this thread, which is another than the one that measures, runs a module that is known here."""
        return bool(getattr(self._elsewhere, "follows", False))

    @contextmanager
    def following(self, modules: Sequence[torch.nn.Module]) -> Iterator[None]:
        """Follow the calls of these modules, which must be doubles, on this thread while the context lasts."""
        self._note_sequence_number(self._stack[-1][0])
        call = self._call
        for module in modules:
            module.__dict__["_compiled_call_impl"] = partial(call, module)
        try:
            yield
        finally:
            # Not to put anything back: a module that holds itself is freed by a garbage collection only.
            for module in modules:
                module.__dict__["_compiled_call_impl"] = None

    @contextmanager
    def credited_to(self, module: torch.nn.Module) -> Iterator[None]:
        """Credit to ``module`` what runs within the context, whoever is running."""
        depth = len(self._stack)
        self._stack.append((self._node(module), True))
        try:
            yield
        finally:
            del self._stack[depth:]

    def current(self) -> Node:
        """The place that the operator being dispatched now belongs to."""
        node, within_backward = self._stack[-1]
        autograd_node = _running_node()
        if autograd_node is None or within_backward:
            return node
        number = autograd_node._sequence_nr()  # noqa: SLF001
        if number == _NO_SEQUENCE_NUMBER:
            return self.root
        index = bisect_right(self._numbers, number) - 1
        return self._makers[index] if index >= 0 else self.root

    def is_recomputing(self) -> bool:
        """Whether the operator being dispatched now is forward work done again, as activation checkpointing does.

        Either PyTorch's checkpoints are at work below the running backward pass, or something else makes a graph there,
        while the pass itself, unless it is asked to, makes none.
        """
        if _running_node() is None:
            return False
        frame: FrameType | None = sys._getframe()  # noqa: SLF001 -- nothing else tells
        while frame is not None and frame.f_code is not _RUNS_BACKWARD:
            if frame.f_globals.get("__name__") == _CHECKPOINTS:
                return True
            frame = frame.f_back
        return torch.is_grad_enabled() and (self._stack[-1][1] or not _makes_graph(frame))

    def calls(self) -> dict[Node, int]:
        """How often each was called so far."""
        return {node: node.calls for node in self.nodes.values()}

    def set_calls(self, calls: dict[Node, int]) -> None:
        """Go back to what `calls` gave."""
        for node in self.nodes.values():
            node.calls = calls.get(node, 0)
