"""Run all counters on all cases, and write docs/comparison.md: ``make comparison``."""

from __future__ import annotations

import argparse
from collections import Counter as Tally
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from comparison import table
from comparison.cases import KNOWN_MISCOUNTS, WHOLE_MODELS
from comparison.left_behind import left_behind
from comparison.verdict import verdict
from peers.counters import COUNTERS
from peers.table import between_markers, markdown
from peers.verdict import ADMITTED, NOT_OFFERED, RIGHT

if TYPE_CHECKING:
    from collections.abc import Iterable

    from peers.case import Case

PAGE = Path(__file__).parent.parent / "comparison.md"
Results = dict[str, dict[str, str]]


def main() -> None:
    arguments = _arguments()
    if arguments.case:
        _measured(case for case in KNOWN_MISCOUNTS + WHOLE_MODELS if arguments.case in case.name)
        return
    known, whole = _measured(KNOWN_MISCOUNTS), _measured(WHOLE_MODELS)
    parts = [
        "## Summary", _summary(known | whole),
        "## Known miscounts", table.verdicts("case", known), _reports(),
        "## Whole models", table.verdicts("model", whole), _forms(),
        "## What remains after a count", _left_behind(),
        "## Versions and units", _versions(),
    ]  # fmt: skip
    PAGE.write_text(between_markers(PAGE.read_text(), "\n\n".join(parts)))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="comparison", description=__doc__)
    parser.add_argument("--case", help="measure the cases whose name contains this text, and write nothing")
    return parser.parse_args()


def _measured(cases: Iterable[Case]) -> Results:
    results: Results = {}
    for case in cases:
        print(f"{case.name}: {case.flops:,} FLOPs", flush=True)
        results[case.name] = {}
        for name, counter in COUNTERS.items():
            results[case.name][name] = verdict(counter, case)
            print(f"    {name}: {results[case.name][name]}", flush=True)
    return results


def _summary(results: Results) -> str:
    rows = []
    for name in COUNTERS:
        tally = Tally(_kind(cells[name]) for cells in results.values())
        rows.append([name, *(str(tally[kind]) for kind in (RIGHT, "silent", "admitted", "refused", NOT_OFFERED))])
    return markdown(["counter", "right", "wrong, silently", "wrong, with a warning", "raises", "not offered"], rows)


def _kind(cell: str) -> str:
    if cell in {RIGHT, NOT_OFFERED}:
        return cell
    if cell.startswith(("×", "0")):
        return "admitted" if cell.endswith(ADMITTED) else "silent"
    return "refused"


def _reports() -> str:
    rows = [[case.name, f"{case.flops:,}", case.reported or "reproduced here"] for case in KNOWN_MISCOUNTS]
    return markdown(["case", "FLOPs by definition", "reported in"], rows)


def _forms() -> str:
    return markdown(["model", "FLOPs by definition"], [[case.name, f"{case.flops:,}"] for case in WHOLE_MODELS])


def _left_behind() -> str:
    rows = [
        [name, left_behind(counter, fails=False), left_behind(counter, fails=True)]
        for name, counter in COUNTERS.items()
        if not counter.moves
    ]
    return markdown(["counter", "after a count", "after a count during which the model raised"], rows)


def _versions() -> str:
    rows = [[name, f"{counter.package} {version(counter.package)}", counter.unit] for name, counter in COUNTERS.items()]
    return markdown(["counter", "package", "the number that is used"], rows)


if __name__ == "__main__":
    main()
