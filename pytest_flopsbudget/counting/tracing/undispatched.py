"""Name work that bypasses the dispatcher: old functions for quantized models (in C++), and compiled kernels.

No tracer sees this work, so each call is noted as an unknown operator. The old functions need data, so a run on shapes
fails when the model calls such a function.
"""

from __future__ import annotations

import sys
import weakref
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch

from pytest_flopsbudget.counting.isolation.patching import patched
from pytest_flopsbudget.counting.isolation.threads import on_this_thread
from pytest_flopsbudget.counting.torch_private import INDUCTOR, INDUCTOR_GRAPHS, keep_uncompiled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_flopsbudget.counting.tracing.tracer import Tracer
    from pytest_flopsbudget.counting.tracing.watched import WatchTracer


_UNDISPATCHED = """
fbgemm_linear_fp16_weight fbgemm_linear_fp16_weight_fp32_activation fbgemm_linear_int8_weight
fbgemm_linear_int8_weight_fp32_activation quantized_gru_cell quantized_lstm_cell quantized_rnn_relu_cell
quantized_rnn_tanh_cell
"""


@contextmanager
def undispatched_noted(tracer: Tracer) -> Iterator[None]:
    """While the context lasts, note each call of a function that bypasses the dispatcher as an unknown operator."""
    functions = ((name, getattr(torch, name, None)) for name in _UNDISPATCHED.split())
    with patched(
        (torch, name, _note_and_run(tracer, name, function)) for name, function in functions if function is not None
    ):
        yield


def _note_and_run(tracer: Tracer, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    # PyTorch's compiler keeps all functions of `torch` in tables. If it is used now, the tables hold this function too.
    running = weakref.ref(tracer)

    def noted(*args: Any, **kwargs: Any) -> Any:
        tracer = running()
        if tracer is not None:
            tracer.require_data(f"torch.{name}")
            tracer.note_unknown(f"torch.{name}")
        return function(*args, **kwargs)

    return on_this_thread(noted, function)


@contextmanager
def compiled_kernels_noted(tracer: WatchTracer) -> Iterator[None]:
    """While the context lasts, note an unknown operator for each run of a graph that PyTorch compiled.

    This applies to PyTorch's default compiler backend. The kernels that it generates are not counted. The matrix
    products in a compiled graph are operators, and are counted.
    """
    with ExitStack() as stack:

        def note_graphs() -> bool:
            """Note each compiled graph that runs from now on. Return false if the class of graphs is not loaded."""
            graphs: Any = getattr(sys.modules.get(INDUCTOR_GRAPHS), "CompiledFxGraph", None)
            if graphs is None:
                return False
            run = graphs.__call__

            def run_noted(graph: object, *args: Any, **kwargs: Any) -> Any:
                if not tracer.steps_aside:
                    tracer.note_unknown("torch.compile")
                return run(graph, *args, **kwargs)

            keep_uncompiled(run_noted)
            stack.enter_context(patched([(graphs, "__call__", run_noted)]))
            return True

        noted = note_graphs()
        if not noted and INDUCTOR is not None:
            compile_graph = INDUCTOR.__call__

            def compile_noted(backend: object, *args: Any, **kwargs: Any) -> Any:
                nonlocal noted
                compiled = compile_graph(backend, *args, **kwargs)
                noted = noted or note_graphs()
                return compiled

            stack.enter_context(patched([(INDUCTOR, "__call__", compile_noted)]))
        yield
