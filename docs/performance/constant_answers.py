"""A lower bound for any counter with a dispatch mode: answer every operator and examine nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    #: Makes an operator's output from its arguments.
    Answer = Callable[[tuple[Any, ...]], Any]


class Remembering(TorchDispatchMode):
    """Run the operators, and remember the size, strides and dtype of the outputs of each call."""

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
    """Answer each call, by its position alone, with an empty tensor like the remembered one."""

    def __init__(self, answers: list[Answer]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._following = iter(answers)
        self._next: Callable[[], Answer] = self._following.__next__

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return self._next()(args)

    def complete(self) -> bool:
        """Return whether as many operators were called as were remembered, so that the passes were the same."""
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
