"""The protocol through which rules for operators use the tracer, so that rules need not import the tracers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager
    from fractions import Fraction

    import torch

    from pytest_flopsbudget.counting.operators.work import Work
    from pytest_flopsbudget.results.complexity import PhaseName


class ModuleCredits(Protocol):
    """Decides which module an operator's work is credited to."""

    def credited_to(self, module: torch.nn.Module) -> AbstractContextManager[None]:
        """Credit all work inside of the block to ``module``."""


class Counter(Protocol):
    """Counts operators while it is entered as a dispatch mode; `Tracer` satisfies it."""

    #: Whether operators compute; otherwise they return shapes only.
    has_data: bool
    #: Sentences for the reader of the result.
    notes: set[str]
    #: The phase that work is credited to; None if the tracer finds the phase itself.
    phase: PhaseName | None

    def __enter__(self) -> Any:
        """Start counting operators."""

    def __exit__(self, kind: Any, error: Any, traceback: Any, /) -> Any:  # noqa: PYI036 -- what PyTorch's modes take
        """Stop counting operators."""

    @property
    def tracker(self) -> ModuleCredits:
        """The tracker of modules."""

    def known_value(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """Return the values of the tensor, or None if they are not known without data."""

    def counting(self, share: Fraction) -> AbstractContextManager[None]:
        """Count operators inside of the block, ``share`` of the work of each."""

    def repeating(self, times: int) -> AbstractContextManager[None]:
        """Count every operator inside of the block ``times`` times."""

    def run_most_expensive(self, branches: Iterable[Callable[[], Any]]) -> Any:
        """Run every branch, keep the count of the most expensive one, and return its output."""

    def credit(self, work: Work) -> object:
        """Count one call of an operator."""

    def note_unknown(self, name: str) -> None:
        """Name an operator that no formula covers."""
