"""The prefixes of units, and their factors."""

from __future__ import annotations

#: Prefixes for the powers of 1000, beginning with no prefix.
DECIMAL_PREFIXES = ("", "k", "M", "G", "T", "P", "E")
#: Prefixes for the powers of 1024, beginning with no prefix.
BINARY_PREFIXES = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")

#: Prefix → its factor; "K" is read like "k".
DECIMAL_FACTORS = {prefix: 1000**power for power, prefix in enumerate(DECIMAL_PREFIXES)} | {"K": 1000}
BINARY_FACTORS = {prefix: 1024**power for power, prefix in enumerate(BINARY_PREFIXES)}
