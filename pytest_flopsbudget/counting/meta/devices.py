"""Record on which devices the tensors of a run on shapes would be, although all of them are on the meta device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from pytest_flopsbudget.counting.tensors.metadata import is_on_meta, tensors_in, true_device
from pytest_flopsbudget.counting.tensors.storages import StorageTable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


_CPU, _META = torch.device("cpu"), torch.device("meta")


class Devices:
    """The device of each tensor of a run: one usual device, and a list of the tensors on other devices."""

    def __init__(self, usual: torch.device = _CPU) -> None:
        #: The device of every tensor that is not in ``others``.
        self.usual = usual
        #: Storage → its device.
        self.others: StorageTable[torch.device] = StorageTable()

    @classmethod
    def of_clones(cls, originals: Iterable[Any], clone_of: Callable[[Any], Any]) -> Devices:
        """Return the devices of the original tensors, recorded for their clones.

        An original on the meta device counts as being on the device of the other originals. If all originals are on the
        meta device, they count as being on the CPU.

        Args:
            originals: tensors, and any other objects, which are ignored.
            clone_of: returns the clone of an original.
        """
        tensors = [original for original in originals if isinstance(original, torch.Tensor)]
        found = {tensor.device for tensor in tensors}
        found.discard(_META)
        if len(found) <= 1:
            return cls(*found)
        devices = cls(next(tensor.device for tensor in tensors if tensor.device != _META))
        for tensor in tensors:
            if tensor.device != _META:
                devices.note(clone_of(tensor), tensor.device)
        return devices

    def of(self, tensor: torch.Tensor) -> torch.device:
        """Return the device on which the tensor would be outside of a run on shapes."""
        return self.of_meta(tensor) if is_on_meta(tensor) else true_device(tensor)

    def of_meta(self, tensor: torch.Tensor) -> torch.device:
        """Return the device on which ``tensor``, a tensor on meta, would be outside of a run on shapes."""
        if not self.others or tensor.layout is not torch.strided:
            return self.usual
        return self.of_meta_storage(tensor.untyped_storage())

    def of_meta_storage(self, storage: torch.UntypedStorage) -> torch.device:
        """Return the device on which the storage, which is on the meta device, would be outside of a run on shapes."""
        known = self.others.get(storage._cdata)
        return self.usual if known is None else known[0]

    def note(self, tensor: torch.Tensor, device: torch.device) -> None:
        """Record that the tensor and all views of it would be on ``device``."""
        if tensor.layout is not torch.strided:
            return
        storage = tensor.untyped_storage()
        if is_same_device(device, self.usual):
            self.others.pop(storage._cdata, None)
            return
        self.others.keep(storage, device)

    def inherit(self, inputs: Iterable[Any], output: Any) -> None:
        """Record that an operator's output is on the device of its inputs.

        If the inputs are on several devices, the first input that has dimensions decides. If no input has dimensions,
        the first input decides.
        """
        devices = [self.of(tensor) for value in inputs for tensor in tensors_in(value) if tensor.ndim]
        devices += [self.of(tensor) for value in inputs for tensor in tensors_in(value) if not tensor.ndim]
        if devices:
            for tensor in tensors_in(output):
                self.note(tensor, devices[0])


def is_same_device(one: torch.device, other: torch.device) -> bool:
    """Return whether both devices are the same. A device without an index is the first device of its type."""
    return one.type == other.type and (one.index or 0) == (other.index or 0)
