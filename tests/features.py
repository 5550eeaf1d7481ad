"""Parts of PyTorch and pytest that some supported versions lack, and a mark for the tests that need one.

Each part is looked for; no version numbers are compared. docs/compatibility.md lists the skipped tests.
"""

from __future__ import annotations

import functools
import importlib.util
import math
import warnings
from inspect import signature
from typing import TYPE_CHECKING

import pytest
import torch
import torch.distributed
from torch._higher_order_ops.scan import scan_op
from torch.distributed.tensor import distribute_tensor
from torch.nn.attention import SDPBackend
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from pytest_flopsbudget import world

if TYPE_CHECKING:
    from collections.abc import Callable


def fuses_attention_without_batch() -> bool:
    """Return whether the CPU has a fused attention kernel for operands (heads, length, width)."""
    operand = torch.zeros(2, 3, 4)
    return bool(torch._fused_sdp_choice(operand, operand, operand) == SDPBackend.FLASH_ATTENTION.value)


def _fsdp_copies_mixed_dtypes() -> bool:
    import torch.distributed.fsdp  # registers operators

    return hasattr(torch.ops.fsdp, "chunk_cat_mixed_dtype")


def _run_grouped_product() -> None:
    tokens, experts = torch.zeros(8, 8, dtype=torch.bfloat16), torch.zeros(2, 8, 8, dtype=torch.bfloat16)
    torch._grouped_mm(tokens, experts, torch.tensor([4, 8], dtype=torch.int32))


def _run_overrideable_attention() -> None:
    operand = torch.zeros(1, 2, 3, 4, device="meta")
    torch.ops.aten._scaled_dot_product_fused_attention_overrideable(operand, operand, operand)


def fuses_fewer_heads() -> bool:
    """Return whether the CPU has a fused attention kernel for keys and values with fewer heads than the queries."""
    query, key = torch.zeros(1, 4, 3, 8), torch.zeros(1, 2, 3, 8)
    chosen = torch._fused_sdp_choice(query, key, key, enable_gqa=True)
    return bool(chosen == SDPBackend.FLASH_ATTENTION.value)


def _exports_code_that_looks_at_itself() -> bool:
    """Return whether `torch.export` takes a model that reads the names of its variables, like those of transformers."""

    class Model(torch.nn.Module):
        def forward(self, value):
            return value + 1 if "value" in type(self).forward.__code__.co_varnames else value

    return _works(lambda: torch.export.export(Model(), (torch.ones(2),)))


def _exports_no_check_of_masks() -> bool:
    """Return whether an exported encoder in eval mode lacks the operator that checks where the padding begins.

    The operator returns a bool, so it needs data. The graph does not use the bool.
    """
    layer = torch.nn.TransformerEncoderLayer(4, 2, 4, batch_first=True)
    encoder = torch.nn.TransformerEncoder(layer, 1).eval()
    padding = torch.tensor([[False, True]])
    exported = torch.export.export(encoder, (torch.ones(1, 2, 4),), {"src_key_padding_mask": padding})
    return not any("_nested_tensor_from_mask" in str(node.target) for node in exported.graph.nodes)


def _reduces_in_a_fake_group() -> bool:
    """Return whether a process group that sends no messages fills the output of `reduce_scatter_tensor`."""
    output = torch.full((1,), math.nan)
    with world(2), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer versions have another name for the function
        torch.distributed.reduce_scatter_tensor(output, torch.zeros(2))
    return not output.isnan().item()


