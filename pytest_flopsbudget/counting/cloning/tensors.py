"""Clone plain tensors, parameters and tensor subclasses: on the meta device, or over the memory of the originals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from pytest_flopsbudget.counting.cloning.base import BaseCloner
from pytest_flopsbudget.counting.distributed import dtensor
from pytest_flopsbudget.counting.tensors.metadata import (
    PLAIN_TYPES,
    has_no_dispatcher,
    is_wrapper,
    make_meta_clone,
    wrapped_tensors,
)
from pytest_flopsbudget.counting.tensors.objects import attributes_of, slots_of
from pytest_flopsbudget.counting.torch_private import make_subclass, without_subclass_functions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


def clone_to_meta(tensor: torch.Tensor) -> torch.Tensor:
    """Return a clone of the tensor on the meta device."""
    return make_meta_clone(tensor)


def clone_sharing_data(tensor: torch.Tensor) -> torch.Tensor:
    """Return a new tensor over the memory of ``tensor``.

    The new tensor has no gradient, no hooks and no autograd graph.
    """
    if tensor.is_inference():
        # An inference tensor cannot take part in a backward pass. A new tensor over the same memory can.
        fresh = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
        return fresh.set_(tensor.untyped_storage(), tensor.storage_offset(), tensor.shape, tensor.stride())
    return tensor.detach()


class TensorCloner(BaseCloner):
    """The part of `Cloner` that clones tensors."""

    def __init__(self, clone_plain: Callable[[torch.Tensor], torch.Tensor], *, gradients: bool) -> None:
        super().__init__()
        self._clone_plain = clone_plain
        self._gradients = gradients
        #: The original gradients whose clones were made.
        self._cloned_gradients: list[torch.Tensor] = []

    def release_gradients(self) -> list[torch.Tensor]:
        """Return the clones of all gradients, and drop the cloner's references to them.

        A run can then free the clones. For a DTensor or a wrapper tensor, the tensors that hold its data are returned.
        """
        originals, self._cloned_gradients = self._cloned_gradients, []
        if not originals:
            return []
        clones = [self._clones[id(gradient)] for gradient in originals]
        released = {id(tensor) for tensor in (*originals, *storage_tensors(originals))}
        self.originals = [original for original in self.originals if id(original) not in released]
        for identity in released:
            self._clones.pop(identity, None)
        return list(storage_tensors(clones))

    def _clone_tensor(self, tensor: torch.Tensor) -> torch.Tensor:
        kind = type(tensor)
        if kind is torch.nn.Parameter and not tensor.__dict__:
            return self._clone_gradient(tensor, self._register(tensor, self._clone_parameter(tensor)))
        if kind is torch.Tensor and not tensor.requires_grad and not tensor.__dict__:
            return cast("torch.Tensor", self._register(tensor, self._clone_plain(tensor)))
        if isinstance(tensor, (UninitializedParameter, UninitializedBuffer)):
            return self._clone_uninitialized(tensor)
        if kind in PLAIN_TYPES:
            clone = make_subclass(kind, self._clone_plain(tensor), tensor.requires_grad)
        else:
            with without_subclass_functions():  # the class may replace the functions that read a shape
                clone = self._clone_of_subclass(tensor)
        self._clone_gradient(tensor, self._register(tensor, clone))
        if kind in PLAIN_TYPES or has_no_dispatcher(kind):  # other tensors hold attributes in their inner tensors
            self._fill_later(self._fill_tensor, tensor, clone)
        return clone

    def _clone_of_subclass(self, tensor: torch.Tensor) -> torch.Tensor:
        kind = type(tensor)
        if dtensor.is_sharded(tensor):
            clone = dtensor.clone_dtensor(tensor, self._clone_value)
        elif is_wrapper(tensor):
            clone = self._clone_wrapper(tensor)
        else:
            clone = self._clone_plain(tensor)
        if has_no_dispatcher(kind):
            # ``__new__`` of the class may take other arguments, and `torch.nn.Parameter` refuses most subclasses of
            # itself.
            return make_subclass(kind, clone, tensor.requires_grad)
        if isinstance(tensor, torch.nn.Parameter) and not (type(clone) is kind and torch.nn.Parameter in kind.__mro__):
            return torch.nn.Parameter(clone, requires_grad=tensor.requires_grad)
        return clone.requires_grad_() if tensor.requires_grad else clone

    def _clone_wrapper(self, tensor: Any) -> torch.Tensor:
        """Return a clone of a wrapper tensor. The clone has the same class, and wraps clones of the inner tensors."""
        _, context = tensor.__tensor_flatten__()
        clones = {name: self._clone_value(part) for name, part in wrapped_tensors(tensor).items()}
        return cast("torch.Tensor", tensor.__tensor_unflatten__(clones, context, tensor.shape, tensor.stride()))

    def _clone_gradient(self, tensor: torch.Tensor, clone: torch.Tensor) -> torch.Tensor:
        if self._gradients and tensor.is_leaf and tensor.grad is not None:
            clone.grad = self._clone_value(tensor.grad)
            self._cloned_gradients.append(tensor.grad)
        return clone

    def _clone_parameter(self, parameter: torch.Tensor) -> torch.Tensor:
        # `make_subclass` is faster than the constructor of `torch.nn.Parameter`. For a plain tensor the result is
        # equal.
        return make_subclass(torch.nn.Parameter, self._clone_plain(parameter), parameter.requires_grad)

    def _clone_uninitialized(self, tensor: torch.Tensor) -> torch.Tensor:
        """Clone a parameter or buffer without a shape. A lazy module sets the shape when the module is called."""
        kind: Any = UninitializedParameter if isinstance(tensor, UninitializedParameter) else UninitializedBuffer
        on = torch.device("meta") if self._clone_plain is clone_to_meta else tensor.device
        return cast("torch.Tensor", self._register(tensor, kind(tensor.requires_grad, device=on, dtype=tensor.dtype)))

    def _fill_tensor(self, tensor: torch.Tensor, clone: torch.Tensor) -> None:
        """Give ``clone`` clones of all Python attributes of ``tensor``, such as the state of a quantized weight."""
        attributes = attributes_of(clone)
        for name, value in attributes_of(tensor).items():
            attributes[name] = self._clone_value(value)
        for slot, value in slots_of(tensor):
            slot.__set__(clone, self._clone_value(value))


def storage_tensors(tensors: Iterable[torch.Tensor | None]) -> Iterator[torch.Tensor]:
    """Yield the tensors that hold the data of ``tensors``. None and tensors without a shape are skipped.

    A DTensor gives its local part, and a wrapper tensor gives its inner tensors. Any other tensor gives itself.
    """
    for tensor in tensors:
        if tensor is None or isinstance(tensor, (UninitializedParameter, UninitializedBuffer)):
            continue
        if type(tensor) in PLAIN_TYPES:
            yield tensor
        elif is_wrapper(part := dtensor.local_tensor(tensor)):
            yield from storage_tensors(wrapped_tensors(part).values())
        else:
            yield part
