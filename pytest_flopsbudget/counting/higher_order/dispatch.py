"""Let dispatch modes see operators that take functions, in versions of PyTorch that refuse such operators under a mode.

Newer versions pass these operators to each mode whose attribute ``supports_higher_order_operators`` is True. PyTorch
2.6 to 2.8 look for the class of the mode in a table of the operator instead, and raise NotImplementedError if the table
does not contain the class.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_flopsbudget.counting.torch_private import (
    DispatchMode,
    HigherOrderOperator,
    current_dispatch_mode,
    modes_see_higher_order_operators,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


def dispatch_patches() -> Iterator[tuple[Any, str, Any]]:
    """Yield (owner, attribute, replacement) for the method that passes a higher-order operator to a mode.

    Newer versions of PyTorch need no replacement.
    """
    if modes_see_higher_order_operators or not hasattr(HigherOrderOperator, "dispatch"):
        return
    original: Any = HigherOrderOperator.dispatch

    def dispatch(operator: Any, *args: Any, **kwargs: Any) -> Any:
        mode = current_dispatch_mode()
        if isinstance(mode, DispatchMode):
            # PyTorch keeps the table for good. The entry is used only while one of our modes is active.
            operator.python_key_table.setdefault(type(mode), _passing_to_the_mode(operator))
        return original(operator, *args, **kwargs)

    yield HigherOrderOperator, "dispatch", dispatch


def _passing_to_the_mode(operator: Any) -> Any:
    def handle(mode: Any, *args: Any, **kwargs: Any) -> Any:
        return mode.__torch_dispatch__(operator, (), args, kwargs)

    return handle
