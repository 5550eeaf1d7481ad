"""Values that are known though nothing is computed: small tensors made from Python numbers, and what follows of them.

Models read such values back: ``torch.arange(n).tolist()``, ``if steps[-1] > 3``. They do not depend on the model's
data, so following them keeps the count on shapes alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.multiprocessing.reductions import StorageWeakRef

from pytest_flopsbudget.counting.metadata import twin_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_flopsbudget.counting.operators import OperatorInfo

#: Elements of the largest tensor that is followed: beyond it, computing would cost what we set out to save.
LARGEST = 4096
#: The same for what follows from integer inputs, without which there is no answer.
LARGEST_INTEGERS = 1 << 20

_CPU = torch.device("cpu")


class Constants:
    """The real values behind tensors on the meta device, by storage, so that views and in-place writes keep in step."""

    def __init__(self) -> None:
        #: Elements of the largest tensor that is followed.
        self.largest = LARGEST
        # While a weak reference lasts, a storage's address is not given to another.
        self._values: dict[int, tuple[torch.Tensor, StorageWeakRef]] = {}
        self._sweep_at = 256
        #: Values that were brought to the CPU, where the model may read them, by their storages.
        self._read: dict[int, torch.Tensor] = {}

    def __len__(self) -> int:
        return len(self._values) + len(self._read)

    def remember(self, twin: torch.Tensor, value: torch.Tensor) -> None:
        """``value`` is what ``twin`` would hold."""
        if 0 in twin.stride() and twin.numel() > 1:
            return  # expanded: a copy cannot be written element by element
        flat = torch.empty_strided(twin.shape, twin.stride(), dtype=value.dtype).copy_(value)
        storage = twin.untyped_storage()
        self._values[storage._cdata] = (flat, StorageWeakRef(storage))  # noqa: SLF001 -- the storage's identity
        if len(self._values) >= self._sweep_at:
            self._values = {key: known for key, known in self._values.items() if not known[1].expired()}
            self._sweep_at = max(256, 2 * len(self._values))

    def on_cpu(self, output: Any) -> Any:
        """``output``, for the model to have in hand; what it does with it by operators is followed on."""
        if isinstance(output, torch.Tensor):
            self._read[output.untyped_storage()._cdata] = output  # noqa: SLF001
        elif isinstance(output, (list, tuple)):
            for item in output:
                self.on_cpu(item)
        return output

    def value(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """The value of a tensor; None if it is not known."""
        if tensor.layout is not torch.strided:
            return None
        identity = tensor.untyped_storage()._cdata  # noqa: SLF001
        if not tensor.is_meta:
            return tensor if identity in self._read else None
        known = self._values.get(identity)
        if known is None or known[0].dtype is not tensor.dtype:
            return None
        return known[0].as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())

    def forget(self, tensor: torch.Tensor) -> None:
        """Something unknown is written to ``tensor``, and so to all that share its storage."""
        if tensor.layout is torch.strided:
            self._values.pop(tensor.untyped_storage()._cdata, None)  # noqa: SLF001

    def values(self, tensors: Sequence[torch.Tensor]) -> dict[int, torch.Tensor] | None:
        """Values by the tensors' ids; None unless all are known."""
        known = {}
        for tensor in tensors:
            if tensor.numel() > self.largest:
                return None
            value = self.value(tensor)
            if value is None:
                return None
            known[id(tensor)] = value
        return known

    @staticmethod
    def compute(
        info: OperatorInfo, known: Mapping[int, torch.Tensor], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        """Run an operator on known values, on the CPU."""

        def valued(argument: Any) -> Any:
            if isinstance(argument, torch.Tensor):
                return known[id(argument)]
            if isinstance(argument, (list, tuple)):
                return type(argument)(map(valued, argument))
            return argument

        keywords = {name: valued(value) for name, value in kwargs.items()}
        if info.has_device and keywords.get("device") is not None:
            keywords["device"] = _CPU
        return info.operator(*map(valued, args), **keywords)

    def with_twins(self, output: Any) -> Any:
        """``output`` with remembered twins in place of its tensors."""
        if isinstance(output, torch.Tensor):
            twin = twin_of(output)
            self.remember(twin, output)
            return twin
        if isinstance(output, (list, tuple)):
            return type(output)(map(self.with_twins, output))
        return output
