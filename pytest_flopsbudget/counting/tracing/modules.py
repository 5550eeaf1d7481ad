"""Find the module that an operator belongs to: in the forward pass, in the backward pass and in recomputed regions."""

from __future__ import annotations

import sys
import threading
from bisect import bisect_right
from contextlib import contextmanager
from functools import partial, wraps
from types import CellType, FunctionType, GeneratorType, MethodType
from typing import TYPE_CHECKING, Any

import torch

from pytest_flopsbudget.counting.isolation.patching import patched
from pytest_flopsbudget.counting.torch_private import backward_code, current_autograd_node, next_sequence_number
from pytest_flopsbudget.counting.tracing.labels import shapes_in
from pytest_flopsbudget.counting.tracing.memory import Memory
from pytest_flopsbudget.counting.tracing.nodes import Node, path_of_part
from pytest_flopsbudget.counting.tracing.scripted_modules import follow_calls

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
    from types import FrameType

    from pytest_flopsbudget.counting.tensors.packed import PackedSize


#: The attribute of a module in which `torch.nn.Module.compile` stores the compiled call.
_SLOT = "_compiled_call_impl"

_CHECKPOINTS = "torch.utils.checkpoint"

#: The sequence number of autograd nodes that no operator made, such as the nodes that accumulate gradients.
_NO_SEQUENCE_NUMBER = 2**64 - 1


def _makes_graph(frame: FrameType | None) -> bool:
    """Return whether the backward pass that runs in this frame was called with ``create_graph=True``."""
    caller = None if frame is None else frame.f_back
    return caller is not None and bool(caller.f_locals.get("create_graph"))


