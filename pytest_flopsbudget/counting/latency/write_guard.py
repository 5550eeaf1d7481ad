"""Refuse in-place writes to tensors that the timed run does not own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from pytest_flopsbudget.counting.operators.info import operator_info
from pytest_flopsbudget.counting.tensors.metadata import PLAIN_TYPES, has_no_dispatcher, tensors_in
from pytest_flopsbudget.counting.torch_private import DispatchMode, OpOverload, schema_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


#: Operators that PyTorch calls when Python code makes a tensor from numbers.
_COMES_IN = frozenset((torch.ops.aten.lift_fresh.default, torch.ops.aten.lift.default))


class ForeignTensorError(Exception):
    """A run is about to change a tensor that does not belong to the run."""


class WriteGuard(DispatchMode):
    """Runs operators, and refuses operators that change a foreign tensor.

    A foreign tensor is a tensor that the run neither owns nor makes. A backward pass changes a tensor if it writes a
    gradient to the tensor.
    """

    def __init__(self, owned: Iterable[torch.Tensor], *, gradients: bool) -> None:
        """Allow writes to ``owned``, and to tensors that the run makes.

        Args:
            owned: the tensors that belong to the run.
            gradients: whether a backward pass may run. A backward pass writes gradients to all leaves that require
                gradients.
        """
        super().__init__()
        self._known = {identity for tensor in owned for identity in _storages(tensor)}
        self._gradients = gradients

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run one operator.

        Raises:
            ForeignTensorError: the operator would change a tensor that the run does not own.
        """
        kwargs = kwargs or {}
        if not all(kind in PLAIN_TYPES or has_no_dispatcher(kind) for kind in types):
            return NotImplemented  # this guard sees the operators on the inner tensors in later calls
        if not isinstance(func, OpOverload):
            with self:
                return func(*args, **kwargs)
        inputs = [tensor for value in (*args, *kwargs.values()) for tensor in tensors_in(value)]
        if func in _COMES_IN:
            self._known.update(*map(_storages, inputs))
        if not _only_reads_statistics(func, args, kwargs):
            for tensor in operator_info(func).writes_to(args, kwargs):
                self._check(tensor)
        if self._gradients:
            for tensor in inputs:
                if tensor.requires_grad and tensor.is_leaf:
                    self._check(tensor)
        before = {identity for tensor in inputs for identity in _storages(tensor)}
        output = func(*args, **kwargs)
        for tensor in tensors_in(output):
            self._known.update(identity for identity in _storages(tensor) if identity not in before)
        return output

    def _check(self, tensor: torch.Tensor) -> None:
        if not self._known.issuperset(_storages(tensor)):
            raise ForeignTensorError


def _only_reads_statistics(func: OpOverload, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Return whether the call is a batch norm in evaluation mode, which does not write running statistics."""
    if "batch_norm" not in func.name():
        return False
    names = [argument.name for argument in schema_of(func).arguments]
    return dict(zip(names, args)).get("training", kwargs.get("training")) is False  # noqa: B905 -- the rest are defaults


def _storages(tensor: torch.Tensor) -> tuple[int, ...]:
    """Return the identity of the tensor's storage, or an empty tuple if the tensor has no storage."""
    if isinstance(tensor, (UninitializedParameter, UninitializedBuffer)):
        return ()
    if tensor.layout is not torch.strided or not has_no_dispatcher(type(tensor)) or tensor.is_nested:
        return ()
    return (tensor.untyped_storage()._cdata,)
