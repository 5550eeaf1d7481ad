"""The tracer of a run with data (``execution="real"``), for models whose path depends on values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from pytest_flopsbudget.counting.operators.accounting import work_of
from pytest_flopsbudget.counting.tensors.metadata import has_data, tensors_in
from pytest_flopsbudget.counting.tracing.tracer import Tracer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_flopsbudget.counting.operators.info import OperatorInfo
    from pytest_flopsbudget.counting.operators.work import Work
    from pytest_flopsbudget.counting.tracing.modules import ModuleTracker


class RealTracer(Tracer):
    """Runs every operator. Before an operator writes to the caller's memory, the tracer backs up this memory."""

    has_data = True

    def __init__(self, tracker: ModuleTracker) -> None:
        super().__init__(tracker)
        #: `_cdata` of the storages that the run allocated.
        self._made: set[int] = set()
        #: `_cdata` of a storage that the run wrote to → the storage and its backup.
        self._copies: dict[int, tuple[torch.UntypedStorage, torch.UntypedStorage]] = {}

    def answer(self, info: OperatorInfo, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, Work]:
        """Run the operator, and return its output and its work."""
        for tensor in info.writes_to(args, kwargs):
            self._back_up(tensor)
        output = info.operator(*args, **kwargs)
        if info.behaviour == "functional":
            for tensor in tensors_in(output):
                if _has_storage(tensor):
                    self._made.add(tensor.untyped_storage()._cdata)
        work_of_call = self.work_by_values if info.facets.values else work_of
        return output, work_of_call(info, args, kwargs, output)

    def known_value(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """Return the tensor itself; None if the tensor holds no data."""
        return tensor if has_data(tensor) else None

    def _back_up(self, tensor: torch.Tensor) -> None:
        if not _has_storage(tensor):
            return
        storage = tensor.untyped_storage()
        identity = storage._cdata
        if identity not in self._made and identity not in self._copies:
            self._copies[identity] = (storage, storage.clone())

    def restore(self) -> None:
        """Restore all memory that the run wrote to, byte for byte."""
        for storage, copy in self._copies.values():
            if storage.nbytes() != copy.nbytes():
                storage.resize_(copy.nbytes())
            storage.copy_(copy)
        self._copies.clear()


def _has_storage(tensor: torch.Tensor) -> bool:
    return tensor.layout is torch.strided and not tensor.is_meta
