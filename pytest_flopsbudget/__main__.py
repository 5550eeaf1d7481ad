"""``python -m pytest_flopsbudget``: see `pytest_flopsbudget.commands`."""

from __future__ import annotations

import sys

from pytest_flopsbudget.commands.main import main

if __name__ == "__main__":
    sys.exit(main())
