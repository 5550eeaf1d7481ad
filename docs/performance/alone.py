"""Compare the time of our count of all metrics with that of a count of FLOPs alone."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from time import thread_time
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from peers.isolation import isolated
from performance.models import MODELS
from performance.process import built

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from performance.results import Alone

#: Convolutional networks and transformers; forward passes, and forward with backward.
NAMES = (
    "MobileNetV2", "ResNet-50", "ViT-B/16", "Swin-T", "BERT-base", "GPT-2", "ResNet-50, forward and backward",
    "GPT-2, forward and backward",
)  # fmt: skip
TURNS = 20
_COUNTING = "pytest_flopsbudget.counting"
#: The functions that follow bytes, launches, activations and chains, each with a replacement that does nothing.
_LEFT_OUT: dict[str, Callable[..., Any]] = {
    f"{_COUNTING}.tracing.memory.Memory.record_call": lambda *_: None,
    f"{_COUNTING}.tracing.memory.Memory.assign_kind": lambda *_: None,
    f"{_COUNTING}.operators.accounting.memory_traffic": lambda *_: 0,
    f"{_COUNTING}.operators.accounting.dtype_of": lambda *_: "",
    f"{_COUNTING}.operators.accounting.activations": lambda *_: 0,
}


def in_turn(results: dict[str, Alone], save: Callable[[], None]) -> None:
    """Measure each model in a separate process."""
    for name in NAMES:
        if name in results:
            continue
        ended = isolated(_sample, name)
        if ended.value is None:
            raise RuntimeError(f"{name}: {ended.failure}\n{ended.text}")
        results[name] = ended.value
        print(f"{name}: {ended.value.first:.2f} times as long at first, {ended.value.again:.2f} later", flush=True)
        save()


def _sample(name: str) -> Alone:
    from performance.results import Alone
    from pytest_flopsbudget import measure
    from pytest_flopsbudget.counting.tracing import shapes

    model, (module, args) = MODELS[name], built(MODELS[name])

    def seconds() -> float:
        start = thread_time()
        measure(module, args, backward=model.case.backward)
        return thread_time() - start

    seconds()
    best: dict[tuple[bool, bool], float] = {}
    for _ in range(TURNS):
        for remembered in (False, True):
            for alone in (False, True):
                if not remembered:
                    shapes._ANSWERS.clear()  # noqa: SLF001 -- as in a process that meets the model first
                with _flops_alone() if alone else ExitStack():
                    taken = seconds()
                best[remembered, alone] = min(taken, best.get((remembered, alone), taken))
    first, first_alone, again, again_alone = (
        best[key] for key in ((False, False), (False, True), (True, False), (True, True))
    )
    return Alone(seconds=[first, first_alone, again, again_alone])


@contextmanager
def _flops_alone() -> Iterator[None]:
    with ExitStack() as stack:
        for name, instead in _LEFT_OUT.items():
            stack.enter_context(patch(name, instead))
        yield
