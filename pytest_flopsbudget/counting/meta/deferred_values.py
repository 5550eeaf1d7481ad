"""Know the values of masks in a run on shapes: which operators made them of Python numbers and of other known tensors.

`KnownValues` computes the values of small tensors. The masks of attention are large, and no model reads them, so they
are not computed: a `Deferred` keeps how they are made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from pytest_flopsbudget.counting.meta.deferred import (
    CPU,
    Computed,
    Deferred,
    Elementwise,
    Filled,
    Gathered,
    Steps,
    Triangle,
    Unknown,
    View,
    from_values,
    removes,
)
from pytest_flopsbudget.counting.meta.known_values import filling_number
from pytest_flopsbudget.counting.operators.info import FOLLOWED, operator_info
from pytest_flopsbudget.counting.tensors.metadata import has_data, is_fake, is_on_meta
from pytest_flopsbudget.counting.tensors.storages import StorageTable

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence

    from pytest_flopsbudget.counting.meta.known_values import KnownValues
    from pytest_flopsbudget.counting.operators.info import OperatorInfo


#: Storage → (the values of a tensor that fills it, the strides of this tensor).
_Values = StorageTable["tuple[Deferred, tuple[int, ...]]"]

#: Values that were known when `shape_only` ended, as in `known_values`.
_CARRIED: _Values = StorageTable()

_TRIANGLES = {"aten.tril": False, "aten.triu": True}
#: Operators that put a number in place of elements.
_FILLS = ("aten.masked_fill", "aten.where")
#: Numbers that a mask adds to a score keep their effect if another number is added.
_ADDS = ("aten.add", "aten.sub")


class DeferredValues:
    """The values of tensors on the meta device that are computed on demand.

    Args:
        known: the values of small tensors.
    """

    def __init__(self, known: KnownValues) -> None:
        self._known = known
        self._values: _Values = StorageTable()
        #: How a tensor is made → the tensor, so that the masks that every layer makes anew are one object.
        self._made: dict[Hashable, Deferred] = {}

    def carry(self) -> None:
        """Keep the values of all tensors that are alive after this run on shapes, for a later run."""
        for value, reference in list(self._values.values()):
            storage = reference()
            if storage is not None:
                _CARRIED.keep(storage, value)

    def remember_original(self, clone: torch.Tensor, original: torch.Tensor) -> None:
        """Record that ``clone`` has the values of ``original``, if these are known."""
        if original.ndim < 2 and original.dtype.is_floating_point:
            return
        if original.layout is not torch.strided or is_fake(original) or not _fills(clone):
            return
        if is_on_meta(original):
            carried = _CARRIED.get(original.untyped_storage()._cdata)
            if carried is not None:
                values, strides = carried[0]
                node = _view(values, strides, original)
                if node is not None:
                    self._keep(clone, node)
        else:
            masks = _removes_pairs(original)
            if masks or _has_truth_values(original):
                self._keep(clone, Computed(original.shape, original.dtype, lambda: original, masks=masks))

    def value(self, tensor: torch.Tensor) -> Deferred | None:
        """Return the values of a tensor; None if they are not known."""
        if tensor.layout is not torch.strided:
            return None
        if has_data(tensor):  # the model found it outside of itself and of its inputs
            return from_values(tensor, masks=_removes_pairs(tensor))
        found = self._values.get(tensor.untyped_storage()._cdata)
        if found is not None:
            values, strides = found[0]
            node = _view(values, strides, tensor)
            if node is None or node is values:
                return node
            key = ("view", id(values), tuple(tensor.shape), tensor.stride(), tensor.storage_offset())
            return self._unique(key, lambda: node)
        value = self._known.value(tensor)
        if value is None:
            return None
        if value.numel() == 1 and not value.is_complex():
            return self._unique(("filled", value.dtype, tuple(value.shape), value.item()), lambda: Filled(
                value.shape, value.dtype, value.item()
            ))  # fmt: skip
        # The model may write to the tensor later.
        return from_values(value.clone(), masks=_removes_pairs(value))

    def mask(self, tensor: torch.Tensor) -> Deferred | None:
        """Return the values of a mask; None if they are not known.

        They may be those of another tensor (..., queries, keys), in which only the dimensions before are grouped in
        another way.
        """
        values = self.value(tensor)
        if values is None and tensor.layout is torch.strided and _fills(tensor):
            found = self._values.get(tensor.untyped_storage()._cdata)
            if found is not None:
                base, strides = found[0]
                in_order = torch.empty(base.shape, device="meta").stride() == tuple(strides)
                if in_order and base.dtype is tensor.dtype and base.shape[-2:] == tuple(tensor.shape[-2:]):
                    return base
        return values

    def follow(self, info: OperatorInfo, args: Sequence[Any], kwargs: Mapping[str, Any], output: Any) -> None:
        """Record the values of the output of an operator, if they follow from known values."""
        if not (self._values or info.fills or info.is_constant or self._known):
            return
        if info.written:
            self._follow_write(info, args, kwargs)
            return
        if not isinstance(output, torch.Tensor) or not is_on_meta(output):
            return
        if info.fills:
            if output.ndim > 1:
                self._fill(output, info, args, kwargs)
        elif info.is_constant:
            if output.ndim > 1 or output.numel() > self._known.max_elements:
                self._compute(output, info, args, kwargs)
        else:
            node = self._result(info, args, kwargs, output)
            if node is not None:
                self._keep(output, node)

    def _result(
        self, info: OperatorInfo, args: Sequence[Any], kwargs: Mapping[str, Any], output: torch.Tensor
    ) -> Deferred | None:
        """Return the values of the output; None if they are not known, or if `KnownValues` has them."""
        if not (info.is_pointwise or info.name in FOLLOWED) or not self._may_be_known(args):
            return None
        if self._known.may_know(output) or not output.numel():
            return None
        if info.name == "aten.index":
            return self._gathered(args, output)
        found: list[Any] = []
        key: list[Any] = [info, output.dtype, tuple(output.shape)]
        for argument in args:
            if not isinstance(argument, torch.Tensor):
                if isinstance(argument, (list, tuple)):
                    return None
                found.append(argument)
                key.append((type(argument), argument))
                continue
            node = self.value(argument)
            if node is None:
                return self._in_part(info, args, output)
            found.append(node)
            key.append(id(node))
        if any(isinstance(value, torch.Tensor) for value in kwargs.values()):
            return None
        keywords = {**kwargs, "device": CPU} if info.has_device and kwargs.get("device") is not None else dict(kwargs)
        key.append(tuple(keywords.items()))
        return self._unique(tuple(key), lambda: _node(info, found, keywords, output))

    def _in_part(self, info: OperatorInfo, args: Sequence[Any], output: torch.Tensor) -> Deferred | None:
        """Return what is known of the result of an operator if one of its operands is not known.

        In a sum of a mask and of other numbers, such as learned biases, the mask is known. If a number takes the place
        of others, and only its places are not known, the result is a mask.
        """
        if info.name in _FILLS:
            return Unknown(output.shape, output.dtype) if any(map(self._removes, args)) else None
        if info.name not in _ADDS or not output.is_floating_point():
            return None
        nodes = [self.value(argument) for argument in args[:2] if isinstance(argument, torch.Tensor)]
        masks = [node for node in nodes if node is not None and node.masks]
        if len(masks) != 1 or len(masks[0].shape) > output.ndim:
            return None
        mask = masks[0]
        return _broadcast(mask, output.shape)

    def _removes(self, value: object) -> bool:
        """Return whether the value is a single number that removes a pair."""
        if isinstance(value, torch.Tensor):
            node = self.value(value) if not value.ndim else None
            return isinstance(node, Filled) and node.masks
        return isinstance(value, (int, float)) and removes(value)

    def _gathered(self, args: Sequence[Any], output: torch.Tensor) -> Deferred | None:
        base = self.value(args[0])
        if base is None or len(args[1]) != args[0].ndim or any(item is None for item in args[1]):
            return None
        if any(item.dtype in (torch.bool, torch.uint8) for item in args[1]):
            return None
        positions = [self.value(item) for item in args[1]]
        if any(item is None for item in positions):
            return None
        return Gathered(base, [item for item in positions if item is not None], output.shape)

    def _may_be_known(self, args: Sequence[Any]) -> bool:
        """Return whether the values of one of the first arguments may be known. Compute nothing."""
        for argument in args[:3]:
            if isinstance(argument, torch.Tensor) and argument.layout is torch.strided:
                known = argument.untyped_storage()._cdata in self._values or self._known.may_know(argument)
                if known or not is_on_meta(argument):
                    return True
        return False

    def _follow_write(self, info: OperatorInfo, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Record what an operator wrote to a whole tensor. Forget the values of other tensors that it wrote to."""
        if not (self._values or info.fills):
            return
        written = [item for item in info.writes_to(args, kwargs) if item.layout is torch.strided and is_on_meta(item)]
        node = None
        if len(written) == 1 and args and written[0] is args[0] and _fills(written[0]):
            target = written[0]
            if info.name in ("aten.fill_", "aten.zero_"):
                if target.ndim > 1:
                    self._fill(target, info, args, kwargs)
                    return
            elif self._values:
                node = self._written(info, args, kwargs, target)
        for item in written:
            self._values.pop(item.untyped_storage()._cdata, None)
        if node is not None:
            self._keep(written[0], node)

    def _written(
        self, info: OperatorInfo, args: Sequence[Any], kwargs: Mapping[str, Any], target: torch.Tensor
    ) -> Deferred | None:
        if info.name == "aten.copy_":
            source = self.value(args[1]) if isinstance(args[1], torch.Tensor) else None
            same = source is not None and source.dtype is target.dtype and source.shape == tuple(target.shape)
            return source if same else None
        functional = _functional(info)
        return None if functional is None else self._result(functional, args, kwargs, target)

    def _fill(self, output: torch.Tensor, info: OperatorInfo, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        number = filling_number(info.name, tuple(args), kwargs)
        if isinstance(number, torch.Tensor):
            value = self._known.value(number)
            number = None if value is None else value.item()
        if number is None or isinstance(number, complex) or output.is_complex():
            self._values.pop(output.untyped_storage()._cdata, None)
            return
        key = ("filled", output.dtype, tuple(output.shape), number)
        self._keep(output, self._unique(key, lambda: Filled(output.shape, output.dtype, number)))

    def _compute(
        self, output: torch.Tensor, info: OperatorInfo, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> None:
        """Record the output of an operator whose arguments are Python numbers, such as ``arange``."""
        key: Hashable
        filling = {"aten.ones": 1, "aten.zeros": 0, "aten.full": args[1] if len(args) > 1 else None}.get(info.name)
        if isinstance(filling, (int, float)) and not output.is_complex():
            key = ("filled", output.dtype, tuple(output.shape), filling)
            self._keep(output, self._unique(key, lambda: Filled(output.shape, output.dtype, filling)))
            return
        numbers = [item for item in args if isinstance(item, int)]
        if info.name == "aten.arange" and numbers and len(numbers) == len(args) and not output.is_floating_point():
            first = numbers[0] if len(numbers) > 1 else 0
            step = numbers[2] if len(numbers) > 2 else 1
            key = ("steps", output.dtype, len(output), first, step)
            self._keep(output, self._unique(key, lambda: Steps(output.shape, output.dtype, first, step)))
            return
        keywords = {**kwargs, "dtype": output.dtype, "device": CPU} if info.has_device else dict(kwargs)
        keywords.pop("pin_memory", None)
        operator = info.operator
        key = (info, tuple(args), tuple(keywords.items()))
        self._keep(
            output,
            self._unique(key, lambda: Computed(output.shape, output.dtype, lambda: operator(*args, **keywords))),
        )

    def _keep(self, tensor: torch.Tensor, node: Deferred) -> None:
        self._values.keep(tensor.untyped_storage(), (node, tensor.stride()))

    def _unique(self, key: Hashable, make: Callable[[], Deferred]) -> Deferred:
        try:
            known = self._made.get(key)
        except TypeError:  # an argument has no hash
            return make()
        if known is None:
            known = self._made[key] = make()
        return known


def _node(info: OperatorInfo, found: list[Any], keywords: dict[str, Any], output: torch.Tensor) -> Deferred:
    """Return the values of the output of an operator of known operands."""
    operands = [item for item in found if isinstance(item, Deferred)]
    if info.name in _TRIANGLES:
        diagonal = found[1] if len(found) > 1 else keywords.get("diagonal", 0)
        return Triangle(operands[0], diagonal, upper=_TRIANGLES[info.name])
    if info.name == "aten.clone" or (info.name == "aten._to_copy" and operands[0].dtype is output.dtype):
        return operands[0]
    masks = any(item.masks for item in operands)
    if info.name in _FILLS:
        masks = masks or any(isinstance(item, (int, float)) and removes(item) for item in found)
    elif info.name == "aten.mul":
        masks = masks or any(isinstance(item, (int, float)) and removes(-abs(item)) for item in found)
    keywords.pop("memory_format", None)
    return Elementwise(output.shape, output.dtype, info, tuple(found), keywords, masks=masks)


def _functional(info: OperatorInfo) -> OperatorInfo | None:
    """Return the operator that does not write to its first argument, for one that does; None if there is none."""
    name, _, overload = info.operator.name().partition(".")
    if not name.startswith("aten::") or not name.endswith("_"):
        return None
    packet = getattr(torch.ops.aten, name.removeprefix("aten::").removesuffix("_"), None)
    functional = getattr(packet, overload or "default", None)
    return None if functional is None else operator_info(functional)


def _fills(tensor: torch.Tensor) -> bool:
    """Return whether the tensor contains each element of its storage exactly once, in order."""
    return tensor.is_contiguous() and tensor.nbytes == tensor.untyped_storage().nbytes()


def _broadcast(node: Deferred, shape: Sequence[int]) -> Deferred:
    if node.shape == tuple(shape):
        return node
    more = len(shape) - len(node.shape)
    places = [(more + place if size > 1 else None, 0, 1) for place, size in enumerate(node.shape)]
    return View(node, shape, places)


def _view(base: Deferred, strides: Sequence[int], view: torch.Tensor) -> Deferred | None:
    """Return the values of a view of the tensor that fills a storage; None for views that take elements apart.

    Args:
        base: the values of the tensor that fills the storage.
        strides: the strides of this tensor.
        view: a tensor with the same storage.
    """
    if view.dtype is not base.dtype:
        return None
    shape, offset = tuple(view.shape), int(view.storage_offset())
    if shape == base.shape and offset == 0 and view.stride() == tuple(strides):
        return base
    order = sorted((place for place, size in enumerate(base.shape) if size > 1), key=lambda place: -strides[place])
    places: list[tuple[int | None, int, int]] = [(None, 0, 1)] * len(base.shape)
    for place in order:
        start, offset = divmod(offset, strides[place]) if strides[place] else (0, offset)
        places[place] = None, start, 1
    if offset:
        return None
    taken: set[int] = set()
    for dimension, (size, stride) in enumerate(zip(shape, view.stride(), strict=True)):
        if size == 1 or stride == 0:
            continue
        # The dimension of the base whose stride is the largest that divides the view's.
        found = next((one for one in order if strides[one] and stride % strides[one] == 0), None)
        if found is None or found in taken:
            return None
        step, start = stride // strides[found], places[found][1]
        if start + step * (size - 1) >= base.shape[found]:
            return None
        taken.add(found)
        places[found] = dimension, start, step
    return View(base, shape, places)


def _removes_pairs(mask: torch.Tensor) -> bool:
    """Return whether the first or the last row of a tensor of numbers removes a pair from attention.

    Only these rows are read, because the tensor may be an image, or any other input of a model.
    """
    if not mask.is_floating_point() or mask.ndim < 2 or not mask.numel():
        return False
    with torch.no_grad():
        return removes(float(_ends(mask).amin()))


def _has_truth_values(tensor: torch.Tensor) -> bool:
    """Return whether a tensor may say which pairs are left: truth values, integers, or the numbers 0 and 1."""
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return True
    if tensor.is_complex() or tensor.ndim < 2 or not tensor.numel():
        return False
    with torch.no_grad():
        ends = _ends(tensor)
        return bool(((ends == 0) | (ends == 1)).all())


def _ends(tensor: torch.Tensor) -> torch.Tensor:
    """Return the rows of the first and of the last query."""
    return tensor[..., :: max(1, tensor.shape[-2] - 1), :]
