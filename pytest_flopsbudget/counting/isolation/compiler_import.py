"""Import PyTorch's compiler as it is imported without a measurement.

PyTorch imports its compiler on first use, which may be the first step of an optimizer. While it is imported, it runs
operators, which are no work of the model, and keeps functions of PyTorch in tables, by which it recognizes them later.
It has to find the functions themselves, and not those that replace them while a measurement or a watch lasts.
"""

from __future__ import annotations

import importlib.util
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pytest_flopsbudget.counting.isolation.modes import our_modes_aside
from pytest_flopsbudget.counting.isolation.patching import unpatched
from pytest_flopsbudget.counting.torch_private import COMPILER, compiler_is_loaded

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType


class _Finder:
    """Finds the compiler as Python does, and imports it undisturbed."""

    def __init__(self) -> None:
        self._finds = True

    def find_spec(
        self, name: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != COMPILER or not self._finds:
            return None
        self._finds = False  # for the question to the other finders
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self._finds = True
        if spec is not None and spec.loader is not None:
            _import_undisturbed(spec.loader)
        return spec


def _import_undisturbed(loader: Any) -> None:
    run = loader.exec_module

    def run_undisturbed(module: ModuleType) -> None:
        del loader.exec_module
        with our_modes_aside(), unpatched():
            run(module)

    loader.exec_module = run_undisturbed


@contextmanager
def compiler_imported_undisturbed() -> Iterator[None]:
    """Import the compiler undisturbed, if it is imported while the context lasts."""
    if compiler_is_loaded():
        yield
        return
    finder: Any = _Finder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path[:] = [each for each in sys.meta_path if each is not finder]
