"""On shapes, attention runs the same operators as on the CPU."""

from __future__ import annotations

import itertools
import threading

import pytest
import torch
from features import fuses_attention_without_batch, fuses_fewer_heads, requires
from torch import nn
from torch.nn import functional as F  # noqa: N812 -- its name everywhere
from torch.nn.attention import SDPBackend, sdpa_kernel
from zoo import both, for_real, on_shapes

from pytest_flopsbudget.counting.measure import measure
from pytest_flopsbudget.counting.meta.attention import cpu_attention_on_meta
from pytest_flopsbudget.counting.tracing.real import RealTracer
from pytest_flopsbudget.counting.tracing.shapes import ShapesTracer

ATTENTION = torch.ops.aten.scaled_dot_product_attention.default
FUSED = "aten._scaled_dot_product_flash_attention_for_cpu"


@pytest.fixture
def answered(monkeypatch):
    """Return a function that checks that runs on shapes and on data have equal operators, and returns their names."""
    operators = []

    def note(answer):
        def noted(tracer, info, args, kwargs):
            output, work = answer(tracer, info, args, kwargs)
            if info.written or info.behaviour != "alias":
                in_all_respects = [getattr(work, respect) for respect in work.__slots__]
                operators.append((info.name, laid_out(args), laid_out(output), in_all_respects))
            return output, work

        return noted

    for tracer in (ShapesTracer, RealTracer):
        monkeypatch.setattr(tracer, "answer", note(tracer.answer))

    def compare(model, args, kwargs=None, *, backward=False):
        seen = []
        for way in (on_shapes, for_real):
            operators.clear()
            counted = way(model, args, kwargs, backward=backward)
            seen.append((list(operators), counted.flops, counted.other_flops))
        assert seen[1] == seen[0]
        return [name for name, *_ in operators]

    return compare


def laid_out(values):
    if isinstance(values, torch.Tensor):
        # the stride of a dimension of size 1 has no meaning
        strides = [stride for size, stride in zip(values.shape, values.stride(), strict=True) if size != 1]
        return values.shape, strides, values.dtype
    return [laid_out(item) for item in values if isinstance(item, (torch.Tensor, list, tuple))]


def operands(*, queries=6, keys=10, heads=4, key_heads=4, width=8, value_width=8, dtype=torch.float32):
    shapes = ((2, heads, queries, width), (2, key_heads, keys, width), (2, key_heads, keys, value_width))
    return tuple(torch.randn(shape, dtype=dtype).requires_grad_() for shape in shapes)


MASK = torch.ones(6, 10, dtype=torch.bool).tril()
CASES = {
    "plain": (operands(), {}, True),
    "causal": (operands(), {"is_causal": True}, True),
    "boolean mask": (operands(), {"attn_mask": MASK}, True),
    "boolean mask, half": (operands(dtype=torch.bfloat16), {"attn_mask": MASK}, True),
    "mask for all heads": (operands(), {"attn_mask": torch.zeros(2, 1, 6, 10)}, True),
    "mask for all queries": (operands(), {"attn_mask": torch.zeros(2, 1, 1, 10)}, True),
    "mask with a gradient": (operands(), {"attn_mask": torch.zeros(6, 10, requires_grad=True)}, False),
    "grouped queries": (operands(key_heads=2), {"enable_gqa": True}, fuses_fewer_heads()),
    "one head of keys": (operands(key_heads=1), {"enable_gqa": True, "attn_mask": MASK}, fuses_fewer_heads()),
    "dropout": (operands(), {"dropout_p": 0.5}, False),
    "scale": (operands(), {"scale": 0.3}, True),
    "float16": (operands(dtype=torch.float16), {"is_causal": True}, True),
    "bfloat16": (operands(dtype=torch.bfloat16), {}, True),
    "float64": (operands(dtype=torch.float64), {}, True),
    "float32 mask, float16": (operands(dtype=torch.float16), {"attn_mask": torch.zeros(6, 10)}, True),
    "odd width": (operands(width=7, value_width=7), {}, True),
    "width 1": (operands(width=1, value_width=1), {}, True),
    "wider values": (operands(value_width=12), {}, False),
    "no batch": (tuple(item[0] for item in operands()), {}, fuses_attention_without_batch()),
    "two dimensions": (tuple(item[0, 0] for item in operands()), {}, False),
    "heads after length": (tuple(item.transpose(1, 2).contiguous().transpose(1, 2) for item in operands()), {}, True),
    "a part of each row": (tuple(item[..., ::2] for item in operands(width=16, value_width=16)), {}, False),
    "the same for all heads": (tuple(item[:, :1].expand(item.shape) for item in operands()), {}, True),
    "no queries": (operands(queries=0), {}, False),
}


