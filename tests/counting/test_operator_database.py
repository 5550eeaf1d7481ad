"""The operators in PyTorch's own test database have equal counts on shapes and on data.

By default, each operator runs a few samples. ``make operators`` runs all samples.
"""

from __future__ import annotations

import operator_database as database
import pytest
from features import has, need

#: Operators that PyTorch cannot run on shapes: name → (start of the error, reason). With data, they are measured for
#: real. Without data, they cannot be counted.
EXCEPTIONS = {
    "tensor_split": ("RuntimeError: tensor_split expected", "splits at places that a tensor holds, read on the CPU"),
}

#: Operators with sizes or branches that depend on data: name → reason. They are measured for real.
NEED_DATA = {
    "allclose": "returns a number that is read",
    "argwhere": "as many rows as there are elements other than zero",
    "combinations": "selects by a mask",
    "cov": "looks whether its weights are whole numbers",
    "equal": "returns a number that is read",
    "istft": "looks whether its windows overlap everywhere",
    "item": "returns a number that is read",
    "linalg.lstsq": "as many residuals as the rank tells",
    "linalg.lstsq.grad_oriented": "as many residuals as the rank tells",
    "masked_select": "as many elements as the mask holds",
    "nn.functional.ctc_loss": "lengths of the targets",
    "nn.functional.gaussian_nll_loss": "looks whether a variance is negative",
    "nonzero": "as many rows as there are elements other than zero",
    "sparse.mm.reduce": "how many elements a sparse input stores is data",
    "sparse.sampled_addmm": "how many elements a sparse input stores is data",
    "to_sparse": "how many elements the output stores is data",
    "unique": "as many elements as differ",
    "unique_consecutive": "as many elements as differ",
}

#: Operators with other bytes, launches or depth on shapes than on data: name → (metrics that differ, reason).
BYTES = {
    "as_strided.partial_views": (
        ("memory_traffic", "peak_memory"),
        "its gradient is as large as the memory that the input is a view of, of which shapes have as much as they see",
    ),
    "nn.functional.one_hot": (
        ("memory_traffic", "peak_memory", "launches", "depth"),
        "without data PyTorch compares the classes with a range; with data it checks their values and scatters ones",
    ),
}

if not has("quantiles of numbers without a check"):
    BYTES |= dict.fromkeys(
        ("quantile", "nanquantile"),
        (("other_flops", "memory_traffic", "launches"), "on the CPU, this PyTorch reads whether the quantile is valid"),
    )
if not has("layouts of scattered slices on meta"):
    BYTES |= dict.fromkeys(
        ("index_copy", "slice_scatter"),
        (
            ("memory_traffic", "peak_memory", "launches", "depth"),
            "its gradient repeats one element, and meta kernels of this PyTorch return another layout for that",
        ),
    )

#: Operators of which no sample runs: name → reason.
NOT_ON_CPU = {
    "jiterator_2inputs_2outputs": "for CUDA only",
    "jiterator_4inputs_with_extra_args": "for CUDA only",
    "jiterator_binary": "for CUDA only",
    "jiterator_binary_return_by_ref": "for CUDA only",
    "jiterator_unary": "for CUDA only",
    "normal.number_mean": "backward: its output has no gradient",
}

TALLY = database.Tally()
#: Names of the tables above that a sample needed.
LISTED: set[str] = set()

CASES = [pytest.param(op, dtype, backward, id=name) for op, dtype, backward, name in database.cases()]


@pytest.mark.filterwarnings("ignore")  # PyTorch warns about arguments of its own samples
@pytest.mark.parametrize(("op", "dtype", "backward"), CASES)
def test_shapes_count_as_real_execution_does(op, dtype, backward):
    name = database.name_of(op)
    tally = database.Tally()
    for sample in database.samples_of(op, dtype, backward=backward):
        database.compare(op, sample, tally, backward=backward, without=BYTES.get(name, ((),))[0])
    assert not tally.unknown
    reason = EXCEPTIONS.get(name, ("nothing",))[0]
    assert all(exception.startswith(reason) for exception in tally.exceptions), tally.exceptions
    assert not tally.need_data or name in NEED_DATA
    if tally.exceptions or tally.need_data:
        LISTED.add(name)
    TALLY.add(tally)
    if tally.tried:
        TALLY.operators.add(name)
    else:
        if name.startswith("fft."):
            need("transforms of a tensor that repeats one element")
        assert name in NOT_ON_CPU


def test_summary(capsys):
    """Print the totals of all samples, and check that no operator is unknown."""
    tried, agreed = TALLY.tried, TALLY.agreed
    with capsys.disabled():
        print(  # noqa: T201 -- this test prints
            f"\n{len(TALLY.operators)} operators, {tried} samples: {agreed} agree, {TALLY.need_data} need data and "
            f"{TALLY.without_shapes} are exceptions (measured for real), {len(TALLY.unknown)} operators unknown; "
            f"PyTorch refused {TALLY.refused} more"
        )
    assert agreed + TALLY.need_data + TALLY.without_shapes == tried
    assert not TALLY.unknown
    if database.ALL:  # with few samples, the one that needs data may not be among them
        assert TALLY.operators & (EXCEPTIONS.keys() | NEED_DATA.keys()) == LISTED
