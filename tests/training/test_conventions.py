"""Published formulas against the numbers that their sources print. Expected values come from these sources."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

from pytest_flopsbudget import UsageError
from pytest_flopsbudget.hardware.profile import Device
from pytest_flopsbudget.training.conventions import CONVENTIONS, find_convention
from pytest_flopsbudget.training.model_sizes import ModelSizes, read_config, with_given
from pytest_flopsbudget.training.utilization import utilization


def per_token(convention, *, recompute=False, **sizes):
    return find_convention(convention).value(ModelSizes(sizes), recompute=recompute)


def test_gpt_3():
    """T. Brown et al., 2020, table D.1: 174,600 M parameters and 300 B tokens are 3.14e23 FLOPs."""
    total = per_token("6nd", active_params=174_600_000_000) * 300 * 10**9
    assert f"{float(total):.2e}" == "3.14e+23"


def test_llama_3_405b():
    """A. Dubey et al., The Llama 3 Herd of Models, 2024, section 3.2.1: 405 B parameters, 15.6 T tokens, 3.8e25."""
    total = per_token("6nd", active_params=405 * 10**9) * 156 * 10**11
    assert f"{float(total):.1e}" == "3.8e+25"


#: A. Chowdhery et al., PaLM, 2022, table 1 (540.35 B parameters, 118 layers, 48 heads of width 256) and section 4.
PALM_540B = {"active_params": 540_350_000_000, "layers": 118, "heads": 48, "head_dim": 256, "sequence": 2048}
TPU_V4 = Device("TPU v4", {"bfloat16": 275 * 10**12}, {}, 1_200 * 10**9, None, 0)


@pytest.mark.parametrize(("convention", "published"), [("palm", "46.2%"), ("6nd", "45.7%")])
def test_palm_540b(convention, published):
    """PaLM, appendix B: 238.3 K tokens/s on 6,144 TPU v4 chips are 46.2 % MFU, and 45.7 % without self-attention."""
    values = {key: per_token(key, **PALM_540B) for key in ("palm", "6nd")}
    found = utilization(
        values,
        {},
        tokens_per_second=238_300,
        device=TPU_V4,
        convention=convention,
        dtype="bfloat16",
        devices=6_144,
        recompute=False,
    )
    assert f"{float(found):.1%}" == published
    assert (found.lowest, found.highest) == (found.by_convention["6nd"], found.by_convention["palm"])


#: karpathy/nanoGPT, transformer_sizing.ipynb: GPT-2 without biases, 124,337,664 parameters.
NANOGPT = {"layers": 12, "heads": 12, "hidden": 768, "head_dim": 64, "value_dim": 64, "sequence": 1024}
NANOGPT |= {"vocabulary": 50_257, "params": 124_337_664, "active_params": 124_337_664, "position_params": 786_432}


def test_nanogpt():
    """The notebook prints 879,894,724,608 by PaLM's formula, and 874,944,921,600 as the sum of all products."""
    assert per_token("palm", **NANOGPT) * 1024 == 879_894_724_608
    # Megatron's formula is that sum, for a feed-forward layer of four times the width and as many key as query heads.
    assert per_token("megatron", **NANOGPT) * 1024 == 874_944_921_600
    # estimate_mfu leaves out position embeddings: 6 * 123,551,232 + 12 * 12 * 12 * 64 * 1,024.
    assert per_token("nanogpt", **NANOGPT) == 854_553_600


@pytest.mark.parametrize(("layers", "hidden", "vocabulary", "sequence"), [(24, 2304, 51_200, 2048), (3, 64, 100, 16)])
def test_megatron(layers, hidden, vocabulary, sequence):
    """D. Narayanan et al., 2021, appendix: 24 h^2 + 4 s h a layer and 2 h V for the logits, in the forward pass.

    The backward pass costs twice as much. Recomputation repeats the forward pass of the layers, and not of the logits.
    """
    layer, logits = 24 * hidden**2 + 4 * sequence * hidden, 2 * hidden * vocabulary
    sizes = {"layers": layers, "hidden": hidden, "vocabulary": vocabulary, "sequence": sequence}
    assert per_token("megatron", **sizes) == 3 * layers * layer + 3 * logits
    assert per_token("megatron", recompute=True, **sizes) == 4 * layers * layer + 3 * logits


