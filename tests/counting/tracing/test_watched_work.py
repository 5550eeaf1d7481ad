"""A watch computes the work of equal calls once, and knows the frame where it began."""

from __future__ import annotations

import sys
from contextlib import contextmanager

import pytest
import torch
from torch import nn

from pytest_flopsbudget import watch
from pytest_flopsbudget.counting.tracing import watched

REAL, COMPLEX = torch.ones(4), torch.ones(4, dtype=torch.complex64)


def other_flops(run):
    with watch() as seen:
        run()
    return seen.complexity.other_flops


@pytest.mark.parametrize(
    ("run", "by_factor"),
    [
        # a + alpha · b: 2 for each of the 4 elements; a factor of 1 costs nothing
        (lambda number: torch.add(REAL, REAL, alpha=number), {0.3: 8, 1.0: 4, 2.0: 8, 0.7: 8, -1.0: 8}),
        (lambda number: torch.sub(REAL, 0.3, alpha=number), {2: 8, 1: 4, 0.5: 8}),
        (lambda number: REAL.clone().add_(REAL, alpha=number), {1.0: 4, 0.3: 8, 1e-30: 8, float("inf"): 8}),
        # a + value · b / c: 3, and 2 with a value of 1
        (lambda number: REAL.clone().addcdiv_(REAL, REAL, value=number), {0.3: 12, 1.0: 8, float("nan"): 12}),
        # two tensors of 4 elements
        (lambda number: torch._foreach_add([REAL, REAL], [REAL, REAL], alpha=number), {0.5: 16, 1: 8, 0.25: 16}),
        (lambda number: torch._foreach_addcmul_([REAL.clone()] * 2, [REAL] * 2, [REAL] * 2, [number, 1.0]), {
            0.5: 20, 1.0: 16, 0.25: 20, 2.0: 20,
        }),
        # a complex square is one product (6); another power is a logarithm (6), a product (2), an exponential (5)
        (lambda number: COMPLEX**number, {2.5: 52, 2.0: 24, 0.3: 52, 3.0: 52}),
        (lambda number: REAL * number, {0.3: 4, 1.0: 4, 0.7: 4}),
    ],
)  # fmt: skip
def test_factors(run, by_factor):
    """Calls with different fractional factors share one entry of the cache. A whole factor has a separate entry."""
    for _ in range(2):
        assert {factor: other_flops(lambda factor=factor: run(factor)) for factor in by_factor} == by_factor


def test_a_new_fraction_is_no_new_entry():
    other_flops(lambda: torch.add(REAL, REAL, alpha=0.1))
    before = len(watched._WORK)
    for number in range(2, 50):
        other_flops(lambda number=number: torch.add(REAL, REAL, alpha=1 / (number + 0.5)))
    assert len(watched._WORK) == before


@contextmanager
def entered_elsewhere():
    with watch() as seen:
        yield seen


class Part(nn.Module):
    def forward(self, x):
        return x + 1


@pytest.mark.parametrize("depth", [0, 1, 40])
def test_the_search_ends_where_the_watch_began(depth):
    """Frames above the one that entered a context manager are not searched for each operator."""
    with entered_elsewhere() as seen:

        def run(levels):
            return run(levels - 1) if levels else Part().forward(REAL)

        run(depth)
        assert seen._tracer is not None
        base = seen._tracer.tracker._base
    assert base == (id(sys._getframe()), sys._getframe().f_code)
    assert seen.complexity["Part" if "Part" in seen.complexity.modules else ""].calls == 1
    assert seen.complexity.other_flops == 4


def test_a_function_may_end_after_it_began_a_watch():
    def begin():
        seen = watch()
        seen.__enter__()
        Part().forward(REAL)
        return seen

    seen = begin()
    Part().forward(REAL)
    Part()(REAL)
    seen.__exit__(None, None, None)
    assert sum(module.calls for path, module in seen.complexity.modules.items() if path) == 3
    assert seen.complexity.other_flops == 12


@pytest.mark.parametrize("chosen", [(0,), (0, 1, 2), (3,), (), (0, 1, 2, 3), (1, 2, 3)])
def test_outputs_whose_size_depends_on_data(chosen):
    """The traffic of ``x[mask]`` counts the elements that this call chose, not those of an earlier call."""
    values, mask = torch.ones(4), torch.zeros(4, dtype=torch.bool)
    mask[list(chosen)] = True
    for _ in range(2):
        with watch() as seen:
            torch.masked_select(values, mask)
        # An operator whose output is empty launches nothing.
        assert seen.complexity.memory_traffic == (4 * 4 + 4 * 1 + 4 * len(chosen) if chosen else 0)
