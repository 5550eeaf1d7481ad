"""The values that the tensors of a model and its inputs hold, and that a run on shapes may use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from pytest_flopsbudget.counting.higher_order import flex_attention
from pytest_flopsbudget.counting.meta.known_values import MAX_ELEMENTS, is_carried
from pytest_flopsbudget.counting.tensors.metadata import has_data, is_fake, tensors_in

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_flopsbudget.counting.attempts import Way
    from pytest_flopsbudget.counting.cloning.cloner import Cloner
    from pytest_flopsbudget.counting.meta.deferred_values import DeferredValues
    from pytest_flopsbudget.counting.meta.known_values import KnownValues


#: Attributes in which a module holds its parameters, buffers and submodules.
_PARTS = frozenset(("_parameters", "_buffers", "_modules"))


def record_block_masks(known_values: KnownValues, cloner: Cloner) -> None:
    """Register the numbers of blocks in FlexAttention's masks as known values.

    The numbers are settings of the model, although tensors hold them.
    """
    for original, clone in cloner.objects:
        for count, its_clone in zip(
            flex_attention.block_counts(original), flex_attention.block_counts(clone), strict=True
        ):
            if has_data(count):
                known_values.remember(its_clone, count)


def record_batch_sizes(known_values: KnownValues, cloner: Cloner) -> None:
    """Register the batch sizes of packed sequences as known values, because recurrent layers read them as numbers."""
    for packed in cloner.packed_sequences:
        known_values.track_on_cpu(packed.batch_sizes)


def find_settings(cloner: Cloner) -> Iterator[torch.Tensor]:
    """Yield the small tensors in attributes and buffers of the model's modules. Parameters are not included."""
    for module in cloner.originals:
        if isinstance(module, torch.nn.Module) and not isinstance(module, torch.jit.ScriptModule):
            held = (*module._buffers.values(), *(value for name, value in vars(module).items() if name not in _PARTS))
            for tensor in tensors_in([tuple(item.values()) if isinstance(item, dict) else item for item in held]):
                if type(tensor) is torch.Tensor and tensor.numel() <= MAX_ELEMENTS and cloner.has_clone_of(tensor):
                    yield tensor


def record_integers(known_values: KnownValues, cloner: Cloner) -> None:
    """Register the values of all integer and boolean tensors of the model and its inputs as known values."""
    for original, clone in cloner.clones():
        if _holds_integers(original):
            known_values.remember_original(clone, original)


def record_masks(deferred: DeferredValues, cloner: Cloner) -> None:
    """Register the values of tensors of the model and its inputs that may be masks of attention.

    Nothing but `masked_flops` follows from these values.
    """
    for original, clone in cloner.clones():
        if type(original) is torch.Tensor:
            deferred.remember_original(clone, original)


def _holds_integers(original: Any) -> bool:
    return isinstance(original, torch.Tensor) and not (original.is_floating_point() or original.is_complex())


def may_be_known_later(cloner: Cloner, ways: Sequence[Way], tensor: torch.Tensor) -> bool:
    """Return whether a later attempt may know the values of the tensor.

    Args:
        cloner: the cloner that cloned the model and its inputs.
        ways: the ways of the attempts that may follow.
        tensor: a tensor of the present run.
    """
    if tensor.is_floating_point():
        return "data" in ways and find_tensor_without_data(cloner) is None
    if "settings" in ways and any(map(_has_known_integers, find_settings(cloner))):
        return True
    return "integers" in ways and any(map(_has_known_integers, cloner.originals))


def _has_known_integers(original: Any) -> bool:
    """Return whether this is a tensor of integers or booleans whose values are known.

    The values are known if the tensor has data, or if they were known when it was made.
    """
    return _holds_integers(original) and (has_data(original) or is_carried(original))


def find_tensor_without_data(cloner: Cloner) -> str | None:
    """Return a description of the first cloned tensor without data; None if all cloned tensors hold data."""
    names: dict[int, str] = {}
    tensors: list[torch.Tensor] = []
    for original, _ in cloner.clones():
        if isinstance(original, torch.nn.Module):
            held = (*original.named_parameters(), *original.named_buffers())
            for name, tensor in held:
                names.setdefault(id(tensor), name)
            if isinstance(original, torch.jit.ScriptModule):
                tensors.extend(tensor for _, tensor in held)  # they are cloned together with the module
        elif isinstance(original, torch.Tensor):
            tensors.append(original)
    empty = next((tensor for tensor in tensors if not has_data(tensor)), None)
    if empty is None:
        return None
    return f"{names.get(id(empty), 'an input')} ({'a fake tensor' if is_fake(empty) else 'on the meta device'})"


def original_tensors(cloner: Cloner) -> Iterator[torch.Tensor]:
    """Yield the tensors of the model and its inputs."""
    return (original for original, _ in cloner.clones() if isinstance(original, torch.Tensor))
