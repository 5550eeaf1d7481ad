"""Functions that read one test item: node ids, files, and what the user typed."""

from __future__ import annotations

import os
from fnmatch import fnmatch
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_flopsbudget.identifiers import is_model

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pytest


#: The maximum number of paths that a suggested command repeats.
_MAX_PATHS = 5


def item_nodeid(item: pytest.Item) -> str:
    """Return the item's node id. If pytest-xdist appended the name of a group, this name is left out."""
    nodeid = f"{item.parent.nodeid}::{item.name}" if item.parent is not None else item.nodeid
    return nodeid if not is_outside_root(item) else f"{item_file(item)}::{nodeid.partition('::')[2]}"


def nodeid_in(folder: Path, item: pytest.Item) -> str:
    """Return the node id that the item would have if ``folder`` was pytest's root folder."""
    nodeid, root = item_nodeid(item), item.config.rootpath
    if folder == root:
        return nodeid
    file, separator, test_id = nodeid.partition("::")
    return _relative_to(folder, root / file) + separator + test_id


@lru_cache
def _relative_to(folder: Path, file: Path) -> str:
    try:
        return Path(os.path.relpath(file, folder)).as_posix()
    except ValueError:  # the two paths are on different drives
        return file.as_posix()


def is_outside_root(node: pytest.Item | pytest.Collector) -> bool:
    """Return whether the item's file is outside of pytest's root folder. Two such files may have equal node ids."""
    return not node.path.is_relative_to(node.config.rootpath)


def item_file(node: pytest.Item | pytest.Collector) -> str:
    """Return the path of the item's file, relative to pytest's root folder.

    For a file outside of the root folder, pytest's own node id lacks folders.
    """
    if not is_outside_root(node):
        return node.nodeid.partition("::")[0]
    try:
        return Path(os.path.relpath(node.path, node.config.rootpath)).as_posix()
    except ValueError:  # the two paths are on different drives
        return node.path.as_posix()


def as_typed(nodeid: str, config: pytest.Config) -> str:
    """Return the node id as the user would type it in the folder where pytest was started."""
    here = config.invocation_params.dir
    if here == config.rootpath:
        return nodeid
    file, separator, test_id = nodeid.partition("::")
    try:
        return Path(os.path.relpath(config.rootpath / file, here)).as_posix() + separator + test_id
    except ValueError:  # the two paths are on different drives
        return nodeid


def typed_paths(config: pytest.Config) -> list[str]:
    """Return the files, folders, tests and models on the command line that a suggested command has to repeat.

    The list is empty if pytest would collect all of them without arguments, or if there are so many that nobody would
    type them.
    """
    paths = _typed_files(config)
    models = _typed_models(config)
    return [*paths, *models] if len(paths) + len(models) <= _MAX_PATHS else []


def _typed_models(config: pytest.Config) -> list[str]:
    """Return the node ids and options of the command line that name models. Options in the settings are left out."""
    typed = [str(arg) for arg in config.invocation_params.args]
    models = config.getoption("--flops-budget-model") or ()
    options = [f"--flops-budget-model={model}" for model in models if any(arg.endswith(model) for arg in typed)]
    return [*(arg for arg in typed if is_model(arg)), *options]


def _typed_files(config: pytest.Config) -> list[str]:
    if config.args_source.name != "ARGS" or len(config.args) > _MAX_PATHS:
        return []
    here, testpaths = config.invocation_params.dir, config.getini("testpaths")
    roots = [here / path for path in testpaths] if testpaths and here == config.rootpath else [here]
    return (
        [] if all(_is_collected(here / arg.partition("::")[0], roots, config) for arg in config.args) else config.args
    )


def _is_collected(path: Path, roots: Iterable[Path], config: pytest.Config) -> bool:
    """Return whether pytest collects the file or folder without arguments on the command line."""
    path = Path(os.path.normpath(path))
    root = next((root for root in roots if path.is_relative_to(root)), None)
    if root is None or not (path.is_dir() or any(fnmatch(path.name, known) for known in config.getini("python_files"))):
        return False
    skipped = config.getini("norecursedirs")
    return not any(fnmatch(part, pattern) for part in path.relative_to(root).parts for pattern in skipped)


def relative_path(path: Path, config: pytest.Config) -> str:
    """Return the path relative to pytest's root folder. For a path outside of this folder, return the path itself."""
    try:
        return str(path.relative_to(config.rootpath))
    except ValueError:
        return str(path)
