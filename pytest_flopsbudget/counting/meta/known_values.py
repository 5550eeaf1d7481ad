"""Keep the values of small tensors that are known in a run on shapes, because they are computed from Python numbers.

Models read such values: ``torch.arange(n).tolist()``, ``if steps[-1] > 3``. A run on shapes can continue only if it
knows the values that the model reads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from pytest_flopsbudget.counting.tensors.metadata import is_fake, is_on_meta, restore_output, spec_of
from pytest_flopsbudget.counting.tensors.storages import StorageTable
from pytest_flopsbudget.counting.torch_private import neg_view

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pytest_flopsbudget.counting.operators.info import OperatorInfo


#: Values are kept for tensors with at most this many elements. Computing larger tensors would cost the time that a run
#: on shapes saves.
MAX_ELEMENTS = 4096
#: The number of elements up to which values are kept in a run that needs more values to continue: those of large masks
#: that a model makes of ones, or of integer inputs.
MAX_INTEGER_ELEMENTS = 1 << 20

_CPU = torch.device("cpu")


_Values = StorageTable["torch.Tensor | Callable[[], torch.Tensor]"]

#: Values that were known when `shape_only` ended. A model on meta may need them when it is measured later; see
#: `KnownValues.carry`.
_CARRIED: _Values = StorageTable()


class KnownValues:
    """The values of tensors on the meta device.

    Each storage has one entry, so views and in-place writes stay consistent.
    """

    def __init__(self) -> None:
        #: Values are kept for tensors with at most this many elements.
        self.max_elements = MAX_ELEMENTS
        #: Whether a tensor that follows from Python numbers had more than ``max_elements`` elements.
        self.left_out = False
        #: Storage → its values, or a function that computes the values when they are read. Few are ever read.
        self._values: _Values = StorageTable()
        #: The storages on the CPU that hold values and that the model may read. A reference to the tensor would keep
        #: its memory alive, and so would change the peak memory.
        self._on_cpu: StorageTable[None] = StorageTable()

    def __len__(self) -> int:
        return len(self._values) + len(self._on_cpu)

    def __bool__(self) -> bool:
        return bool(self._values or self._on_cpu)

    def carry(self) -> None:
        """Keep the values of all tensors that are alive after this run on shapes.

        If such a tensor is an original in a later run, `remember_original` finds its values.
        """
        for value, reference in list(self._values.values()):
            storage = reference()
            if storage is not None:
                _CARRIED.keep(storage, value)

    def remember_original(self, clone: torch.Tensor, original: torch.Tensor) -> None:
        """Record that ``clone`` has the values of ``original``. Record nothing if they are unknown or too many."""
        if original.numel() > self.max_elements or original.layout is not torch.strided or is_fake(original):
            return
        if not is_on_meta(original):
            self.remember(clone, original)
            return
        storage = original.untyped_storage()
        carried = _CARRIED.get(storage._cdata)
        if carried is not None:
            source = KnownValues()
            source._values.keep(storage, carried[0])
            value = source.value(original)
            if value is not None:
                self.remember(clone, value)

    def remember(self, meta_clone: torch.Tensor, value: torch.Tensor) -> None:
        """Record that ``meta_clone`` would have the values of ``value`` outside of a run on shapes."""
        if 0 in meta_clone.stride() and meta_clone.numel() > 1:
            return  # an expanded tensor cannot be written element by element
        self._keep(meta_clone, _with_layout(meta_clone.shape, meta_clone.stride(), value))

    def remember_computed(
        self, meta_clone: torch.Tensor, info: OperatorInfo, args: tuple[Any, ...], kwargs: Any
    ) -> None:
        """Record that ``meta_clone`` would hold the output of an operator whose arguments are all Python numbers."""
        if 0 in meta_clone.stride() and meta_clone.numel() > 1:
            return
        size, stride, keywords = meta_clone.shape, meta_clone.stride(), dict(kwargs)
        if "dtype" in keywords:
            keywords["dtype"] = meta_clone.dtype  # the default dtype may change before the values are computed
        self._keep(meta_clone, lambda: _with_layout(size, stride, self.compute(info, {}, args, keywords)))

    def remember_copied(self, meta_clone: torch.Tensor, source: torch.Tensor) -> None:
        """Record that ``source`` was copied to the whole of ``meta_clone``.

        Record nothing if the values of ``source`` are not known, or if ``meta_clone`` is only a part of its storage.
        """
        value = self.value(source) if self._may_be_known(source) and fills_storage(meta_clone) else None
        if value is not None and meta_clone.numel() <= self.max_elements:
            self.remember(meta_clone, value.to(meta_clone.dtype).expand(meta_clone.shape))

    def remember_filled(self, meta_clone: torch.Tensor, info: OperatorInfo, args: tuple[Any, ...], kwargs: Any) -> None:
        """Record that a filling operator (`OperatorInfo.fills`) filled ``meta_clone``, if the filling number is known.

        Record nothing if ``meta_clone`` is only a part of its storage.
        """
        size, stride, dtype = meta_clone.shape, meta_clone.stride(), meta_clone.dtype
        if not fills_storage(meta_clone):
            return
        number = filling_number(info.name, args, kwargs)
        if isinstance(number, torch.Tensor):
            value = self.value(number) if self._may_be_known(number) else None
            number = None if value is None else value.item()
        if number is not None:
            # The function keeps no argument: a tensor among the arguments would count as alive.
            self._keep(
                meta_clone, lambda: _with_layout(size, stride, torch.full(size, number, dtype=dtype, device=_CPU))
            )

    def _keep(self, meta_clone: torch.Tensor, value: torch.Tensor | Callable[[], torch.Tensor]) -> None:
        self._values.keep(meta_clone.untyped_storage(), value)

    def track_on_cpu(self, output: Any) -> Any:
        """Record that the values of ``output``, which is on the CPU, are known. Return ``output``."""
        if isinstance(output, torch.Tensor):
            self._on_cpu.keep(output.untyped_storage(), None)
        elif isinstance(output, (list, tuple)):
            for item in output:
                self.track_on_cpu(item)
        return output

    def value(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """Return a tensor with the values of ``tensor``, or None if they are not known."""
        if tensor.layout is not torch.strided:
            return None
        identity = tensor.untyped_storage()._cdata
        if not is_on_meta(tensor):
            return tensor if identity in self._on_cpu else None
        known = self._values.get(identity)
        if known is None:
            return None
        value, storage = known
        if not isinstance(value, torch.Tensor):
            value = value()
            self._values[identity] = value, storage
        if value.dtype is tensor.dtype:
            value = value.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())
        else:  # the tensor is a view of the storage's bytes in another dtype
            value = torch.empty(0, dtype=tensor.dtype, device=_CPU).set_(
                value.untyped_storage(), tensor.storage_offset(), tensor.shape, tensor.stride()
            )
        if tensor.is_conj():
            value = value.conj()
        return neg_view(value) if tensor.is_neg() else value

    def storage(self, storage: torch.UntypedStorage) -> torch.UntypedStorage | None:
        """Return a storage with the values of ``storage``, or None if they are not known."""
        known = self._values.get(storage._cdata)
        if known is None:
            return None
        value = known[0] if isinstance(known[0], torch.Tensor) else known[0]()
        self._values[storage._cdata] = value, known[1]
        return value.untyped_storage()

    def forget(self, tensor: torch.Tensor) -> None:
        """Forget the values of ``tensor`` and of all tensors that share its storage."""
        if tensor.layout is torch.strided:
            self._values.pop(tensor.untyped_storage()._cdata, None)

    def values(self, tensors: Sequence[torch.Tensor]) -> dict[int, torch.Tensor] | None:
        """Return `id` of each tensor → its values. Return None if the values of a tensor are not known."""
        if not all(map(self._may_be_known, tensors)):
            return None
        known = {}
        for tensor in tensors:
            value = self.value(tensor)
            if value is None:
                return None
            known[id(tensor)] = value
        return known

    def may_know(self, tensor: torch.Tensor) -> bool:
        """Return whether values of the strided tensor's storage are known, whatever the size of the tensor."""
        identity = tensor.untyped_storage()._cdata
        return identity in self._values or identity in self._on_cpu

    def _may_be_known(self, tensor: torch.Tensor) -> bool:
        """Return False if the values of the tensor are certainly not known, else True. Compute no values."""
        if tensor.layout is not torch.strided or self.is_too_large(tensor):
            return False
        identity = tensor.untyped_storage()._cdata
        return identity in self._values or identity in self._on_cpu

    def is_too_large(self, tensor: torch.Tensor) -> bool:
        """Return whether the tensor has too many elements to be known.

        If it is a view of a known tensor of integers or truth values, such as positions that are expanded to a batch,
        note that another run, which knows larger tensors, may succeed.
        """
        if tensor.numel() <= self.max_elements:
            return False
        if not (tensor.dtype.is_floating_point or tensor.dtype.is_complex or self.left_out):
            known = tensor.layout is torch.strided and tensor.untyped_storage()._cdata in self._values
            self.left_out = known
        return True

    def can_compute(self, info: OperatorInfo, tensors: Sequence[torch.Tensor]) -> bool:
        """Return False if the operator is pointwise and its output is too large to be kept. Otherwise, return True."""
        if not info.is_pointwise or info.behaviour != "functional":
            return True
        elements: int = torch.broadcast_shapes(*(tensor.shape for tensor in tensors)).numel()
        return elements <= self.max_elements

    @staticmethod
    def compute(
        info: OperatorInfo, known: Mapping[int, torch.Tensor], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        """Run an operator on known values, on the CPU."""
        keywords = {name: _valued(value, known) for name, value in kwargs.items()}
        if info.has_device and keywords.get("device") is not None:
            keywords["device"] = _CPU
        return info.operator(*(_valued(value, known) for value in args), **keywords)

    def with_meta_clones(self, output: Any) -> Any:
        """Return ``output`` with a meta clone in place of each tensor. The values of the tensors are kept."""
        if isinstance(output, torch.Tensor):
            # An operator may shrink its output in place. The storage of the output then stays as large as it was.
            meta_clone = restore_output(spec_of(output))
            self.remember(meta_clone, output)
            return meta_clone
        if isinstance(output, (list, tuple)):
            return type(output)(map(self.with_meta_clones, output))
        return output


def is_carried(original: torch.Tensor) -> bool:
    """Return whether the tensor, which is on the meta device, was made under `shape_only` with known values."""
    if original.layout is not torch.strided or is_fake(original):
        return False
    return original.untyped_storage()._cdata in _CARRIED


# Not nested in `compute`: a nested function that calls itself is a reference cycle, which would keep the values alive.
def _valued(argument: Any, known: Mapping[int, torch.Tensor]) -> Any:
    """Return ``argument`` with the known value in place of each tensor."""
    if isinstance(argument, torch.Tensor):
        return known[id(argument)]
    if isinstance(argument, (list, tuple)):
        return type(argument)(_valued(item, known) for item in argument)
    return argument


def _with_layout(size: Sequence[int], stride: Sequence[int], value: torch.Tensor) -> torch.Tensor:
    return torch.empty_strided(size, stride, dtype=value.dtype, device=_CPU).copy_(value)


def fills_storage(tensor: torch.Tensor) -> bool:
    """Return whether the tensor contains each element of its storage exactly once."""
    if 0 in tensor.stride() and tensor.numel() > 1:
        return False
    return is_on_meta(tensor) and tensor.nbytes == tensor.untyped_storage().nbytes()


def filling_number(name: str, args: tuple[Any, ...], kwargs: Any) -> Any:
    """Return the number that an operator fills a tensor with, or None if the call does not pass it."""
    if name in ("aten.fill_", "aten.full_like", "aten.new_full"):
        position, keyword = {"aten.fill_": (1, "value"), "aten.full_like": (1, "fill_value")}.get(
            name, (2, "fill_value")
        )
        return args[position] if position < len(args) else kwargs.get(keyword)
    return 1 if "ones" in name else 0