class TestSameOperators:
    @pytest.mark.parametrize(("tensors", "options", "fuses"), CASES.values(), ids=CASES)
    @pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
    def test_forward(self, answered, tensors, options, fuses, mode):
        def model(*items):
            with mode():
                return F.scaled_dot_product_attention(*items, **options)

        assert fuses == (FUSED in answered(model, tensors))

    @pytest.mark.parametrize(("tensors", "options", "fuses"), CASES.values(), ids=CASES)
    def test_backward(self, answered, tensors, options, fuses):
        tensors = tuple(item.detach().requires_grad_() for item in tensors)
        names = answered(F.scaled_dot_product_attention, tensors, options, backward=True)
        assert fuses == (f"{FUSED}_backward" in names)

    @pytest.mark.parametrize("asked", list(itertools.product((False, True), repeat=3))[1:])
    def test_some_gradients(self, answered, asked):
        """The fused backward operator of attention runs for any choice of operands that require gradients."""
        tensors = [item.detach().requires_grad_(one) for item, one in zip(operands(), asked, strict=True)]
        assert f"{FUSED}_backward" in answered(F.scaled_dot_product_attention, tuple(tensors), backward=True)

    @pytest.mark.parametrize("backend", [SDPBackend.MATH, SDPBackend.FLASH_ATTENTION])
    def test_chosen_backend(self, answered, backend):
        """If a model chooses a backend with `sdpa_kernel`, a run on shapes uses the same backend."""
        with sdpa_kernel(backend):
            names = answered(F.scaled_dot_product_attention, operands())
        assert (backend is SDPBackend.FLASH_ATTENTION) == (FUSED in names)

    @pytest.mark.parametrize("train", [True, False])
    @pytest.mark.parametrize("backward", [True, False])
    def test_encoder(self, answered, train, backward):
        """If an encoder is in training mode, its attention is not fused, because it has dropout."""
        encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), 2).train(train)
        names = answered(encoder, torch.randn(2, 5, 16), backward=backward)
        assert (not train) == (FUSED in names)

    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
    def test_whoever_calls(self, answered):
        """Attention is fused in scripted functions, in exported graphs and in calls of the operator."""

        class Attends(nn.Module):
            def forward(self, query, key, value):
                return F.scaled_dot_product_attention(query, key, value)

        tensors = tuple(item.detach() for item in operands())
        exported = torch.export.export(Attends(), tensors).module()
        for model in (torch.jit.script(Attends()), exported, torch.ops.aten.scaled_dot_product_attention):
            assert FUSED in answered(model, tensors)


FEWER_HEADS = pytest.param(2, marks=requires("fused attention for fewer heads of keys"))


class TestSameCounts:
    @pytest.mark.parametrize("asked", list(itertools.product((False, True), repeat=3))[1:])
    @pytest.mark.parametrize("key_heads", [FEWER_HEADS, 4])
    def test_only_gradients_that_are_asked_for(self, asked, key_heads):
        tensors = [
            item.detach().requires_grad_(one) for item, one in zip(operands(key_heads=key_heads), asked, strict=True)
        ]
        counts = []
        for backend in (SDPBackend.MATH, SDPBackend.FLASH_ATTENTION):
            with sdpa_kernel(backend):
                counted = both(F.scaled_dot_product_attention, tuple(tensors), {"enable_gqa": True}, backward=True)
            counts.append((counted.flops, counted.other_flops))
        assert counts[0] == counts[1]
        of_query, of_key, of_value = asked
        # Forward: scores and weighted sums. Backward: each requested gradient, and the gradient of the scores if it is
        # needed.
        products = 2 + (of_query or of_key) + of_query + of_key + of_value
        assert counts[0][0] == products * 2 * 2 * 4 * 6 * 10 * 8

    @pytest.mark.parametrize("backend", [SDPBackend.EFFICIENT_ATTENTION, SDPBackend.CUDNN_ATTENTION])
    def test_kernels_of_other_devices(self, backend):
        """If the CPU has none of the allowed backends, attention is counted as separate operators."""
        meta = tuple(item.detach().to("meta") for item in operands())
        with sdpa_kernel(backend):
            assert measure(F.scaled_dot_product_attention, meta).flops == 2 * 2 * 4 * 6 * 10 * (8 + 8)

    def test_fused_kernel_of_another_device(self):
        """Fused attention with dropout is counted on meta, although the CPU has no kernel for it."""
        meta = tuple(item.detach().to("meta") for item in operands())
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            counted = measure(F.scaled_dot_product_attention, meta, {"dropout_p": 0.1})
        assert counted.flops == 2 * 2 * 4 * 6 * 10 * (8 + 8)

    def test_mask_of_integers(self):
        with pytest.raises(RuntimeError, match="Expected attn_mask dtype"):
            measure(F.scaled_dot_product_attention, operands(), {"attn_mask": MASK.int()})


class TestUntouched:
    def meta(self):
        return tuple(item.detach().to("meta").requires_grad_() for item in operands())

    def test_afterwards(self):
        """After a measurement, PyTorch's dispatcher calls the same functions for attention as before."""
        before = torch._C._dispatch_dump(ATTENTION._schema.name)
        measure(F.scaled_dot_product_attention, operands())
        assert before == torch._C._dispatch_dump(ATTENTION._schema.name)

    def test_one_within_the_other(self):
        """After an inner measurement, attention in the outer measurement is still fused."""

        def outer(*items):
            measure(F.scaled_dot_product_attention, items)
            return F.scaled_dot_product_attention(*items)

        assert set(measure(outer, operands()).operators) == {FUSED}

    def test_other_threads(self):
        """If another thread runs attention on the meta device during a measurement, that attention is not fused."""
        made = []

        def attend():
            made.append(F.scaled_dot_product_attention(*self.meta()).grad_fn.name())

        with cpu_attention_on_meta():
            thread = threading.Thread(target=attend)
            thread.start()
            thread.join()
            attend()
        attend()
        fused = "ScaledDotProductFlashAttentionForCpuBackward0"
        expected = [False, True, False]
        assert expected == [name == fused for name in made]
