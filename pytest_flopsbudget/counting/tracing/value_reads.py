"""Handle code that reads values without the dispatcher, such as `numpy`, `tolist`, `data_ptr` and conversion to text.

The dispatcher does not see these reads. On the meta device, some reads raise errors of PyTorch, and others return
values that mean nothing. So while a model runs on shapes, the functions that read values are replaced. A replacement
returns the values if they are known. If not, the replacement asks for data, as `torch.Tensor.item` does.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils import dlpack

from pytest_flopsbudget.counting.isolation.patching import named_like
from pytest_flopsbudget.counting.meta.asking import asked_tracer, seeing_meta
from pytest_flopsbudget.counting.tensors.metadata import true_storage_device
from pytest_flopsbudget.counting.torch_private import assigns_numbers_as_tensors, disable_current_modes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


#: Methods of tensors that read values. Other methods (`__str__`, `__format__`, `__array__`) call these methods.
_OF_TENSORS = ("numpy", "tolist", "data_ptr", "const_data_ptr", "__repr__", "__dlpack__", "__reduce_ex__")
#: Methods that compute in Python, and write to the tensor. Without a replacement, they would not change a tensor
#: without data.
_IN_PLACE = ("apply_", "map_", "map2_")
#: (owner, name) of functions that read the values of their second argument. Their C++ code refuses tensors that are not
#: on the CPU.
_OF_NUMBERS = ((torch, "tensor_split"), (torch.Tensor, "tensor_split"))
#: Method → the modules of callers that do not compute with the value that the method returns.
_ONLY_LOOK: dict[str, tuple[str, ...]] = {
    # transformers asks whether an address is a multiple of 16, as each address from PyTorch's allocator is.
    "data_ptr": ("torch.", "transformers.integrations.moe."),
    "__reduce_ex__": ("copy.",),  # `copy.copy` only makes a tensor of the result; pickle writes the values
    "__repr__": ("torch._ops.", "logging.", "_pytest."),
}
#: The types of sequences that an index may contain, alone or nested, and of which PyTorch makes a tensor.
_OF_PLACES = (list, tuple, range)
#: The types of numbers that may be assigned to elements of a tensor of any dtype.
_NUMBERS = (int, float, bool)
#: The name in `ShapesTracer.asked_for_data` if code converts a tensor to text, for example to print it.
TEXT = "torch.Tensor.__repr__"
#: Methods that read the values of storages.
_OF_STORAGES = {
    torch.UntypedStorage: ("data_ptr", "tolist", "__getitem__"),
    torch.TypedStorage: ("data_ptr", "tolist", "__getitem__"),
}
LISTS = (list, tuple)
_CPU = torch.device("cpu")
_READ_ELEMENTS = torch.Tensor.__getitem__
#: Functions that make tensors from memory without the dispatcher.
_MAKERS = ("from_dlpack", "frombuffer")


def value_patches() -> Iterator[tuple[Any, str, Any]]:
    """Yield (owner, attribute, replacement) for each function that reads values without the dispatcher.

    If a value is not known, the replacement raises NeedsDataError in the model's code that reads the value.
    """
    for name in _OF_TENSORS:
        if hasattr(torch.Tensor, name):  # PyTorch 2.6 has no `const_data_ptr`
            yield torch.Tensor, name, _of_tensor(getattr(torch.Tensor, name))
    for name in _IN_PLACE:
        yield torch.Tensor, name, _in_place(getattr(torch.Tensor, name))
    for owner, name in _OF_NUMBERS:
        yield owner, name, _of_numbers(name, getattr(owner, name))
    yield dlpack, "to_dlpack", _of_tensor(vars(dlpack)["to_dlpack"])
    for kind, names in _OF_STORAGES.items():
        for name in names:
            yield kind, name, _of_storage(kind, getattr(kind, name))
    yield torch, "tensor", _of_list(torch.tensor)
    for name in _MAKERS:
        yield torch, name, _maker(getattr(torch, name))
    # Not `__getitem__`: a class that defines it in Python makes sequences, of which `torch.tensor` reads the items. See
    # `lists_in_index_kept`.
    yield torch.Tensor, "__setitem__", _assigning(torch.Tensor.__setitem__)


def _of_tensor(original: Callable[..., Any]) -> Callable[..., Any]:
    """Return the replacement for a function that reads the values of its first argument."""

    @named_like(original)
    def read(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        tracer = asked_tracer(tensor)
        if tracer is None:
            return original(tensor, *args, **kwargs)
        if _only_looks(original):
            with seeing_meta():
                return original(tensor, *args, **kwargs)
        value = tracer.read_known(tensor)
        if value is None:
            return tracer.require_data(f"torch.Tensor.{original.__name__}")
        if tensor.requires_grad:
            value = value.detach().requires_grad_()  # PyTorch refuses `numpy()` of such a tensor
        with disable_current_modes():
            return original(value, *args, **kwargs)

    return read


def _in_place(original: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Return the replacement for a method that changes the values of its tensor."""

    @named_like(original)
    def write(tensor: torch.Tensor, *others: Any) -> torch.Tensor:
        tracer = asked_tracer(tensor)
        if tracer is None:
            return original(tensor, *others)
        values = [tracer.read_known(item) if isinstance(item, torch.Tensor) else item for item in (tensor, *others)]
        if any(value is None for value in values):
            tracer.require_data(f"torch.Tensor.{original.__name__}")
        with disable_current_modes():
            original(*values)
        return tensor

    return write


