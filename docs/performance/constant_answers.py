"""Measure the time of a dispatch mode that returns remembered outputs and counts nothing.

No counter with a dispatch mode can be faster.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    #: Makes an operator's output from its arguments.
    Answer = Callable[[tuple[Any, ...]], Any]


class Remembering(TorchDispatchMode):
    """A mode that runs the operators and remembers the size, strides and dtype of their outputs."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.answers: list[Answer] = []

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        del types
        output = func(*args, **(kwargs or {}))
        self.answers.append(_answer(output, args))
        return output


class Answering(TorchDispatchMode):
    """A mode that runs no operator. The n-th call returns a tensor with the metadata of the n-th remembered output."""

    def __init__(self, answers: list[Answer]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._following = iter(answers)
        self._next: Callable[[], Answer] = self._following.__next__

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return self._next()(args)

    def complete(self) -> bool:
        """Return whether the number of calls equals the number of remembered outputs."""
        return next(self._following, None) is None


def _answer(output: Any, args: tuple[Any, ...]) -> Answer:
    if isinstance(output, torch.Tensor):
        position = next((index for index, arg in enumerate(args) if arg is output), None)
        if position is not None:  # in place
            return lambda args: args[position]
        size, stride, dtype, device = output.size(), output.stride(), output.dtype, output.device
        return lambda _: torch.empty_strided(size, stride, dtype=dtype, device=device)
    if isinstance(output, (tuple, list)):
        parts, kind = [_answer(part, args) for part in output], type(output)
        return lambda args: kind([part(args) for part in parts])
    return lambda _: output
