"""Measure peak memory, and the depth of the operator graph. Both follow storages, not tensors.

A storage lives as long as anything refers to it: a view, an attribute, a local variable, or autograd for the backward
pass. Each storage that an operator allocates gets a token, which Python frees together with the storage. The code that
holds tensors is the same as in a usual eager run, so each storage is freed at the same moment as there.
"""

from __future__ import annotations

import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import torch

from pytest_flopsbudget.counting.costs.operands import bytes_touched
from pytest_flopsbudget.counting.isolation.patching import patched
from pytest_flopsbudget.counting.tensors.metadata import tensors_in
from pytest_flopsbudget.counting.tensors.storages import WITHOUT_STORAGE
from pytest_flopsbudget.counting.tracing.timeline import new_timeline
from pytest_flopsbudget.results.data import PhaseName

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pytest_flopsbudget.counting.operators.info import OperatorInfo
    from pytest_flopsbudget.counting.tracing.nodes import Node


#: The attribute of a storage that holds the token of the storage.
_TOKEN = "_flopsbudget"  # noqa: S105 -- no password
_Tensor = torch.Tensor
_SEQUENCES = (list, tuple)
#: The classes of nearly all arguments that are neither tensors nor sequences.
_NO_TENSORS = frozenset((int, float, bool, type(None), torch.dtype, torch.device, torch.layout))
#: The positions of the arguments that an operator writes to, if it writes to the first one only.
_FIRST = (0,)
#: An operator that wraps the output of a collective in a tensor that waits for the collective. The wrapper has the same
#: memory as the output, but another storage.
_WRAPS = "_c10d_functional._wrap_tensor_autograd"


class Allocation(msgspec.Struct, eq=False, gc=False):
    """The memory of one storage. Nearly every operator makes an `Allocation`, so its constructor has to be fast."""

    #: The size in bytes.
    size: int
    #: The number of the operator that allocated the memory; 0 if the memory existed before the run.
    created_at: int
    #: The kind of the content, one of `MEMORY_KINDS`; empty if the kind is not known.
    kind: str
    #: The phase in which the memory was allocated.
    phase: PhaseName
    #: The number of operators in the longest chain that produced the content.
    depth: int


class _Token(msgspec.Struct, eq=False, gc=False):
    """An object that is stored as an attribute of a storage. It reports when Python frees the storage."""

    allocation: Allocation
    memory: Memory
    #: The token of an outer watch that follows the storage too.
    other: _Token | None

    def __del__(self) -> None:
        self.memory.record_free(self.allocation)


class Peak:
    """The moment at which the most bytes were alive."""

    __slots__ = ("clock", "module", "node", "operator", "size")

    def __init__(self) -> None:
        #: `size` is `Memory.current` at the peak. `clock` is the number of the operator at the peak; 0 is the start
        #: of the run.
        self.size = self.clock = 0
        #: The name of that operator, and the node of the module in which it ran. `Memory.close` removes the node.
        self.operator = ""
        self.node: Node | None = None
        #: The path of that module. `Memory.close` sets it.
        self.module = ""


