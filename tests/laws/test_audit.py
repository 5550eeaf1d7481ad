"""`Law.audit`: hand-written formulas with one mistake each, and the modules that the audit names.

The models are small. Their costs are derived here: 2 FLOPs for each multiply-accumulate, and the backward pass costs
twice as much as the forward pass, because embeddings, whose gradient is needed, come first.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pytest_flopsbudget import UsageError, law

WIDTH, FEED, VOCABULARY, LAYERS, WINDOW = 8, 24, 11, 3, 32


class Attention(nn.Module):
    def __init__(self, window=None):
        super().__init__()
        self.project, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.window = window

    def forward(self, x):
        batch, sequence, _ = x.shape
        q, k, v = (part.reshape(-1, self.window or sequence, WIDTH) for part in self.project(x).chunk(3, dim=-1))
        return self.out(((q @ k.transpose(1, 2)).softmax(-1) @ v).reshape(batch, sequence, WIDTH))


class Block(nn.Module):
    def __init__(self, window=None):
        super().__init__()
        self.norm, self.attn = nn.LayerNorm(WIDTH), Attention(window)
        self.up, self.down = nn.Linear(WIDTH, FEED), nn.Linear(FEED, WIDTH)

    def forward(self, x):
        x = x + self.attn(self.norm(x))
        return x + self.down(self.up(x).relu())


class Decoder(nn.Module):
    def __init__(self, windows=(None,) * LAYERS):
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, WIDTH)
        self.layers = nn.ModuleList(map(Block, windows))
        self.head = nn.Linear(WIDTH, VOCABULARY)

    def forward(self, tokens):
        x = self.embed(tokens)
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


class WithVision(nn.Module):
    """Four patches of an image, then the tokens of the text. The decoder runs on both."""

    def __init__(self):
        super().__init__()
        self.vision = nn.Sequential(nn.Linear(6, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH))
        self.decoder = Decoder()

    def forward(self, patches, tokens):
        return self.decoder(tokens) + self.vision(patches).mean()


LAYER = 6 * (4 * WIDTH**2 + 2 * WIDTH * FEED)
HEAD = 6 * WIDTH * VOCABULARY
BIASES = 6 * (LAYERS * (5 * WIDTH + FEED) + VOCABULARY)
NORMS = 6 * LAYERS * 2 * WIDTH
PARAMS = sum(parameter.numel() for parameter in Decoder().parameters())


def attention(keys):
    return 12 * LAYERS * WIDTH * keys


@pytest.fixture(scope="module")
def decoder():
    return law(
        Decoder(),
        lambda s: torch.zeros(2, s, dtype=torch.int64),
        backward=True,
        s=range(16, 129),
    )


@pytest.fixture(scope="module")
def chunked():
    return law(
        Decoder((WINDOW,) * LAYERS),
        lambda s: torch.zeros(1, s, dtype=torch.int64),
        backward=True,
        s=range(WINDOW, 4 * WINDOW + 1, WINDOW),
    )


@pytest.fixture(scope="module")
def with_vision():
    return law(
        WithVision(),
        lambda s: (torch.empty(1, 4, 6), torch.zeros(1, s, dtype=torch.int64)),
        backward=True,
        s=range(16, 129),
    )


def sentences(audit):
    return [finding.sentence for finding in audit.findings]


def per_token(s):
    return LAYERS * LAYER + HEAD + attention(s)


def test_right_formulas(decoder, chunked):
    assert decoder.audit(per_token, per="2*s")
    assert decoder.audit(lambda s: 2 * s * per_token(s))
    assert chunked.audit(lambda: LAYERS * LAYER + HEAD + attention(WINDOW), per="s")
    assert str(decoder.audit(per_token, per="2*s")) == ("per_token gives the flops of the model for s = 16 ... 128")
    # Floats are fine as long as they are exact, and so are halves.
    assert decoder.audit(lambda s: per_token(s) / 2 + per_token(s) * 0.5, per="2*s")


#: A formula per token with a mistake → what the audit says about it.
MISTAKES = {
    # Attention's two products counted as one.
    "half of attention": (
        lambda s: LAYERS * LAYER + HEAD + attention(s) / 2,
        ["counts layers.*.attn at half"],
    ),
    "multiply-accumulates": (
        lambda s: per_token(s) / 2,
        ["counts the whole model at half; does it count a multiply-accumulate as one FLOP?"],
    ),
    "forward only": (
        lambda s: per_token(s) / 3,
        ["counts the whole model at a third; does it leave out the backward pass?"],
    ),
    "no attention": (lambda s: LAYERS * LAYER + HEAD, ["leaves out layers.*.attn: 288\u00b7s"]),
    "no head": (lambda s: LAYERS * LAYER + attention(s), [f"leaves out head: {HEAD}"]),
    "a layer too few": (
        lambda s: (LAYERS - 1) * LAYER + HEAD + attention(s) * 2 // 3,
        ["leaves out one of the 3 modules layers.*: 96\u00b7s + 3,840"],
    ),
    "head twice, attention missing": (
        lambda s: LAYERS * LAYER + 2 * HEAD,
        [
            "leaves out layers.*.attn: 288\u00b7s",
            f"counts the parameters of embed, which are in no product: {HEAD} (or counts head twice)",
        ],
    ),
    "6N": (
        lambda s: 6 * PARAMS,
        [
            "leaves out layers.*.attn: 288\u00b7s",
            f"counts the parameters of embed, which are in no product: {HEAD} (or counts head twice)",
            f"counts the parameters of norms and biases, which are in no product: {BIASES + NORMS:,}",
        ],
    ),
    "PaLM": (
        lambda s: 6 * PARAMS + attention(s),
        [
            f"counts the parameters of embed, which are in no product: {HEAD} (or counts head twice)",
            f"counts the parameters of norms and biases, which are in no product: {BIASES + NORMS:,}",
        ],
    ),
    # A length from the configuration in place of the length of the batch, as in NVIDIA-NeMo/Megatron-Bridge#3498.
    "configured length": (
        lambda s: LAYERS * LAYER + HEAD + attention(128),
        ["counts layers.*.attn 128/s times (8 times at s = 16)"],
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(decoder, mistake):
    formula, expected = MISTAKES[mistake]
    audit = decoder.audit(formula, per="2*s", name="formula")
    assert not audit
    assert sorted(sentences(audit)) == sorted(expected)


def test_text(decoder):
    audit = decoder.audit(lambda s: LAYERS * LAYER + HEAD, per="2*s", name="formula")
    assert str(audit).splitlines() == [
        "formula does not give the flops of the model for s = 16 ... 128",
        f"  counted:    288\u00b7s + {LAYERS * LAYER + HEAD:,}",
        f"  formula:    {LAYERS * LAYER + HEAD:,}",
        "  difference: 288\u00b7s",
        f"  at s = 128: counted {per_token(128):,}, formula {LAYERS * LAYER + HEAD:,}, 0.2463 times the count",
        "  the formula leaves out layers.*.attn: 288\u00b7s",
    ]
    assert audit.counterexample == ({"s": 128}, per_token(128), LAYERS * LAYER + HEAD)


def test_windows_four_times(chunked):
    """NVIDIA/Megatron-LM#3280: attention over the whole sequence, where the model attends within chunks."""
    audit = chunked.audit(per_token, per="s")
    assert sentences(audit) == ["counts layers.*.attn s/32 times (4 times at s = 128)"]


