"""Which module is running now, among modules that are met one by one, as a watched test calls them."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import torch

from pytest_flopsbudget.counting.tensors.metadata import PLAIN
from pytest_flopsbudget.counting.tracing.labels import signature_of
from pytest_flopsbudget.counting.tracing.modules import ModuleTracker
from pytest_flopsbudget.counting.tracing.nodes import Node

if TYPE_CHECKING:
    from collections.abc import Callable


_running_node = torch._C._current_autograd_node  # noqa: SLF001 -- the one way to ask for it


class WatchedModules(ModuleTracker):
    """Follows calls of modules that nobody announced.

    A module that no known one called becomes known, with all below it, under its class's name. When all is over and one
    of them holds the others, or alone has parameters, it becomes the model: its paths are those of `named_modules`.
    """

    def __init__(self, name: str) -> None:
        super().__init__(None, "function", finds=True)
        self._name = name
        #: Modules that were called by no module, in the order of their first calls.
        self._called: dict[str, torch.nn.Module] = {}
        #: Signatures of their calls → how often.
        self._calls: dict[tuple[str, tuple[str, ...]], int] = {}
        #: What calls with plain tensors alone look like → their signatures.
        self._signatures: dict[Any, tuple[str, tuple[str, ...]]] = {}
        self._renamed: dict[str, str] = {}

    def follow(
        self, call: Callable[..., Any], module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Call a module, and credit what runs meanwhile to it."""
        __tracebackhide__ = True
        if threading.get_ident() != self._thread:
            if _running_node() is None:  # not one of autograd's own threads
                node = self._first.get(id(module))
                self.unfollowed.add(type(module).__name__ if node is None else node.path)
            return call(module, *args, **kwargs)
        node = self.called(module, args, kwargs)
        stack = self._stack
        depth = len(stack)
        stack.append((node, _running_node() is not None))
        self._mark(node)
        memory = self.memory
        before, highest = memory.current, memory.highest
        memory.highest = before
        try:
            return call(module, *args, **kwargs)
        finally:
            del stack[depth:]
            self._mark(stack[-1][0])
            node.rise = max(node.rise, memory.highest - before)
            memory.highest = max(memory.highest, highest)

    def called(self, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Node:
        """The place of a module that is about to be called."""
        identity = id(module)
        stack = self._stack
        if len(stack) > 1:
            node = self._first.get(identity)
            if node is None or identity in self._paths:
                node = self._node(module)
        else:
            node = self._node(module)
            self._called.setdefault(node.path, module)
            looks: Any = (node.path, *((type(each), each.shape, each.dtype) for each in args if type(each) in PLAIN))
            if kwargs or len(looks) != len(args) + 1 or looks not in self._signatures:
                signature = (node.path, signature_of(args, kwargs))
                if len(looks) == len(args) + 1 and not kwargs:
                    self._signatures[looks] = signature
            else:
                signature = self._signatures[looks]
            self._calls[signature] = self._calls.get(signature, 0) + 1
        node.calls += 1
        return node

    def place(self, above: Node, path: str, type_name: str) -> Node:
        """The place ``path`` below ``above``, which is made where it is not there."""
        if not path:
            return above
        path = f"{above.path}.{path}"
        return self.nodes.get(path) or self.nodes.setdefault(path, Node(path, type_name, None))

    def settle(self) -> str:
        """Give the modules their last names, and say what the model is called."""
        model = self._model()
        if model is None:
            self.root.type, self.root.calls = "function", 1
            return self._name
        known = {id(module): path for path, module in model.named_modules()}
        moved = {path: known[id(module)] for path, module in self._called.items() if id(module) in known}
        nodes, self.nodes = self.nodes, {"": self.root}
        for path, node in nodes.items():
            self._renamed[path] = node.path = self._moved(path, moved)
            node.parent = None
            into = self.nodes.setdefault(node.path, node)
            if into is not node:
                into.type, into.module = node.type, node.module
                into.calls += node.calls
                into.rise = max(into.rise, node.rise)
        return self.root.type

    def _model(self) -> torch.nn.Module | None:
        """The one module that all was about."""
        called = {id(module): module for module in self._called.values()}
        # Losses and activations are called beside models, and hold nothing.
        having = [module for module in called.values() if next(module.parameters(), None) is not None]
        candidates = having or list(called.values())
        for module in candidates:
            held = {id(part) for part in module.modules()}
            if all(id(other) in held for other in candidates):
                return module
        return None

    @staticmethod
    def _moved(path: str, moved: dict[str, str]) -> str:
        top, _, below = path.partition(".")
        if top not in moved:
            return path
        return ".".join(filter(None, (moved[top], below)))

    def settled(self, path: str) -> str:
        """The last name of what was called ``path`` while it ran."""
        return self._renamed.get(path, path)

    def inputs(self) -> tuple[str, ...]:
        """The inputs of the calls from outside, equal calls told once: "float32[8, 16] x3"."""
        having = {path for path, module in self._called.items() if next(module.parameters(), None) is not None} or set(
            self._called
        )
        return tuple(
            entry if times == 1 else f"{entry} x{times}"
            for (path, signature), times in self._calls.items()
            if path in having
            for entry in signature
        )
