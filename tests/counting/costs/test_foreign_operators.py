"""Every operator of PyTorch outside of ATen is counted, free, or unknown on purpose."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from features import requires
from torch.ao.quantization.fx import _decomposed  # noqa: F401 -- registers operators

from pytest_flopsbudget.counting.costs import REGISTRY, Call
from pytest_flopsbudget.counting.operators.accounting import cost_of as cost_of_call
from pytest_flopsbudget.counting.operators.info import operator_info

#: Operator → the reason why it has no formula and is not free.
UNKNOWN_ON_PURPOSE = {
    "flex_gemm::autograd_not_implemented": "always raises an error",
    "_inductor_test::realize": "of PyTorch's own tests",
    "onnx::Attention.opset23": "stands in a graph that is exported; models call PyTorch's attention",
    "onnx::RotaryEmbedding.opset23": "stands in a graph that is exported",
    "onnx_symbolic::_symbolic": "stands for whatever operator of ONNX its arguments name",
    "onnx_symbolic::_symbolic_multi_out": "stands for whatever operator of ONNX its arguments name",
}

#: Modules that register operators when they are imported. Some versions and builds of PyTorch lack some of them.
MODULES = (
    "torch.ao.nn.quantized",
    "torch.ao.nn.sparse.quantized",
    "torch.ao.quantization.fx._decomposed",
    "torch.distributed",
    "torch.distributed._functional_collectives",
    "torch.distributed._symmetric_memory",
    "torch.distributed.fsdp",
    "torch.distributed.tensor",
    "torch._dynamo",
    "torch._inductor",
    "torch._higher_order_ops.flex_gemm",
    "torch._inductor.inductor_prims",
    "torch._prims.rng_prims",
    "torch.fx.experimental.proxy_tensor",
)

#: The script runs in a new process, so that only these modules have registered operators.
LISTING = f"""
import contextlib, importlib
import torch
from pytest_flopsbudget.counting.operators.info import operator_info

for module in {MODULES!r}:
    with contextlib.suppress(ImportError):
        importlib.import_module(module)
for name in sorted(torch._C._dispatch_get_all_op_names()):
    namespace, _, rest = name.partition("::")
    if namespace in ("aten", "prim"):
        continue
    operator, _, overload = rest.partition(".")
    info = operator_info(getattr(getattr(getattr(torch.ops, namespace), operator), overload or "default"))
    counted = bool(info.formula or info.other_formula)
    print(name, "counted" if counted else "free" if info.known or info.decomposes else "unknown")
