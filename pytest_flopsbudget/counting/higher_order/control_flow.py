"""Operators that call functions (branches, loops, flex attention), and the plain PyTorch code that they run."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from pytest_flopsbudget.counting.higher_order import flex_attention, triton
from pytest_flopsbudget.counting.isolation.patching import patched
from pytest_flopsbudget.counting.isolation.threads import on_this_thread
from pytest_flopsbudget.counting.torch_private import higher_order_operators, missing, python_body

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pytest_flopsbudget.counting.operators.counter import Counter
    from pytest_flopsbudget.counting.torch_private import HigherOrderOperator


def body_of(operator: HigherOrderOperator) -> Callable[..., Any]:
    """Return the Python function that the operator runs, or the operator itself if it runs none.

    Raises:
        UsageError: the operator is a branch or a loop, and this PyTorch lacks the private names that find its function.
    """
    if higher_order_operators is None and operator.name() in EAGER_BODIES:
        raise missing("Counting branches and loops", "torch._ops._higher_order_ops")
    return python_body(operator) or operator


#: Operators that need a rule: their work is not the work of the plain PyTorch code that they run.
RULES: Mapping[str, Callable[..., Any]] = {
    "flex_attention": flex_attention.attention,
    "flex_attention_backward": flex_attention.attention_backward,
    "triton_kernel_wrapper_functional": triton.kernel,
    "triton_kernel_wrapper_mutation": triton.kernel,
}


@contextmanager
def higher_order_decomposed(tracer: Counter) -> Iterator[None]:
    """Inside the ``with`` block, branches and loops run as plain PyTorch code.

    Otherwise, autograd would compile them, and would compute their forward pass again in the backward pass.
    """

    def cond(_predicate: Any, if_true: Any, if_false: Any, operands: Sequence[Any] = ()) -> Any:
        # Without data, the value of the predicate is unknown. An upper bound keeps the count deterministic.
        return tracer.run_most_expensive([lambda: if_true(*operands), lambda: if_false(*operands)])

    bodies: Mapping[str, Callable[..., Any]] = {
        "cond": cond,
        "while_loop": _while_loop,
        "scan": _scan,
        "map_impl": _map,
    }
    loaded = higher_order_operators or {}
    kinds = ((type(loaded[name]), body) for name, body in bodies.items() if name in loaded)
    with patched((kind, "__call__", _replacement(body, kind.__call__)) for kind, body in kinds):
        yield


def _replacement(body: Callable[..., Any], original: Callable[..., Any]) -> Callable[..., Any]:
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
    combine: Any, init: Sequence[Any], xs: Sequence[torch.Tensor], *options: Any, additional_inputs: Sequence[Any] = ()
) -> list[Any]:
    """Run ``combine`` on each slice of ``xs``, one after another.

    Return the carried values after the last slice, and the stacked outputs of all slices.
    """
    # PyTorch 2.6 passes the dimension of the slices, whether they run in reverse, and perhaps ``additional_inputs``.
    dim, reverse, *rest = options if len(options) > 1 else (0, False, *options)
    additional_inputs = rest[0] if rest else additional_inputs
    carried: Sequence[Any] = init
    outputs: list[Any] = []
    steps = list(zip(*(each.unbind(dim) for each in xs), strict=True))
    for slices in reversed(steps) if reverse else steps:
        result = combine(*carried, *slices, *additional_inputs)
        carried, output = result[: len(init)], result[len(init) :]
        outputs.append(output)
    if reverse:
        outputs.reverse()
    return [*carried, *(torch.stack(output, dim) for output in zip(*outputs, strict=True))]


def _map(function: Any, xs: Sequence[torch.Tensor], pos_args: Sequence[Any] = ()) -> tuple[Any, ...]:
    results = [function(*slices, *pos_args) for slices in zip(*xs, strict=True)]
    return tuple(torch.stack(output) for output in zip(*results, strict=True))


def _taken(predicate: Any, if_true: Any, if_false: Any, operands: Sequence[Any] = ()) -> Any:
    return (if_true if predicate else if_false)(*operands)


#: Python functions for a watched run, which has data. PyTorch's own functions refuse to run under a dispatch mode.
EAGER_BODIES: Mapping[str, Callable[..., Any]] = {
    "cond": _taken,
    "while_loop": _while_loop,
    "scan": _scan,
    "map_impl": _map,
}
