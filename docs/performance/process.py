"""Run one measurement in a separate process."""

from __future__ import annotations

import importlib
from contextlib import nullcontext
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

import torch

from peers.isolation import Ended, isolated
from peers.verdict import in_words
from performance.forked import own_memory
from performance.memory import Growth
from performance.models import MODELS
from performance.runners import RUNNERS
from performance.weights import RepeatedWeights

if TYPE_CHECKING:
    from collections.abc import Callable

    from peers.whole_models import Built
    from performance.models import Model
    from performance.runners import Runner

#: Seconds after which a process is ended, including building the model.
SECONDS = 90
#: Modules that the parent of the processes imports: libraries, and the files that define the models.
PRELOADED = (
    "diffusers.models.unets.unet_2d",
    *(
        f"transformers.models.{name}.modeling_{name}"
        for name in ("bert", "convnext", "gpt2", "llama", "mixtral", "mobilenet_v2", "resnet", "swin", "vit")
    ),
)


@dataclass(frozen=True)
class Sample:
    """The results of one process."""

    first: float
    again: float | None
    memory: int
    number: float | None


def begin() -> None:
    """Start the process from which all measuring processes fork. It imports the modules that they need."""
    isolated(own_memory)


def measured(runner: Runner, model: Model) -> tuple[Sample | None, str]:
    """Measure in a new process. Return the sample, which is None if the process failed, and the verdict on its FLOPs.

    The verdict is "" if the runner reports no FLOPs.
    """
    ended: Ended[Sample] = isolated(_sample, runner.name, model.name, seconds=SECONDS)
    if ended.value is not None and ended.value.number is None:
        return ended.value, ""
    number = None if ended.value is None else ended.value.number
    return ended.value, in_words(Ended(number, ended.failure, ended.text), model.case)


def _sample(runner: str, model: str) -> Sample:
    """Take a sample in this process. The arguments are names, because names can be pickled."""
    own_memory()
    doing, asked = RUNNERS[runner], MODELS[model]
    importlib.import_module(doing.module)
    run = doing.make(*doing.prepared(built(asked), asked), asked.case)
    growth = Growth()
    number, first = _timed(run)
    memory = growth.bytes()
    again = _timed(run)[1] if doing.again else None
    return Sample(first, again, memory, number)


def built(model: Model) -> Built:
    """Build the model in evaluation mode. Return the model and its inputs."""
    torch.manual_seed(0)
    with torch.device("meta") if model.without_weights else nullcontext(), RepeatedWeights():
        module, args = model.case.build()
    return module.eval(), args


def _timed(run: Callable[[], float | None]) -> tuple[float | None, float]:
    start = perf_counter()
    number = run()
    return number, perf_counter() - start
