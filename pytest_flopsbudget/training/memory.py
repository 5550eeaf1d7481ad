"""The memory of one rank under fully sharded data parallelism (FSDP) and tensor parallelism, by a stated formula."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_flopsbudget.errors import UsageError


@dataclass(frozen=True, slots=True)
class StateBytes:
    """Exact bytes of what training keeps between steps, on one device without any sharding."""

    parameters: int
    gradients: int
    optimizer: int
    #: Copies of the parameters in float32, if the optimizer updates these; else 0.
    master: int = 0

    @property
    def total(self) -> int:
        """The sum."""
        return self.parameters + self.gradients + self.optimizer + self.master


@dataclass(frozen=True, slots=True)
class RankMemory:
    """The bytes of one rank."""

    fsdp: int
    tensor: int
    #: What is kept between steps: a share of `StateBytes.total`.
    states: int
    #: Parameters of two layers, gathered: those of the layer that runs, and of the next one.
    gathered: int
    #: What the count of a micro-batch keeps at its peak beside parameters and gradients.
    activations: int

    @property
    def total(self) -> int:
        """The sum."""
        return self.states + self.gathered + self.activations

    @property
    def formula(self) -> str:
        """How the parts are computed, in one sentence."""
        return (
            f"states / ({self.fsdp} FSDP x {self.tensor} tensor ranks), as in ZeRO-3 (S. Rajbhandari et al., 2020); "
            f"two gathered layers / {self.tensor}; activations of one micro-batch as counted on one device, an upper "
            "bound under tensor parallelism; without buffers of collectives and fragmentation"
        )


def rank_memory(states: StateBytes, *, layer: int, activations: int, fsdp: int, tensor: int) -> RankMemory:
    """Return the bytes of one rank, if every parameter is divided evenly.

    Args:
        states: the bytes that are kept between steps, without sharding.
        layer: the bytes of the parameters of the largest layer.
        activations: the bytes at the peak of a micro-batch beside parameters and gradients.
        fsdp: the number of ranks over which FSDP shards.
        tensor: the number of ranks of tensor parallelism.

    Raises:
        UsageError: a number of ranks is no whole number from 1 on.
    """
    for name, ranks in (("fsdp", fsdp), ("tensor", tensor)):
        if type(ranks) is not int or ranks < 1:
            raise UsageError(f"{name}={ranks!r}: write a whole number of ranks from 1 on")
    gathered = 0 if fsdp == 1 else 2 * -(-layer // tensor)
    return RankMemory(fsdp, tensor, -(-states.total // (fsdp * tensor)), gathered, activations)
