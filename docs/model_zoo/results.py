"""The stored results: one line of JSON for each model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

Row = dict[str, Any]

FILE = Path(__file__).parent / "results.jsonl"
#: The libraries, by the names of their packages.
LIBRARIES = (
    "transformers",
    "x-transformers",
    "vit-pytorch",
    "segmentation-models-pytorch",
    "timm",
    "open_clip",
    "diffusers",
)


def load() -> list[Row]:
    """Return the rows, sorted by library and name."""
    if not FILE.exists():
        return []
    rows = [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]
    return sorted(rows, key=lambda row: (LIBRARIES.index(row["library"]), row["name"]))


def append(row: Row) -> None:
    with FILE.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row, ensure_ascii=False) + "\n")


def done() -> set[tuple[str, str]]:
    return {(row["library"], row["name"]) for row in load()}


def size() -> int:
    return FILE.stat().st_size if FILE.exists() else 0


def forget(which: Callable[[Row], bool]) -> None:
    """Remove the rows for which ``which`` is true, so that their models are checked again."""
    kept = [row for row in load() if not which(row)]
    FILE.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept), encoding="utf-8")


def is_counted(row: Row) -> bool:
    return "flops" in row
