"""The versions of installed packages, from their metadata: no package is imported."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def installed_version(package: str) -> str:
    """Return the version of an installed package; "unknown" if the package has no metadata."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def own_version() -> str:
    """Return the version of pytest-flopsbudget."""
    return installed_version("pytest-flopsbudget")
