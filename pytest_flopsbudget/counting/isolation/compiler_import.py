"""Import PyTorch's compiler in the same way as without a measurement.

PyTorch imports its compiler on first use, for example in the first step of an optimizer. During the import, the
compiler runs operators that are no work of the model. The compiler also stores functions of PyTorch in tables, to
recognize these functions later. It must not store the replacements that a measurement or a watch puts in their place.
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
    from collections.abc import Callable, Iterator, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType


class _Finder:
    """An import finder that finds PyTorch's compiler. The import then runs without this package's modes and patches."""

    def __init__(self, after_import: Callable[[], None]) -> None:
        self._finds = True
        self._after_import = after_import

    def find_spec(
        self, name: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != COMPILER or not self._finds:
            return None
        self._finds = False  # this finder must not answer when `importlib` asks all finders
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self._finds = True
        if spec is not None and spec.loader is not None:
            _import_undisturbed(spec.loader, self._after_import)
        return spec


def _import_undisturbed(loader: Any, after_import: Callable[[], None]) -> None:
    run = loader.exec_module

    def run_undisturbed(module: ModuleType) -> None:
        vars(loader).pop("exec_module", None)  # a nested measurement may have removed it
        with our_modes_aside(), unpatched():
            run(module)
        after_import()

    loader.exec_module = run_undisturbed


@contextmanager
def compiler_imported_undisturbed(after_import: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Make an import of PyTorch's compiler run without this package's modes and patches, while the context lasts.

    ``after_import`` is called after such an import.
    """
    if compiler_is_loaded():
        yield
        return
    finder: Any = _Finder(after_import)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path[:] = [each for each in sys.meta_path if each is not finder]