def _of_numbers(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
    """Return the replacement for a function that reads the values of its second argument."""

    def read(tensor: torch.Tensor, numbers: Any, *args: Any, **kwargs: Any) -> Any:
        tracer = asked_tracer(numbers) if isinstance(numbers, torch.Tensor) else None
        if tracer is not None:
            value = tracer.read_known(numbers)
            numbers = tracer.require_data(f"torch.{name}") if value is None else tracer.known_values.track_on_cpu(value)
        return original(tensor, numbers, *args, **kwargs)

    read.__name__ = name
    return read


def _of_storage(kind: type, original: Callable[..., Any]) -> Callable[..., Any]:
    """Return the replacement for a method that reads the values of a storage of this class."""

    @named_like(original)
    def read(storage: Any, *args: Any) -> Any:
        typed = isinstance(storage, torch.TypedStorage)
        untyped = storage.untyped() if typed else storage
        tracer = asked_tracer() if true_storage_device(untyped).type == "meta" else None
        if tracer is None or _only_looks(original):
            return original(storage, *args)
        with disable_current_modes():
            value: Any = tracer.known_values.storage(untyped)
            if value is not None:
                return original(torch.TypedStorage(wrap_storage=value, dtype=storage.dtype) if typed else value, *args)
        return tracer.require_data(f"torch.{kind.__name__}.{original.__name__}")

    return read


def _of_list(original: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Return the replacement for a function that makes a tensor from a list. The list may contain tensors."""

    @named_like(original)
    def make(data: Any, **kwargs: Any) -> torch.Tensor:
        return original(with_values(data) if type(data) in LISTS else data, **kwargs)

    return make


def with_values(value: Any) -> Any:
    """Replace tensors without data, in a list or alone, by tensors with known values. Return other values unchanged.

    PyTorch makes a tensor from a list without the dispatcher, and reads the values of tensors in the list.
    """
    if isinstance(value, torch.Tensor):
        tracer = asked_tracer(value)
        if tracer is None:
            return value
        known = tracer.read_known(value)
        return tracer.require_data("torch.tensor") if known is None else known
    if type(value) in LISTS and any(isinstance(item, (torch.Tensor, *LISTS)) for item in value):
        return [with_values(item) for item in value]
    return value


def _maker(original: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Return the replacement for a function that makes a tensor from memory. The values of such a tensor are known."""

    @named_like(original)
    def make(*args: Any, **kwargs: Any) -> Any:
        made, tracer = original(*args, **kwargs), asked_tracer()
        return made if tracer is None else tracer.known_values.track_on_cpu(made)

    return make


def _assigning(original: Callable[..., None]) -> Callable[..., None]:
    """Return the replacement for ``__setitem__``. It converts lists in the index and an assigned number to tensors.

    On the meta device, PyTorch would lose the values of the lists. For the number, it would run one operator more than
    on the CPU.
    """

    @named_like(original)
    def assign(tensor: torch.Tensor, places: Any, value: Any) -> None:
        tracer = asked_tracer(tensor)
        if tracer is not None:
            places = _with_tensors(places)
            if (
                _is_number(tensor, value)
                and assigns_numbers_as_tensors()
                and tracer.devices.of_meta(tensor).type == "cpu"
            ):
                value = torch.tensor(value, dtype=tensor.dtype)
        original(tensor, places, value)

    return assign


class _Indexing(TorchFunctionMode):
    """Makes tensors of the lists in an index that reads elements, so that the values of the lists are known."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is _READ_ELEMENTS and asked_tracer(args[0]) is not None:
            return func(args[0], _with_tensors(args[1]))
        return func(*args, **(kwargs or {}))


@contextmanager
def lists_in_index_kept() -> Iterator[None]:
    """While the context lasts, code on this thread may read the values of ``x[[0, -1]]``, if those of ``x`` are known.

    Without this context, the values of the list are lost: on the meta device, PyTorch makes a tensor without values
    from the list, and the dispatcher sees only this tensor. The context makes each call of PyTorch slower. So it is
    used only after a run that lost a list (`ShapesTracer.lost_list`) and then needed data.
    """
    with _Indexing():
        yield


def _with_tensors(places: Any) -> Any:
    """Return an index with tensors in place of its lists, tuples and ranges of numbers or booleans."""
    if type(places) is tuple:
        return tuple(_as_places(item, nested=True) if type(item) in _OF_PLACES else item for item in places)
    return _as_places(places, nested=False) if type(places) in _OF_PLACES else places


def _is_number(tensor: torch.Tensor, value: Any) -> bool:
    """Return whether the value is a Python number. A complex number counts only if the tensor is complex."""
    return type(value) in _NUMBERS or (type(value) is complex and tensor.is_complex())


def _as_places(numbers: Any, *, nested: bool) -> Any:
    """Convert a sequence of whole numbers or booleans to a tensor. Return any other sequence unchanged.

    Args:
        numbers: a list, a tuple or a range in an index.
        nested: whether a list of lists becomes one tensor too. Pass false for a list that is the whole index: PyTorch
            uses each inner list for one dimension then.
    """
    flat = numbers
    while nested and flat and all(type(item) in _OF_PLACES for item in flat):
        flat = [number for item in flat for number in item]
    return torch.tensor(numbers, device=_CPU) if flat and all(map(_is_place, flat)) else numbers


def _is_place(number: Any) -> bool:
    """Return whether an item of a list in an index is a number, or a tensor with one known value."""
    if isinstance(number, torch.Tensor):
        tracer = asked_tracer(number)
        return number.ndim == 0 and (tracer is None or tracer.read_known(number) is not None)
    return hasattr(number, "__index__")


def _only_looks(original: Callable[..., Any]) -> bool:
    """Return whether the caller of ``original`` does not compute with the value that ``original`` reads.

    Such a caller compares addresses, copies a tensor, or makes a text for a log or a message.
    """
    callers = _ONLY_LOOK.get(original.__name__)
    return callers is not None and f"{sys._getframe(2).f_globals.get('__name__')}.".startswith(callers)
