"""Bytes alive at once, and the longest chain of operators: both follow storages, not tensors.

A storage lives as long as anything holds it: a view, an attribute, a variable of a frame, autograd for the backward
pass. So each storage that an operator makes is given a token that ends with it. What holds tensors in a measured run is
what holds them in eager mode, so that they end when they would end there.
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
from pytest_flopsbudget.results.complexity import PhaseName

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pytest_flopsbudget.counting.operators.info import OperatorInfo
    from pytest_flopsbudget.counting.tracing.nodes import Node


#: Where a storage keeps its token.
_TOKEN = "_flopsbudget"  # noqa: S105 -- no password
_Tensor = torch.Tensor
_SEQUENCES = (list, tuple)
#: Returns what a collective passes, in a tensor that waits for it: other than PyTorch's storages say, no other memory.
_WRAPS = "_c10d_functional._wrap_tensor_autograd"
#: What a tensor raises that has no storage.
_WITHOUT_STORAGE = (NotImplementedError, RuntimeError)


class Allocation(msgspec.Struct, eq=False, gc=False):
    """The memory behind a storage. There is one for each operator, so that making it has to be fast."""

    #: Bytes.
    size: int
    #: The number of the operator that made it; 0 where it was there before.
    created_at: int
    #: What it holds where that is known, one of `MEMORY_KINDS`; else empty.
    kind: str
    #: When it was made.
    phase: PhaseName
    #: Operators in the longest chain that led to what it holds.
    depth: int


class _Token(msgspec.Struct, eq=False, gc=False):
    """Ends with the storage that it is put on."""

    allocation: Allocation
    memory: Memory
    #: That of a watch around this one, which sees the storage too.
    other: _Token | None

    def __del__(self) -> None:
        self.memory.record_free(self.allocation)


class Peak:
    """The moment at which most bytes were alive."""

    __slots__ = ("clock", "node", "operator", "size")

    def __init__(self) -> None:
        #: Beyond what was there before.
        self.size = self.clock = 0
        #: What ran then, and in which module.
        self.operator = ""
        self.node: Node | None = None


class Memory:
    """Follows what is alive while operators run, and how they depend on each other.

    Args:
        discovers_inputs: whether a tensor that an operator reads, and that nothing announced, is noted as one that
            existed before the run. Without it, `assign_kind` has to announce every such tensor.
    """

    def __init__(self, *, discovers_inputs: bool = False) -> None:
        #: Bytes alive now of what was made meanwhile.
        self.current = 0
        #: The most of them since the call of a module began: who follows the calls keeps it, and puts it back.
        self.max_since_call = 0
        #: The longest chain of operators so far.
        self.depth = 0
        self.peak = Peak()
        #: What was alive when most was, bytes by kind; known once this is closed.
        self.at_peak: dict[str, int] = {}
        self._discovers_inputs = discovers_inputs
        self._clock = 0
        self._alive: dict[Allocation, None] = {}
        #: What was alive at the peak, and is not any more.
        self._freed_since_peak: list[Allocation] = []
        self._closed = False
        #: What was there before and was written to, or found: it counts from the beginning to the end.
        self._existing: list[Allocation] = []
        #: By identity, the storages of those: they are others', and get no token.
        self._existing_by_storage: dict[int, tuple[Allocation, Any]] = {}
        #: Bytes by kind, of what else was there before; and the identities of its storages.
        self._resident_bytes: dict[str, int] = {}
        self._resident_storages: set[int] = set()

    def assign_kind(self, kind: str, tensors: Iterable[torch.Tensor]) -> None:
        """Say what these are, which were there before or were made meanwhile; what has been said stays.

        They have to live until all has been said.
        """
        stood, standing = self._resident_storages, 0
        for tensor in tensors:
            holder = _holder(tensor)
            allocation = self._find_allocation(holder)
            if allocation is not None:
                allocation.kind = allocation.kind or kind
            elif (identity := holder._cdata) not in stood:  # noqa: SLF001
                stood.add(identity)
                standing += _size_of(tensor, holder)
        self._resident_bytes[kind] = self._resident_bytes.get(kind, 0) + standing

    def record_call(  # noqa: PLR0913, PLR0917 -- all that is known of a call
        self,
        info: OperatorInfo,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        output: Any,
        node: Node,
        phase: PhaseName,
        steps: int,
    ) -> None:
        """Follow a call of an operator.

        Args:
            info: the operator.
            args: its positional arguments.
            kwargs: its keyword arguments.
            output: what it returned.
            node: where it ran.
            phase: when it ran.
            steps: how many operators it is in a chain: 0 where it computes and moves nothing.
        """
        self._clock += 1
        depth = steps + self._max_depth(args, 0)
        if kwargs:
            depth = max(depth, steps + self._max_depth(kwargs.values(), 0))
        self.depth = max(self.depth, depth)
        if info.written:
            for tensor in info.writes_to(args, kwargs):
                self._record_write(tensor, depth, resized=info.behaviour == "alias")
        if info.behaviour == "inplace":
            return
        if not steps:
            self._share_token(info, args, output)
        if type(output) is _Tensor:
            self._record_output(output, depth, phase)
        else:
            for tensor in tensors_in(output):
                self._record_output(tensor, depth, phase)
        if self.current > self.max_since_call:
            self._update_peak(info, node)

    def _update_peak(self, info: OperatorInfo, node: Node) -> None:
        """Note that more is alive than was since the call of the module began, and maybe than ever."""
        current = self.max_since_call = self.current
        peak = self.peak
        if current > peak.size:
            peak.size, peak.clock, peak.operator, peak.node = current, self._clock, info.name, node
            self._freed_since_peak.clear()

    def _max_depth(self, values: Iterable[Any], depth: int) -> int:
        """The longest chain that led to one of these, or ``depth`` where that is longer."""
        for value in values:
            if isinstance(value, _Tensor):
                try:
                    holder: Any = value.untyped_storage()
                except _WITHOUT_STORAGE:
                    holder = value
                token = getattr(holder, _TOKEN, None)
                if token is not None and token.memory is self:
                    reached = token.allocation.depth
                elif self._discovers_inputs:
                    reached = (self._find_allocation(holder) or self._record_existing(holder, value)).depth
                elif self._existing_by_storage:
                    known = self._find_allocation(holder)
                    reached = 0 if known is None else known.depth
                else:
                    continue
                depth = max(depth, reached)
            elif type(value) in _SEQUENCES and value and type(value[0]) is not int:  # no sizes, strides, paddings
                depth = self._max_depth(value, depth)
        return depth

    @staticmethod
    def _share_token(info: OperatorInfo, args: Sequence[Any], output: Any) -> None:
        """Note an output that has the memory of the argument, which ends where both have ended."""
        if info.name == _WRAPS:
            token: _Token | None = getattr(_holder(args[0]), _TOKEN, None)
            if token is not None:
                setattr(_holder(output), _TOKEN, token)

    def _record_output(self, tensor: torch.Tensor, depth: int, phase: PhaseName) -> None:
        """Note what an operator returned: memory of its own, or of something that was there."""
        holder = _holder(tensor)
        token: _Token | None = getattr(holder, _TOKEN, None)
        if token is not None or self._existing_by_storage:
            known = self._find_allocation(holder)
            if known is not None:
                known.depth = max(known.depth, depth)
                return
        size = bytes_touched(tensor) if holder is tensor else holder.nbytes()
        allocation = Allocation(size, self._clock, "", phase, depth)
        self._alive[allocation] = None
        self.current += size
        setattr(holder, _TOKEN, _Token(allocation, self, token))

    def _record_write(self, tensor: torch.Tensor, depth: int, *, resized: bool) -> None:
        """Note what an operator wrote to."""
        holder = _holder(tensor)
        allocation = self._find_allocation(holder) or self._record_existing(holder, tensor)
        allocation.depth = max(allocation.depth, depth)
        if resized and holder is not tensor:
            self._record_resize(holder)

    def _record_resize(self, storage: torch.UntypedStorage) -> None:
        """Note the size of a storage that may have another than before: it is other memory then."""
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
        """Notice storages that are given another size by themselves, as FSDP frees gathered parameters."""
        resize = torch.UntypedStorage.resize_

        def resized(storage: torch.UntypedStorage, size: int) -> Any:
            result = resize(storage, size)
            self._record_resize(storage)
            return result

        with patched([(torch.UntypedStorage, "resize_", resized)]):
            yield

    def _find_allocation(self, holder: Any) -> Allocation | None:
        """The allocation behind what holds a tensor's data; None where it is not known yet."""
        token: _Token | None = getattr(holder, _TOKEN, None)
        while token is not None:
            if token.memory is self:
                return token.allocation
            token = token.other
        known = self._existing_by_storage.get(holder._cdata)  # noqa: SLF001 -- its identity
        return None if known is None else known[0]

    def _record_existing(self, holder: Any, tensor: torch.Tensor) -> Allocation:
        """Note what was there before."""
        allocation = Allocation(_size_of(tensor, holder), 0, "", "forward", 0)
        identity = holder._cdata  # noqa: SLF001
        # While it is referred to, its identity is not given to another. What is watched must not live longer for it.
        kept = (
            weakref.ref(holder, lambda _: self._existing_by_storage.pop(identity, None))
            if self._discovers_inputs
            else holder
        )
        self._existing_by_storage[identity] = allocation, kept
        self._existing.append(allocation)
        return allocation

    def record_free(self, allocation: Allocation) -> None:
        """An allocation has ended."""
        if not self._closed:
            self.current -= allocation.size
            self._alive.pop(allocation, None)
            if allocation.created_at <= self.peak.clock:
                self._freed_since_peak.append(allocation)

    def close(self) -> None:
        """Follow no longer, and keep nothing: tokens of tensors that live on refer to this."""
        self.at_peak = self._kinds_at_peak()
        self._closed = True
        for kept in (
            self._existing_by_storage,
            self._alive,
            self._freed_since_peak,
            self._existing,
            self._resident_storages,
        ):
            kept.clear()

    def _kinds_at_peak(self) -> dict[str, int]:
        clock, kinds = self.peak.clock, dict(self._resident_bytes)
        made = (allocation for allocation in (*self._alive, *self._freed_since_peak) if allocation.created_at <= clock)
        for allocation in (*self._existing, *made):
            kind = allocation.kind or _default_kind(allocation)
            kinds[kind] = kinds.get(kind, 0) + allocation.size
        return kinds


def _default_kind(allocation: Allocation) -> str:
    if not allocation.created_at:
        return "inputs"
    return "activations" if allocation.phase == "forward" else "temporaries"


def _size_of(tensor: torch.Tensor, holder: Any) -> int:
    """The bytes of a storage that is somebody else's, as far as the tensor reaches."""
    if holder is tensor:
        return bytes_touched(tensor)
    reached: int = tensor.nbytes
    whole: int = holder.nbytes()
    return min(reached, whole)


def _holder(tensor: torch.Tensor) -> Any:
    """What lives as long as the tensor's data: its storage, or itself where it has none."""
    try:
        return tensor.untyped_storage()
    except _WITHOUT_STORAGE:  # sparse ones consist of others
        return tensor
