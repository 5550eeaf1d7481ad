"""Find the running module in a watched test, whose models are not known before their first call."""

from __future__ import annotations

import inspect
from sys import _getframe
from threading import get_ident
from typing import TYPE_CHECKING, Any

import torch

from pytest_flopsbudget.counting.cloning.tensors import storage_tensors
from pytest_flopsbudget.counting.cloning.torchscript import find_scripted
from pytest_flopsbudget.counting.tensors.metadata import PLAIN_TYPES
from pytest_flopsbudget.counting.torch_private import (
    current_autograd_node,
    next_sequence_number,
    script_identity,
    without_torch_function,
)
from pytest_flopsbudget.counting.tracing.forward_frames import (
    arguments_of,
    find_mark,
    forward_code,
    is_forward,
    runs_tracer,
    set_mark,
)
from pytest_flopsbudget.counting.tracing.labels import shapes_in, signature_of
from pytest_flopsbudget.counting.tracing.module_calls import CALL
from pytest_flopsbudget.counting.tracing.modules import ModuleTracker, scripted_modules
from pytest_flopsbudget.counting.tracing.nodes import Node, first_paths

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, FrameType
    from typing import TypeAlias

    from pytest_flopsbudget.counting.tracing.forward_frames import Mark

    #: (node, depth of the stack of running modules, bytes alive before the call, maximum of the caller so far, number
    #: of direct calls of ``forward`` before the call). On another thread: whether a module was running on that thread
    #: before the call.
    _Entered: TypeAlias = tuple[Node, int, int, int, int] | bool
    #: A running call of ``forward`` that did not go through the call of a module: (mark of its frame, entry of the
    #: stack of running modules, its index, bytes alive before the call, maximum of the caller so far).
    _Direct: TypeAlias = tuple[Mark, tuple[Node, bool], int, int, int]


#: The note of a watch that does not find the module of a scripted method.
_UNKNOWN_OWNER = "forward of a scripted module was called, but the module was not found; its work counts for the caller"
#: Flags in the code of generators and coroutines, which run after their call has ended.
_SUSPENDS = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
#: The file and the name of PyTorch's method that calls a module. The watch's replacement has the same file and name.
_CALL_FILE, _CALL_NAME = CALL.__code__.co_filename, CALL.__code__.co_name


def _caller_of_module() -> FrameType | None:
    """Return the frame that calls a module, for a function that is called while the call begins."""
    frame: FrameType | None = _getframe(3)  # skip this function, `enter` and the watch
    while frame is not None and frame.f_code.co_name != _CALL_NAME:
        frame = frame.f_back
    while frame is not None and frame.f_code.co_name == _CALL_NAME:
        frame = frame.f_back  # several watches may follow one call of a scripted module's method
    return frame


