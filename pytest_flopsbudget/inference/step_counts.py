"""Count one step of serving: a prefill, or the decoding of one token for each request."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from pytest_flopsbudget.counting.measure import trace_inputs
from pytest_flopsbudget.counting.tracing.weight_reads import WeightReads
from pytest_flopsbudget.inference.snapshot import Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import torch

    from pytest_flopsbudget.config.settings import ShapesMode
    from pytest_flopsbudget.counting.inputs import Inputs
    from pytest_flopsbudget.counting.tracing.tracer import Tracer
    from pytest_flopsbudget.hardware.profile import Device
    from pytest_flopsbudget.inference.steps import Steps
    from pytest_flopsbudget.results.complexity import Complexity


class StepTrace:
    """Measures one step, and keeps the cache that the step leaves, without its data.

    Args:
        steps: how the model is called.
        tokens: the number of tokens that the step reads, over all requests.
    """

    def __init__(self, steps: Steps, tokens: int) -> None:
        self._steps, self._tokens = steps, tokens
        #: The cache after the step.
        self.cache: Snapshot
        #: Everything that the next step needs, the cache included.
        self.state: Snapshot
        #: The bytes of all weights, and of those that the step reads.
        self.weights = self.weights_read = 0
        #: Whether the step ran on data, so that the cache had data too.
        self.has_data = False
        #: dtype → FLOPs of products in this dtype.
        self.products: Mapping[str, int] = {}

    def begin(self, tracer: Tracer, modules: Sequence[torch.nn.Module]) -> None:
        """Record the weights that operators read from now on."""
        tracer.weight_reads = WeightReads(modules, self._tokens)

    def end(self, tracer: Tracer, output: Any) -> None:
        """Copy the cache in the output of the step, without its data."""
        self.cache = Snapshot(self._steps.cache(output), tracer.known_value)
        self.state = Snapshot(self._steps.state(output), tracer.known_value)
        if tracer.weight_reads is not None:
            self.weights_read = tracer.weight_reads.read(without=self.cache.storages)
            self.weights = tracer.weight_reads.all(without=self.cache.storages)
        self.has_data = tracer.has_data

    def run(  # noqa: PLR0913 -- the options of `trace_inputs`
        self,
        model: Callable[..., Any],
        inputs: Inputs,
        *,
        backward: bool = False,
        reuse_answers: bool = True,
        shapes: ShapesMode = "preferred",
        devices: Sequence[Device] = (),
    ) -> tuple[Complexity, Tracer]:
        """Measure a call like `trace_inputs`. The result has the metrics ``kv_cache`` and ``bytes_read`` too."""
        complexity, tracer = trace_inputs(
            model,
            inputs,
            backward=backward,
            reuse_answers=reuse_answers,
            shapes=shapes,
            devices=devices,
            observer=self,
        )
        products: Counter[str] = Counter()
        for (_, work, _), times in tracer.credits.items():
            products[work.dtype] += work.flops * times
        self.products = products
        return with_metrics(
            complexity, {"kv_cache": self.cache.bytes, "bytes_read": self.weights_read + self.cache.bytes}
        ), tracer


def with_metrics(complexity: Complexity, metrics: Mapping[str, int]) -> Complexity:
    """Return the measurement with additional metrics of the whole model."""
    return replace(complexity, metrics={**complexity.metrics, **metrics})
