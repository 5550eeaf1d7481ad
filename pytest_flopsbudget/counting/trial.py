"""One attempt to run a model, while it runs: the clones, the tracer, and what must be restored after the attempt."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any

from pytest_flopsbudget.counting.cloning.cloner import Cloner
from pytest_flopsbudget.counting.cloning.tensors import clone_sharing_data, clone_to_meta
from pytest_flopsbudget.counting.isolation.caches import OutsideCaches
from pytest_flopsbudget.counting.torch_private import compiler_is_loaded

if TYPE_CHECKING:
    import weakref

    import torch

    from pytest_flopsbudget.counting.attempts import Attempt
    from pytest_flopsbudget.counting.isolation.referrers import NewObjects
    from pytest_flopsbudget.counting.tracing.tracer import Tracer


class Trial:
    """One attempt to run a model, while it runs: the cloner, the tracer, and weak references to the clones."""

    def __init__(self, attempt: Attempt, *, existing_gradients: bool) -> None:
        self.attempt = attempt
        self.cloner = Cloner(
            clone_sharing_data if attempt.way == "data" else clone_to_meta,
            own_hooks=attempt.own_hooks,
            gradients=existing_gradients,
        )
        self.tracer: Tracer | None = None
        #: Weak references to clones. If other objects keep the clone of the model or of an input, one of them is still
        #: alive.
        self.clones: list[weakref.ref[Any]] = []
        self._had_compiler = compiler_is_loaded()

    def repetition(self) -> Attempt | None:
        """Return the attempt that repeats this attempt; None if this attempt need not be repeated.

        An attempt that succeeded may have to be repeated too.
        """
        if self.cloner.lacks_hooks:
            return replace(self.attempt, own_hooks=True)  # the model registered a hook on a module
        if not self._had_compiler and compiler_is_loaded():
            return self.attempt  # the model loaded PyTorch's compiler, and only a loaded compiler can be switched off
        return None

    def restore_caches(self, outside: OutsideCaches | None, new_objects: NewObjects) -> list[str]:
        """Restore the caches outside of the model to their content before the attempt, and drop the clones.

        Args:
            outside: the caches, with their content before the attempt; None if the model was not cloned.
            new_objects: knows the objects that the run made.

        Returns:
            Descriptions of the places that kept a tensor of the run and whose old values are not known.
        """
        tracer, on_meta = self.tracer, self.attempt.way != "data"
        del self.cloner
        if tracer is None or outside is None:
            return []
        tracer.release()
        memory = tracer.memory

        def is_from_run(tensor: torch.Tensor) -> bool:
            return (on_meta and tensor.is_meta) or memory.has_allocated(tensor)

        def is_alive() -> bool:
            return memory.has_living() or any(clone() is not None for clone in self.clones)

        if new_objects.known and is_alive():
            new_objects.collect()
        if is_alive():
            outside.restore(is_from_run)
        return new_objects.remove_references(is_from_run) if new_objects.known and is_alive() else []


def caches_outside(model: Any, cloner: Cloner) -> OutsideCaches:
    """Return the caches that the code of the model may use, with their present content."""
    functions = [original for original, _ in cloner.clones() if type(original) is FunctionType]
    while isinstance(model, (partial, MethodType)):
        model = model.func if isinstance(model, partial) else model.__func__
    if type(model) is FunctionType:
        functions.append(model)
    kinds = {*map(type, cloner.modules), *(type(original) for original, _ in cloner.objects)}
    return OutsideCaches(kinds, functions, cloner.cloned_ids())
