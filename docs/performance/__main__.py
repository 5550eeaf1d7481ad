"""Run the benchmark, and write docs/performance.md: ``make bench``."""

from __future__ import annotations

import argparse
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from peers.isolation import preloaded
from peers.table import between_markers
from performance import alone, chart, depth, laws, page, schedule, startup, suite
from performance.machine import machine
from performance.models import MODELS
from performance.process import PRELOADED
from performance.results import FILE, Results, load, save
from performance.runners import RUNNERS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

T = TypeVar("T")
PAGE, CHART = Path(__file__).parent.parent / "performance.md", Path(__file__).parent / "chart.svg"
PARTS = ("models", "alone", "laws", "depth", "startup", "suite")
#: Rounds of the tests that measure: each round repeats one test a thousand times anyway.
SUITES = 3


def main() -> None:
    arguments = _arguments()
    failed = [] if arguments.page else _measure(arguments)
    if arguments.results == FILE:
        write(load(FILE))
    if failed:
        raise SystemExit(f"could not be measured: {', '.join(failed)}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="performance", description=__doc__)
    parser.add_argument(
        "--models", nargs="+", metavar="TEXT", help="only models with one of these texts in their names"
    )
    parser.add_argument(
        "--runners", nargs="+", metavar="TEXT", help="only runners with one of these texts in their names"
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, help="only these parts of the benchmark")
    parser.add_argument("--rounds", type=int, metavar="N", help=f"fresh processes for each pair ({schedule.ROUNDS})")
    parser.add_argument("--results", type=_absolute, help="file for the results; a part is only printed otherwise")
    parser.add_argument("--resume", action="store_true", help="continue a run that was interrupted")
    parser.add_argument("--page", action="store_true", help="measure nothing; rewrite the page from the results")
    arguments = parser.parse_args()
    part = arguments.models or arguments.runners or arguments.parts or arguments.rounds
    if arguments.results is None and (arguments.page or not part):
        arguments.results = FILE
    return arguments


def _absolute(path: str) -> Path:
    return Path(path).resolve()


def _measure(arguments: argparse.Namespace) -> list[str]:
    """Run the benchmark, and return the names of the parts that failed."""
    file: Path | None = arguments.results
    results = load(file) if file and arguments.resume else Results()
    results.machine, results.rounds = machine(), arguments.rounds or schedule.ROUNDS

    def keep() -> None:
        if file:
            save(results, file)

    preloaded(PRELOADED)
    models, runners = _chosen(MODELS, arguments.models), _chosen(RUNNERS, arguments.runners)
    parts: dict[str, Callable[[], None]] = {
        "models": lambda: schedule.in_turn(models, runners, results.rounds, results, keep),
        "alone": lambda: alone.in_turn(results.alone, keep),
        "laws": lambda: laws.in_turn(results.laws, keep),
        "depth": lambda: depth.in_turn(results.rounds, results.depth, keep),
        "startup": lambda: startup.in_turn(arguments.rounds or startup.RUNS, results.startup, keep),
        "suite": lambda: suite.in_turn(min(results.rounds, SUITES), results.suite, keep),
    }
    failed = [part for part in arguments.parts or PARTS if not _done(parts[part])]
    print(page.targets_of(results))
    return failed


def _done(part: Callable[[], None]) -> bool:
    try:
        part()
    except Exception:  # noqa: BLE001 -- any failure is printed
        traceback.print_exc()
        return False
    return True


def _chosen(table: Mapping[str, T], texts: Sequence[str] | None) -> list[T]:
    return [value for name, value in table.items() if not texts or any(text in name for text in texts)]


def write(results: Results) -> None:
    PAGE.write_text(between_markers(PAGE.read_text(), page.measured(results)))
    CHART.write_text(chart.svg(results))


if __name__ == "__main__":
    main()
