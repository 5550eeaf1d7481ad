"""Models and operators for which other FLOP counters give wrong counts without a warning."""

from __future__ import annotations

import pytest
import torch
from features import requires
from torch import nn
from torch.nn import functional as F  # noqa: N812 -- its usual name
from torch.nn.modules import module as global_hooks
from torch.utils.checkpoint import checkpoint

from pytest_flopsbudget.counting.measure import measure

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script")  # raised when PyTorch's compiler is loaded

TOKENS = torch.randn(2, 10, 16)


def attention_flops(batch, queries, keys, width):
    """Return the FLOPs of attention's scores and weighted sums. ``width`` is the width of all heads together."""
    return 2 * batch * queries * keys * 2 * width


def multi_head_flops(batch, length, width):
    """Return the FLOPs of attention and of its four projections."""
    return 4 * 2 * batch * length * width * width + attention_flops(batch, length, length, width)


def test_attention_on_cpu():
    """pytorch/pytorch#195460: the CPU's attention operator is counted."""
    operand = torch.randn(2, 4, 10, 4)
    assert measure(F.scaled_dot_product_attention, (operand, operand, operand)).flops == attention_flops(2, 10, 10, 16)


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_multi_head_attention_in_eval(mode):
    """sovrasov/flops-counter.pytorch#101, Lyken17/pytorch-OpCounter#197: attention is counted in evaluation mode."""
    model = nn.MultiheadAttention(16, 4, batch_first=True).eval()
    with mode():
        assert measure(model, (TOKENS, TOKENS, TOKENS)).flops == multi_head_flops(2, 10, 16)
        unweighted = measure(model, (TOKENS, TOKENS, TOKENS), {"need_weights": False})
        assert unweighted.flops == multi_head_flops(2, 10, 16)


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_transformer_encoder_in_eval(mode):
    """facebookresearch/fvcore#153: an encoder layer is counted in evaluation mode."""
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), 3).eval()
    feed_forward = 2 * 2 * 10 * 2 * 16 * 32
    with mode():
        assert measure(model, TOKENS).flops == 3 * (multi_head_flops(2, 10, 16) + feed_forward)


def test_inference_mode():
    """pytorch/pytorch#126268: operators are counted in inference mode."""
    model = nn.Sequential(nn.Linear(16, 8), nn.GRU(8, 4))
    linear, recurrent = 2 * 20 * 16 * 8, 2 * 20 * 3 * 4 * (8 + 4)
    with torch.inference_mode():
        assert measure(model, TOKENS).flops == linear + recurrent
    assert measure(torch.inference_mode()(lambda x: model(x)), TOKENS).flops == linear + recurrent  # noqa: PLW0108
    assert measure(torch.inference_mode()(torch.matmul), (torch.ones(3, 4), torch.ones(8, 4, 5))).macs == 480


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_a_token_made_from_a_parameter(mode):
    """If the input of a layer is an expanded parameter, such as a class token, the layer is counted."""

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.token, self.layer = nn.Parameter(torch.zeros(1, 1, 16)), nn.Linear(16, 8)

        def forward(self, x):
            return self.layer(self.token.expand(len(x), 1, 16))

    with mode():
        counted = measure(Model(), TOKENS)
    assert counted.flops == counted["layer"].flops == 2 * 2 * 16 * 8


def test_lstm_on_cpu():
    """meta-pytorch/tnt#624: the products of an LSTM are counted."""
    assert measure(nn.LSTM(16, 8, batch_first=True), TOKENS).flops == 2 * 20 * 4 * 8 * (16 + 8)


