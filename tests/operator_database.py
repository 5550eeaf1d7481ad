"""Measure the samples of PyTorch's operator database on shapes and on data, and compare the results."""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass, field

import torch
from torch.testing._internal import common_utils
from torch.testing._internal.common_methods_invocations import op_db
from torch.testing._internal.opinfo import core
from zoo import differences

from pytest_flopsbudget.counting.run import Run, run_backward

# For each sample, PyTorch searches the whole stack for a method of a unittest.TestCase. Under pytest there is none, and
# the search would take most of the time.
common_utils.extract_test_fn = core.extract_test_fn = lambda: None

#: Whether to try all samples in all dtypes, which takes minutes, or a few samples in one dtype.
ALL = os.environ.get("FLOPSBUDGET_ALL_SAMPLES") == "1"
DTYPES = (torch.float32, torch.complex64, torch.int64) if ALL else (torch.float32,)
SAMPLES = None if ALL else 2
#: A backward pass takes longer than a forward pass, and its operators depend less on the sample.
BACKWARD_SAMPLES = 6 if ALL else 2


@dataclass
class Tally:
    """Counts how many samples had each result."""

    operators: set[str] = field(default_factory=set)
    tried: int = 0
    #: Samples that were not tried, because PyTorch itself does not run them on the CPU.
    refused: int = 0
    #: Samples with equal counts on shapes and for real, with and without reused answers. The values of integer tensors
    #: may be used.
    agreed: int = 0
    #: Samples that are measured for real, because sizes or branches depend on data.
    need_data: int = 0
    #: The exceptions of PyTorch for samples that it cannot run on shapes.
    exceptions: set[str] = field(default_factory=set)
    without_shapes: int = 0
    unknown: set[str] = field(default_factory=set)

    def add(self, other):
        self.tried += other.tried
        self.refused += other.refused
        self.agreed += other.agreed
        self.need_data += other.need_data
        self.without_shapes += other.without_shapes
        self.unknown |= other.unknown


def name_of(op):
    return f"{op.name}.{op.variant_test_name}" if op.variant_test_name else op.name


def cases():
    """Yield (operator, dtype, whether to run backward, name) for each case."""
    for op in op_db:
        for dtype in DTYPES:
            if dtype in op.supported_dtypes("cpu"):
                yield op, dtype, False, f"{name_of(op)}-{str(dtype).removeprefix('torch.')}"
        if op.supports_autograd and torch.float32 in op.supported_backward_dtypes("cpu"):
            yield op, torch.float32, True, f"{name_of(op)}-backward"


def samples_of(op, dtype, *, backward):
    """Return the samples of an operator. They are equal in every run."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        samples = op.sample_inputs("cpu", dtype, requires_grad=backward)
        return list(itertools.islice(samples, BACKWARD_SAMPLES if backward else SAMPLES))


def runs(op, sample, *, backward):
    try:
        output = op.op(sample.input, *sample.args, **sample.kwargs)
        if backward:
            run_backward(output)
    except Exception:  # noqa: BLE001 -- any exception is PyTorch's
        return False
    return True


def work(result):
    """Return {name of an operator: its FLOPs}."""
    return {name: operator.flops for name, operator in result.operators.items()}


def compare(op, sample, tally, *, backward, without=()):
    """Check that a sample has equal metrics on shapes and on data, except ``without``. Count the case in ``tally``."""

    def model(*args, **kwargs):
        return op.op(*args, **kwargs)

    args, kwargs = (sample.input, *sample.args), dict(sample.kwargs)
    run = Run(model, args, kwargs, backward)
    try:
        real = run.complexity(ways=("data",))
    except Exception:
        if runs(op, sample, backward=backward):
            raise
        tally.refused += 1
        return
    tally.tried += 1
    tally.unknown.update(real.unknown_operators)
    try:
        result = run.complexity(ways=("shapes", "integers"))
    except Exception as failure:  # noqa: BLE001 -- any operator may raise any exception
        last = run.left[-1]
        if last.attempt.way == "integers" or (last.failure is not None and last.failure.asked_for_data is not None):
            tally.need_data += 1
        else:
            tally.without_shapes += 1
            tally.exceptions.add(f"{type(failure).__name__}: {failure}")
        return
    tally.unknown.update(result.unknown_operators)
    assert result.flops == real.flops, (work(result), work(real))
    assert not differences(result, real, without=without), differences(result, real, without=without)
    ways = ("shapes", "integers") if result.execution == "real" else ("shapes",)
    slow = Run(model, args, kwargs, backward, reuse_answers=False).complexity(ways)
    assert not differences(slow, real, without=without), differences(slow, real, without=without)
    tally.agreed += 1
