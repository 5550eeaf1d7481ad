"""`TrainingRun`: the cost of a whole training run, from the counted cost of one micro-batch and one optimizer step."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from pytest_flopsbudget.errors import UsageError
from pytest_flopsbudget.hardware.catalog import resolve_devices
from pytest_flopsbudget.training.energy import energy
from pytest_flopsbudget.training.memory import rank_memory
from pytest_flopsbudget.training.utilization import peak_rate

if TYPE_CHECKING:
    from pytest_flopsbudget.hardware.profile import Device
    from pytest_flopsbudget.training.energy import Energy
    from pytest_flopsbudget.training.flops import TrainingFlops
    from pytest_flopsbudget.training.memory import RankMemory, StateBytes

_HOUR = 3_600


@dataclass(frozen=True, slots=True)
class OptimizerStep:
    """The counted cost of one step of the optimizer."""

    #: The class of the optimizer: "AdamW".
    name: str
    #: FLOPs of products, and of all other arithmetic.
    flops: int
    other_flops: int


@dataclass(frozen=True)
class TrainingRun:
    """A training run: the counts of its parts, and how often each part runs."""

    #: The count of one micro-batch: forward, backward and recomputation.
    micro: TrainingFlops
    optimizer: OptimizerStep
    states: StateBytes
    #: Bytes at the peak of a micro-batch beside parameters and gradients.
    activation_bytes: int
    #: The tokens of the run.
    tokens: int
    #: The sequences of a step and of a micro-batch, and the tokens of a sequence.
    batch: int
    micro_batch: int
    sequence: int

    @property
    def steps(self) -> int:
        """The number of steps. The last one may have fewer tokens."""
        return -(-self.tokens // (self.batch * self.sequence))

    @property
    def micro_batches(self) -> int:
        """The micro-batches of a step, on all ranks together: gradients are accumulated over them."""
        return self.batch // self.micro_batch

    def flops(self, convention: str = "exact", *, recompute: bool = False) -> int:
        """Return the FLOPs of products of the run, rounded down.

        Args:
            convention: "exact" for the count with the optimizer's products, or the key of a published formula.
            recompute: whether what activation checkpointing computes again is included.

        Raises:
            UsageError: there is no such convention, or it needs a size that is unknown.
        """
        products = self.micro.per_token(convention, recompute=recompute) * self.tokens
        return math.floor(products) + (self.optimizer.flops * self.steps if convention == "exact" else 0)

    @property
    def other_flops(self) -> int:
        """The FLOPs of all other arithmetic of the run, rounded down: norms, activations, the optimizer."""
        each = Fraction(self.micro.complexity.other_flops, self.micro.tokens)
        return math.floor(each * self.tokens) + self.optimizer.other_flops * self.steps

    def step_flops(self) -> dict[str, int]:
        """Return the FLOPs of products in one step: forward, backward, recomputed, optimizer."""
        phases = self.micro.complexity.phases
        recomputed = self.micro.complexity.recomputed_flops
        forward = phases["forward"].flops if "forward" in phases else 0
        backward = self.micro.complexity.flops - forward - recomputed
        return {
            "forward": forward * self.micro_batches,
            "backward": backward * self.micro_batches,
            "recomputed": recomputed * self.micro_batches,
            "optimizer": self.optimizer.flops,
        }

    def device_hours(
        self, device: str | Device, mfu: float, *, dtype: str = "bfloat16", convention: str = "exact"
    ) -> float:
        """Return the hours that all devices run, added up, at a model FLOPs utilization.

        Args:
            device: the name of a device in the catalog, or a profile (`Device`).
            mfu: the utilization by the same convention, from 0 to 1.
            dtype: the dtype of the products, which chooses the peak rate.
            convention: the FLOPs to take, like in `flops`.

        Raises:
            UsageError: the device is unknown or has no rate for the dtype, or ``mfu`` is not between 0 and 1.
        """
        (profile,) = resolve_devices([device])
        if not 0 < mfu <= 1:
            raise UsageError(f"mfu={mfu!r}: a utilization is above 0 and at most 1, such as 0.4")
        return float(Fraction(self.flops(convention)) / peak_rate(profile, dtype)) / mfu / _HOUR

    def energy(self, device: str | Device, mfu: float, *, dtype: str = "bfloat16", watts: int | None = None) -> Energy:
        """Return the energy of the run as an interval, with its assumptions.

        Args:
            device: the name of a device in the catalog, or a profile (`Device`).
            mfu: the model FLOPs utilization, from 0 to 1.
            dtype: the dtype of the products.
            watts: the power of a device; None for the power of its data sheet.

        Raises:
            UsageError: as `device_hours`, or the power of the device is unknown.
        """
        (profile,) = resolve_devices([device])
        return energy(self.device_hours(profile, mfu, dtype=dtype), profile.name, watts)

    def rank_memory(self, *, fsdp: int = 1, tensor: int = 1) -> RankMemory:
        """Return the memory of one rank, by the formula in `RankMemory.formula`.

        Args:
            fsdp: the number of ranks over which FSDP shards parameters, gradients and optimizer state.
            tensor: the number of ranks of tensor parallelism.

        Raises:
            UsageError: a number of ranks is no whole number from 1 on.
        """
        return rank_memory(
            self.states,
            layer=self._largest_layer(),
            activations=self.activation_bytes,
            fsdp=fsdp,
            tensor=tensor,
        )

    def _largest_layer(self) -> int:
        """Return the bytes of the parameters of the largest numbered module, or of the model if there is none."""
        modules = self.micro.complexity.modules
        layers = [one.param_bytes for path, one in modules.items() if re.search(r"(^|\.)\d+$", path)]
        return max(layers, default=self.micro.complexity.param_bytes)


def check_run(tokens: int, batch: int, sequence: int, micro_batch: int, data_parallel: int = 1) -> None:
    """Check the sizes of a run.

    Raises:
        UsageError: a size is no whole number from 1 on, or the batch cannot be divided into micro-batches.
    """
    sizes = {"tokens": tokens, "batch": batch, "sequence": sequence, "micro_batch": micro_batch}
    for name, value in sizes.items():
        if type(value) is not int or value < 1:
            raise UsageError(f"{name} is {value!r}, and not a whole number from 1 on")
    each = micro_batch * data_parallel
    if batch % each:
        of = f"{micro_batch} x {data_parallel} data-parallel ranks" if data_parallel > 1 else f"{micro_batch}"
        raise UsageError(
            f"a batch of {batch:,} sequences is no multiple of the micro-batch of {of}; choose a batch of "
            f"{max(1, batch // each) * each:,} or {(batch // each + 1) * each:,}"
        )
