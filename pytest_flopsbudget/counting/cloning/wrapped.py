"""Find the models inside of compiled models and exported programs."""

from __future__ import annotations

from typing import Any

from pytest_flopsbudget.counting.tensors.objects import attributes_of
from pytest_flopsbudget.counting.torch_private import COMPILED_FROM, original_module


def unwrap_compiled(value: Any) -> Any:
    """Return the model or function that was passed to ``torch.compile``. If ``value`` is not compiled, return it.

    Compiling changes how a model runs, not its work.
    """
    while True:
        if type(value).__name__ == "OptimizedModule":
            original = original_module(value)
        else:
            original = attributes_of(value).get(COMPILED_FROM)
        if original is None:
            return value
        value = original


def is_exported_program(model: Any) -> bool:
    """Return whether the model is a program from `torch.export`. This check does not import `torch.export`."""
    kind = type(model)
    return kind.__name__ == "ExportedProgram" and kind.__module__.startswith("torch.export.")


def unwrap_program(model: Any) -> Any:
    """Return the module of an exported program. Any other model is returned unchanged."""
    return model.module() if is_exported_program(model) else model
