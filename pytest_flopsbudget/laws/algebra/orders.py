"""Orders of growth as people write them: "1", "log n", "n", "n log n", "n^2"."""

from __future__ import annotations

import re
from typing import NamedTuple

_ORDER = re.compile(
    r"(?:O\()?\s*(?:(?P<one>1)|(?P<n>n(?:(?:\^|\*\*)(?P<power>[1-9]))?)?\s*[*\u00b7]?\s*"
    r"(?P<log>log2?(?:\^(?P<logs>[1-9]))?\s*(?:n|\(n\)))?)\s*\)?"
)
_POWERS = {"\u00b2": "^2", "\u00b3": "^3", "\u2074": "^4"}
EXAMPLES = '"1", "log n", "n", "n log n", "n^2"'


class Order(NamedTuple):
    """Growth like n^powers (log n)^logs. Orders are compared like tuples: the smaller one grows more slowly."""

    powers: int
    logs: int = 0

    def __str__(self) -> str:
        power = {0: "", 1: "n"}.get(self.powers, f"n^{self.powers}")
        log = {0: "", 1: "log n"}.get(self.logs, f"log^{self.logs} n")
        return " ".join(filter(None, (power, log))) or "1"


def parse_order(text: object) -> Order:
    """Parse an order: "n", "n log n", "n^2", "O(n^2)".

    Raises:
        ValueError: ``text`` is no order. The message does not say where ``text`` was written.
    """
    written = str(text) if isinstance(text, (str, int)) and not isinstance(text, bool) else ""
    for sign, plain in _POWERS.items():
        written = written.replace(sign, plain)
    match = _ORDER.fullmatch(written.strip())
    if match is None or not (match["one"] or match["n"] or match["log"]):
        raise ValueError(f"{text!r} is no order of growth; write one like {EXAMPLES}")
    if match["one"]:
        return Order(0)
    return Order(int(match["power"] or 1) if match["n"] else 0, int(match["logs"] or 1) if match["log"] else 0)
