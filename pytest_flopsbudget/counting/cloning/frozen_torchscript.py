"""Copy models that `torch.jit.optimize_for_inference` prepared for oneDNN, so that their kernels can be counted.

`optimize_for_inference` replaces operators in a frozen graph by operators of TorchScript that run without the
dispatcher. It also adds constants that cannot be saved. In a copy of the graph, operators of ATen with the same work
replace them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from pytest_flopsbudget.counting.torch_private import function_from_graph, is_tensor_type
from pytest_flopsbudget.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


_HIDDEN = ("prim::mkldnn_", "prim::MKLDNN")
#: TorchScript's operator → ATen's operator with the same arguments. Bounds, if any, are attributes of the node. ATen
#: has no such operators for oneDNN's tensors, so tensors are converted to dense ones and back; conversions count as
#: free.
_ELEMENTWISE = {
    "prim::MKLDNNClamp": "aten::clamp",
    "prim::MKLDNNHardSigmoid": "aten::hardsigmoid",
    "prim::MKLDNNHardSwish": "aten::hardswish",
    "prim::MKLDNNHardTanh": "aten::hardtanh",
    "prim::MKLDNNLayerNorm": "aten::layer_norm",
    "prim::MKLDNNScalarMul": "aten::mul",
}


class _Frozen(torch.nn.Module):
    """A module that only calls a function. The graph of the function holds the weights."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self._function = function

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self._function(*args, **kwargs)


def _hidden(block: Any) -> Iterator[Any]:
    """Yield the nodes that run without the dispatcher, also nodes inside of branches and loops."""
    for node in block.nodes():
        if node.kind().startswith(_HIDDEN):
            yield node
        for inner in node.blocks():
            yield from _hidden(inner)


def hides_kernels(module: torch.jit.ScriptModule) -> bool:
    """Return whether some of the module's operators run without the dispatcher."""
    graph = getattr(getattr(module, "forward", None), "graph", None)
    return graph is not None and next(_hidden(graph), None) is not None


def expose_kernels(module: torch.jit.ScriptModule) -> torch.nn.Module:
    """Return a copy of the module that does the same work in operators that the dispatcher sees.

    Raises:
        UsageError: the graph holds an unknown operator, or attributes that are not frozen.
    """
    method: Any = module.forward
    graph = method.graph.copy()
    for node in list(_hidden(graph)):
        _replace(graph, node)
    itself = next(graph.inputs())
    if itself.uses():
        raise _not_counted("attributes that are not frozen")
    graph.eraseInput(0)
    return _Frozen(function_from_graph("forward", graph))


def _replace(graph: Any, node: Any) -> None:
    inputs = list(node.inputs())
    with graph.insert_point_guard(node):
        if node.kind() == "prim::mkldnn_convolution":
            image, weight, bias, stride, padding, *rest = inputs
            output = _inserted(graph, "aten::mkldnn_convolution", image, weight, bias, padding, stride, *rest)
        elif node.kind().rstrip("_") in _ELEMENTWISE:
            nothing = graph.insertConstant(None)
            dense = [
                _inserted(graph, "aten::to_dense", each, nothing, nothing) if _is_tensor(each) else each
                for each in inputs
            ]
            bounds = [graph.insertConstant(node.f(name)) for name in ("min_val", "max_val") if node.hasAttribute(name)]
            result = _inserted(graph, _ELEMENTWISE[node.kind().rstrip("_")], *dense, *bounds)
            output = _inserted(graph, "aten::to_mkldnn", result, nothing)
        else:
            raise _not_counted(node.kind())
    node.output().replaceAllUsesWith(output)
    node.destroy()


def _is_tensor(value: Any) -> bool:
    return is_tensor_type(value.type())


def _inserted(graph: Any, kind: str, *inputs: Any) -> Any:
    """Insert a node into the graph, and return the output of the node, a tensor."""
    return graph.insertNode(graph.create(kind, list(inputs), 1)).output()


def _not_counted(what: str) -> UsageError:
    return UsageError(
        f"the model went through torch.jit.optimize_for_inference and holds {what}, whose work cannot be counted; "
        "measure the model as it was before this call"
    )
