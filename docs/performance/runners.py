"""The runners of the benchmark: counters, and functions that only run the model."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from peers.counters import COUNTERS, on_meta
from performance.constant_answers import Answering, Remembering

if TYPE_CHECKING:
    from collections.abc import Callable

    from peers.case import Case
    from peers.counters import Counter
    from peers.whole_models import Built
    from performance.models import Model

OURS = "pytest-flopsbudget"
FORWARD, FORWARD_ON_META, CONSTANTS = "forward on the CPU", "forward on meta", "constant answers"


@dataclass(frozen=True)
class Runner:
    """A counter, or a function that only runs the model. Its time is measured."""

    name: str
    #: Returns the function that is timed, from the model, its arguments and the case. It may be called twice.
    make: Callable[[torch.nn.Module, tuple[torch.Tensor, ...], Case], Callable[[], float | None]]
    #: Module that is imported before the clock starts.
    module: str = "torch"
    #: Whether the model is moved to ``meta`` before the clock starts.
    on_meta: bool = False
    #: Whether the second run is timed too.
    again: bool = False
    counter: Counter | None = None

    def answers(self, model: Model) -> bool:
        """Return whether the runner can run the model. A model without weights can only run on ``meta``."""
        if self.counter is not None and not self.counter.answers(model.case):
            return False
        needs_weights = self.name in {FORWARD, "FlopCounterMode"}  # their runs on meta are separate runners
        return not (model.without_weights and needs_weights)

    def prepared(self, built: Built, model: Model) -> Built:
        """Return the model and its inputs on the device that the runner needs."""
        stays = self.name == CONSTANTS and model.off_meta
        return on_meta(*built) if self.on_meta and not stays else built


def _counting(counter: Counter) -> Runner:
    return Runner(
        counter.name,
        lambda model, args, case: lambda: counter.count(model, args, case),
        module=counter.module,
        on_meta=counter.moves,
        again=counter.name == OURS,
        counter=counter,
    )


def _forward(model: torch.nn.Module, args: tuple[torch.Tensor, ...], case: Case) -> Callable[[], None]:
    return lambda: _passes(model, args, case)


def _passes(model: torch.nn.Module, args: tuple[torch.Tensor, ...], case: Case) -> None:
    # A forward pass is fastest without gradients.
    with nullcontext() if case.backward else torch.no_grad():
        outputs: Any = model(*args)
        if case.backward:
            outputs.sum().backward()


def _constants(model: torch.nn.Module, args: tuple[torch.Tensor, ...], case: Case) -> Callable[[], None]:
    remembering = Remembering()

    def run() -> None:
        if remembering.answers:
            with Answering(remembering.answers) as answering:
                _passes(model, args, case)
            if not answering.complete():
                raise RuntimeError("the second pass called other operators than the first")
        else:
            with remembering:
                _passes(model, args, case)
        if case.backward:
            # The first backward pass creates gradients; a second one would add to them.
            model.zero_grad(set_to_none=True)

    return run


RUNNERS = {
    runner.name: runner
    for runner in (
        *(_counting(counter) for counter in COUNTERS.values()),
        Runner(FORWARD, _forward, again=True),
        Runner(FORWARD_ON_META, _forward, on_meta=True, again=True),
        Runner(CONSTANTS, _constants, on_meta=True, again=True),
    )
}
