"""The FLOPs of PyTorch's own modules equal formulas, in whichever way the modules run."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from ways_to_run import (
    Case,
    cases,
    check_backward,
    check_exported,
    check_modes,
    check_scripted,
    check_traced,
    check_weights_without_data,
    either_mode,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # TorchScript is deprecated, but still used
    # a trace freezes values, but they are equal in the measurement
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # torch.export warns about its own code
    pytest.mark.filterwarnings("ignore:The tensor attributes self.layer._flat_weights"),
    pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN"),
]

#: 2 sequences of 5 tokens of width 8. The last 2 tokens of the second sequence are padding.
BATCH, LENGTH, WIDTH, INNER = 2, 5, 8, 16
TOKENS = torch.randn(BATCH, LENGTH, WIDTH)
PADDING = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
STEPS, PACKED_STEPS = BATCH * LENGTH, 5 + 3


class First(nn.Module):
    """A module that returns only the first output of a recurrent layer."""

    # TorchScript cannot call a recurrent layer directly.

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x)[0]


class Packed(nn.Module):
    """A module that runs a recurrent layer on packed sequences of 5 and 3 steps."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([5, 3]), batch_first=True)
        return nn.utils.rnn.pad_packed_sequence(self.layer(packed)[0], batch_first=True)[0]


def encoder(**options):
    layer = nn.TransformerEncoderLayer(WIDTH, 2, INNER, dropout=0.0, batch_first=True, **options)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=not options.get("norm_first"))


def attention(queries, keys, width, key_width=None, value_width=None):
    """Return the MACs of attention and of its four projections."""
    projections = 2 * queries * width * width + keys * ((key_width or width) + (value_width or width)) * width
    return BATCH * (projections + 2 * queries * keys * width)


def recurrent(gates, hidden, *input_widths, steps=STEPS, directions=1, projected=0):
    """Return the MACs of a recurrent network with one layer for each number in ``input_widths``.

    If ``projected`` is not 0, each layer projects its state to this width.
    """
    state = projected or hidden
    return steps * directions * sum(gates * hidden * (width + state) + hidden * projected for width in input_widths)


ATTENTION = attention(LENGTH, LENGTH, WIDTH)
ENCODER = 2 * (ATTENTION + STEPS * 2 * WIDTH * INNER)
AS_PADDED = "the code is the padded encoder's"
KEYWORD_ONLY = "a trace of an encoder knows its first argument only, not the masks"
LENGTHS = "the kernel that packs reads lengths, which have no data on shapes"
LENGTHS_IN_EXPORT = "torch.export cannot follow lengths that pad_packed_sequence reads"
OWN_FAILURE = "in eval under no_grad, PyTorch's own fused path raises on a scripted module with a mask"

