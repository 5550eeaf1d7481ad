"""Time the models of a test if a limit or a tolerance asks for the latency."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_flopsbudget.hardware.catalog import recognize_device

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_flopsbudget.counting.latency.measured_call import MeasuredCall
    from pytest_flopsbudget.hardware.profile import Device
    from pytest_flopsbudget.results.complexity import Complexity


@dataclass(frozen=True, slots=True)
class LatencyPolicy:
    """Says whether and how the models of a test are timed. A call with ``latency=True`` is timed in any case."""

    #: Whether a limit or a tolerance requires the latency.
    wanted: bool = False
    #: Whether a limit requires the latency.
    limited: bool = False
    #: The machine's name in reports; None for the name of its hardware.
    machine: str | None = None
    #: The minimum time, in seconds, for which each model is run.
    run_time: float = 1.0
    #: Name → device profile, from the pyproject.
    devices: Mapping[str, Device] = field(default_factory=dict)
    #: The number of other processes of this run. They use the machine at the same time.
    concurrent_processes: int = 0

    def add_latency(self, measured: MeasuredCall) -> Complexity:
        """Time the measured call, and return its complexity with the latency.

        Raises:
            UsageError: the model cannot be timed here.
        """
        # These imports are slow, so only runs that time a model import them.
        from msgspec.structs import replace

        from pytest_flopsbudget.quantities.metrics import key_for

        complexity = measured.complexity
        latency = measured.time(self.run_time, self.machine, self._device)
        return replace(
            complexity,
            timing=latency,
            metrics={**complexity.metrics, key_for("latency", latency.machine): latency.median_ns},
            notes=(*complexity.notes, *self._notes()),
        )

    def _device(self, hardware: str) -> Device | None:
        """Return the device profile of this machine; None if there is none.

        The profiles of the pyproject are searched first, for ``hardware`` and then for the machine's name in the
        settings. The catalog is searched last.
        """
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
