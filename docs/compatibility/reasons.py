"""Why tests fail under a version: a pattern of the test or of its message → the reason."""

from __future__ import annotations

import re

#: (pattern, reason). The first pattern that is found in "test: message" gives the reason.
_REASONS: tuple[tuple[str, str], ...] = (
    ("test_diff.*test_reversed", "a random example broke a property, under any version of pytest; mended since"),
    (
        "Int8WeightOnlyConfig is deprecated",
        "the torchao that works with this PyTorch warns about its own configuration",
    ),
    (
        "TestUnevenShards.*is invalid for input of size",
        "this PyTorch fails in the backward pass on the rank with the smallest shard, also if nothing is measured",
    ),
    ("buffer is not writable", "PyTorch itself warns while it loads an exported program"),
    ("Profiler clears events", "PyTorch's profiler warns, with which the test compares"),
)


def reason_of(test: str, message: str) -> str:
    """Return the reason why a test fails, or its message if the reason is not known."""
    for pattern, reason in _REASONS:
        if re.search(pattern, f"{test}: {message}"):
            return reason
    return f"not explained yet ({message.replace('|', ' ').replace('<', '&lt;')[:120]})"