@pytest.mark.parametrize("groups", [1, 2, 4, 8])
def test_gradient_of_a_grouped_weight(groups):
    """pytorch/pytorch#183405: the weight gradient of a grouped convolution costs as much as the forward pass."""
    model = nn.Conv2d(8, 16, 3, padding=1, groups=groups)
    forward = 2 * 6 * 6 * 16 * (8 // groups) * 9
    inputs = torch.randn(1, 8, 6, 6)
    assert measure(model, inputs).flops == forward
    assert measure(model, inputs, backward=True).flops == 2 * forward
    assert measure(model, inputs.requires_grad_(), backward=True).flops == 3 * forward


def test_transposed_convolution():
    """pytorch/pytorch#119806, sovrasov/flops-counter.pytorch#149: a transposed convolution is counted."""
    # each *input* position is multiplied by the kernel
    model = nn.ConvTranspose2d(8, 4, 3, stride=2)
    forward = 2 * 6 * 6 * 8 * 4 * 9
    inputs = torch.randn(1, 8, 6, 6)
    assert measure(model, inputs).flops == forward
    assert measure(model, inputs.requires_grad_(), backward=True).flops == 3 * forward


@pytest.mark.parametrize(
    ("product", "args", "flops"),
    [
        (torch.mv, (torch.ones(3, 4), torch.ones(4)), 2 * 3 * 4),
        (torch.dot, (torch.ones(4), torch.ones(4)), 2 * 4),
        (torch.addbmm, (torch.ones(3, 5), torch.ones(2, 3, 4), torch.ones(2, 4, 5)), 2 * 2 * 3 * 4 * 5),
        (nn.Bilinear(4, 5, 6), (torch.ones(3, 4), torch.ones(3, 5)), 2 * 3 * 6 * 4 * 5),
        pytest.param(
            getattr(torch, "_grouped_mm", None),
            (
                torch.ones(4, 8, dtype=torch.bfloat16),
                torch.ones(2, 8, 16, dtype=torch.bfloat16),
                torch.tensor([1, 4], dtype=torch.int32),
            ),
            2 * 4 * 8 * 16,
            marks=requires("torch._grouped_mm"),
        ),
        (
            torch._int_mm,
            (torch.ones(32, 8, dtype=torch.int8), torch.ones(8, 16, dtype=torch.int8)),
            2 * 32 * 8 * 16,
        ),
    ],
)
def test_less_common_products(product, args, flops):
    """Each product is counted, although `FlopCounterMode` of torch 2.13 counts 0 FLOPs for it."""
    assert measure(product, args).flops == flops


def test_grouped_query_attention():
    query, key = torch.randn(2, 8, 10, 4), torch.randn(2, 2, 10, 4)
    flops = measure(F.scaled_dot_product_attention, (query, key, key), {"enable_gqa": True}).flops
    assert flops == attention_flops(2, 10, 10, 8 * 4)


def test_attention_by_keywords():
    """thu-ml/RoboticsDiffusionTransformer#120: attention is counted if its operands are passed by keyword."""
    operands = dict.fromkeys(("query", "key", "value"), torch.randn(2, 4, 10, 4))
    assert measure(F.scaled_dot_product_attention, (), operands).flops == attention_flops(2, 10, 10, 16)


def test_broadcast_product():
    """The product of one matrix and a batch of matrices costs a product for each matrix of the batch."""
    assert measure(torch.matmul, (torch.ones(3, 4), torch.ones(8, 4, 5))).macs == 480


def test_linear_on_more_dimensions():
    """TylerYep/torchinfo#77: a linear layer is counted at every position of its input."""
    assert measure(nn.Linear(16, 8), TOKENS).flops == 2 * 2 * 10 * 16 * 8


def test_a_module_used_twice():
    """Lyken17/pytorch-OpCounter#98, deepspeedai/DeepSpeed#7256: a layer that is used twice has twice the FLOPs."""
    layer = nn.Linear(16, 16, bias=False)
    counted = measure(nn.Sequential(nn.Sequential(layer, nn.ReLU()), nn.Sequential(layer, nn.ReLU())), TOKENS)
    one = 2 * 20 * 16 * 16
    assert (counted.flops, counted.params) == (2 * one, 256)
    assert [counted[path].flops for path in ("0", "0.0", "1", "1.0")] == [one] * 4


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointed_regions(reentrant):
    """pytorch/pytorch#134242: recomputed work and gradients are credited to the right modules."""

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.before, self.region, self.after = (nn.Linear(16, 16) for _ in range(3))

        def forward(self, x):
            x = checkpoint(lambda x: self.region(x).tanh(), self.before(x), use_reentrant=reentrant)
            return self.after(x)

    counted = measure(Model(), TOKENS, backward=True)
    one = 2 * 20 * 16 * 16
    # The region runs forward, forward again, the gradient of its weight, and the gradient of its input.
    assert {path: counted[path].flops for path in ("before", "region", "after")} == {
        "before": 2 * one,
        "region": 4 * one,
        "after": 3 * one,
    }


@pytest.mark.parametrize("backend", ["eager", "aot_eager", "inductor"])
def test_compiled_modules(backend):
    """facebookresearch/fvcore#137, sovrasov/flops-counter.pytorch#110: a compiled model is counted."""
    model = nn.Sequential(nn.Linear(16, 8), nn.Linear(8, 4))
    plain, compiled = measure(model, TOKENS), measure(torch.compile(model, backend=backend), TOKENS)
    assert compiled == plain
    assert plain.flops == 2 * 20 * (16 * 8 + 8 * 4)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_scripted_modules():
    """A scripted model that already ran three times has the right count."""
    # In the three runs, PyTorch optimizes the model.
    model = torch.jit.script(nn.Sequential(nn.Linear(16, 8), nn.Linear(8, 4)))
    for _ in range(3):
        model(TOKENS)
    assert measure(model, TOKENS).flops == 2 * 20 * (16 * 8 + 8 * 4)


def test_complex_products():
    left, right = torch.ones(3, 4, dtype=torch.complex64), torch.ones(4, 5, dtype=torch.complex64)
    assert measure(torch.mm, (left, right)).flops == 8 * 3 * 4 * 5


def test_gradients_within_the_measured_code():
    """pytorch/pytorch#131753: code that calls `torch.autograd.grad` is counted."""
    model = nn.Linear(16, 8)

    def forward(x):
        x = x.requires_grad_()
        return torch.autograd.grad(model(x).sum(), x)

    assert measure(forward, TOKENS).flops == 2 * (2 * 20 * 16 * 8)


def test_flex_attention():
    """pytorch/pytorch#134385: flex attention costs as much as usual attention."""
    from torch.nn.attention.flex_attention import flex_attention

    operand = torch.randn(2, 4, 16, 8)
    counted = measure(flex_attention, (operand, operand, operand))
    assert counted.flops == attention_flops(2, 16, 16, 4 * 8)
    assert not counted.unknown_operators


def test_nothing_is_left_behind():
    """Lyken17/pytorch-OpCounter#82, deepspeedai/DeepSpeed#7413: a measurement leaves no hooks or buffers behind."""
    model = nn.Sequential(nn.Linear(16, 8), nn.BatchNorm1d(10)).train()
    functions = F.linear, F.conv2d, torch.matmul, nn.Module.__call__, torch.Tensor.__matmul__
    attributes = {id(part): set(vars(part)) for part in model.modules()}
    state = {name: value.clone() for name, value in model.state_dict().items()}
    measure(model, TOKENS, backward=True)
    assert (F.linear, F.conv2d, torch.matmul, nn.Module.__call__, torch.Tensor.__matmul__) == functions
    assert {id(part): set(vars(part)) for part in model.modules()} == attributes
    assert list(model.state_dict()) == list(state)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(part.training and not part._forward_hooks and not part._forward_pre_hooks for part in model.modules())
    assert not global_hooks._global_forward_hooks
    assert not global_hooks._global_forward_pre_hooks