def _without_self(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that takes a module and ignores it, because ``method`` is bound to the module already."""

    @wraps(method)
    def function(_module: torch.nn.Module, /, *args: Any, **kwargs: Any) -> Any:
        return method(*args, **kwargs)

    return function


def _holds(cell: CellType, value: object) -> bool:
    try:
        return cell.cell_contents is value
    except ValueError:  # the cell is empty
        return False


def scripted_modules(nodes: Iterable[Node]) -> list[torch.nn.Module]:
    """Return the scripted modules among the modules of these nodes."""
    return [node.module for node in nodes if isinstance(node.module, torch.jit.ScriptModule)]


class _GeneratorEnd(Exception):  # noqa: N818 -- no error
    """Raised in place of `StopIteration`, which a generator must not raise."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        #: The value that the generator returned.
        self.value = value


class ModuleTracker:
    """Follows the calls of modules by the attribute in which `torch.nn.Module.compile` stores a compiled call.

    A call of a module reads that attribute first, so following a call is cheap. The attribute is set on clones only, so
    the user's model never has it. A module that is created during the run is not part of the model: its work is
    credited to the module that calls it.

    Some models call ``part.forward(x)`` or ``Class.forward(part, x)`` in place of ``part(x)``. So ``forward`` of the
    clones' classes is replaced by a function that follows such a call. If the module itself runs already, as for
    ``super().forward(x)``, this function only calls the original ``forward``.

    TorchScript runs scripted and traced modules without Python. Operators in their graphs notify `begin_part`.

    A shared module has several paths. Its work is credited to the path that begins with the path of the calling module.
    If there is no such path, its work is credited to its first path.

    The backward pass needs no hooks. Autograd numbers its nodes in the order in which the forward pass makes them. When
    a call of a module begins or ends, the next number is noted. So the number of a node tells which module made it.
    """

    def __init__(self, root: torch.nn.Module | None, type_name: str, *, discovers_inputs: bool = False) -> None:
        self.root = Node("", type_name, root)
        self.nodes: dict[str, Node] = {"": self.root}
        #: Paths of modules that were called on other threads of the model, or that passed work to such threads. Nothing
        #: is counted on these threads.
        self.uncounted_modules: set[str] = set()
        #: The nodes of modules under their first paths, by `id`. A node keeps its module alive, so an `id` stays valid.
        self._first: dict[int, Node] = {}
        #: `id` of a module with several paths → all its paths.
        self._paths: dict[int, list[str]] = {}
        #: (running module, whether autograd was running a node when the module was called); the innermost module is
        #: last.
        self._stack: list[tuple[Node, bool]] = [(self.root, False)]
        #: Sequence numbers of autograd, ascending. The module at an index of `_makers` made the nodes from the number
        #: at this index up to the next number.
        self._numbers: list[int] = []
        self._makers: list[Node] = []
        self._thread = threading.get_ident()
        self._elsewhere = threading.local()
        #: Calls of parts inside of scripted modules that are running: (entry of `_stack`, its index, the part, bytes
        #: alive before the call, maximum of the caller so far).
        self._parts: list[tuple[tuple[Node, bool], int, torch.nn.Module, int, int]] = []
        #: Scripted modules whose parts have unknown work. They are not listed, so that a limit on one of them fails.
        self.opaque_modules: set[torch.nn.Module] = set()
        #: Address of a packed weight, which is its hash → its size.
        self.packed_weights: dict[int, PackedSize] = {}
        self.memory = Memory(discovers_inputs=discovers_inputs)
        if root is not None:
            self._register(root, "")

    def _register(self, module: torch.nn.Module, prefix: str) -> None:
        """Add nodes under ``prefix`` for ``module`` and for all modules that it contains."""
        nodes, first = self.nodes, self._first
        waiting: list[tuple[str, torch.nn.Module, Node | None]] = [(prefix, module, None)]
        while waiting:
            path, submodule, parent = waiting.pop()
            identity = id(submodule)
            node = first.get(identity)
            if node is None:
                node = nodes.get(path)
                while node is not None and node.module is not None and node.module is not submodule:
                    path += ":"  # another module has the name that this path ends with: "a:b" beside "a.b"
                    node = nodes.get(path)
                if node is None:
                    node = nodes[path] = Node(path, type(submodule).__name__, submodule, parent)
                first[identity] = node
            else:
                self._paths.setdefault(identity, [node.path]).append(path)
                node = None  # the nodes of its submodules under this path are made when the submodules are called
            parts = submodule._modules
            if parts:
                waiting.extend(
                    [
                        (path_of_part(path, name), part, node)
                        for name, part in reversed(parts.items())
                        if part is not None
                    ]
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

    def _note_sequence_number(self, node: Node, number: int | None = None) -> None:
        """Note that ``node`` makes autograd's nodes from this sequence number on; None stands for the next number."""
        if number is None:
            number = next_sequence_number()
        numbers = self._numbers
        if numbers and numbers[-1] == number:
            self._makers[-1] = node
        else:
            numbers.append(number)
            self._makers.append(node)

    def _call(self, module: torch.nn.Module, function: Callable[..., Any] | None, /, *args: Any, **kwargs: Any) -> Any:
        """Run a call of ``module``, and credit the operators of the call to ``module``.

        If ``function`` is None, the usual call of the module runs. Otherwise, ``function`` runs in its place.
        """
        run: Any = module._call_impl if function is None else function
        if threading.get_ident() != self._thread:
            return self._call_on_other_thread(module, run, *args, **kwargs)
        identity = id(module)
        node = self._first.get(identity)
        if node is None or identity in self._paths:
            node = self._node(module)
        node.calls += 1
        stack = self._stack
        depth = len(stack)
        stack.append((node, current_autograd_node() is not None))
        self._note_sequence_number(node)
        memory = self.memory
        before, highest = memory.current, memory.max_since_call
        memory.max_since_call = before
        try:
            output = run(*args, **kwargs)
            if node.outputs is None:
                node.outputs = shapes_in(output)
            return output if type(output) is not GeneratorType else self._followed(output, node)
        finally:
            del stack[depth:]
            self._note_sequence_number(stack[-1][0])
            reached = memory.max_since_call
            node.peak_growth = max(node.peak_growth, reached - before)
            if highest > reached:
                memory.max_since_call = highest

    def _followed(self, generator: Generator[Any, Any, Any], node: Node) -> Generator[Any, Any, Any]:
        """Run a generator that a module returned, and credit the generator's operators to the module ``node``."""
        sent: Any = None
        raised: BaseException | None = None
        while True:
            try:
                # The value is in a list and is taken from it, because this frame must not keep a yielded value alive.
                items = [self._step(generator, node, sent, raised)]
            except _GeneratorEnd as end:
                return end.value
            try:
                sent, raised = (yield items.pop()), None
            except GeneratorExit:
                generator.close()
                raise
            except BaseException as error:  # noqa: BLE001 -- the generator decides what becomes of it
                sent, raised = None, error

    def _step(self, generator: Generator[Any, Any, Any], node: Node, sent: Any, raised: BaseException | None) -> Any:
        depth, memory, before, highest = len(self._stack), self.memory, 0, 0
        if threading.get_ident() == self._thread:
            self._stack.append((node, current_autograd_node() is not None))
            self._note_sequence_number(node)
            before, highest = memory.current, memory.max_since_call
            memory.max_since_call = before
        try:
            return generator.send(sent) if raised is None else generator.throw(raised)
        except StopIteration as end:
            raise _GeneratorEnd(end.value) from None
        finally:
            if threading.get_ident() == self._thread:
                del self._stack[depth:]
                self._note_sequence_number(self._stack[-1][0])
                node.peak_growth = max(node.peak_growth, memory.max_since_call - before)
                memory.max_since_call = max(memory.max_since_call, highest)

    def _forward_of(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Return the replacement for ``original``, the function ``forward`` of a class or of a scripted module."""
        slot, bound = _SLOT, MethodType
        cells = getattr(original, "__closure__", None) or ()
        own = [_holds(cell, original) for cell in cells]

        def forward(module: torch.nn.Module, /, *args: Any, **kwargs: Any) -> Any:
            # Modules that are no clones, and copies that the run makes of clones, are not followed.
            if self._stack[-1][0].module is module or module.__dict__.get(slot) is None:
                return original(module, *args, **kwargs)
            return self._call(module, bound(original, module), *args, **kwargs)

        # TorchScript compiles the source of ``original``, and looks for names in the globals of the function. So the
        # function has the globals of ``original``, and reads no globals itself.
        globals_ = getattr(original, "__globals__", forward.__globals__)
        following = FunctionType(forward.__code__, globals_, forward.__name__, None, forward.__closure__)
        found = wraps(original)(following)  # models read the signature of their ``forward``
        if any(own) and type(original) is FunctionType:
            # Layers of transformers checkpoint if ``type(self).forward`` is the function that runs. So a copy of the
            # function runs, which finds the replacement under its name.
            closure = tuple([CellType(found) if is_own else cell for cell, is_own in zip(cells, own, strict=True)])
            copy = FunctionType(original.__code__, globals_, original.__name__, original.__defaults__, closure)
            copy.__kwdefaults__ = original.__kwdefaults__
            original = copy
        return found

    def _forwards(self, modules: Iterable[torch.nn.Module]) -> Iterator[tuple[Any, str, Any]]:
        """Yield the replacement for each function ``forward`` in the classes of these modules and in their bases."""
        kinds = {each: None for kind in dict.fromkeys(map(type, modules)) for each in kind.__mro__}
        kinds.pop(torch.nn.Module, None)  # its ``forward`` only raises an error
        # If two classes share a function, they share its replacement, since classes may compare their functions.
        made: dict[FunctionType, Callable[..., Any]] = {}
        for kind in kinds:
            original = kind.__dict__.get("forward")
            if type(original) is FunctionType:
                if original not in made:
                    made[original] = self._forward_of(original)
                yield kind, "forward", made[original]

    def begin_part(self, path: str, *, is_call: bool) -> None:
        """Note that the running scripted module calls a method of its submodule ``path``.

        ``is_call`` is true if the method is ``forward``.
        """
        if threading.get_ident() != self._thread:
            return
        stack, parts = self._stack, self._parts
        while parts and not (parts[-1][1] < len(stack) and stack[parts[-1][1]] is parts[-1][0]):
            parts.pop()  # an exception ended this call
        caller = stack[-1][0]
        module: Any = parts[-1][2] if parts and parts[-1][1] == len(stack) - 1 else caller.module
        for name in path.split("."):
            module = getattr(module, name, None)
        if not isinstance(module, torch.jit.ScriptModule):
            # Python called a method other than ``forward``. The inserted operators do not show of which module.
            self.opaque_modules.update(scripted_modules(self.nodes.values()))
            node = caller
        else:
            node = self._node(module) if is_call else caller
            node.calls += is_call
        entry = node, current_autograd_node() is not None
        memory = self.memory
        parts.append((entry, len(stack), module, memory.current, memory.max_since_call))
        stack.append(entry)
        self._note_sequence_number(node)
        memory.max_since_call = memory.current

    def end_part(self) -> None:
        """Note that the call for which `begin_part` was called last has returned."""
        if threading.get_ident() != self._thread or not self._parts:
            return
        (node, _), depth, _, before, highest = self._parts.pop()
        del self._stack[depth:]
        self._note_sequence_number(self._stack[-1][0])
        memory = self.memory
        node.peak_growth = max(node.peak_growth, memory.max_since_call - before)
        memory.max_since_call = max(memory.max_since_call, highest)

    def _call_on_other_thread(
        self, module: torch.nn.Module, function: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Any:
        """Call a module on another thread of the model. Nothing is counted on that thread."""
        if current_autograd_node() is None:  # autograd's own threads run the backward pass
            self.uncounted_modules.update(node.path for node in [self._first.get(id(module))] if node is not None)
        before = self.is_on_followed_thread()
        self._elsewhere.follows = True
        try:
            return function(*args, **kwargs)
        finally:
            self._elsewhere.follows = before

    def is_on_followed_thread(self) -> bool:
        """Return whether this thread runs a module of the model, although it is not the measuring thread."""
        return bool(getattr(self._elsewhere, "follows", False))

    @contextmanager
    def following(self, modules: Sequence[torch.nn.Module]) -> Iterator[None]:
        """Follow the calls of these modules on this thread while the context lasts. The modules must be clones."""
        self._note_sequence_number(self._stack[-1][0])
        call = self._call
        scripted = [module for module in modules if isinstance(module, torch.jit.ScriptModule)]
        for module in modules:
            module.__dict__[_SLOT] = partial(call, module, None)
        for module in scripted:
            # Each scripted module has a method ``forward`` of its own, in place of a function in its class.
            method = getattr(module, "forward", None)
            if method is not None:
                module.__dict__["forward"] = MethodType(self._forward_of(_without_self(method)), module)
            if not follow_calls(module, self):
                self.opaque_modules.add(module)
        try:
            with patched(self._forwards(modules)):
                yield
        finally:
            # Without these lines, every module would refer to itself, and only a garbage collection would free it.
            for module in modules:
                module.__dict__[_SLOT] = None
            for module in scripted:
                module.__dict__.pop("forward", None)

    @contextmanager
    def credited_to(self, module: torch.nn.Module) -> Iterator[None]:
        """Credit all operators to ``module`` while the context lasts, even if another module runs."""
        depth = len(self._stack)
        self._stack.append((self._node(module), True))
        try:
            yield
        finally:
            del self._stack[depth:]

    def release(self) -> None:
        """Drop all references to modules. Call this method after the result is built."""
        for node in self.nodes.values():
            node.module = None
        self._first.clear()
        self._parts.clear()
        self.opaque_modules.clear()

    def current(self) -> Node:
        """Return the node of the module that the current operator belongs to."""
        return self.node_at(current_autograd_node())

    def node_at(self, autograd_node: Any) -> Node:
        """Return the node of the module that an operator belongs to.

        ``autograd_node`` is autograd's node that runs the operator in a backward pass; None if there is none.
        """
        node, within_backward = self._stack[-1]
        if autograd_node is None or within_backward:
            return node
        number = autograd_node._sequence_nr()
        if number == _NO_SEQUENCE_NUMBER:
            return self.root
        index = bisect_right(self._numbers, number) - 1
        return self._makers[index] if index >= 0 else self.root

    def is_recomputing(self) -> bool:
        """Return whether the current operator repeats forward work, for example for activation checkpointing.

        During a backward pass, an operator repeats forward work if PyTorch's checkpointing calls it. An operator that
        builds an autograd graph also repeats forward work, unless it belongs to a backward pass with
        ``create_graph=True``.
        """
        if current_autograd_node() is None:
            return False
        enters_backward = backward_code()
        frame: FrameType | None = sys._getframe()
        while frame is not None and frame.f_code is not enters_backward:
            if frame.f_globals.get("__name__") == _CHECKPOINTS:
                return True
            frame = frame.f_back
        return torch.is_grad_enabled() and (self._stack[-1][1] or not _makes_graph(frame))

    def calls(self) -> dict[Node, int]:
        """Return how often each module was called until now."""
        return {node: node.calls for node in self.nodes.values()}

    def set_calls(self, calls: dict[Node, int]) -> None:
        """Restore the numbers of calls that `calls` returned earlier."""
        for node in self.nodes.values():
            node.calls = calls.get(node, 0)
