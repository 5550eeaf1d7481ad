"""Names that a user writes or sees, for rooms that share nothing else."""

from __future__ import annotations

import re

#: The folder of the baselines, beside the test files.
FOLDER = "__flops__"

#: An operator, as written in formulas and in the pyproject: "namespace::name", without overload.
OPERATOR = re.compile(r"[A-Za-z_]\w*::[A-Za-z_]\w*")