"""


#: Operators that some supported versions of PyTorch lack.
NEWER = ("prims::prepare_softmax_online", "prims::_low_memory_max_pool_with_offsets")


@pytest.fixture(scope="module")
def classes():
    """Return a dict: operator of PyTorch outside of ATen → "counted", "free" or "unknown"."""
    run = subprocess.run([sys.executable, "-W", "ignore", "-c", LISTING], capture_output=True, text=True, check=True)
    return dict(line.split() for line in run.stdout.splitlines())


def test_every_operator_is_classified(classes):
    # If this test fails, PyTorch has a new operator. Give it a formula, or add it to a table with a reason.
    assert {name for name, kind in classes.items() if kind == "unknown"} <= UNKNOWN_ON_PURPOSE.keys()


def test_the_listing_reaches_what_it_means_to(classes):
    """The list of operators contains every expected namespace."""
    namespaces = {name.partition("::")[0] for name in classes}
    assert namespaces >= {
        "quantized",
        "_quantized",
        "quantized_decomposed",
        "mkldnn",
        "onednn",
        "sparse",
        "inductor",
        "prims",
    }
    assert set(classes.values()) >= {"counted", "free"}
    assert len(classes) > 250


def test_reasons_are_needed(classes):
    """No operator in `UNKNOWN_ON_PURPOSE` is counted or free."""
    assert not {name for name in UNKNOWN_ON_PURPOSE if classes.get(name, "unknown") != "unknown"}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("quantized::linear_prepack", "free"),
        ("quantized::conv2d_unpack", "free"),
        ("quantized::cat", "free"),
        ("quantized::linear", "counted"),
        ("quantized::add_relu.out", "counted"),
        ("mkldnn::_reorder_convolution_weight", "free"),
        ("mkldnn::_convolution_pointwise_.binary", "counted"),
        ("static_runtime::layer_norm", "counted"),
        ("static_runtime::reshape_copy", "free"),
        ("prims::mul", "counted"),
        ("prims::prepare_softmax_online", "counted"),
        ("prims::_low_memory_max_pool_with_offsets", "counted"),
        ("prims::_unsafe_index_put_", "counted"),
        ("prims::inductor_random", "free"),
        ("prims::where", "free"),
        ("prims::broadcast_in_dim", "free"),
    ],
)
def test_kinds(classes, name, kind):
    if name not in classes and name in NEWER:
        pytest.skip(f"this PyTorch lacks {name}")
    assert classes[name] == kind


def cost_of(operator, args, output):
    """Return the cost of one call of an operator that this machine cannot run."""
    info = operator_info(operator)
    assert info.known
    return tuple(cost_of_call(info, args, {}, output))


def called(name, arguments):
    return Call.by_names(name, arguments)


distributed = pytest.mark.skipif(not torch.distributed.is_available(), reason="PyTorch was built without it")


@distributed
class TestCommunication:
    """Collective operations are free, but a matrix product that is fused with a collective operation is counted."""

    @pytest.mark.parametrize("name", ["all_reduce", "all_gather_into_tensor", "reduce_scatter_tensor", "wait_tensor"])
    def test_collectives(self, name):
        from torch.distributed import _functional_collectives  # noqa: F401 -- registers operators

        info = operator_info(getattr(torch.ops._c10d_functional, name).default)
        assert info.known
        assert tuple(cost_of_call(info, (torch.ones(4), "sum", "0"), {}, torch.ones(4))) == (0, 0)

    @pytest.fixture
    def operators(self):
        symmetric_memory = pytest.importorskip("torch.distributed._symmetric_memory")
        assert symmetric_memory
        return torch.ops.symm_mem

    def test_gathered_rows(self, operators):
        """A matrix product that is fused with an all-gather multiplies the rows of both ranks."""
        # 4 rows of each of 2 ranks, with 8 features
        rights = [torch.ones(8, 3), torch.ones(8, 5)]
        outputs = (None, [torch.ones(8, 3), torch.ones(8, 5)])
        operator = operators.fused_all_gather_matmul.default
        assert cost_of(operator, (torch.ones(4, 8), rights, 0, "0"), outputs) == (2 * 8 * 8 * (3 + 5), 0)

    def test_scaled_gathered_rows(self, operators):
        # The outputs of the first product also have a bias.
        rights = [torch.ones(8, 3), torch.ones(8, 5)]
        outputs = (torch.ones(8, 8), [torch.ones(8, 3), torch.ones(8, 5)])
        scales = torch.ones(()), [torch.ones(())] * 2
        extras = [torch.ones(3), None], [None, None], [None, None], [False, False]
        args = (torch.ones(4, 8), rights, *scales, 0, "0", *extras)
        operator = operators.fused_all_gather_scaled_matmul.default
        assert cost_of(operator, args, outputs) == (2 * 8 * 8 * (3 + 5), 8 * (3 * 3 + 2 * 5))

    def test_scattered_sums(self, operators):
        """A matrix product that is fused with a reduce-scatter multiplies all input rows of a rank."""
        args = torch.ones(4, 8), torch.ones(8, 6), "sum", 0, "0"
        operator = operators.fused_matmul_reduce_scatter.default
        assert cost_of(operator, args, torch.ones(2, 6)) == (2 * 4 * 8 * 6, 0)

    def test_rows_that_arrive_in_chunks(self, operators):
        args = torch.ones(4, 8), torch.ones(8, 6), torch.ones(2), 0
        assert cost_of(operators._async_input_mm.default, args, torch.ones(4, 6)) == (2 * 4 * 8 * 6, 0)


@distributed
@requires("c10d::check_for_nan")
def test_check_for_nan():
    assert cost_of(torch.ops.c10d.check_for_nan.default, (torch.ones(2, 3),), None) == (0, 6)


class TestCompiled:
    def test_sum_of_products(self):
        """An operator that adds two matrix products costs both products and the addition."""
        left, right, output = torch.ones(3, 4), torch.ones(4, 5), torch.ones(3, 5)
        cost = cost_of(torch.ops.inductor._mm_plus_mm.default, (left, right, left, right, output), output)
        assert cost == (2 * 2 * 3 * 4 * 5, 3 * 5)

    @pytest.mark.parametrize(("present", "expected"), [(True, 6), (False, 0)])
    def test_gradients(self, present, expected):
        """Storing a first gradient is free. Adding a gradient to a present one costs one sum for each element."""
        tensor = torch.ones(2, 3)
        arguments = {"variable": tensor, "variable_grad": tensor if present else None, "new_grad": tensor}
        assert (
            REGISTRY.facets("inductor.accumulate_grad").other(called("inductor.accumulate_grad_", arguments))
            == expected
        )

    @pytest.mark.parametrize("name", ["_foreach_mm_native_0", "_foreach_mm_native_1", "_foreach_mm_cutedsl_12"])
    def test_products_of_a_list(self, name):
        lists = {"self": [torch.ones(2, 3), torch.ones(4, 5)], "mat2": [torch.ones(3, 4), torch.ones(5, 6)]}
        name = f"_native.{name}"
        assert REGISTRY.facets(name).flops(called(name, lists)) == 2 * (2 * 3 * 4 + 4 * 5 * 6)

    @pytest.mark.parametrize(
        ("name", "implemented"),
        [
            ("_native.bmm_triton_0", "aten.bmm"),
            ("_native.linalg_polar_out_native_3", "aten.linalg_polar"),
            ("_native.topk_flydsl_7", "aten.topk"),
            ("_native._fused_rms_norm_backward_cutedsl_9", "aten._fused_rms_norm_backward"),
            ("_native.scatter_add_cutedsl_4", "aten.scatter_add"),
            ("_native.no_such_kernel_0", "_native.no_such_kernel_0"),
            ("mylib.bmm_triton_0", "mylib.bmm_triton_0"),
        ],
    )
    def test_another_kernel(self, name, implemented):
        """A kernel that PyTorch registers in place of that of an ATen operator costs what the ATen operator costs."""
        assert REGISTRY.implemented(name) == implemented
        assert REGISTRY.facets(name) == REGISTRY.facets(implemented)

    def test_scattered_values(self):
        name = "flex_lib.zeros_and_scatter"
        assert REGISTRY.facets(name).other(called(name, {"vals": torch.ones(2)})) == 2

    def test_view(self):
        args = torch.ones(6), [2, 3], [3, 1], 0
        assert cost_of(torch.ops.inductor._reinterpret_tensor.default, args, torch.ones(2, 3)) == (0, 0)


class TestStaticRuntime:
    """Operators of Static Runtime cost as much as the ATen operators that they replace."""

    rows = torch.ones(5, 8)

    @pytest.mark.parametrize(
        ("name", "arguments", "expected"),
        [
            ("signed_log1p", (), 4 * 40),  # sign, absolute value, logarithm, product
            ("clamp_nan_to_num", (0.0, 1.0, 0.0, 1.0, 1.0), (2 + 3) * 40),
        ],
    )
    def test_elements(self, name, arguments, expected):
        operator = getattr(torch.ops.static_runtime, name).default
        assert cost_of(operator, (self.rows, *arguments), self.rows) == (0, expected)

    def test_layer_norm(self):
        # For each of 5 · 8 elements: sum, subtract, square, sum, divide, weight, bias.
        args = self.rows, [8], torch.ones(8), torch.ones(8)
        outputs = self.rows, torch.ones(5), torch.ones(5)
        assert cost_of(torch.ops.static_runtime.layer_norm.default, args, outputs) == (0, 7 * 40)

    def test_embedding_bag(self):
        # 4 rows of 8 numbers are added to 2 bags.
        args = self.rows, torch.tensor([0, 1, 2, 3]), torch.tensor([0, 2])
        outputs = torch.ones(2, 8), torch.ones(0), torch.ones(0)
        assert cost_of(torch.ops.static_runtime.embedding_bag.default, args, outputs) == (0, 4 * 8)
