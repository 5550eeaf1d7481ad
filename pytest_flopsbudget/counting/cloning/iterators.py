"""Clone iterators, so that a run takes no items from the iterators of the model, the inputs and their functions."""

from __future__ import annotations

import copy
import copyreg
import itertools
import types
import warnings
from collections import deque
from typing import TYPE_CHECKING, Any, NoReturn

from pytest_flopsbudget.counting.cloning.base import BaseCloner
from pytest_flopsbudget.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence


#: Modules that define iterators without attributes. Iterators of other classes are cloned by their attributes.
_HOMES = frozenset(("builtins", "itertools", "_collections", "collections"))
_LOADERS = "torch.utils.data."
_TEE: type = type(itertools.tee(())[0])


def is_iterator(kind: type) -> bool:
    """Return whether this is a class of iterators that Python or PyTorch defines, and that a clone must not share."""
    if not hasattr(kind, "__next__"):
        return kind is types.AsyncGeneratorType
    return kind.__module__ in _HOMES or kind.__module__.startswith(_LOADERS)


class IteratorCloner(BaseCloner):
    """The part of `Cloner` that clones iterators."""

    def __init__(self) -> None:
        super().__init__()
        self._of_classes: dict[type, dict[str, Any]] = {}

    def _iterators_of_class(self, kind: type) -> dict[str, Any]:
        """Return name → clone for the iterators among the attributes of a module's class and its base classes."""
        found = self._of_classes.get(kind)
        if found is None:
            attributes: dict[str, Any] = {}
            for base in reversed(kind.__mro__):
                if not base.__module__.startswith("torch.") and base is not object:
                    attributes.update(vars(base))
            iterators = {name: value for name, value in attributes.items() if is_iterator(type(value))}
            found = self._of_classes[kind] = {name: self._clone_value(value) for name, value in iterators.items()}
        return found

    def _clone_iterator(self, iterator: Any) -> Any:
        """Return an iterator over clones of the remaining items. If that is not possible, return a `_Refusing`."""
        if getattr(iterator, "gi_frame", iterator) is None:
            return iterator  # a generator that has ended
        if type(iterator) is _TEE:
            return self._register(iterator, copy.copy(iterator))  # both iterators yield all remaining items
        parts = _parts_of(iterator)
        if parts is None:
            return self._register(iterator, _Refusing(_describe(iterator)))
        make, args, *states = parts
        clone = self._register(iterator, make(*map(self._clone_value, args)))
        for state in states[:1]:
            if state is not None:
                # The position in a list can be set when the clone of the list is filled.
                self._fill_later(_set_state, self._clone_value(state), clone)
        return clone

    def _clone_method_wrapper(self, method: Any) -> Any:
        """Clone a bound method that C defines, such as ``iterator.__next__``, if it belongs to an iterator."""
        if not is_iterator(type(method.__self__)):
            return method
        return self._register(method, getattr(self._clone_value(method.__self__), method.__name__))


def _set_state(state: Any, iterator: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        iterator.__setstate__(state)


def _parts_of(iterator: Any) -> Sequence[Any] | None:
    """Return (function, arguments, state) from which a copy can be made; None if the iterator does not give them."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # itertools in Python 3.12 and 3.13
            make, args, *states = iterator.__reduce_ex__(2)
            if args and isinstance(args[0], deque):
                return iter, (list(copy.copy(iterator)),)
    except (TypeError, RuntimeError):  # it cannot be copied, or its dict or deque has changed
        return None
    return None if make is copyreg.__newobj__ else (make, args, *states)  # type: ignore[attr-defined] # no stub has it


def _describe(iterator: Any) -> str:
    name = getattr(iterator, "__qualname__", None)
    return type(iterator).__qualname__ if name is None else f"{type(iterator).__name__} {name!r}"


class _Refusing:
    """Takes the place of an iterator that cannot be copied. It raises an error if the model takes an item."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __iter__(self) -> _Refusing:
        return self

    def __aiter__(self) -> _Refusing:
        return self

    def _refuse(self, *_args: Any) -> NoReturn:
        raise UsageError(
            f"the model takes an item from an iterator that cannot be copied ({self._what}), so the measurement would "
            "use up the item; take it before the measurement, and pass it as an input"
        )

    __next__ = __anext__ = send = throw = close = asend = athrow = aclose = _refuse
