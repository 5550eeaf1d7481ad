"""Copy scripted and traced models, which are objects in C++, and find those models that cannot run without data."""

from __future__ import annotations

import gc
import io
import warnings
from types import MethodType
from typing import TYPE_CHECKING, Any, cast

import torch

from pytest_flopsbudget.counting.torch_private import inline_calls, script_methods
from pytest_flopsbudget.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator


#: Instructions that read a tensor's memory without the dispatcher. If the tensor has no memory, the process crashes.
_MEMORY_READERS = ("aten::tensor", "aten::as_tensor", "prim::tolist")


class ReadsMemoryError(Exception):
    """A scripted model reads memory without the dispatcher. Such a model can only run on data."""

    def __init__(self, instruction: str) -> None:
        super().__init__(f"{instruction} in a scripted model needs data")
        self.instruction = instruction


def refuse_memory_readers(scripted: Any) -> None:
    """Raise an error if a scripted module or function cannot run on tensors without memory.

    Raises:
        ReadsMemoryError: an instruction of the module or function reads memory.
    """
    for graph in _graphs(scripted):
        for kind in _MEMORY_READERS:
            for node in graph.findAllNodes(kind):
                # If the argument is a number, an operator makes the tensor, and the dispatcher sees that operator.
                if kind == "prim::tolist" or next(node.inputs()).type().kind() == "ListType":
                    raise ReadsMemoryError(kind)


def _graphs(scripted: Any) -> Iterator[Any]:
    owners = [scripted]
    if isinstance(scripted, torch.jit.ScriptModule):
        owners = script_methods(scripted)
    for owner in owners:
        graph = owner.graph.copy()
        inline_calls(graph)
        yield graph


def copy_scripted(module: torch.nn.Module, device: str | None = None) -> torch.nn.Module:
    """Return a copy of the module with copied tensors. The copy does not use nested tensors in a `TransformerEncoder`.

    Args:
        module: the scripted or traced module.
        device: the device of the copied tensors; None keeps the device of each tensor.

    Raises:
        ReadsMemoryError: the model cannot be moved to ``device``.
        UsageError: TorchScript cannot save the model, or cannot load the saved model.
    """
    file, refused = (
        io.BytesIO(),
        UsageError(
            "TorchScript cannot copy this scripted model, for example after torch.jit.optimize_for_inference; "
            "measure the model from before that call"
        ),
    )
    # PyTorch 2.14 and newer warn that both functions are deprecated. The user did not call them.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.jit.* is deprecated")
        try:
            torch.jit.save(module, file)
        except RuntimeError as error:
            raise refused from error
        file.seek(0)
        try:
            copy: Any = torch.jit.load(file, map_location=device)
        except NotImplementedError as error:
            # When TorchScript loads a graph, it compares the constants of the graph, and needs their values.
            raise ReadsMemoryError("aten::equal") from error
        except RuntimeError as error:
            if device == "meta":  # some kernels read the weights that they pack
                raise ReadsMemoryError("torch.jit.load") from error
            raise refused from error
    for part in copy.modules():
        # Fused inference paths cannot be switched off in a scripted model. Only the path with nested tensors changes
        # the work.
        if getattr(part, "original_name", "") == "TransformerEncoder" and hasattr(part, "use_nested_tensor"):
            part.use_nested_tensor = False
    return cast("torch.nn.Module", copy)


def find_scripted(method: torch.ScriptMethod[..., Any]) -> torch.jit.ScriptModule | None:
    """Return the module that ``method`` belongs to; None if the Python object of the module is not found."""
    referrers = gc.get_referrers(method)
    dicts = [each for each in referrers if type(each) is dict]
    for owner in (*referrers, *gc.get_referrers(*dicts)):
        if issubclass(type(owner), torch.jit.ScriptModule) and owner.__dict__.get(method.name) is method:
            return cast("torch.jit.ScriptModule", owner)
    return None


def bind_method(name: str, module: torch.nn.Module) -> MethodType:
    """Return a method of the scripted module ``module``. It looks up the method ``name`` when it is called."""

    def method(owner: torch.nn.Module, /, *args: Any, **kwargs: Any) -> Any:
        return getattr(owner, name)(*args, **kwargs)

    return MethodType(method, module)
