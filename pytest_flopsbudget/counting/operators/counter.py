"""The protocol through which rules for operators use the tracer without importing it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager
    from fractions import Fraction

    import torch

    from pytest_flopsbudget.counting.operators.work import Work
    from pytest_flopsbudget.results.data import PhaseName


class ModuleCredits(Protocol):
    """Decides which module gets the credit for an operator's work."""

    def credited_to(self, module: torch.nn.Module) -> AbstractContextManager[None]:
        """Inside the ``with`` block, credit all work to ``module``."""


class Counter(Protocol):
    """Counts operators inside its ``with`` block. The class `Tracer` implements this protocol."""

    #: Whether operators compute data. Otherwise, they return shapes only.
    has_data: bool
    #: Sentences for the user about how the result was counted.
    notes: set[str]
    #: The phase that work is credited to, or None if the tracer finds the phase itself.
    phase: PhaseName | None

    def __enter__(self) -> Any:
        """Start counting operators."""

    def __exit__(self, kind: Any, error: Any, traceback: Any, /) -> Any:  # noqa: PYI036 -- what PyTorch's modes take
        """Stop counting operators."""

    @property
    def tracker(self) -> ModuleCredits:
        """The object that decides which module gets the credit for an operator's work."""

    def known_value(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """Return the values of the tensor, or None if they are not known without data."""

    def counting(self, share: Fraction, pairs: Fraction | None = None) -> AbstractContextManager[None]:
        """Inside the ``with`` block, count only the fraction ``share`` of each operator's work.

        Masks leave the fraction ``pairs`` of the FLOPs of products; by default, ``share``.
        """

    def share_of_mask(self, make: Callable[[], torch.Tensor]) -> Fraction | None:
        """Return the share of the pairs that the mask which ``make`` returns leaves; None if it is not known."""

    def note_unknown_mask(self, name: str) -> None:
        """Record that the values of the mask of the operator ``name`` are not known."""

    def repeating(self, times: int) -> AbstractContextManager[None]:
        """Inside the ``with`` block, count every operator ``times`` times."""

    def run_most_expensive(self, branches: Iterable[Callable[[], Any]]) -> Any:
        """Run every branch. Keep only the count of the most expensive branch, and return its output."""

    def credit(self, work: Work) -> object:
        """Add the work of one call of an operator to the count."""

    def note_unknown(self, name: str) -> None:
        """Record the name of an operator that no formula covers."""