def _checks_no_quantiles() -> bool:
    """Return whether `torch.quantile` of a Python number runs no operators that check whether the number is valid."""
    seen: list[str] = []

    class Names(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            seen.append(str(func))
            return func(*args, **(kwargs or {}))

        @classmethod
        def _should_skip_dynamo(cls) -> bool:
            return False

    with Names():
        torch.quantile(torch.ones(2), 0.5)
    return "aten.equal.default" not in seen


def _has_layouts_of_slices() -> bool:
    return (
        torch.slice_scatter(torch.ones((), device="meta").expand(4, 4), torch.zeros(4, 4, device="meta")).stride()
        == torch.slice_scatter(torch.ones(()).expand(4, 4), torch.zeros(4, 4)).stride()
    )


def _multiplies_symbolic_shapes() -> bool:
    """Return whether `matmul` of fake tensors keeps a symbolic size, and does not replace it by the example's size."""
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv, StatelessSymbolicContext

    kinds = [DimDynamic.STATIC, DimDynamic.DYNAMIC, DimDynamic.STATIC]
    example = torch.empty(1, 5, 3)
    with FakeTensorMode(shape_env=ShapeEnv()) as mode:
        operand = mode.from_tensor(example, symbolic_context=StatelessSymbolicContext(dynamic_sizes=kinds))
        torch.matmul(operand, operand.transpose(1, 2))
    return not operand.shape[1].node.expr.is_number


def _hides_operators() -> bool:
    """Return whether an operator that a dispatch mode runs during a backward pass stays hidden from function modes."""
    seen: list[str] = []

    class Function(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            seen.append(str(func))
            return func(*args, **(kwargs or {}))

    class Dispatch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            return func(*args, **(kwargs or {}))

        @classmethod
        def _should_skip_dynamo(cls) -> bool:
            return False

    output = torch.ones(2, requires_grad=True).exp().sum()
    with Dispatch(), Function():
        torch.autograd.backward(output)
    return not any(name.startswith("aten.") for name in seen)


#: Name of a feature → a function that returns whether this version of PyTorch has it.
FEATURES: dict[str, Callable[[], bool]] = {
    "functions compiled under a watch": lambda: hasattr(TorchDispatchMode, "ignore_compile_internals"),
    "dispatch modes that hide operators from function modes": _hides_operators,
    "aten._fused_rms_norm": lambda: hasattr(torch.ops.aten, "_fused_rms_norm"),
    "aten._fused_rms_norm_backward": lambda: hasattr(torch.ops.aten, "_fused_rms_norm_backward"),
    "shapes of overrideable attention": lambda: _works(_run_overrideable_attention),
    "fused attention for fewer heads of keys": fuses_fewer_heads,
    "exporting code that looks at its own variables": _exports_code_that_looks_at_itself,
    "exporting padded encoders without a check of the padding": _exports_no_check_of_masks,
    "layouts of scattered slices on meta": _has_layouts_of_slices,
    "quantiles of numbers without a check": _checks_no_quantiles,
    "matmul on symbolic shapes": _multiplies_symbolic_shapes,
    "scan that runs its function for the steps only": lambda: "reverse" not in signature(scan_op.__call__).parameters,
    "shapes of transforms over dimensions in any order": lambda: _works(
        lambda: torch.fft.fftn(torch.ones(4, 4, 1, device="meta", dtype=torch.complex64), dim=(2, 0))
    ),
    "shapes of embeddings of whole numbers only": lambda: (
        not _works(lambda: torch.embedding(torch.ones(5, 3, device="meta"), torch.ones(2, device="meta")))
    ),
    "transforms of a tensor that repeats one element": lambda: _works(
        lambda: torch.fft.fft(torch.ones((), dtype=torch.complex64).expand(4))
    ),
    "torch._grouped_mm on the CPU": lambda: _works(_run_grouped_product),
    "torch._grouped_mm": lambda: hasattr(torch, "_grouped_mm"),
    "torch._foreach_mm": lambda: hasattr(torch.ops.aten, "_foreach_mm"),
    "torch.nn.attention.varlen": lambda: importlib.util.find_spec("torch.nn.attention.varlen") is not None,
    "upsampling by Lanczos": lambda: hasattr(torch.ops.aten, "_upsample_lanczos2d_aa"),
    "c10d::check_for_nan": lambda: hasattr(torch.ops.c10d, "check_for_nan"),
    "fake collectives that write gradients": _reduces_in_a_fake_group,
    "FSDP2 on the CPU": lambda: hasattr(torch.cpu.Stream, "record_event"),
    "distribute_tensor without communication": lambda: "src_data_rank" in signature(distribute_tensor).parameters,
    "fsdp::chunk_cat_mixed_dtype": _fsdp_copies_mixed_dtypes,
    "torch.linalg.polar": lambda: hasattr(torch.linalg, "polar"),
    "torch.cholesky": lambda: _works(lambda: torch.cholesky(torch.eye(2))),
}

#: Name of a feature → a function that returns whether this version of pytest has it, or a plugin that is installed.
OF_PYTEST: dict[str, Callable[[], bool]] = {
    "subtests": lambda: any(importlib.util.find_spec(name) for name in ("_pytest.subtests", "pytest_subtests")),
}


def _works(function: Callable[[], object]) -> bool:
    try:
        function()
    except (AttributeError, RuntimeError):
        return False
    return True


@functools.cache
def has(feature: str) -> bool:
    """Return whether this version of PyTorch or pytest has a feature in `FEATURES` or `OF_PYTEST`."""
    return {**FEATURES, **OF_PYTEST}[feature]()


def requires(feature: str) -> pytest.MarkDecorator:
    """Return a mark that skips a test if PyTorch or pytest lacks a feature in `FEATURES` or `OF_PYTEST`."""
    owner = "pytest" if feature in OF_PYTEST else "PyTorch"
    return pytest.mark.skipif(not has(feature), reason=f"this {owner} lacks {feature}")


def need(feature: str) -> None:
    """Skip the running test if this version of PyTorch lacks a feature in `FEATURES`.

    Unlike `requires`, this function looks for the feature when the test runs. Some features take seconds to look for.
    """
    if not has(feature):
        pytest.skip(f"this PyTorch lacks {feature}")
