"""`law` finds the law of models whose law is derived by hand here, or says that there is none."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from growing import (
    Attention,
    Cliff,
    LinearAttention,
    Routed,
    Strided,
    Truncated,
    Unsteady,
    VisionTransformer,
    Windowed,
    image,
    tokens,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pytest_flopsbudget import UsageError, law, measure, shape_only

D = 8
LONG = range(128, 8193)


def text(metric_law):
    return metric_law.text(signs=False)


def attention_flops(size, width=D):
    """4 projections of width to width, and two products of size by size by width; 2 FLOPs each."""
    return 2 * 4 * width**2 * size + 2 * 2 * width * size**2


def test_attention():
    found = law(Attention(), tokens(), n=LONG)
    assert text(found["flops"]) == f"{4 * D}*n^2 + {8 * D**2}*n"
    assert str(found["flops"]) == "32·n² + 512·n"
    assert found["flops"].at(n=777) == attention_flops(777)
    assert found["params"].at(n=128) == 3 * D * D + 3 * D + D * D + D
    assert (found["flops"].degree("n"), found["flops"].order("n"), found["params"].order("n")) == (2, "n^2", "1")
    assert text(found.modules["project"]["flops"]) == f"{2 * 3 * D**2}*n"
    assert text(found.operators["aten.bmm"]["flops"]) == f"{4 * D}*n^2"
    assert len(found.counted) <= 12
    assert "exact for n = 128 ... 8,192" in found.evidence


def test_gpt2():
    transformers = pytest.importorskip("transformers")
    width, layers = 48, 3
    config = transformers.GPT2Config(n_embd=width, n_layer=layers, n_head=4, n_positions=4096, vocab_size=99)
    with shape_only():
        model = transformers.GPT2Model(config).eval()

    def make(batch, sequence):
        return torch.zeros(batch, sequence, dtype=torch.long)

    found = law(model, make, batch=range(1, 33), sequence=range(16, 4097))
    # Each layer has 12·d² weights and two products of attention.
    squares, lines = 4 * layers * width, 24 * layers * width**2
    assert str(found["flops"]) == f"{squares:,}·B·S² + {lines:,}·B·S"
    assert str(found.modules["h.1.attn"]["flops"]) == f"{4 * width}·B·S² + {8 * width**2:,}·B·S"
    assert found.modules["h.0.mlp"]["flops"].order("sequence") == "n"
    assert found["flops"].at(B=3, S=4096) == found["flops"].at(batch=3, sequence=4096)
    assert len(found.counted) <= 20


def test_vision_transformer_in_resolution():
    # ⌊n/16⌋² patches of 3·16·16 values.
    found = law(VisionTransformer(), image, n=range(64, 513))
    squares = 2 * 3 * 16 * 16 * D + 8 * D**2
    assert text(found["flops"]) == f"{4 * D}*floor(n/16)^4 + {squares:,}*floor(n/16)^2"
    assert found["flops"].order("n") == "n^4"
    stepped = law(VisionTransformer(), image, n=range(64, 513, 16))["flops"]
    assert Fraction(4 * D, 16**4) == Fraction(1, 2048)
    assert text(stepped) == f"1/2,048*n^4 + {squares // 256}*n^2"


def test_windows():
    found = law(Windowed(16), tokens(), n=range(100, 3000))
    assert str(found["flops"]) == f"{attention_flops(16):,}·⌈n/16⌉"
    assert found["flops"].order("n") == "n"


class InParts(nn.Module):
    """Attention in parts of 16 tokens, one after the other. The last part is shorter."""

    def __init__(self, part=16):
        super().__init__()
        self.part = part
        self.attention = Attention()

    def forward(self, x):
        return torch.cat([self.attention(part) for part in x.split(self.part, dim=1)], dim=1)


def test_parts_of_which_the_last_one_is_shorter():
    found = law(InParts(), tokens(), n=range(30, 700))["flops"]
    assert all(found.at(n=n) == n // 16 * attention_flops(16) + attention_flops(n % 16) for n in range(30, 700))
    assert found.order("n") == "n"


@pytest.mark.parametrize("first", [15, 16, 17])
def test_powers_of_two_without_a_logarithm_are_whole_windows(first):
    class Padded(nn.Linear):
        def forward(self, x):
            return super().forward(nn.functional.pad(x, (0, 0, 0, -x.shape[1] % 16)))

    found = law(Padded(8, 8), tokens(), n=range(first, 4000))["flops"]
    assert text(found) == f"{2 * 8 * 8 * 16:,}*ceil(n/16)"


@pytest.mark.parametrize("window", [6, 9, 16])
def test_padding_is_missing_where_the_windows_are_whole(window):
    model = Windowed(window)
    found = law(model, tokens(), n=range(58, 400))
    for n in (10 * window, 14 * window, 14 * window + 1, 20 * window - 1):
        counted = measure(model, torch.empty(1, n, 8))
        for metric in ("flops", "launches", "memory_traffic", "peak_memory"):
            assert not found[metric].found or found[metric].at(n=n) == counted.value(metric)
    assert found["flops"].found


def test_a_cliff_among_steps():
    class Both(Strided):
        def forward(self, image):
            image = super().forward(image)
            return self.rest(self.rest(image)) if image.shape[2] > 40 else image

    found = law(Both(2), image, n=range(64, 513))["flops"]

    def convolutions(n):
        total = 0
        for _ in range(2):
            n = -(-n // 2)
            total += 2 * 4 * 4 * 9 * n**2
        return total

    for n in (64, 99, 160, 161, 162, 301, 512):
        second = -(-n // 4)
        expected = 2 * 3 * 4 * 49 * (-(-n // 2)) ** 2 + 2 * 4 * 4 * 9 * second**2
        expected += convolutions(second) if second > 40 else 0
        assert not found.found or found.at(n=n) == expected


def test_steps_in_two_symbols():
    model = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 2, 1))
    found = law(model, lambda h, w: torch.empty(1, 3, h, w), h=range(8, 100), w=range(8, 120))["flops"]
    assert str(found) == "216·⌈h/2⌉·⌈w/2⌉ + 288·⌈h/4⌉·⌈w/4⌉"


def test_even_and_odd():
    class Odd(nn.Linear):
        def forward(self, x):
            return super().forward(x if x.shape[1] % 2 else super().forward(x))

    found = law(Odd(8, 8), tokens(), n=range(2, 800))["flops"]
    assert str(found) == "n = 2, 4 … 798: 256·n; n = 3, 5 … 799: 128·n"


def test_a_bump_in_the_middle():
    class Bump(Cliff):
        def forward(self, x):
            return super().forward(x) if x.shape[1] <= 3000 else self.first(x)

    found = law(Bump(1000), tokens(), n=range(2, 9000))["flops"]
    assert str(found) == "n = 2 … 1,000: 128·n; n = 1,001 … 3,000: 256·n; n = 3,001 … 8,999: 128·n"


def test_strides():
    width = 4
    found = law(Strided(5, width), image, n=range(64, 513))["flops"]

    def expected(n):
        total, channels, kernel = 0, 3, 7
        for _ in range(5):
            n = -(-n // 2)
            total += 2 * channels * width * kernel**2 * n**2
            channels, kernel = width, 3
        return total

    assert found.found
    assert all(found.at(n=n) == expected(n) for n in range(64, 513))
    assert "⌈n/32⌉²" in str(found)


def test_unpadded_strides_have_a_law_for_each_remainder_or_one_expression():
    model = nn.Sequential(nn.Conv1d(1, 2, 5, 3), nn.Conv1d(2, 2, 4, 2))
    found = law(model, lambda n: torch.empty(1, 1, n), n=range(40, 400))["flops"]

    def expected(n):
        first = (n - 5) // 3 + 1
        second = (first - 4) // 2 + 1
        return 2 * 2 * 5 * first + 2 * 2 * 2 * 4 * second

    assert all(found.at(n=n) == expected(n) for n in range(40, 400))


def test_linear_attention():
    found = law(LinearAttention(), tokens(), n=LONG)["flops"]
    assert str(found) == f"{8 * D**2 + 4 * D**2}·n"
    assert found.order("n") == "n"


class Sorted(nn.Module):
    def forward(self, x):
        return x.sort(dim=1).values


class Transformed(nn.Module):
    def forward(self, x):
        return torch.fft.fft(torch.complex(x, x), dim=1)


def test_a_formula_by_hand():
    found = law(Attention(), tokens(), n=LONG)
    assert found.compare("flops", "8*n*d^2 + 4*n^2*d", {"d": D})
    assert found.compare("params", "4*d^2 + 4*d", {"d": D})
    wrong = found.compare("flops", "8*n*d^2 + 2*n^2*d", {"d": D})
    assert not wrong
    assert "difference: 16·n²" in str(wrong)
    assert "in the model itself: 32·n²" in str(wrong)


def test_sorting():
    # n·⌈log2 n⌉ comparisons in each of 8 columns.
    found = law(Sorted(), tokens(), n=range(100, 40_000))["other_flops"]
    assert str(found) == "8·n·⌈log₂n⌉"
    assert found.order("n") == "n log n"
    assert found.at(n=129) == 8 * 129 * 8


def test_fourier_transform():
    # 5·n·log2 n in each of 8 columns; other sizes than powers of two are rounded, and have no law.
    found = law(Transformed(), tokens(), n=range(64, 40_000))["other_flops"]
    assert found.pieces[0].domain.powers_of_two
    assert found.at(n=1024) == 8 * 5 * 1024 * 10
    with pytest.raises(UsageError, match=r"no law is known at n = 1,025; it holds for n = 64 \.\.\. 39,999"):
        found.at(n=1025)


@pytest.mark.parametrize("longest", [3, 1000, 4990, 777])
def test_a_hidden_cliff(longest):
    found = law(Cliff(longest), tokens(), n=range(2, 5000))["flops"]
    assert [(piece.domain["n"], str(piece.expression)) for piece in found.pieces] == [
        (range(2, longest + 1), "128·n"),
        (range(longest + 1, 5000), "256·n"),
    ]


def test_a_cliff_in_one_of_two_symbols():
    found = law(Cliff(100), lambda b, n: torch.empty(b, n, 8), b=range(1, 65), n=range(16, 513))["flops"]
    assert str(found) == "b = 1 … 64, n = 16 … 100: 128·b·n; b = 1 … 64, n = 101 … 512: 256·b·n"


def test_a_maximum():
    found = law(Truncated(1000), tokens(), n=range(2, 5000))["flops"]
    assert str(found) == "n = 2 … 1,000: 128·n; n = 1,001 … 4,999: 128,000"
    assert found.order("n") == "1"


def test_peak_memory_is_a_maximum_of_laws():
    found = law(Attention(), tokens(), n=range(16, 2000))["peak_memory"]
    for n in (16, 40, 41, 150, 151, 700, 1999):
        assert found.at(n=n) == measure(Attention(), torch.empty(1, n, 8)).peak_memory


class Positions(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.zeros(1, 64, 8))
        self.layer = nn.Linear(8, 8)

    def forward(self, x):
        return self.layer(x + self.table)


def test_the_first_sizes_are_special():
    """The backward pass of a batch of 1 sums no rows, and a batch of 2 has another peak than larger ones."""
    found = law(Positions(), lambda b: torch.empty(b, 64, 8), backward=True, b=range(1, 65))
    for metric in ("flops", "launches", "memory_traffic", "peak_memory"):
        assert found[metric].found
        for b in (1, 2, 3, 4, 37, 64):
            assert found[metric].at(b=b) == measure(Positions(), torch.empty(b, 64, 8), backward=True).value(metric)


def test_another_program_at_each_size():
    found = law(Unsteady(), tokens(), n=range(3, 3000))
    assert not found["flops"].found
    assert text(found["flops"]).startswith(
        "no law of degree <= 4 on this range: other modules or operators run at n = "
    )
    with pytest.raises(UsageError, match="flops: no law of degree <= 4"):
        found["flops"].at(n=3)
    with pytest.raises(UsageError, match="no law"):
        found["flops"].order("n")


def test_no_law_of_degree_5():
    def model(x):
        return x.new_empty(1, x.shape[1] ** 5) * 2

    found = law(model, tokens(), n=range(2, 40))["other_flops"]
    assert text(found).startswith("no law of degree <= 4 on this range: at n = 7, the polynomial of the smallest")
    assert f"counted {7**5:,}" in text(found)


def test_routing_on_data_is_said():
    with pytest.raises(UsageError, match=r"the model needs data at n=4: aten.nonzero .*allow .* with on_data=True"):
        law(Routed(), tokens(), n=range(4, 40))
    found = law(Routed(), lambda n: torch.ones(1, n, 8), on_data=True, n=range(4, 40))
    assert "which ran on data" in found.evidence
    # Equal tokens go to one expert.
    assert str(found["flops"]) == f"{2 * D * 2 + 2 * D * D}·n"


def test_active_parameters():
    """Of w + 1 experts, each token uses one. Without experts the law is that of `params`, and is not listed."""

    def model(w):
        return Routed(width=4, experts=w + 1), torch.ones(2, 3, 4)

    found = law(None, model, on_data=True, w=range(1, 9))
    assert str(found["params"]) == "25·w + 25"
    assert str(found["active_params"]) == "5·w + 25"
    of_model = law(nn.Linear(4, 4), tokens(4), n=range(2, 9)).modules[""]
    assert of_model["active_params"] == of_model["params"]
    assert "active_params" not in list(of_model)


def test_sizes_of_the_model():
    width = law(None, lambda w: (nn.Linear(w, w), torch.empty(3, w)), w=range(2, 100))
    assert str(width["flops"]) == "6·w²"
    assert str(width["params"]) == "w² + w"

    def deep(depth):
        return nn.Sequential(*(nn.Linear(8, 8) for _ in range(depth))), torch.empty(1, 8)

    depth = law(None, deep, depth=range(1, 40))
    assert str(depth["flops"]) == "128·D"
    assert list(depth.modules) == ["", "0"]


@pytest.mark.parametrize(
    "made",
    [
        lambda n: torch.empty(2, n, 8),
        lambda n: (torch.empty(2, n, 8),),
        lambda n: {"input": torch.empty(2, n, 8)},
        lambda n: ((torch.empty(2, n, 8),), {}),
        lambda n: ((), {"input": torch.empty(2, n, 8)}),
        lambda n: (nn.Linear(8, 3), (torch.empty(2, n, 8),)),
    ],
)
def test_ways_to_hand_over_inputs(made):
    assert str(law(nn.Linear(8, 3), made, n=range(2, 100))["flops"]) == f"{2 * 2 * 8 * 3}·n"


def test_backward_and_devices():
    model = Attention()
    found = law(model, lambda n: torch.empty(1, n, D, requires_grad=True), backward=True, devices=["A100"], n=LONG)
    # The backward pass multiplies twice for each product of the forward pass.
    assert str(found["flops"]) == f"{3 * 4 * D}·n² + {3 * 8 * D**2:,}·n"
    # Estimated times are rounded to nanoseconds and are sums of maxima, so no polynomial is exact.
    assert text(found["time[A100]"]).startswith("no law of degree <= 4 on this range: at n = ")


def test_short_names():
    def make(heads, hidden):
        return torch.empty(heads, hidden, 8)

    assert str(law(nn.Linear(8, 1), make, heads=range(1, 9), hidden=range(1, 9))["flops"]) == "16·heads·hidden"


@pytest.mark.parametrize(
    ("symbols", "message"),
    [
        ({}, "takes one to three named ranges, not 0"),
        ({"n": range(1, 3)}, "a law needs a growing range of at least 3 sizes"),
        ({"n": range(9, 3, -1)}, "a law needs a growing range"),
        ({"n": [1, 2, 3, 4]}, "not a range; write n=range"),
        (dict.fromkeys("abcd", range(1, 9)), "takes one to three named ranges, not 4"),
    ],
)
def test_bad_ranges(symbols, message):
    with pytest.raises(UsageError, match=message):
        law(Attention(), tokens(), **symbols)


@pytest.mark.parametrize(
    ("model", "make_inputs", "message"),
    [
        (nn.Linear(8, 1), lambda m: torch.empty(m, 8), "make_inputs is called with n=..., but: missing a required"),
        (nn.Linear(8, 1), lambda: torch.empty(1, 8), "but: got an unexpected keyword argument 'n'"),
        (nn.Linear(8, 1), torch.empty(1, 8), "make_inputs is a value of type Tensor; write a function of the sizes"),
        (lambda n: torch.empty(n, 8), nn.Linear(8, 1), "make_inputs is a value of type Linear"),
        (nn.Linear, lambda n: torch.empty(n, 8), r"as in law\(Linear\(...\), make_inputs\)"),
        (torch.empty(1), lambda n: torch.empty(n, 8), "the model is a value of type Tensor, which cannot be called"),
    ],
)
def test_arguments_in_a_wrong_form(model, make_inputs, message):
    with pytest.raises(UsageError, match=message):
        law(model, make_inputs, n=range(1, 9))


def test_make_inputs_may_have_defaults_and_any_keywords():
    assert str(law(nn.Linear(8, 1), lambda n, width=8: torch.empty(n, width), n=range(1, 9))["flops"]) == "16·n"
    assert str(law(nn.Linear(8, 1), lambda **sizes: torch.empty(sizes["n"], 8), n=range(1, 9))["flops"]) == "16·n"


def test_an_unknown_option():
    with pytest.raises(UsageError, match=r"most=3\): not a range; .* if most is a size; there is no option"):
        law(nn.Linear(8, 1), tokens(), n=range(1, 9), most=3)


def test_a_short_range_has_laws_of_low_degree():
    assert str(law(nn.Linear(8, 1), tokens(), n=range(2, 5))["flops"]) == "16·n"
    for sizes in (range(2, 5), range(16, 49, 16)):
        reason = text(law(Attention(), tokens(), n=sizes)["flops"])
        assert reason.startswith(f"no law of degree <= 4 on this range: at n = {sizes[-1]}, ")
        assert reason.endswith("; n has only 3 sizes, and a polynomial of degree 4 needs 6: choose a longer range")
    # Degree 2 needs 4 sizes, of which one checks.
    assert text(law(Attention(), tokens(), n=range(2, 6))["flops"]) == "32*n^2 + 512*n"
    five = text(law(VisionTransformer(), image, n=range(64, 64 + 5 * 16, 16))["flops"])
    assert five.endswith("; n has only 5 sizes, and a polynomial of degree 4 needs 6: choose a longer range")
    six = law(VisionTransformer(), image, n=range(64, 64 + 6 * 16, 16))["flops"]
    assert text(six) == "1/2,048*n^4 + 50*n^2"


class Divided(nn.Module):
    def forward(self, x):
        return x.reshape(1, -1, 16, 8) * 2


def test_a_size_that_the_model_refuses():
    with pytest.raises(
        UsageError, match=r"fails at n=33 with RuntimeError: shape .* multiples of 16 fit: .*32, 100, 16"
    ):
        law(Divided(), tokens(), n=range(32, 100))
    with pytest.raises(UsageError, match=r"fails at n=3 with RuntimeError: .*larger sizes fit, such as n=8"):
        law(nn.Conv1d(8, 8, 7), lambda n: torch.empty(1, 8, n), n=range(3, 100))


def test_unknown_names():
    found = law(Attention(), tokens(), n=LONG)
    with pytest.raises(KeyError, match="no metric 'flop' of Attention"):
        found["flop"]
    with pytest.raises(KeyError, match="a ratio of two laws"):
        found["arithmetic_intensity"]
    with pytest.raises(UsageError, match="no symbol 'S' in this law; there are n"):
        found["flops"].degree("S")
    with pytest.raises(UsageError, match="needs a size of n"):
        found["flops"].at()


def test_too_few_counts():
    found = law(Attention(), tokens(), most_counts=2, n=LONG)
    assert text(found["flops"]) == "no law of degree <= 4 on this range; more than 2 counts would be needed"


layers = st.lists(
    st.one_of(
        st.tuples(st.just("conv"), st.integers(1, 4), st.integers(1, 3), st.integers(0, 1)),
        st.tuples(st.just("pool"), st.integers(2, 3), st.integers(2, 3), st.just(0)),
        st.tuples(st.just("pad"), st.integers(2, 8), st.just(0), st.just(0)),
        st.tuples(st.just("linear"), st.just(0), st.just(0), st.just(0)),
        st.tuples(st.just("attention"), st.just(0), st.just(0), st.just(0)),
    ),
    min_size=1,
    max_size=3,
)


class Random(nn.Module):
    def __init__(self, plan):
        super().__init__()
        self.plan = plan
        make = {
            "conv": lambda kernel, stride, padding: nn.Conv1d(4, 4, kernel, stride, padding),
            "pool": lambda kernel, stride, padding: nn.MaxPool1d(kernel, stride),
            "pad": lambda *_: nn.Identity(),
            "linear": lambda *_: nn.Linear(4, 4),
            "attention": lambda *_: Attention(4),
        }
        self.layers = nn.ModuleList(make[kind](*rest) for kind, *rest in plan)

    def forward(self, x):
        for layer, (kind, multiple, *_) in zip(self.layers, self.plan, strict=True):
            if kind in {"linear", "attention"}:
                x = layer(x.transpose(1, 2)).transpose(1, 2)
            elif kind == "pad":
                x = nn.functional.pad(x, (0, -x.shape[2] % multiple))
            else:
                x = layer(x)
        return x


def random_flops(plan, n):
    total = 0
    for kind, kernel, stride, padding in plan:
        if kind in {"conv", "pool"}:
            n = (n + 2 * padding - kernel) // stride + 1
            total += 2 * 4 * 4 * kernel * n if kind == "conv" else 0
        elif kind == "pad":
            n = -(-n // kernel) * kernel
        else:
            total += 2 * 4 * 4 * n if kind == "linear" else attention_flops(n, 4)
    return total


@pytest.mark.parametrize(
    "plan",
    [
        [("linear", 0, 0, 0), ("pad", 6, 0, 0), ("linear", 0, 0, 0)],
        [("conv", 4, 2, 1), ("pad", 7, 0, 0), ("linear", 0, 0, 0)],
        # The stride is a setting and explains five sizes in six, or four in five; the padding explains the others.
        [("pad", 2, 0, 0), ("conv", 1, 3, 0)],
        [("pad", 5, 0, 0), ("conv", 1, 3, 0)],
        [("pad", 3, 0, 0), ("conv", 2, 4, 0)],
    ],
)
def test_periods_that_are_no_settings_of_the_model(plan):
    found = law(Random(plan), lambda n: torch.empty(1, 4, n), n=range(40, 800))["flops"]
    assert found.found
    assert all(found.at(n=n) == random_flops(plan, n) for n in range(40, 800))


@settings(max_examples=8)
@given(plan=layers)
def test_random_models(plan):
    found = law(Random(plan), lambda n: torch.empty(1, 4, n), most_counts=80, n=range(40, 800))["flops"]
    if found.found:
        assert all(found.at(n=n) == random_flops(plan, n) for n in range(40, 800, 7))


def test_only_some_metrics():
    found = law(Attention(D), tokens(), metrics=["flops", "total_flops"], n=range(8, 65))
    assert list(found) == ["flops", "total_flops"]
    assert text(found["flops"]) == text(law(Attention(D), tokens(), n=range(8, 65))["flops"])
    assert list(found.modules["project"]) == ["flops", "total_flops"]
    with pytest.raises(UsageError, match="no metric 'flop'; did you mean 'flops'"):
        law(Attention(D), tokens(), metrics=["flop"], n=range(8, 65))
