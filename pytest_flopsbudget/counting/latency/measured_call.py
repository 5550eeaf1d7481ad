"""A call of a model that was measured and that can be timed afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_flopsbudget.counting.measure import trace_inputs
from pytest_flopsbudget.counting.tracing.timeline import keeping_timelines

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pytest_flopsbudget.config.settings import ShapesMode
    from pytest_flopsbudget.counting.inputs import Inputs
    from pytest_flopsbudget.counting.operators.work import Work
    from pytest_flopsbudget.counting.tracing.nodes import Node
    from pytest_flopsbudget.counting.tracing.tracer import WorkPhase
    from pytest_flopsbudget.hardware.profile import Device
    from pytest_flopsbudget.results.complexity import Complexity
    from pytest_flopsbudget.results.data import Latency


@dataclass(frozen=True, slots=True)
class MeasuredCall:
    """The complexity of one call of a model, and the data that is needed to time the same call."""

    complexity: Complexity
    _model: Callable[..., Any]
    _inputs: Inputs
    _backward: bool
    _work: Mapping[tuple[Node, Work, WorkPhase], int]

    def time(self, run_time: float, machine: str | None, find_profile: Callable[[str], Device | None]) -> Latency:
        """Return the latency of the call on this machine, and its utilization of the machine.

        Args:
            run_time: the minimum number of seconds for which the model is run again and again.
            machine: the name of the machine; None for the name of its hardware.
            find_profile: returns the profile of the hardware with this name. If it returns None, utilization is not
                computed.

        Raises:
            UsageError: the model cannot be timed here.
        """
        # These modules are imported here, because most measurements are not timed.
        from pytest_flopsbudget.counting.latency.benchmark import time_inputs  # noqa: PLC0415
        from pytest_flopsbudget.counting.latency.utilization import add_utilization  # noqa: PLC0415

        latency, hardware = time_inputs(
            self._model, self._inputs, backward=self._backward, run_time=run_time, machine=machine
        )
        profile = find_profile(hardware)
        return latency if profile is None else add_utilization(latency, self._work, profile)


def measure_inputs(  # noqa: PLR0913 -- the options of `measure`
    model: Callable[..., Any],
    inputs: Inputs,
    *,
    backward: bool = False,
    reuse_answers: bool = True,
    shapes: ShapesMode = "preferred",
    devices: Sequence[Device] = (),
    keeps_timeline: bool = False,
) -> MeasuredCall:
    """Measure a model like `measure`, with the arguments in ``inputs``. The returned call can be timed too.

    With ``keeps_timeline``, the result has the bytes alive over the course of the run: ``memory_over_time``.

    Raises:
        UsageError: ``model`` cannot be called, it needs data and a tensor has none, or no output can be differentiated.
        Exception: any exception that the model raises.
    """
    with keeping_timelines(keeps_timeline):
        complexity, tracer = trace_inputs(
            model, inputs, backward=backward, reuse_answers=reuse_answers, shapes=shapes, devices=devices
        )
    return MeasuredCall(complexity, model, inputs, backward, tracer.credits)
