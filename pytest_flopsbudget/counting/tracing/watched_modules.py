"""Find the running module in a watched test, whose models are not known before their first call."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from pytest_flopsbudget.counting.cloning.tensors import storage_tensors
from pytest_flopsbudget.counting.tensors.metadata import PLAIN_TYPES
from pytest_flopsbudget.counting.torch_private import current_autograd_node, without_torch_function
from pytest_flopsbudget.counting.tracing.labels import signature_of
from pytest_flopsbudget.counting.tracing.modules import ModuleTracker
from pytest_flopsbudget.counting.tracing.nodes import Node

if TYPE_CHECKING:
    from typing import TypeAlias

    import torch

    #: (node, depth of the stack of running modules, bytes alive before the call, maximum of the caller so far). On
    #: another thread: whether a module was running on that thread before the call.
    _Entered: TypeAlias = tuple[Node, int, int, int] | bool


class WatchedModules(ModuleTracker):
    """Follows the calls of modules that were not known before the run.

    If a module is called outside of all known modules, it is added with its submodules, under the name of its class. At
    the end, the module that contains all other modules with parameters becomes the model. The paths of the modules are
    then those of the model's `named_modules`.
    """

    def __init__(self, name: str) -> None:
        super().__init__(None, "function", discovers_inputs=True)
        self._name = name
        #: Path → module, for modules that were called outside of all other modules, in the order of their first calls.
        self._called: dict[str, torch.nn.Module] = {}
        #: (path, description of the inputs) → the number of such calls.
        self._calls: dict[tuple[str, tuple[str, ...]], int] = {}
        #: (path, types, shapes and dtypes of plain tensors) → the key for `_calls`. This avoids the slow description of
        #: inputs.
        self._signatures: dict[Any, tuple[str, tuple[str, ...]]] = {}
        #: Path during the run → path at the end.
        self._renamed: dict[str, str] = {}

    def enter(self, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Entered:
        """Note that a call of a module begins. Operators are credited to the module until `leave` is called.

        Return the argument for `leave`. On other threads, nothing is counted, and only the path of the module is noted.
        """
        if threading.get_ident() != self._thread:
            if current_autograd_node() is None:  # autograd's own threads run the backward pass
                node = self._first.get(id(module))
                self.uncounted_modules.add(type(module).__name__ if node is None else node.path)
            before_on_thread = self.is_on_followed_thread()
            self._elsewhere.follows = True
            return before_on_thread
        node = self.called(module, args, kwargs)
        stack = self._stack
        depth = len(stack)
        stack.append((node, current_autograd_node() is not None))
        self._note_sequence_number(node)
        memory = self.memory
        before, highest = memory.current, memory.max_since_call
        memory.max_since_call = before
        return node, depth, before, highest

    def leave(self, entered: _Entered) -> None:
        """Note that a call has ended. ``entered`` is the value that `enter` returned for the call."""
        if isinstance(entered, bool):
            self._elsewhere.follows = entered
            return
        node, depth, before, highest = entered
        memory = self.memory
        del self._stack[depth:]
        self._note_sequence_number(self._stack[-1][0])
        node.peak_growth = max(node.peak_growth, memory.max_since_call - before)
        memory.max_since_call = max(memory.max_since_call, highest)

    def _register(self, module: torch.nn.Module, prefix: str) -> None:
        super()._register(module, prefix)
        with without_torch_function():
            gradients = (parameter.grad for parameter in module.parameters() if parameter.is_leaf)
            self.memory.record_gradients(storage_tensors(gradients))  # earlier steps made them; this run may free them

    def called(self, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Node:
        """Record one call of the module, and return the module's node."""
        identity = id(module)
        stack = self._stack
        if len(stack) > 1:
            node = self._first.get(identity)
            if node is None or identity in self._paths:
                node = self._node(module)
        else:
            node = self._node(module)
            self._called.setdefault(node.path, module)
            with without_torch_function():
                signature = self._signature(node.path, args, kwargs)
            self._calls[signature] = self._calls.get(signature, 0) + 1
        node.calls += 1
        return node

    def _signature(self, path: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[str, tuple[str, ...]]:
        """Return the key of this call in `_calls`: the path, and the texts that describe the inputs."""
        looks: Any = (path, *((type(each), each.shape, each.dtype) for each in args if type(each) in PLAIN_TYPES))
        if kwargs or len(looks) != len(args) + 1:
            return path, signature_of(args, kwargs)
        signature = self._signatures.get(looks)
        if signature is None:
            signature = self._signatures[looks] = path, signature_of(args, kwargs)
        return signature

    def place(self, above: Node, path: str, type_name: str) -> Node:
        """Return the node of ``path`` below the node ``above``. If the node does not exist, it is made."""
        if not path:
            return above
        path = f"{above.path}.{path}"
        return self.nodes.get(path) or self.nodes.setdefault(path, Node(path, type_name, None))

    def settle(self) -> str:
        """Give each module its final path, the path inside of the model, and return the name of the model.

        If no module contains all others, keep the paths, and return the name of the watch.
        """
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
                into.peak_growth = max(into.peak_growth, node.peak_growth)
        return self.root.type

    def _model(self) -> torch.nn.Module | None:
        """Return the called module that contains all other called modules; None if there is no such module.

        Modules without parameters, such as losses, are ignored if a module with parameters was called.
        """
        called = {id(module): module for module in self._called.values()}
        # Losses and activations are called outside of models. They have no parameters.
        with_parameters = [module for module in called.values() if next(module.parameters(), None) is not None]
        candidates = with_parameters or list(called.values())
        for module in candidates:
            contained = {id(part) for part in module.modules()}
            if all(id(other) in contained for other in candidates):
                return module
        return None

    @staticmethod
    def _moved(path: str, moved: dict[str, str]) -> str:
        top, _, below = path.partition(".")
        if top not in moved:
            return path
        return ".".join(filter(None, (moved[top], below)))

    def settled(self, path: str) -> str:
        """Return the final path of the module that had the path ``path`` during the run."""
        return self._renamed.get(path, path)

    def inputs(self) -> tuple[str, ...]:
        """Return texts that describe the models' inputs. Calls with equal inputs have the same text.

        The text ends with the number of these calls if there are several: "float32[8, 16] x3".
        """
        with_parameters = {path for path, module in self._called.items() if next(module.parameters(), None) is not None}
        models = with_parameters or set(self._called)
        return tuple(
            entry if times == 1 else f"{entry} x{times}"
            for (path, signature), times in self._calls.items()
            if path in models
            for entry in signature
        )
