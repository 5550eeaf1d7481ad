"""Shape rules give the same metadata as PyTorch's meta kernels."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections import Counter

import pytest
import torch
from features import requires
from operator_database import op_db
from torch.utils._python_dispatch import TorchDispatchMode
from zoo import metadata

from pytest_flopsbudget.counting.meta import shape_rules
from pytest_flopsbudget.counting.operators.info import operator_info

#: Number of samples for each operator. The first samples are the common cases, for which the rules are written.
SAMPLES = 3


class Compare(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.agreed = Counter()
        self.differing = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        expected = func(*args, **kwargs)
        info = operator_info(func)
        if info.behaviour in {"functional", "inplace"} and not info.decomposes and not info.facets.corrected_shape:
            output = shape_rules.infer_output(info, args, kwargs)
            if output is not None:
                self.agreed[info.name] += 1
                if metadata(output) != metadata(expected):
                    self.differing.append((info.name, metadata(output), metadata(expected)))
        return expected


def contiguous(tensor):
    return tensor


def mixed():
    """Yield two functions. Each returns a tensor of the same shape, and each call has another memory layout."""
    for first in range(2):
        ways = itertools.cycle((contiguous, reversed_dimensions, channels_last, with_gaps))
        for _ in range(first):
            next(ways)
        yield lambda tensor, ways=ways: next(ways)(tensor)


def channels_last(tensor):
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor


def reversed_dimensions(tensor):
    return torch.empty(tensor.shape[::-1], dtype=tensor.dtype, device="meta").permute(
        tuple(reversed(range(tensor.ndim)))
    )


def with_gaps(tensor):
    return torch.empty((*tensor.shape, 2), dtype=tensor.dtype, device="meta")[..., 0]


def spread(tensor):
    """Return an expanded tensor of the same shape, in which each row is the first row of ``tensor``."""
    return tensor[:1].expand(tensor.shape) if tensor.ndim > 1 else tensor


def on_meta(value, lay_out):
    if isinstance(value, torch.Tensor):
        return lay_out(value.detach().to("meta"))
    if isinstance(value, (list, tuple)):
        return type(value)(on_meta(item, lay_out) for item in value)
    return value


@pytest.mark.filterwarnings("ignore")  # PyTorch warns about the arguments of its own samples
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_equals_the_meta_kernels(dtype):
    compare = Compare()
    for op in op_db:
        if dtype not in op.supported_dtypes("cpu") or op.name.startswith(
            ("linalg", "special", "fft", "masked", "sparse", "jiterator")
        ):
            continue
        for sample in itertools.islice(op.sample_inputs("cpu", dtype), SAMPLES):
            for lay_out in (contiguous, channels_last, reversed_dimensions, with_gaps, spread, *mixed()):
                args = [on_meta(value, lay_out) for value in (sample.input, *sample.args)]
                kwargs = {name: on_meta(value, lay_out) for name, value in sample.kwargs.items()}
                try:
                    with compare:
                        op.op(*args, **kwargs)
                except (RuntimeError, NotImplementedError, TypeError, ValueError, IndexError):
                    pass  # some operators do not run on the meta device, so there is nothing to compare
    assert {name for name, *_ in compare.differing} == set()
    # The comparison would prove nothing if only few rules were applied.
    assert len(compare.agreed) > 60
    assert {
        *("aten.relu", "aten.add", "aten.gelu", "aten.mm", "aten.addmm", "aten.stack", "aten.all"),
        *("aten.grid_sampler_2d", "aten.upsample_bilinear2d", "aten.upsample_bicubic2d", "aten.logical_not"),
    } <= compare.agreed.keys()


@pytest.mark.parametrize("shapes", [[(2, 3), (2, 3)], [(2, 3), (3,)], [(4, 1), (1, 5)], [(2, 3, 4, 5), (5,)]], ids=str)
@pytest.mark.parametrize("name", ["bitwise_and", "bitwise_or", "bitwise_xor", "logical_and", "logical_or"])
def test_masks(name, shapes):
    operator = getattr(torch.ops.aten, name)
    operator = operator.Tensor if name.startswith("bitwise") else operator.default
    masks = [torch.empty(shape, dtype=torch.bool, device="meta") for shape in shapes]
    output = shape_rules.infer_output(operator_info(operator), masks, {})
    assert metadata(output) == metadata(operator(*masks))


def test_a_first_count_does_not_import_the_compiler():
    """A measurement does not import torch._dynamo, because the import takes a second."""
    code = """
import sys, torch
from torch import nn
from pytest_flopsbudget import measure
image = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4))
measure(image, torch.empty(1, 3, 8, 8))
small = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Hardswish(inplace=True), nn.Mish(inplace=True), nn.Hardsigmoid())
measure(nn.Sequential(small, nn.Upsample(scale_factor=2, mode="bilinear")), torch.empty(1, 3, 8, 8))
measure(nn.TransformerEncoderLayer(16, 2, 32, activation="gelu").eval(), torch.empty(5, 1, 16))
print("torch._dynamo" in sys.modules)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["False"]


@pytest.mark.parametrize(
    ("left", "right", "ends"),
    [((8, 16), (2, 16, 32), [3, 8]), ((2, 8, 16), (2, 16, 32), None), ((8, 16), (16, 32), [4, 16])],
    ids=["rows", "batches", "summed"],
)
@requires("torch._grouped_mm on the CPU")
def test_grouped_products(left, right, ends):
    # The meta kernel refuses float32, so it is not compared.
    operands = torch.zeros(left), torch.zeros(right)
    offsets = None if ends is None else torch.tensor(ends, dtype=torch.int32)
    expected = torch.ops.aten._grouped_mm.default(*operands, offsets)
    meta_clones = [None if item is None else item.to("meta") for item in (*operands, offsets)]
    output = shape_rules.infer_output(operator_info(torch.ops.aten._grouped_mm.default), meta_clones, {})
    assert metadata(output) == metadata(expected)
