"""Operators on functions (a branch, a loop, flex attention): the plain PyTorch that each of them stands for."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from pytest_flopsbudget.counting.higher_order import flex_attention, triton
from pytest_flopsbudget.counting.isolation.patching import replaced
from pytest_flopsbudget.counting.isolation.threads import on_this_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch._ops import HigherOrderOperator

    from pytest_flopsbudget.counting.operators.counter import Counter


def body_of(operator: HigherOrderOperator) -> Callable[..., Any]:
    """What the operator runs, to be called with its arguments; itself where that is not in Python."""
    body: Callable[..., Any] = operator.py_kernels.get(
        torch._C.DispatchKey.CompositeExplicitAutograd,  # noqa: SLF001
        operator,
    )
    return body


#: Operators that are more to count than the plain PyTorch that they run.
RULES: Mapping[str, Callable[..., Any]] = {
    "flex_attention": flex_attention.attention,
    "flex_attention_backward": flex_attention.attention_backward,
    "triton_kernel_wrapper_functional": triton.kernel,
    "triton_kernel_wrapper_mutation": triton.kernel,
}


@contextmanager
def in_plain_pytorch(tracer: Counter) -> Iterator[None]:
    """Run branches and loops as plain PyTorch where they are called, above autograd.

    Autograd's own way with them is to compile them, and to compute the forward pass again on the way back.
    """

    def cond(_predicate: Any, if_true: Any, if_false: Any, operands: Sequence[Any] = ()) -> Any:
        """The dearer branch is counted and followed, so that no count hangs on a predicate."""
        return tracer.dearest([lambda: if_true(*operands), lambda: if_false(*operands)])

    bodies: Mapping[str, Callable[..., Any]] = {
        "cond": cond,
        "while_loop": _while_loop,
        "scan": _scan,
        "map_impl": _map,
    }
    loaded = torch._ops._higher_order_ops  # noqa: SLF001
    kinds = ((type(loaded[name]), body) for name, body in bodies.items() if name in loaded)
    with replaced((kind, "__call__", _instead(body, kind.__call__)) for kind, body in kinds):
        yield


def _instead(body: Callable[..., Any], original: Callable[..., Any]) -> Callable[..., Any]:
    def call(_operator: object, *args: Any, **kwargs: Any) -> Any:
        return body(*args, **kwargs)

    return on_this_thread(call, original)


def _while_loop(
    condition: Any, body: Any, carried: Sequence[Any], additional_inputs: Sequence[Any] = (), **_options: Any
) -> Any:
    carried = tuple(carried)
    while condition(*carried, *additional_inputs):
        carried = body(*carried, *additional_inputs)
    return tuple(carried)


def _scan(
    combine: Any, init: Sequence[Any], xs: Sequence[torch.Tensor], additional_inputs: Sequence[Any] = ()
) -> list[Any]:
    """Carried values, then what each step gives, stacked; every step takes one slice of ``xs``."""
    carried: Sequence[Any] = init
    outputs = []
    for slices in zip(*xs, strict=True):
        result = combine(*carried, *slices, *additional_inputs)
        carried, output = result[: len(init)], result[len(init) :]
        outputs.append(output)
    return [*carried, *(torch.stack(output) for output in zip(*outputs, strict=True))]


def _map(function: Any, xs: Sequence[torch.Tensor], pos_args: Sequence[Any] = ()) -> tuple[Any, ...]:
    results = [function(*slices, *pos_args) for slices in zip(*xs, strict=True)]
    return tuple(torch.stack(output) for output in zip(*results, strict=True))


def _taken(predicate: Any, if_true: Any, if_false: Any, operands: Sequence[Any] = ()) -> Any:
    return (if_true if predicate else if_false)(*operands)


#: What those operators run with data, for who watches: PyTorch's own bodies refuse to be watched.
RUN: Mapping[str, Callable[..., Any]] = {
    "cond": _taken,
    "while_loop": _while_loop,
    "scan": _scan,
    "map_impl": _map,
}
