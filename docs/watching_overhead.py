"""Measure how much longer models and the steps of optimizers run while they are watched."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import ResNetConfig, ResNetForImageClassification

from pytest_flopsbudget import watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


def _seconds(run: Callable[[], object], times: int) -> float:
    begin = time.perf_counter()
    for _ in range(times):
        run()
    return (time.perf_counter() - begin) / times


def compared(run: Callable[[], object], times: int, rounds: int = 15) -> tuple[float, float]:
    """Return (seconds of an unwatched run, seconds of a watched run).

    Each number is the mean of ``times`` runs, and the shortest of ``rounds`` such means.
    """
    run()
    plain, watched = [], []
    for _ in range(rounds):
        plain.append(_seconds(run, times))
        with watch():
            watched.append(_seconds(run, times))
    return min(plain), min(watched)


def _cases() -> Iterator[tuple[str, Callable[[], object], int]]:
    resnet, image = ResNetForImageClassification(ResNetConfig()).eval(), torch.randn(1, 3, 224, 224)
    digits = nn.Sequential(
        nn.Conv2d(1, 16, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3), nn.ReLU(), nn.Flatten(),
        nn.Linear(32 * 11 * 11, 10),
    )  # fmt: skip
    perceptron = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    numbers, rows = torch.randn(64, 1, 28, 28), torch.randn(8, 8)
    optimizer = torch.optim.SGD(digits.parameters(), lr=0.001)

    def step() -> None:
        optimizer.zero_grad()
        digits(numbers).square().mean().backward()
        optimizer.step()

    yield "ResNet-50, one image of 224x224", lambda: resnet(image), 1
    yield "two convolutions, 64 digits", lambda: digits(numbers), 10
    yield "two convolutions, 64 digits, a training step", step, 10
    yield "8-16-4 perceptron, 8 rows", lambda: perceptron(rows), 500


class _Nothing(TorchDispatchMode):
    """A dispatch mode that only runs each operator."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


class _Lamb(torch.optim.Optimizer):
    """An optimizer like LAMB (You et al., 2020), with 17 to 22 operators for each parameter."""

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        super().__init__(parameters, {"lr": 1e-3, "beta1": 0.9, "beta2": 0.999, "eps": 1e-6, "decay": 0.01})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # noqa: ARG002 -- as the base class
        """Update all parameters."""
        for group in self.param_groups:
            for parameter in group["params"]:
                self._update(parameter, group)

    def _update(self, parameter: torch.Tensor, group: dict[str, Any]) -> None:
        state, gradient, (beta1, beta2) = self.state[parameter], parameter.grad, (group["beta1"], group["beta2"])
        if not state:
            state.update(step=0, mean=torch.zeros_like(parameter), square=torch.zeros_like(parameter))
        state["step"] += 1
        mean = state["mean"].mul_(beta1).add_(gradient, alpha=1 - beta1)
        square = state["square"].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        update = mean / (1 - beta1 ** state["step"])
        update /= (square / (1 - beta2 ** state["step"])).sqrt_().add_(group["eps"])
        update.add_(parameter, alpha=group["decay"])
        weight, change = parameter.norm().clamp(0, 10), update.norm()
        trust = torch.where(weight > 0, torch.where(change > 0, weight / change, 1.0), 1.0)
        parameter.add_(update * trust, alpha=-group["lr"])


def _optimizers() -> Iterator[tuple[str, Callable[[], object]]]:
    makers: dict[str, Callable[[list[nn.Parameter]], torch.optim.Optimizer]] = {
        "SGD with momentum": lambda each: torch.optim.SGD(each, lr=1e-3, momentum=0.9, weight_decay=1e-4),
        "AdamW": lambda each: torch.optim.AdamW(each, foreach=False),
        "LAMB": _Lamb,
    }
    for name, make in makers.items():
        parameters = [nn.Parameter(torch.randn(16, *[16] * (number % 2))) for number in range(200)]
        for parameter in parameters:
            parameter.grad = torch.randn_like(parameter)
        yield name, make(parameters).step


def _compared_steps(step: Callable[[], object], rounds: int = 12, times: int = 4) -> tuple[float, float, float]:
    """Return the seconds of a step: not watched, under a dispatch mode that does nothing, watched.

    Each is the shortest processor time of all steps, so that other work on the machine matters little.
    """

    def shortest() -> float:
        seconds = []
        for _ in range(times):
            begin = time.process_time()
            step()
            seconds.append(time.process_time() - begin)
        return min(seconds)

    step()
    found = []
    for _ in range(rounds):
        plain = shortest()
        with _Nothing():
            under_mode = shortest()
        with watch():
            step()  # the first operator of each kind takes longer
            found.append((plain, under_mode, shortest()))
    plain, under_mode, watched = map(min, zip(*found, strict=True))
    return plain, under_mode, watched


def main() -> None:
    """Print the tables of docs/watching.md."""
    lines = [f"torch {torch.__version__}, {torch.get_num_threads()} threads", "", "| | not watched | watched | ratio |"]
    lines.append("|---|---|---|---|")
    for name, run, times in _cases():
        plain, watched = compared(run, times)
        lines.append(f"| {name} | {plain * 1e3:.3f} ms | {watched * 1e3:.3f} ms | {watched / plain:.2f} |")
    lines += ["", "| step over 200 parameters | not watched | mode that does nothing | watched | watched / mode |"]
    lines.append("|---|---|---|---|---|")
    for name, step in _optimizers():
        plain, under_mode, watched = _compared_steps(step)
        cells = (f"{seconds * 1e3:.2f} ms" for seconds in (plain, under_mode, watched))
        lines.append(f"| {name} | {' | '.join(cells)} | {watched / under_mode:.2f} |")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
