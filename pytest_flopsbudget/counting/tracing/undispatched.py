"""Functions of PyTorch that compute in C++ and bypass the dispatcher: older functions for quantized models.

No tracer sees their work, so each call is noted as an unknown operator. They need data: a run on shapes refuses them.
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


_UNDISPATCHED = """
fbgemm_linear_fp16_weight fbgemm_linear_fp16_weight_fp32_activation fbgemm_linear_int8_weight
fbgemm_linear_int8_weight_fp32_activation quantized_gru_cell quantized_lstm_cell quantized_rnn_relu_cell
quantized_rnn_tanh_cell
"""


@contextmanager
def undispatched_noted(tracer: Tracer) -> Iterator[None]:
    """Note the calls of undispatched functions as unknown operators while the context lasts."""
    functions = ((name, getattr(torch, name, None)) for name in _UNDISPATCHED.split())
    with patched(
        (torch, name, _note_and_run(tracer, name, function)) for name, function in functions if function is not None
    ):
        yield


def _note_and_run(tracer: Tracer, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def noted(*args: Any, **kwargs: Any) -> Any:
        tracer.require_data(f"torch.{name}")
        tracer.note_unknown(f"torch.{name}")
        return function(*args, **kwargs)

    return on_this_thread(noted, function)
