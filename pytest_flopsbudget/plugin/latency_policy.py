"""Time the models of a test where the settings or a limit ask for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_flopsbudget.hardware.catalog import recognize_device

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_flopsbudget.counting.tracing.tracer import Tracer
    from pytest_flopsbudget.hardware.profile import Device
    from pytest_flopsbudget.results.complexity import Complexity


@dataclass(frozen=True, slots=True)
class LatencyPolicy:
    """Whether the models of a test are timed without a request in the test, and how."""

    #: Whether a limit or a tolerance asks for the latency.
    wanted: bool = False
    #: Whether a limit asks for the latency.
    limited: bool = False
    #: The machine's name in reports; None for the name of its hardware.
    machine: str | None = None
    #: The shortest time, in seconds, for which each model is run.
    run_time: float = 1.0
    #: Name → device profile, from the pyproject.
    devices: Mapping[str, Device] = field(default_factory=dict)
    #: Number of other processes of this run, which use the machine at the same time.
    concurrent_processes: int = 0

    def add_latency(  # noqa: PLR0913 -- what was counted, and of what
        self,
        complexity: Complexity,
        tracer: Tracer,
        model: Callable[..., Any],
        args: Any,
        kwargs: Mapping[str, Any] | None,
        *,
        backward: bool,
    ) -> Complexity:
        """``complexity`` with the latency of the model that ``tracer`` counted.

        Raises:
            UsageError: the model cannot be timed here.
        """
        from msgspec.structs import replace  # noqa: PLC0415 -- only who times pays for these

        from pytest_flopsbudget.counting.latency.benchmark import time_model  # noqa: PLC0415
        from pytest_flopsbudget.counting.latency.utilization import add_utilization  # noqa: PLC0415
        from pytest_flopsbudget.quantities.metrics import key_for  # noqa: PLC0415

        latency, hardware = time_model(
            model, args, kwargs, backward=backward, run_time=self.run_time, machine=self.machine
        )
        device = self._device(hardware)
        if device is not None:
            latency = add_utilization(latency, tracer.credits, device)
        return replace(
            complexity,
            latency=latency,
            metrics={**complexity.metrics, key_for("latency", latency.machine): latency.median_ns},
            notes=(*complexity.notes, *self._notes()),
        )

    def _device(self, hardware: str) -> Device | None:
        """Return the machine's profile: from the pyproject, by hardware or machine name, or else from the catalog."""
        named = next(
            (own for name, own in self.devices.items() if self.machine and name.casefold() == self.machine.casefold()),
            None,
        )
        return recognize_device(hardware, self.devices.values()) or named or recognize_device(hardware)

    def _notes(self) -> tuple[str, ...]:
        if not self.concurrent_processes:
            return ()
        others = "1 other process" if self.concurrent_processes == 1 else f"{self.concurrent_processes} other processes"
        return (f"the latency was measured beside {others} of pytest-xdist, so that they shared the machine",)
