"""Load the model that a target names, make its arguments, and measure it."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from msgspec.structs import replace

from pytest_flopsbudget.counting.measure import measure
from pytest_flopsbudget.errors import UsageError
from pytest_flopsbudget.targets.errors import described
from pytest_flopsbudget.targets.inputs import make_arguments
from pytest_flopsbudget.targets.library_models import build_timm, build_transformers
from pytest_flopsbudget.targets.project_models import importable, load_project_model

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pytest_flopsbudget.results.complexity import Complexity
    from pytest_flopsbudget.targets.grammar import Target


class LoadedTarget(NamedTuple):
    """A model with the arguments of its call."""

    model: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    #: Sentences on where the model and its arguments come from.
    notes: tuple[str, ...]


def load(target: Target, folder: Path) -> LoadedTarget:
    """Import or build the model of ``target``, and make its arguments.

    Models of transformers and timm are in evaluation mode, or in training mode if the backward pass is counted. Models
    of the project are in the mode in which they are built.

    Args:
        target: the target.
        folder: paths of files are relative to this folder.

    Raises:
        UsageError: there is no such model, it cannot be built, or it needs an input and has none.
    """
    library, _, name = target.model.partition(":")
    example, notes = None, []
    if target.model.endswith(".pt2"):
        model = _load_exported(folder / target.model)
    elif library in {"hf", "timm"}:
        model, note, example = build_transformers(name, folder) if library == "hf" else build_timm(name)
        model.train(target.options.backward)
        notes = [note]
    else:
        model = load_project_model(target.model)
    arguments = make_arguments(model, target.options, example)
    notes += filter(None, [arguments.note])
    return LoadedTarget(model, arguments.args, arguments.kwargs, tuple(notes))


def _load_exported(path: Path) -> Any:
    if not os.path.isfile(path):  # noqa: PTH113 -- Path.is_file raises an error for a name that is too long
        raise UsageError("there is no such file")
    try:
        return torch.export.load(path)
    except Exception as error:
        raise UsageError(f"PyTorch cannot load it: {described(error)}") from error


@contextlib.contextmanager
def explained(target: Target, folder: Path) -> Iterator[None]:
    """Load and call the model of ``target`` in this context. All its errors become one line that names the target.

    Args:
        target: the target.
        folder: the folder from which the project's modules are imported.

    Raises:
        UsageError: the context raised an error.
    """
    try:
        # What the user's modules print must not mix with results, which may be JSON.
        with importable(folder), contextlib.redirect_stdout(sys.stderr):
            yield
    except UsageError as error:
        raise UsageError(f"{target.text}: {error}") from error
    except (Exception, SystemExit) as error:
        raise UsageError(f"{target.text}: the model raised {described(error)}{_hint(error, target)}") from error


def _hint(error: BaseException, target: Target) -> str:
    given = target.options.inputs
    if "indices" in str(error) and given and all(one.dtype.startswith("float") for one in given):
        sizes = "x".join(map(str, given[0].sizes))
        return f"; token ids are whole numbers: --input {sizes}:int64"
    if not given:
        return "; no input was given: write --input"
    return ""


def measure_target(target: Target, folder: Path, *, devices: Sequence[str] = ()) -> Complexity:
    """Load the model of ``target`` and count one call of it.

    Args:
        target: the target.
        folder: the folder from which the project's modules are imported, and to which paths of files are relative.
        devices: names of devices for which the time is estimated.

    Raises:
        UsageError: the model cannot be loaded, or it raises an error.
    """
    with explained(target, folder):
        loaded = load(target, folder)
        complexity = measure(
            loaded.model, loaded.args, loaded.kwargs, backward=target.options.backward, devices=devices
        )
        return replace(complexity, notes=(*loaded.notes, *complexity.notes))
