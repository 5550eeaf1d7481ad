"""What the runs found: one line of JSON for each environment, and the sweep of the reference."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Row = dict[str, Any]

FILE = Path(__file__).parent / "results.jsonl"
#: The sweep under the reference version of PyTorch: {case: {metric: value}}.
REFERENCE = Path(__file__).parent / "reference.json"


def load() -> dict[str, Row]:
    """Return the newest row of each environment, by the name of the environment."""
    if not FILE.exists():
        return {}
    rows = [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]
    return {row["name"]: row for row in rows}


def store(row: Row) -> None:
    """Add the row of an environment, in place of an older row."""
    rows = {**load(), row["name"]: row}
    FILE.write_text("".join(json.dumps(each) + "\n" for each in rows.values()), encoding="utf-8")


def reference() -> dict[str, Any]:
    """Return the sweep of the reference, or an empty dict if it was not run."""
    found: dict[str, Any] = json.loads(REFERENCE.read_text(encoding="utf-8")) if REFERENCE.exists() else {}
    return found


def store_reference(sweep: dict[str, Any]) -> None:
    text = ",\n".join(f"{json.dumps(name)}: {json.dumps(found)}" for name, found in sweep.items())
    REFERENCE.write_text(f"{{\n{text}\n}}\n", encoding="utf-8")
