"""How operators are named where a user writes them: in formulas and in the pyproject."""

from __future__ import annotations

import re

#: "namespace::name", without overload.
OPERATOR = re.compile(r"[A-Za-z_]\w*::[A-Za-z_]\w*")