CASES = {
    "encoder": Case(encoder, ENCODER, (TOKENS,), no_script=AS_PADDED),
    "padded encoder": Case(
        encoder,
        ENCODER,
        (TOKENS,),
        {"src_key_padding_mask": PADDING},
        decompositions=True,
        export_needs="exporting padded encoders without a check of the padding",
        no_trace=KEYWORD_ONLY,
    ),
    "causal encoder": Case(
        encoder,
        ENCODER,
        (TOKENS,),
        {"mask": nn.Transformer.generate_square_subsequent_mask(LENGTH), "is_causal": True},
        no_export=AS_PADDED,
        no_script=AS_PADDED,
        no_trace=KEYWORD_ONLY,
    ),
    "encoder, norm first": Case(
        lambda: encoder(norm_first=True),
        ENCODER,
        (TOKENS,),
        {"src_key_padding_mask": PADDING},
        no_export=AS_PADDED,
        no_script=AS_PADDED,
        no_trace=KEYWORD_ONLY,
    ),
    "attention": Case(lambda: nn.MultiheadAttention(WIDTH, 2, batch_first=True), ATTENTION, (TOKENS,) * 3),
    "padded attention": Case(
        lambda: nn.MultiheadAttention(WIDTH, 2, batch_first=True),
        ATTENTION,
        (TOKENS,) * 3,
        {"key_padding_mask": PADDING, "need_weights": False},
        no_script=OWN_FAILURE,
        no_trace="a trace takes tensors only",
    ),
    "cross-attention": Case(
        lambda: nn.MultiheadAttention(WIDTH, 2, kdim=6, vdim=4),
        attention(3, 7, WIDTH, 6, 4),
        (torch.randn(3, 2, WIDTH), torch.randn(7, 2, 6), torch.randn(7, 2, 4)),
    ),
    "attention with two more keys": Case(
        lambda: nn.MultiheadAttention(WIDTH, 2, add_bias_kv=True, add_zero_attn=True, batch_first=True),
        # The two additional keys are not projected.
        ATTENTION + BATCH * 2 * LENGTH * 2 * WIDTH,
        (TOKENS,) * 3,
    ),
    "lstm": Case(
        lambda: First(nn.LSTM(8, 6, 2, bidirectional=True, proj_size=3, batch_first=True)),
        recurrent(4, 6, 8, 2 * 3, directions=2, projected=3),
        (TOKENS,),
    ),
    "gru": Case(lambda: First(nn.GRU(8, 6, 2, bidirectional=True)), recurrent(3, 6, 8, 2 * 6, directions=2), (TOKENS,)),
    "rnn": Case(lambda: First(nn.RNN(8, 6, 2, nonlinearity="relu")), recurrent(1, 6, 8, 6), (TOKENS,)),
    "packed lstm": Case(
        lambda: Packed(nn.LSTM(8, 6, bidirectional=True, batch_first=True)),
        recurrent(4, 6, 8, steps=PACKED_STEPS, directions=2),
        (TOKENS,),
        needs_data=LENGTHS,
        no_export=LENGTHS_IN_EXPORT,
    ),
    "packed and projected lstm": Case(
        lambda: Packed(nn.LSTM(8, 6, proj_size=3, batch_first=True)),
        recurrent(4, 6, 8, steps=PACKED_STEPS, projected=3),
        (TOKENS,),
        needs_data=LENGTHS,
        no_export=LENGTHS_IN_EXPORT,
    ),
    "packed gru": Case(
        lambda: Packed(nn.GRU(8, 6, batch_first=True)),
        recurrent(3, 6, 8, steps=PACKED_STEPS),
        (TOKENS,),
        needs_data=LENGTHS,
        no_export=LENGTHS_IN_EXPORT,
    ),
    "packed rnn": Case(
        lambda: Packed(nn.RNN(8, 6, batch_first=True)),
        recurrent(1, 6, 8, steps=PACKED_STEPS),
        (TOKENS,),
        needs_data=LENGTHS,
        no_export=LENGTHS_IN_EXPORT,
    ),
    "lstm cell": Case(lambda: nn.LSTMCell(8, 6), LENGTH * 4 * 6 * (8 + 6), (TOKENS[0],)),
    "convolutions, 1-D": Case(
        lambda: nn.Sequential(
            nn.Conv1d(4, 6, 3, padding="same"), nn.BatchNorm1d(6), nn.ReLU(), nn.ConvTranspose1d(6, 4, 3, 2, groups=2)
        ),
        2 * 9 * 6 * 4 * 3 + 2 * 9 * 6 * (4 // 2) * 3,
        (torch.randn(2, 4, 9),),
    ),
    "convolutions, 2-D": Case(
        lambda: nn.Sequential(
            nn.Conv2d(4, 6, 3, padding=1, groups=2, dilation=2),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.ConvTranspose2d(6, 4, 3, stride=2, output_padding=1),
        ),
        # A kernel of 3 with dilation 2 covers 5 positions. On 9 positions with padding 1 on both sides, it has 7
        # places.
        2 * 7 * 7 * 6 * (4 // 2) * 9 + 2 * 7 * 7 * 6 * 4 * 9,
        (torch.randn(2, 4, 9, 9),),
        decompositions=True,
    ),
    "convolutions, 3-D": Case(
        lambda: nn.Sequential(
            nn.Conv3d(4, 4, 3, padding=1, groups=4), nn.BatchNorm3d(4), nn.ReLU(), nn.ConvTranspose3d(4, 2, 2, stride=2)
        ),
        5**3 * 4 * 27 + 5**3 * 4 * 2 * 8,
        (torch.randn(1, 4, 5, 5, 5),),
    ),
    "circular convolution": Case(
        lambda: nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular"), 36 * 4 * 3 * 9, (torch.randn(1, 3, 6, 6),)
    ),
    "convolution without a batch": Case(lambda: nn.Conv2d(3, 4, 3, padding=1), 36 * 4 * 3 * 9, (torch.randn(3, 6, 6),)),
}


#: Recurrent layers whose input the test has packed, so that the model itself does not read lengths.
PACKED = nn.utils.rnn.pack_sequence([torch.randn(5, 8), torch.randn(3, 8)])
PACKED_INPUTS = {
    "lstm": Case(
        lambda: nn.LSTM(8, 6, 2, bidirectional=True, proj_size=3),
        recurrent(4, 6, 8, 2 * 3, steps=PACKED_STEPS, directions=2, projected=3),
        (PACKED,),
    ),
    "gru": Case(
        lambda: nn.GRU(8, 6, bidirectional=True), recurrent(3, 6, 8, steps=PACKED_STEPS, directions=2), (PACKED,)
    ),
    "rnn": Case(lambda: nn.RNN(8, 6, 2), recurrent(1, 6, 8, 6, steps=PACKED_STEPS), (PACKED,)),
}


@either_mode
@cases(CASES)
def test_modes(case, train):
    check_modes(case, train)


@either_mode
@cases(CASES, "needs_data")
def test_weights_without_data(case, train):
    check_weights_without_data(case, train)


@cases(CASES, "no_export")
def test_exported(case):
    check_exported(case)


@cases(CASES, "no_script")
def test_scripted(case):
    check_scripted(case)


@cases(CASES, "no_trace")
def test_traced(case):
    check_traced(case)


@cases(CASES)
def test_backward(case):
    check_backward(case)


@either_mode
@cases(PACKED_INPUTS)
def test_packed_inputs(case, train):
    # The packed input itself needs data.
    check_modes(case, train)
    check_weights_without_data(case, train, inputs_without_data=False)
