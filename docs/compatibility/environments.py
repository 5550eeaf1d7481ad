"""The environments that are tried, and how one is built."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
#: The version of PyTorch that development and CI run with. All other versions are compared with it.
REFERENCE = "2.13"
#: The minor versions of PyTorch of the last 24 months, all of which are supported.
TORCHES = ("2.6", "2.7", "2.8", "2.9", "2.10", "2.11", "2.12", "2.13", "2.14", "2.15")
PYTESTS = ("8.2", "8.3", "8.4", "9.0", "9.1", "9.2")
#: PyTorch → releases of packages that work with it. The newest release does not, and pip does not know this.
BESIDE = {
    "2.6": ("torchao<0.10",),
    "2.7": ("torchao<0.12",),
    "2.8": ("torchao<0.14",),
    "2.9": ("torchao<0.16",),
    "2.10": ("torchao<0.17",),
}
#: Plugins that many projects have. They are all installed and active in one run.
PLUGINS = (
    *("pytest-xdist", "pytest-randomly", "pytest-timeout", "pytest-cov", "pytest-benchmark", "pytest-rerunfailures"),
    *("pytest-asyncio", "anyio", "pytest-sugar", "pytest-html", "pytest-forked", "pytest-instafail", "pytest-mock"),
    *("syrupy", "pytest-subtests"),
)


@dataclass(frozen=True)
class Environment:
    """A combination of versions of PyTorch, Python and pytest."""

    kind: Literal["torch", "pytest"]
    #: Minor version of PyTorch, such as "2.6".
    torch: str
    #: Minor version of Python, such as "3.11".
    python: str
    #: Minor version of pytest, such as "8.2"; empty for the newest.
    pytest: str = ""
    #: Packages that are installed besides those that the tests need.
    beside: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Return the name of the combination, which identifies its results."""
        words = [f"PyTorch {self.torch}", f"Python {self.python}"]
        words += [f"pytest {self.pytest}"] if self.pytest else []
        return ", ".join([*words, *(["plugins"] if self.kind == "pytest" and self.beside else [])])


#: Every minor of PyTorch with Python 3.11, and each other Python with one of them. Python 3.10 has wheels for all.
ENVIRONMENTS = (
    *(Environment("torch", torch, "3.11", beside=BESIDE.get(torch, ())) for torch in TORCHES),
    Environment("torch", REFERENCE, "3.10"),
    Environment("torch", REFERENCE, "3.12"),
    Environment("torch", TORCHES[-1], "3.13"),
    Environment("torch", TORCHES[-1], "3.14"),
    *(Environment("pytest", REFERENCE, "3.11", pytest) for pytest in PYTESTS),
    Environment("pytest", REFERENCE, "3.11", beside=PLUGINS),
)


def interpreter(version: str) -> str | None:
    """Return the path of an interpreter with this minor version, or None if the machine has none.

    The interpreters of pyenv count too, although only one of them is on the path.
    """
    if sys.version_info[:2] == tuple(map(int, version.split("."))):
        return sys.executable
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    installed = sorted(pyenv.glob(f"{version}.*/bin/python{version}"))
    return str(installed[-1]) if installed else which(f"python{version}")


@contextmanager
def built(environment: Environment, python: str) -> Iterator[Path]:
    """Build the environment in a temporary folder, yield its interpreter, and remove the folder afterwards.

    pip keeps no copy of its downloads, because a wheel of PyTorch has gigabytes.

    Raises:
        subprocess.CalledProcessError: pip found no such combination.
    """
    with TemporaryDirectory(prefix="flopsbudget-compatibility-") as name:
        folder = Path(name)
        subprocess.run([python, "-m", "venv", str(folder / "venv")], check=True)  # noqa: S603
        inside = folder / "venv" / "bin" / "python"
        # This replaces the constraints in pip's configuration, which may forbid the version.
        constraints = folder / "constraints.txt"
        pins = [f"torch=={environment.torch}.*", *([f"pytest=={environment.pytest}.*"] if environment.pytest else [])]
        constraints.write_text("\n".join(pins), encoding="utf-8")
        subprocess.run(  # noqa: S603
            [
                *(inside, "-m", "pip", "install", "--quiet", "--no-cache-dir"),
                *("--editable", f"{ROOT}[test]", *environment.beside),
            ],
            env={**os.environ, "PIP_CONSTRAINT": str(constraints), "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
            check=True,
        )
        yield inside