def _frames_above(frame: FrameType | None) -> list[tuple[int, CodeType]]:
    """Return (`id` of the frame, its code) for ``frame`` and all frames that called it, the outermost first."""
    above = []
    while frame is not None:
        above.append((id(frame), frame.f_code))
        frame = frame.f_back
    return above[::-1]


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
        #: Running calls of ``forward`` that did not go through the call of a module; the innermost call is last.
        self._direct: list[_Direct] = []
        #: The number of such calls outside of the innermost module that was called as usual.
        self._direct_outside = 0
        #: Belongs to the marks that this watch sets on frames. It is no tracker, so that a mark keeps no module alive.
        self._owner = object()
        #: The next sequence number of autograd when the last operator ran.
        self._last_number = 0
        #: The names of the functions that may be methods ``forward`` of modules, and of the method that calls a module.
        self._names = {"forward", _CALL_NAME}
        #: The classes of the modules whose methods `_names` has.
        self._kinds: set[type] = set()
        #: The frame that was running when the watch began and that still runs: the search for modules ends there. The
        #: pair of `id` and code stands for the frame, because a reference would keep the frame's variables alive.
        self._base: tuple[int, CodeType | None] = 0, None
        #: The frames that were running when the watch began, the outermost first.
        self._outer: list[tuple[int, CodeType]] = []
        #: Classes of modules whose ``forward`` is a generator or a coroutine, and runs after the module's call.
        self._suspending: set[type] = set()
        #: `id` of a module of these classes → the nodes of its calls whose ``forward`` has not begun to run.
        self._not_begun: dict[int, list[Node]] = {}
        #: This function is called once, before the first module is called.
        self.before_first_module: Callable[[], None] | None = None
        #: The scripted modules, by the hash of their objects in C++.
        self._scripted: dict[int, torch.jit.ScriptModule] = {}
        #: Whether a trace function of one of the frames that `_frames` found is running now.
        self._in_tracer = False

    def begin_below(self, frame: FrameType) -> None:
        """Note that the watch begins in ``frame``. This frame and the frames above it run no module of the test."""
        self._outer = _frames_above(frame)
        self._base = self._outer[-1]

    def _find_base(self, frame: FrameType) -> None:
        """Find the innermost frame that was running when the watch began and that still runs.

        A context manager, such as the one that watches a test, enters the watch in frames that end before the test
        begins.
        """
        for known, running in zip(self._outer, _frames_above(frame)):  # noqa: B905 -- the shorter one ends the search
            if known != running:
                break
            self._base = known

    def look(self, frame: FrameType | None) -> None:
        """Find direct calls of ``forward`` that began or ended since the last operator.

        This method is called for every operator, so it does little if there are no such calls.

        Args:
            frame: the frame that runs an operator.
        """
        if get_ident() != self._thread:
            return
        found = self._frames(frame)
        if found is not None or len(self._direct) > self._direct_outside:
            self._follow(frame, found)
        self._last_number = next_sequence_number()

    def _frames(self, frame: FrameType | None) -> list[FrameType] | None:
        """Return the frames that may be direct calls of ``forward``, the innermost first; None if there are none.

        The search goes outward from ``frame``. It ends at the frame `_base`, or at the innermost call that went through
        `torch.nn.Module.__call__`.
        """
        found: list[FrameType] | None = None
        (base, base_code), names = self._base, self._names
        innermost, inner = frame, None
        self._in_tracer = False
        while frame is not None:
            code = frame.f_code
            if code is base_code and id(frame) == base:
                break
            before = frame.f_back
            if code.co_name in names:
                if code.co_name == _CALL_NAME or before is None or before.f_code.co_filename == _CALL_FILE:
                    break  # the innermost module that was called as usual
                self._in_tracer |= runs_tracer(frame, inner)
                found = [frame] if found is None else [*found, frame]
            inner, frame = frame, before
        else:
            if innermost is not None:
                self._find_base(innermost)
        return found

    def _follow(self, frame: FrameType | None, found: list[FrameType] | None) -> None:
        while not self._update(found or []):
            found = self._frames(frame)

    def _update(self, found: list[FrameType]) -> bool:
        """Begin and end direct calls, until the running direct calls are those in ``found`` (innermost first).

        Return false if frames may be missing in ``found``: a new module has a ``forward`` of another name.
        """
        marks = [(frame, find_mark(frame, self._owner)) for frame in reversed(found)]
        kept, new = min(self._direct_outside, len(self._direct)), 0
        for _, mark in marks:
            if mark is None:
                break
            if mark.node is not None:
                if kept == len(self._direct) or self._direct[kept][0] is not mark:
                    break
                kept += 1
            new += 1
        self._end_direct(kept, self._last_number)
        names = len(self._names)
        for frame, mark in marks[new:]:
            self._begin_direct(frame, mark)
            if len(self._names) > names:
                return False
        return True

    def _begin_direct(self, frame: FrameType, mark: Mark | None) -> None:
        """Begin the call of ``forward`` in this frame. If the frame is marked, its call goes on after a suspension."""
        stack = self._stack
        if mark is None:
            module, args, kwargs = arguments_of(frame, in_tracer=self._in_tracer)
            # Some functions have such a name and are no methods of modules, such as those of `torch.autograd.Function`.
            # A module of which a method runs already is not called again, and a graph that the compiler made is no
            # module of the test.
            if (
                module is None
                or not is_forward(frame.f_code, module)
                or module is stack[-1][0].module
                or (isinstance(module, torch.fx.GraphModule) and id(module) not in self._first)
            ):
                set_mark(frame, self._owner, None)
                return
            waiting = self._not_begun.get(id(module)) if frame.f_code.co_flags & _SUSPENDS else None
            mark = set_mark(frame, self._owner, waiting.pop(0) if waiting else self.called(module, args, kwargs))
        node = mark.node
        if node is None:
            return
        entry = node, current_autograd_node() is not None
        memory = self.memory
        self._direct.append((mark, entry, len(stack), memory.current, memory.max_since_call))
        stack.append(entry)
        self._note_sequence_number(node, self._last_number)
        memory.max_since_call = memory.current

    def _end_direct(self, kept: int, number: int | None = None) -> None:
        """End direct calls of ``forward``. ``kept`` is the number of outermost calls that go on.

        From the sequence number ``number`` on, the caller makes autograd's nodes; None stands for the next number.
        """
        memory, stack = self.memory, self._stack
        while len(self._direct) > kept:
            _, entry, depth, before, highest = self._direct.pop()
            if depth < len(stack) and stack[depth] is entry:
                del stack[depth:]
                self._note_sequence_number(stack[-1][0], number)
            node = entry[0]
            node.peak_growth = max(node.peak_growth, memory.max_since_call - before)
            memory.max_since_call = max(memory.max_since_call, highest)

    def enter(self, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Entered:
        """Note that a call of a module begins. Operators are credited to the module until `leave` is called.

        Return the argument for `leave`. On other threads, nothing is counted, and only the path of the module is noted.
        """
        if get_ident() != self._thread:
            if current_autograd_node() is None:  # autograd's own threads run the backward pass
                node = self._first.get(id(module))
                self.uncounted_modules.add(type(module).__name__ if node is None else node.path)
            before_on_thread = self.is_on_followed_thread()
            self._elsewhere.follows = True
            return before_on_thread
        frame = _caller_of_module()
        found = self._frames(frame)
        if found is not None or len(self._direct) > self._direct_outside:
            self._follow(frame, found)
        node = self.called(module, args, kwargs)
        if type(module) in self._suspending:
            self._not_begun.setdefault(id(module), []).append(node)
        outside, self._direct_outside = self._direct_outside, len(self._direct)
        stack = self._stack
        depth = len(stack)
        stack.append((node, current_autograd_node() is not None))
        self._note_sequence_number(node)
        self._last_number = self._numbers[-1]
        memory = self.memory
        before, highest = memory.current, memory.max_since_call
        memory.max_since_call = before
        return node, depth, before, highest, outside

    def enter_scripted(
        self, method: torch.ScriptMethod[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], notes: set[str]
    ) -> _Entered | None:
        """Note that Python calls a method of a scripted module, alone or within a call of the module.

        Like `enter`, return the argument for `leave`; return None if there is nothing to leave. If the module is not
        found, a note is added to ``notes``.
        """
        identity = hash(method.owner)
        module = self._scripted.get(identity)
        if method.name != "forward":
            # The work counts for the caller. Which parts of the module the method runs is not known.
            self.opaque_modules.update(() if module is None else (module,))
            return None
        if module is None:
            module = find_scripted(method)
            if module is None:
                notes.add(_UNKNOWN_OWNER)
                return None
            self._scripted[identity] = module
        return None if module is self._stack[-1][0].module else self.enter(module, args, kwargs)

    def leave(self, entered: _Entered, output: Any) -> None:
        """Note that a call has ended.

        Args:
            entered: the value that `enter` returned for the call.
            output: what the module returned; None if it raised.
        """
        if isinstance(entered, bool):
            self._elsewhere.follows = entered
            return
        node, depth, before, highest, outside = entered
        if node.outputs is None:
            node.outputs = shapes_in(output)
        memory = self.memory
        if len(self._direct) > self._direct_outside:
            self._end_direct(self._direct_outside)
        self._direct_outside = outside
        del self._stack[depth:]
        self._note_sequence_number(self._stack[-1][0])
        self._last_number = self._numbers[-1]
        node.peak_growth = max(node.peak_growth, memory.max_since_call - before)
        memory.max_since_call = max(memory.max_since_call, highest)

    def _register(self, module: torch.nn.Module, prefix: str) -> None:
        begin, self.before_first_module = self.before_first_module, None
        if begin is not None:
            begin()
        super()._register(module, prefix)
        parts = list(module.modules())
        kinds = set(map(type, parts))
        if any(issubclass(kind, torch.jit.ScriptModule) for kind in kinds):
            scripted = [part for part in parts if isinstance(part, torch.jit.ScriptModule)]
            self._scripted.update((script_identity(part), part) for part in scripted)
        kinds -= self._kinds
        self._kinds |= kinds
        codes = {kind: code for kind in kinds if (code := forward_code(kind)) is not None}
        self._names.update(code.co_name for code in codes.values())
        self._suspending.update(kind for kind, code in codes.items() if code.co_flags & _SUSPENDS)
        with without_torch_function():
            # Earlier steps made these gradients.
            gradients = (parameter.grad for parameter in module.parameters() if parameter.is_leaf)
            self.memory.record_gradients(storage_tensors(gradients))  # this run may free them

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
        self._end_direct(0)
        # Operators in the graph of a scripted module would show which part runs, but the module belongs to the test.
        self.opaque_modules.update(
            module for module in scripted_modules(self.nodes.values()) if self._first[id(module)].calls
        )
        model = self._model()
        if model is None:
            self.root.type, self.root.calls = "function", 1
            return self._name
        known = first_paths(model)
        moved = {path: known[id(module)] for path, module in self._called.items() if id(module) in known}
        nodes, self.nodes = self.nodes, {"": self.root}
        for path, node in nodes.items():
            self._renamed[path] = node.path = self._moved(path, moved)
            node.parent = None
            into = self.nodes.setdefault(node.path, node)
            if into is not node:
                into.type, into.module = node.type, node.module
                into.calls += node.calls
                into.outputs = into.outputs or node.outputs
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
        top, dot, below = path.partition(".")
        if top not in moved:
            return path
        above = moved[top]
        return (f"{above}.{below}" if above else below or ".") if dot else above

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
