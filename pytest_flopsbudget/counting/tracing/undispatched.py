"""Functions of PyTorch's that compute in C++ and never come by the dispatcher: old ones for quantized models.

They are named as unknown where they run, since nothing can be seen of what they do; without data they do not run.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from pytest_flopsbudget.counting.isolation.patching import patched
from pytest_flopsbudget.counting.isolation.threads import on_this_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_flopsbudget.counting.tracing.tracer import Tracer


_NAMES = """
fbgemm_linear_fp16_weight fbgemm_linear_fp16_weight_fp32_activation fbgemm_linear_int8_weight
fbgemm_linear_int8_weight_fp32_activation quantized_gru_cell quantized_lstm_cell quantized_rnn_relu_cell
quantized_rnn_tanh_cell
"""


@contextmanager
def undispatched_noted(tracer: Tracer) -> Iterator[None]:
    """Name the functions above where a model calls them."""
    functions = ((name, getattr(torch, name, None)) for name in _NAMES.split())
    with patched(
        (torch, name, _note_and_run(tracer, name, function)) for name, function in functions if function is not None
    ):
        yield


def _note_and_run(tracer: Tracer, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def named(*args: Any, **kwargs: Any) -> Any:
        tracer.require_data(f"torch.{name}")
        tracer.note_unknown(f"torch.{name}")
        return function(*args, **kwargs)

    return on_this_thread(named, function)
