"""Measure how much longer a model runs while it is watched."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import torch
from torch import nn
from transformers import ResNetConfig, ResNetForImageClassification

from pytest_flopsbudget import watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def _seconds(run: Callable[[], object], times: int) -> float:
    begin = time.perf_counter()
    for _ in range(times):
        run()
    return (time.perf_counter() - begin) / times


def compared(run: Callable[[], object], times: int, rounds: int = 15) -> tuple[float, float]:
    """Return (seconds of an unwatched run, seconds of a watched run).

    Each is a mean of ``times`` runs. It is the shortest of ``rounds`` such means.
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


def main() -> None:
    """Print the table of docs/watching.md."""
    lines = [f"torch {torch.__version__}, {torch.get_num_threads()} threads", "", "| | not watched | watched | ratio |"]
    lines.append("|---|---|---|---|")
    for name, run, times in _cases():
        plain, watched = compared(run, times)
        lines.append(f"| {name} | {plain * 1e3:.3f} ms | {watched * 1e3:.3f} ms | {watched / plain:.2f} |")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
