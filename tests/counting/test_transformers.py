"""Common architectures cost what published numbers and formulas say."""

from __future__ import annotations

import pytest
import torch

from pytest_flopsbudget.counting.measure import measure

transformers = pytest.importorskip("transformers")

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # raised by packages that transformers loads
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


def on_meta(model, config, **options):
    with torch.device("meta"):
        return model._from_config(config, **options) if options else model(config)


def ids(batch, length):
    return {"input_ids": torch.zeros(batch, length, dtype=torch.long)}


def without_rotary(counted):
    # The rotary embedding is a matrix product in some versions of transformers only.
    return counted.macs - counted["model.rotary_emb"].macs


class TestImages:
    def test_resnet_50(self):
        """ResNet-50 has 4.089 GMACs and 25,557,032 parameters, as torchvision documents."""
        model = on_meta(transformers.ResNetForImageClassification, transformers.ResNetConfig(num_labels=1000))
        counted = measure(model, torch.empty(1, 3, 224, 224))
        assert counted.macs == pytest.approx(4.089e9, rel=1e-3)
        assert counted.params == 25_557_032
        assert counted.execution == "shapes"
        assert not counted.unknown_operators

    @pytest.mark.parametrize("attention", ["eager", "sdpa"])
    @pytest.mark.parametrize("mode", [torch.enable_grad, torch.inference_mode])
    def test_vit_b_16(self, attention, mode):
        """ViT-B/16 has 17.564 GMACs, as torchvision documents."""
        config = transformers.ViTConfig(num_labels=1000)
        model = on_meta(transformers.ViTForImageClassification, config, attn_implementation=attention).eval()
        tokens, width, inner = 14 * 14 + 1, 768, 3072
        layer = 4 * tokens * width * width + 2 * tokens * width * inner + 2 * tokens * tokens * width
        macs = 14 * 14 * width * 3 * 16 * 16 + 12 * layer + width * 1000
        assert macs == pytest.approx(17.564e9, rel=1e-4)
        with mode():
            counted = measure(model, torch.empty(1, 3, 224, 224))
        assert counted.macs == macs
        assert not counted.unknown_operators