class Memory:
    """Tracks which storages are alive while operators run, and how operators depend on each other.

    Args:
        discovers_inputs: whether memory that an operator reads, and that the run did not allocate, counts as memory
            that existed before the run. If false, `assign_kind` has to be called for all such memory.
    """

    def __init__(self, *, discovers_inputs: bool = False) -> None:
        #: The bytes that the run allocated and that are alive now, less the bytes from before the run that were freed.
        self.current = 0
        #: The maximum of `current` since the innermost running module was called. The module tracker saves this value
        #: before a call and restores it afterwards.
        self.max_since_call = 0
        #: The number of operators in the longest chain so far.
        self.depth = 0
        self.peak = Peak()
        #: The bytes alive at the peak, by kind. They are known after `close`.
        self.at_peak: dict[str, int] = {}
        #: `current` over the course of the run; None if nobody asked for it.
        self.timeline = new_timeline()
        self._discovers_inputs = discovers_inputs
        self._clock = 0
        #: All memory that is alive and that an `Allocation` describes.
        self._alive: dict[Allocation, None] = {}
        #: Allocations that were alive at the peak and were freed later.
        self._freed_since_peak: list[Allocation] = []
        self.is_closed = False
        #: `_cdata` of a storage → its allocation and a reference. The memory existed before the run, and was written
        #: to, discovered or announced. It belongs to the caller and gets no token. It counts as alive from the start of
        #: the run until it is freed.
        self._existing_by_storage: dict[int, tuple[Allocation, Any]] = {}
        #: The bytes, by kind, of other memory that existed before the run, and the `_cdata` of the storages of this
        #: memory.
        self._resident_bytes: dict[str, int] = {}
        self._resident_storages: set[int] = set()

    def assign_kind(self, kind: str, tensors: Iterable[torch.Tensor]) -> None:
        """Set the kind of the memory of these tensors. If a kind was set before, it is kept.

        Args:
            kind: one of `MEMORY_KINDS`.
            tensors: tensors that existed before the run, or were made during the run. They must stay alive until the
                last call of this method, because storages are identified by their addresses.
        """
        known, size = self._resident_storages, 0
        for tensor in tensors:
            holder = _holder(tensor)
            token = getattr(holder, _TOKEN, None)
            if token is not None and token.memory is self:
                allocation = token.allocation
            else:
                allocation = self._find_allocation(holder, token)
            if allocation is not None:
                if not allocation.kind:
                    allocation.kind = kind
            elif (identity := holder._cdata) not in known:
                known.add(identity)
                size += _size_of(tensor, holder)
        self.add_resident(kind, size)

    def add_resident(self, kind: str, size: int) -> None:
        """Count ``size`` bytes of this kind that existed before the run and that have no `Allocation`."""
        self._resident_bytes[kind] = self._resident_bytes.get(kind, 0) + size

    def record_gradients(self, gradients: Iterable[torch.Tensor], *, share_memory: bool = False) -> None:
        """Record gradients. They count as alive until they are freed, for example by ``zero_grad``.

        Args:
            gradients: gradients that existed before the run, or were made during the run.
            share_memory: whether the gradients are clones that share memory with the caller's gradients. The memory
                then outlives the clones.
        """
        for gradient in gradients:
            holder = _holder(gradient)
            allocation = self._find_allocation(holder, getattr(holder, _TOKEN, None))
            if allocation is None:
                allocation = self._record_existing(holder, gradient, freed_with=gradient if share_memory else holder)
            allocation.kind = allocation.kind or "gradients"

    def record_call(  # noqa: PLR0913, PLR0917 -- a struct of them for every operator would cost time
        self,
        info: OperatorInfo,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        output: Any,
        node: Node,
        phase: PhaseName,
        steps: int,
    ) -> None:
        """Record the memory that a call of an operator allocated, and the earlier calls that this call depends on.

        Args:
            info: the operator.
            args: the positional arguments of the call.
            kwargs: the keyword arguments of the call.
            output: the return value of the call.
            node: the module in which the operator ran.
            phase: the phase in which the operator ran.
            steps: the number of operators that the call adds to a chain; 0 if it neither computes nor moves data.
        """
        self._clock += 1
        depth = self._max_depth(args, 0)
        if kwargs:
            depth = self._max_depth(kwargs.values(), depth)
        depth += steps
        self.depth = max(self.depth, depth)
        behaviour = info.behaviour
        if info.written:
            if info.written == _FIRST and args and isinstance(args[0], _Tensor):  # nearly all operators that write
                self._record_write(args[0], depth, resized=behaviour == "alias")
            else:
                for tensor in info.writes_to(args, kwargs):
                    self._record_write(tensor, depth, resized=behaviour == "alias")
        if behaviour != "inplace":
            self._record_outputs(info, args, output, depth, phase, steps)
            if self.current > self.max_since_call:
                self._update_peak(info, node)
        if self.timeline is not None:
            self.timeline.add(self.current)

    def _record_outputs(  # noqa: PLR0913, PLR0917 -- as for `record_call`
        self, info: OperatorInfo, args: Sequence[Any], output: Any, depth: int, phase: PhaseName, steps: int
    ) -> None:
        if not steps:
            self._share_token(info, args, output)
        if type(output) is _Tensor:
            self._record_output(output, depth, phase)
        else:
            for tensor in tensors_in(output):
                self._record_output(tensor, depth, phase)

    def _update_peak(self, info: OperatorInfo, node: Node) -> None:
        """Record the present memory as the peak of the running module.

        If the run never had more memory alive, the present memory is the peak of the run too.
        """
        current = self.max_since_call = self.current
        peak = self.peak
        if current > peak.size:
            peak.size, peak.clock, peak.operator, peak.node = current, self._clock, info.name, node
            self._freed_since_peak.clear()

    def _max_depth(self, values: Iterable[Any], depth: int) -> int:
        """Return the length of the longest chain of operators that led to ``values``, but at least ``depth``."""
        existing = self._existing_by_storage
        for value in values:
            kind = type(value)
            if kind in _NO_TENSORS:  # `isinstance` is slow for objects that are no tensors
                continue
            if kind is _Tensor or isinstance(value, _Tensor):
                try:
                    holder: Any = value.untyped_storage()
                except WITHOUT_STORAGE:
                    holder = value
                token = getattr(holder, _TOKEN, None)
                if token is not None and token.memory is self:
                    known = token.allocation
                elif self._discovers_inputs or existing:
                    entry = existing.get(holder._cdata) if token is None else None
                    known = self._find_allocation(holder, token) if entry is None else entry[0]
                    if known is None:
                        if self._discovers_inputs:
                            self._record_existing(holder, value)
                        continue
                else:
                    continue
                depth = max(depth, known.depth)
            elif kind in _SEQUENCES and value and type(value[0]) is not int:  # sizes and strides hold no tensors
                depth = self._max_depth(value, depth)
        return depth

    @staticmethod
    def _share_token(info: OperatorInfo, args: Sequence[Any], output: Any) -> None:
        """If the operator wraps a tensor in another tensor, give its output the token of the wrapped tensor."""
        if info.name == _WRAPS:
            token: _Token | None = getattr(_holder(args[0]), _TOKEN, None)
            if token is not None:
                setattr(_holder(output), _TOKEN, token)

    def _record_output(self, tensor: torch.Tensor, depth: int, phase: PhaseName) -> None:
        try:
            holder: Any = tensor.untyped_storage()
        except WITHOUT_STORAGE:
            holder = tensor
        token: _Token | None = getattr(holder, _TOKEN, None)
        if token is not None or self._existing_by_storage:
            known = self._find_allocation(holder, token)
            if known is not None:
                known.depth = max(known.depth, depth)
                return
        while token is not None and token.memory.is_closed:
            token = token.other
        size = bytes_touched(tensor) if holder is tensor else holder.nbytes()
        allocation = Allocation(size, self._clock, "", phase, depth)
        self._alive[allocation] = None
        self.current += size
        setattr(holder, _TOKEN, _Token(allocation, self, token))

    def _record_write(self, tensor: torch.Tensor, depth: int, *, resized: bool) -> None:
        holder = _holder(tensor)
        token = getattr(holder, _TOKEN, None)
        allocation = self._find_allocation(holder, token) or self._record_existing(holder, tensor)
        allocation.depth = max(allocation.depth, depth)
        if resized and holder is not tensor:
            self._record_resize(holder)

    def _record_resize(self, storage: torch.UntypedStorage) -> None:
        """Count the storage as a new allocation if its size has changed."""
        token: _Token | None = getattr(storage, _TOKEN, None)
        while token is not None and token.memory is not self:
            token = token.other
        if token is None or token.allocation.size == storage.nbytes():
            return
        before = token.allocation
        self.record_free(before)
        after = token.allocation = Allocation(storage.nbytes(), self._clock, before.kind, before.phase, before.depth)
        self._alive[after] = None
        self.current += after.size

    @contextmanager
    def following_resizes(self) -> Iterator[None]:
        """Follow the calls of `torch.UntypedStorage.resize_`. FSDP frees gathered parameters by such calls."""
        resize = torch.UntypedStorage.resize_

        def resized(storage: torch.UntypedStorage, size: int) -> Any:
            result = resize(storage, size)
            self._record_resize(storage)
            return result

        with patched([(torch.UntypedStorage, "resize_", resized)]):
            yield

    def _find_allocation(self, holder: Any, token: _Token | None) -> Allocation | None:
        """Return the allocation of a storage with this token; None if the storage has no allocation yet."""
        while token is not None:
            if token.memory is self:
                return token.allocation
            token = token.other
        known = self._existing_by_storage.get(holder._cdata)
        return None if known is None else known[0]

    def _record_existing(self, holder: Any, tensor: torch.Tensor, freed_with: Any = None) -> Allocation:
        """Record memory that existed before the run.

        Args:
            holder: the storage, or the tensor itself if it has no storage.
            tensor: the tensor by which the memory was found.
            freed_with: the object whose end frees the memory. If it is None, a watched run frees the memory at the end
                of ``holder``. Any other run never frees the memory.
        """
        allocation = Allocation(_size_of(tensor, holder), 0, "", "forward", 0)
        identity = holder._cdata
        if freed_with is None and self._discovers_inputs:
            freed_with = holder
        # While something refers to the storage, no other storage gets its `_cdata`. If the run may free the storage, we
        # keep only a weak reference, because counting must not delay the end of the storage.
        kept = holder
        if freed_with is not None:

            def end(_: Any) -> None:
                if self._existing_by_storage.pop(identity, None) is not None:
                    self.record_free(allocation)

            kept = weakref.ref(freed_with, end)
        self._existing_by_storage[identity] = allocation, kept
        self._alive[allocation] = None
        return allocation

    def record_free(self, allocation: Allocation) -> None:
        """Record that an allocation was freed."""
        self._alive.pop(allocation, None)
        if not self.is_closed:
            self.current -= allocation.size
            if allocation.created_at <= self.peak.clock:
                self._freed_since_peak.append(allocation)

    def close(self) -> None:
        """Compute `at_peak`, stop tracking, and drop all references. The paths of all modules must be final.

        The tokens of living storages refer to this object. If this object referred to a module, the module, its
        gradients and their tokens would never be freed, because the garbage collector cannot look into tokens.
        """
        self.at_peak = self._kinds_at_peak()
        node, self.peak.node = self.peak.node, None
        self.peak.module = "" if node is None else node.path
        if self.timeline is not None:
            self.timeline.close()
        self.is_closed = True
        for kept in (
            self._existing_by_storage,
            self._freed_since_peak,
            self._resident_storages,
        ):
            kept.clear()

    def has_living(self) -> bool:
        """Return whether memory that the run allocated is still alive."""
        return any(allocation.created_at for allocation in self._alive)  # 0: it existed before the run

    def has_allocated(self, tensor: torch.Tensor) -> bool:
        """Return whether the run allocated the memory of the tensor."""
        token: _Token | None = getattr(_holder(tensor), _TOKEN, None)
        while token is not None:
            if token.memory is self:
                return True
            token = token.other
        return False

    def _kinds_at_peak(self) -> dict[str, int]:
        clock, kinds = self.peak.clock, dict(self._resident_bytes)
        made = (allocation for allocation in (*self._alive, *self._freed_since_peak) if allocation.created_at <= clock)
        for allocation in made:
            kind = allocation.kind or _default_kind(allocation)
            kinds[kind] = kinds.get(kind, 0) + allocation.size
        return kinds


def _default_kind(allocation: Allocation) -> str:
    if not allocation.created_at:
        return "inputs"
    return "activations" if allocation.phase == "forward" else "temporaries"


def _size_of(tensor: torch.Tensor, holder: Any) -> int:
    """Return the bytes of ``tensor``. For a view of a larger storage, return only the bytes that the view covers."""
    if holder is tensor:
        return bytes_touched(tensor)
    covered: int = tensor.nbytes
    whole: int = holder.nbytes()
    return min(covered, whole)


def _holder(tensor: torch.Tensor) -> Any:
    """Return the object that lives as long as the tensor's data: the storage, or the tensor if it has no storage."""
    try:
        return tensor.untyped_storage()
    except WITHOUT_STORAGE:  # a sparse tensor consists of other tensors
        return tensor
