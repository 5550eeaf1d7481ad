"""Try the plugin under many versions: ``make torches``, ``make pytests``.

Each environment is built in a temporary folder, one at a time, and removed afterwards. A row of results is stored when
an environment is done, so an interrupted run goes on with the next one. ``python -m compatibility --only
"PyTorch 2.6, Python 3.11"`` builds the environment with this name, whether it was tried before or not.
"""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from compatibility import checks, page, results, upgrades
from compatibility.environments import ENVIRONMENTS, REFERENCE, Environment, built, interpreter

#: The folders of tests that depend on pytest. Counting never imports pytest.
_OF_PYTEST = ["tests", "--ignore=tests/counting", "--ignore=tests/docs"]


def main() -> int:
    """Try the environments that are left, and write the page. Return 1 if one could not be built."""
    parser = argparse.ArgumentParser(prog="compatibility", description=__doc__)
    parser.add_argument("kind", nargs="?", choices=("torch", "pytest"), help="only environments of this kind")
    parser.add_argument("--only", help="only the environment with this name, even if it was tried")
    parser.add_argument("--tests", nargs="+", help="run only these tests of the suite")
    parser.add_argument("--use", type=Path, help="with --only: the interpreter of an environment that exists")
    parser.add_argument("--page", action="store_true", help="only write the page, from what was found before")
    arguments = parser.parse_args()
    missing = False
    for environment in [] if arguments.page else ENVIRONMENTS:
        if arguments.kind not in {None, environment.kind}:
            continue
        wanted = environment.name == arguments.only if arguments.only else environment.name not in results.load()
        if wanted:
            sys.stdout.write(f"{environment.name}\n")
            sys.stdout.flush()
            missing |= not _try(environment, arguments.tests, arguments.use)
            page.write()
    page.write()
    return int(missing)


def _try(environment: Environment, tests: list[str] | None, existing: Path | None) -> bool:
    """Store the row of an environment. Return False if it could not be built."""
    if existing is not None:
        results.store(_row(environment, existing, tests))
        return True
    python = interpreter(environment.python)
    if python is None:
        sys.stdout.write(f"  this machine has no Python {environment.python}\n")
        return False
    try:
        with built(environment, python) as inside:
            results.store(_row(environment, inside, tests))
    except subprocess.CalledProcessError:
        sys.stdout.write("  pip could not build it\n")
        return False
    return True


def _row(environment: Environment, python: Path, tests: list[str] | None) -> dict[str, Any]:
    code = "import platform, pytest, torch; print(torch.__version__, platform.python_version(), pytest.__version__)"
    answer = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    torch, inside, pytest = answer.stdout.split()
    row: dict[str, Any] = {"name": environment.name, "kind": environment.kind, "torch": torch, "python": inside}
    row |= {"pytest": pytest, "machine": platform.machine()}
    if environment.kind == "pytest":
        return row | {"suite": checks.suite(python, tests or _OF_PYTEST)}
    swept = checks.sweep(python)
    if environment.torch == REFERENCE and not results.reference():
        results.store_reference(swept)
    row["sweep"] = checks.compared(swept, results.reference())
    row["examples"] = checks.examples(python)
    row["warnings"] = checks.warnings_as_errors(python)
    upgrades.write_baseline(environment, python)
    row["upgrades"] = upgrades.upgrades(python)
    return row | {"suite": checks.suite(python, tests or ["tests"])}


if __name__ == "__main__":
    sys.exit(main())
