"""What is timed: counters, and what their time is held against."""

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
    """Something that is done with a model, and how long it takes."""

    name: str
    #: Makes what is timed, from the model, its arguments and the case. Called twice, it is timed twice.
    make: Callable[[torch.nn.Module, tuple[torch.Tensor, ...], Case], Callable[[], float | None]]
    #: Imported before the clock starts.
    module: str = "torch"
    #: The model is on ``meta`` before the clock starts.
    on_meta: bool = False
    #: The second time is of interest too.
    again: bool = False
    counter: Counter | None = None

    def answers(self, model: Model) -> bool:
        """Whether it applies: models without weights run nowhere but on ``meta``."""
        if self.counter is not None and not self.counter.answers(model.case):
            return False
        twin = self.name in {FORWARD, "FlopCounterMode"}  # the same on meta has a column of its own
        return not (model.without_weights and twin)

    def prepared(self, built: Built, model: Model) -> Built:
        """The model where it is wanted. What counts nothing may stay on the CPU, where ``meta`` will not do."""
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
    # Without gradients a forward pass is fastest.
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
                raise RuntimeError("the second pass took another way than the first")
        else:
            with remembering:
                _passes(model, args, case)
        if case.backward:
            # The first backward pass makes gradients, a second one would add to them.
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