def test_one_windowed_layer():
    found = law(
        Decoder((WINDOW, None, WINDOW, None)),
        lambda s: torch.zeros(1, s, dtype=torch.int64),
        backward=True,
        s=range(WINDOW, 8 * WINDOW + 1, WINDOW),
    )
    right = 4 * LAYER + HEAD
    assert found.audit(lambda s: right + (attention(s) + attention(WINDOW)) * 2 // 3, per="s")
    audit = found.audit(lambda s: right + attention(s) * 4 // 3, per="s")
    assert sentences(audit) == ["counts layers.{0,2}.attn s/32 times (8 times at s = 256)"]


def test_missing_vision(with_vision):
    """pytorch/torchtitan#4057: the vision encoder is not counted. Its input needs no gradient."""
    vision = 4 * (4 * 6 * WIDTH + 6 * WIDTH**2)
    audit = with_vision.audit(per_token, per="s")
    assert sentences(audit) == [f"leaves out vision: {vision:,}"]
    assert with_vision.audit(lambda s: s * per_token(s) + vision)


def test_vision_for_each_token(with_vision):
    """The encoder's work counted for each token of text, and not for each patch: 4 patches, 128 tokens."""
    vision = 4 * 6 * WIDTH + 6 * WIDTH**2
    audit = with_vision.audit(lambda s: per_token(s) + vision, per="s")
    assert sentences(audit) == ["counts vision s/4 times (32 times at s = 128)"]


class TwoStreams(nn.Module):
    """A block of a diffusion transformer: image and text have their own layers, and attend to each other."""

    def __init__(self):
        super().__init__()
        self.image, self.text = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.joint = Attention()

    def forward(self, image, text):
        return self.joint(torch.cat([self.image(image), self.text(text)], dim=1))


def test_flux():
    """pytorch/torchtitan#4366: the FLOPs of flux at half. Here all of them, one stream, or one product of attention."""
    found = law(
        TwoStreams(),
        lambda s: (torch.empty(1, s, WIDTH), torch.empty(1, s, WIDTH)),
        backward=True,
        metrics=["flops", "params"],
        s=range(16, 129),
    )
    # The inputs need no gradient, so the first layers have a product less.
    stream, joint, products = 4 * WIDTH**2, 6 * 4 * WIDTH**2 * 2, 12 * WIDTH * 4

    def right(s):
        return 2 * stream * s + joint * s + products * s**2

    assert found.audit(right)
    assert sentences(found.audit(lambda s: right(s) // 2)) == [
        "counts the whole model at half; does it count a multiply-accumulate as one FLOP?"
    ]
    assert sentences(found.audit(lambda s: right(s) - stream * s)) == ["leaves out image or text: 256\u00b7s"]
    assert sentences(found.audit(lambda s: right(s) - products * s**2 // 2)) == ["counts joint at half"]


def test_no_explanation(decoder):
    audit = decoder.audit(lambda s: per_token(s) + 17 * s**2 + 5, per="2*s")
    assert audit.findings == ()
    assert audit.text().endswith("no mistake with one, two or three modules was found that explains the difference")


def test_pieces(decoder):
    """A formula that is wrong for a part of the range only: the audit names this part."""
    audit = decoder.audit(lambda s: per_token(min(s, 64)), per="2*s")
    assert audit.sizes == "s = 65 ... 128"
    assert sentences(audit) == ["counts layers.*.attn 64/s times (1/2 times at s = 128)"]


def test_formulas_without_a_law(decoder):
    def hashed(s):
        return per_token(s) + (s % 61 == 60)

    audit = decoder.audit(hashed, per="2*s")
    assert not audit
    assert audit.counterexample is not None
    assert (audit.counterexample[0]["s"] % 61, audit.findings) == (60, ())


def test_two_sizes():
    """A call of b * s tokens; the formula is for one token."""
    found = law(nn.Linear(8, 8), lambda b, s: torch.empty(b, s, 8), b=range(1, 65), s=range(16, 129))
    assert found.audit(lambda: 2 * 64, per="b*s")
    assert sentences(found.audit(lambda b: 128 * b, per="b*s")) == [
        "counts the whole model b times (64 times at b = 64)"
    ]


class Configured:
    width = WIDTH


def test_other_parameters(decoder):
    def formula(s, model, layers=LAYERS):
        return layers * LAYER + HEAD + 12 * layers * model.width * s

    assert decoder.audit(formula, per="2*s", given={"model": Configured})


@pytest.mark.parametrize(
    ("formula", "options", "message"),
    [
        (lambda seq: 1, {}, "formula takes 'seq', which is no size; did you mean {s}?"),
        (lambda s: s / 0, {}, "formula(s=16) raised ZeroDivisionError: division by zero"),
        (lambda s: None, {}, "formula(s=16) returned a value of type NoneType; a formula returns a number"),
        (lambda s: "6", {}, "formula(s=16) returned a value of type str"),
        (lambda s: float("inf"), {}, "formula(s=16) returned inf"),
        (lambda s: s * 1e17, {}, "formula(s=16) returned a float above 2^53, which is rounded; return a whole number"),
        (lambda s, /: s, {}, "formula: the parameter 's' cannot be given by its name; remove the / after it"),
        (lambda s: s, {"per": "2*T"}, "unknown name 'T'"),
        (lambda s: s, {"per": "log2(s)"}, None),
    ],
)
def test_errors(decoder, formula, options, message):
    if message is None:
        assert not decoder.audit(formula, **options)
        return
    with pytest.raises(UsageError) as error:
        decoder.audit(formula, name="formula", **options)
    assert message in str(error.value)
