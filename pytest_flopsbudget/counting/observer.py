"""`Observer`: sees the attempts of a measurement, for measurements that need more than the counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from pytest_flopsbudget.counting.tracing.tracer import Tracer


class Observer(Protocol):
    """Sees each attempt of a measurement. The last attempt that it sees is the one that succeeded."""

    def begin(self, tracer: Tracer, modules: Sequence[torch.nn.Module]) -> None:
        """See the clones of the model's modules before they run."""

    def end(self, tracer: Tracer, output: Any) -> None:
        """See the output of the model. No reference to a tensor of the output may be kept after the call."""
