"""If an operator has no meta kernel, its shape rule gives the metadata of the real kernel."""

from __future__ import annotations

import operator_database as database
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from zoo import metadata

from pytest_flopsbudget.counting.meta import shape_rules
from pytest_flopsbudget.counting.operators.info import operator_info
from pytest_flopsbudget.counting.tensors.metadata import to_meta


class Compare(TorchDispatchMode):
    def __init__(self, names):
        super().__init__()
        self.names = names
        self.seen = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        info = operator_info(func)
        if info.name in self.names:
            self.seen.add(info.name)
            assert metadata(shape_rules.infer_corrected_output(info, to_meta(args), kwargs)) == metadata(output)
        return output


@pytest.mark.filterwarnings("ignore")  # PyTorch warns about the arguments of its own samples
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("geqrf", {"aten.geqrf"}),
        ("histogram", {"aten.histogram"}),
        ("histogramdd", {"aten._histogramdd_bin_edges", "aten._histogramdd_from_bin_tensors"}),
        ("nn.functional.fractional_max_pool3d", {"aten.fractional_max_pool3d_backward"}),
        ("nn.functional.multi_margin_loss", {"aten.multi_margin_loss_backward"}),
        ("nn.functional.multilabel_margin_loss", {"aten.multilabel_margin_loss_backward"}),
    ],
)
def test_as_the_real_kernels(name, expected):
    compare = Compare(expected)
    (op,) = (op for op in database.op_db if op.name == name)
    backward = op.supports_autograd
    for sample in op.sample_inputs("cpu", torch.float32, requires_grad=backward):
        with compare:
            output = op.op(sample.input, *sample.args, **sample.kwargs)
            if backward and torch.is_tensor(output):
                output.sum().backward()
    assert compare.seen == expected