class TestText:
    @pytest.mark.parametrize(("batch", "length"), [(4, 1024), (5, 1024), (64, 1024)])
    def test_large_batches_need_no_data(self, batch, length):
        """The model checks whether its positions, which it expands to the batch, are those of packed sequences."""
        config = transformers.GPT2Config(vocab_size=8, n_embd=8, n_layer=1, n_head=1, use_cache=False)
        counted = measure(on_meta(transformers.GPT2LMHeadModel, config), kwargs=ids(batch, length), shapes="only")
        # Four products with weights in the layer, two of attention, and the output layer.
        layer = length * 8 * 8 * (3 + 1 + 4 + 4) + 2 * length * length * 8
        assert counted.macs == batch * (layer + length * 8 * 8)
        assert counted.notes == ()

    @pytest.mark.parametrize("attention", ["eager", "sdpa"])
    def test_llama_3_1_8b(self, attention):
        layers, width, inner, vocabulary, tokens = 32, 4096, 14336, 128256, 2048
        config = transformers.LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=width,
            intermediate_size=inner,
            num_hidden_layers=layers,
            num_attention_heads=32,
            num_key_value_heads=8,
            max_position_embeddings=131072,
        )
        model = on_meta(transformers.LlamaForCausalLM, config, attn_implementation=attention)
        projections = 2 * width * width + 2 * width * (width // 4)
        layer = tokens * (projections + 3 * width * inner) + 2 * tokens * tokens * width
        macs = layers * layer + tokens * width * vocabulary
        counted = measure(model, (), {**ids(1, tokens), "use_cache": False})
        assert without_rotary(counted) == macs
        assert counted["lm_head"].macs == tokens * width * vocabulary
        assert counted["model.layers.31"].macs == layer
        assert counted.params == 8_030_261_248
        assert counted.execution == "shapes"
        assert not counted.unknown_operators

    @pytest.mark.parametrize("weights", ["real", "meta"])
    def test_bert(self, weights):
        config = transformers.BertConfig(
            vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48
        )
        with torch.device("cpu" if weights == "real" else "meta"):
            model = transformers.BertModel(config)
        tokens = 2 * 10
        layer = tokens * (4 * 32 * 32 + 2 * 32 * 48) + 2 * 2 * 10 * 10 * 32
        mask = torch.ones(2, 10, dtype=torch.long)
        counted = measure(model, (), {**ids(2, 10), "attention_mask": mask})
        assert counted.macs == 2 * layer + 2 * 32 * 32
        assert measure(model, (), ids(2, 10)).macs == counted.macs
        assert not counted.unknown_operators

    def test_gpt_2(self):
        """The backward pass of GPT-2 with a loss costs twice the forward pass."""
        config = transformers.GPT2Config(
            vocab_size=50, n_embd=32, n_layer=2, n_head=4, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0
        )
        model = transformers.GPT2LMHeadModel(config)
        tokens = 2 * 10
        weights = 4 * 32 * 32 + 2 * 32 * 4 * 32
        attention = 2 * 2 * 10 * 10 * 32
        forward = 2 * (tokens * weights + attention) + tokens * 32 * 50
        inputs = ids(2, 10)
        assert measure(model, (), inputs).macs == forward
        # Each product has gradients for both operands, because only the token ids need no gradient.
        training = {**inputs, "labels": inputs["input_ids"], "use_cache": False}
        assert measure(model, (), training, backward=True).macs == 3 * forward

    def test_a_cache_is_not_filled(self):
        config = transformers.LlamaConfig(
            vocab_size=50,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
        )
        model = transformers.LlamaForCausalLM(config).eval()
        cache = transformers.DynamicCache(config=config)
        with torch.no_grad():
            model(**ids(1, 6), past_key_values=cache)
            assert cache.get_seq_length() == 6
            counted = measure(model, (), {**ids(1, 1), "past_key_values": cache})
        assert cache.get_seq_length() == 6
        layer = 2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 48 + 2 * 7 * 32
        assert without_rotary(counted) == 2 * layer + 32 * 50
        assert counted.execution == "shapes"

    @pytest.mark.parametrize("experts", ["eager", "grouped_mm"])
    def test_mixtral(self, experts):
        """In Mixtral, each token runs through the router and two experts."""
        config = transformers.MixtralConfig(
            vocab_size=50,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            num_local_experts=4,
            num_experts_per_tok=2,
        )
        config._experts_implementation = experts
        model = transformers.MixtralForCausalLM(config)
        tokens = 16
        layer = tokens * (2 * 32 * 32 + 2 * 32 * 16 + 32 * 4 + 2 * 3 * 32 * 48) + 2 * tokens * tokens * 32
        counted = measure(model, (), ids(1, tokens))
        assert without_rotary(counted) == 2 * layer + tokens * 32 * 50
        assert not counted.unknown_operators

    def test_mamba(self):
        config = transformers.MambaConfig(
            vocab_size=50, hidden_size=32, state_size=8, num_hidden_layers=2, expand=2, conv_kernel=4, time_step_rank=3
        )
        model = transformers.MambaForCausalLM(config)
        tokens, inner, states, rank = 10, 64, 8, 3
        layer = (
            tokens * 32 * 2 * inner
            + (tokens + 3) * inner * 4  # padding on both sides, of which the end is cut off
            + tokens * inner * (rank + 2 * states)
            + tokens * rank * inner
            + tokens * inner * states
            + tokens * inner * 32
        )
        counted = measure(model, (), {**ids(1, tokens), "use_cache": False})
        assert counted.macs == 2 * layer + tokens * 32 * 50
        assert not counted.unknown_operators