def test_torchtitan_and_hf_leave_out_embeddings():
    sizes = {"params": 1_000, "active_params": 700, "embedding_params": 200, "layers": 2, "heads": 3, "sequence": 5}
    assert per_token("hf", **sizes) == 6 * 800
    # Latent attention: query heads of 6 and value heads of 4; each product of attention costs 2 FLOPs, three times.
    assert per_token("torchtitan", head_dim=6, value_dim=4, **sizes) == 6 * 500 + 3 * 2 * 2 * 3 * (6 + 4) * 5


def test_formula_with_numbers():
    assert CONVENTIONS["palm"].with_numbers(ModelSizes(PALM_540B)) == "6*540,350,000,000 + 12*118*48*256*2,048"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: find_convention("plam"), "no convention 'plam'; did you mean 'palm'?"),
        (lambda: find_convention("mine"), "no convention 'mine'; there are exact, 6nd, palm,"),
        (
            lambda: per_token("palm", active_params=1, layers=1),
            "convention 'palm' needs heads, the number of attention",
        ),
        (lambda: per_token("palm", active_params=1, layers=1), "no config.num_attention_heads or config.n_head"),
        (lambda: per_token("palm", active_params=1, layers=1), "--heads N on the command line"),
        (lambda: with_given(ModelSizes({}), {"layer": 3}), "sizes: no size 'layer'; did you mean 'layers'?"),
        (lambda: with_given(ModelSizes({}), {"layers": 0}), "sizes: layers is 0, and not a whole number from 1 on"),
        (lambda: with_given(ModelSizes({}), {"layers": 2.0}), "sizes: layers is 2.0, and not a whole number"),
    ],
)
def test_errors(call, message):
    with pytest.raises(UsageError) as error:
        call()
    assert message in str(error.value)


class GptConfig:
    n_layer, n_head, n_embd, vocab_size = 12, 12, 768, 50_304


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (GptConfig, {"layers": 12, "heads": 12, "hidden": 768, "head_dim": 64, "value_dim": 64, "vocabulary": 50_304}),
        (
            {"n_layers": 2, "dim": 8, "n_heads": 4},
            {"layers": 2, "hidden": 8, "heads": 4, "head_dim": 2, "value_dim": 2},
        ),
        ({"head_dim": 128, "hidden_size": 8, "num_attention_heads": 4}, {"head_dim": 128, "hidden": 8, "heads": 4}),
        ({"qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128}, {"head_dim": 192, "value_dim": 128}),
        ({"num_hidden_layers": 6, "is_encoder_decoder": True, "d_model": 512}, {"hidden": 512}),
        ({"num_hidden_layers": None, "hidden_size": "wide", "vocab_size": True}, {}),
        (None, {}),
    ],
)
def test_reading_configurations(config, expected):
    found = read_config(config).values
    assert {name: found[name] for name in expected} == expected
    assert not found.keys() - expected.keys() - {"value_dim"}


def test_an_encoder_with_a_decoder():
    found = read_config({"num_hidden_layers": 6, "is_encoder_decoder": True})
    with pytest.raises(UsageError, match="published formulas are for a decoder, and this model has an encoder too"):
        find_convention("palm").value(replace(found, values={"active_params": 1}))


def test_given_sizes_replace_those_of_the_configuration():
    found = with_given(read_config(GptConfig), {"heads": 6})
    assert (found.values["head_dim"], found.values["value_dim"]) == (128, 128)
    assert (found.sources["heads"], found.sources["layers"]) == ("given", "config.n_layer")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dtype": "bfloat6"}, "no dtype 'bfloat6'; did you mean bfloat16?"),
        ({"dtype": "int8"}, "TPU v4 has no rate for int8; there are bfloat16"),
        ({"device": "H10"}, "H100"),
        ({"tokens_per_second": 0}, "mfu: 0 tokens per second; write a number above 0"),
        ({"tokens_per_second": float("nan")}, "mfu: nan tokens per second"),
        ({"devices": 0}, "mfu: 0 devices; write a whole number from 1 on"),
    ],
)
def test_errors_of_utilization(change, message):
    call = {"tokens_per_second": 1, "device": TPU_V4, "convention": "6nd", "dtype": "bfloat16", "devices": 1}
    with pytest.raises(UsageError) as error:
        utilization({"6nd": Fraction(6)}, {}, recompute=False, **{**call, **change})
    assert message in str(error.value)
