"""Measure how long a baseline of 10,000 entries takes to read, compare and update; write docs/baselines.md.

``make bench-baselines`` runs it. A separate process without torch runs the timed code.
"""

from __future__ import annotations

import pickle
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from msgspec.structs import replace

from peers.table import between_markers
from pytest_flopsbudget.results.comparison import compare
from pytest_flopsbudget.storage.baseline import change, load, update_entries

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_flopsbudget import Complexity

    Tests = Mapping[str, Mapping[str, Complexity]]

PAGE = Path(__file__).parent.parent / "baselines.md"
COUNT = 10_000
ROUNDS = 5


def main() -> None:
    if len(sys.argv) > 1:
        _time(Path(sys.argv[1]))
        return
    with tempfile.TemporaryDirectory() as folder:
        entries = Path(folder) / "entries"
        tests = _measured()
        # Pickled one by one: entries of different tests share no objects, like entries from different processes.
        entries.write_bytes(pickle.dumps({test_id: pickle.dumps(measured) for test_id, measured in tests.items()}))
        command = [sys.executable, "-m", "performance.many_entries", str(entries)]
        run = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 -- this file
    distinct = len({id(measured["model"]) for measured in tests.values()})
    print(run.stdout)
    text = run.stdout.strip().replace("DISTINCT", f"{distinct:,}")
    PAGE.write_text(between_markers(PAGE.read_text("utf-8"), text), "utf-8")


def _measured() -> Tests:
    """Measure three kinds of networks in many sizes, and return 10,000 entries."""
    import torch
    from torch import nn

    from pytest_flopsbudget import measure

    def convolutional(width: int, batch: int) -> Complexity:
        layers = [nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.Flatten(), nn.Linear(36 * width, 10)]
        return measure(nn.Sequential(*layers), torch.empty(batch, 3, 8, 8))

    def perceptron(width: int, batch: int) -> Complexity:
        layers = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        return measure(layers, torch.empty(batch, width))

    def encoder(width: int, batch: int) -> Complexity:
        layer = nn.TransformerEncoderLayer(4 * width, 4, 8 * width, batch_first=True)
        return measure(nn.TransformerEncoder(layer, 3), torch.empty(batch, 7, 4 * width))

    kinds = (convolutional, perceptron, encoder)
    cases = [(kind, width, batch) for width in range(1, 65) for batch in (1, 2, 4, 8) for kind in kinds]
    known = {case: kind(width, batch) for case in cases for kind, width, batch in [case]}
    tests = {}
    for number in range(COUNT):
        kind, width, batch = case = cases[number % len(cases)]
        tests[f"test_forward[{kind.__name__}-{width}-{batch}-{number // len(cases)}]"] = {"model": known[case]}
    return tests


def _time(entries: Path) -> None:
    tests = {
        test_id: cast("dict[str, Complexity]", pickle.loads(data))  # noqa: S301 -- what main wrote
        for test_id, data in pickle.loads(entries.read_bytes()).items()  # noqa: S301
    }
    path = entries.parent / "__flops__" / "test_zoo.json"
    some = {test_id: _grown(measured) for test_id, measured in list(tests.items())[::100]}
    every = {test_id: _grown(measured) for test_id, measured in tests.items()}
    unlike = {test_id: _grown(measured, number) for number, (test_id, measured) in enumerate(tests.items(), start=1)}
    times: dict[str, list[float]] = {}

    def timed(label: str, function: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        result = function()
        times.setdefault(label, []).append(time.perf_counter() - start)
        return result

    for _ in range(ROUNDS):
        path.unlink(missing_ok=True)
        timed("write the first baseline", lambda: change(path, partial(update_entries, measured=tests)))
        file = timed("load", lambda: load(path))
        timed("compare every measurement with it", partial(_compare, file.tests, tests))
        timed("update where 1% changed", lambda: change(path, partial(update_entries, measured=tests | some)))
        timed("update where nothing changed", lambda: change(path, partial(update_entries, measured=tests | some)))
        timed("update where everything changed", lambda: change(path, partial(update_entries, measured=every)))
        change(path, partial(update_entries, measured=unlike))
        timed("load where no two measurements are equal", lambda: load(path))
    # Tracing memory slows everything down, so it has a separate round.
    path.unlink()
    change(path, partial(update_entries, measured=tests))
    tracemalloc.start()
    _compare(load(path).tests, tests)
    change(path, partial(update_entries, measured=tests | some))
    peak = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    median = {label: statistics.median(values) for label, values in times.items()}
    three = ("load", "compare every measurement with it", "update where 1% changed")
    together = sum(median[label] for label in three)
    size, lines = path.stat().st_size / 1e6, path.read_bytes().count(b"\n")
    print(f"{COUNT:,} entries with DISTINCT different measurements: {lines:,} lines, {size:.0f} MB.\n")
    print("| | seconds |\n|---|---:|")
    for label in three:
        print(f"| {label} | {median[label]:.2f} |")
    print(f"| **these three together** | **{together:.2f}** |")
    for label in (
        "update where nothing changed",
        "update where everything changed",
        "write the first baseline",
        "load where no two measurements are equal",
    ):
        print(f"| {label} | {median[label]:.2f} |")
    python = sys.version.split()[0]
    print(f"\nThe three together need {peak:.0f} MB, besides the measurements themselves.")
    print(f"Each number is the median of {ROUNDS} rounds in one process, Python {python}.")


def _grown(measured: Mapping[str, Complexity], by: int = 1) -> dict[str, Complexity]:
    return {
        name: replace(entry, metrics=entry.metrics | {"flops": entry.flops + by}) for name, entry in measured.items()
    }


def _compare(old: Tests, new: Tests) -> None:
    for test_id, measured in new.items():
        for name, entry in measured.items():
            compare(old[test_id][name], entry, {})


if __name__ == "__main__":
    main()
