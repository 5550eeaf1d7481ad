"""Serving of published models with few of their layers: what follows by hand from each configuration.

Products cost 2 FLOPs per multiply-accumulate. Numbers of weights and caches are bfloat16, with 2 bytes, unless a
comment says otherwise. Caches and attention are those of transformers' own implementation of each model.
"""

from __future__ import annotations

import pytest
import torch

from pytest_flopsbudget import serving, shape_only

transformers = pytest.importorskip("transformers")

BATCH = 4


def build(model, config):
    with shape_only():
        return getattr(transformers, model)(config).to(torch.bfloat16).eval()


def products(complexity):
    # The rotary embedding is a matrix product in some versions of transformers only.
    return complexity.flops - sum(
        module.flops for path, module in complexity.modules.items() if path.endswith("rotary_emb")
    )


@pytest.fixture(scope="class")
def served(request):
    return request.cls.serve()


class TestQwen3:
    """Qwen3 30B A3B, with 2 of 48 layers: grouped-query attention, and 8 of 128 experts for each token."""

    LAYERS, WIDTH, HEADS, GROUPS, HEAD, EXPERTS, CHOSEN, INNER, WORDS = 2, 2048, 32, 4, 128, 128, 8, 768, 151_936
    PROMPT, NEW = 512, 64
    ATTENTION = 2 * WIDTH * HEADS * HEAD + 2 * WIDTH * GROUPS * HEAD
    ROUTER, EXPERT = WIDTH * EXPERTS, 3 * WIDTH * INNER
    #: Weights that one token meets in one layer.
    LAYER = ATTENTION + ROUTER + CHOSEN * EXPERT

    @classmethod
    def serve(cls):
        config = transformers.Qwen3MoeConfig(
            hidden_size=cls.WIDTH,
            num_hidden_layers=cls.LAYERS,
            num_attention_heads=cls.HEADS,
            num_key_value_heads=cls.GROUPS,
            head_dim=cls.HEAD,
            num_experts=cls.EXPERTS,
            num_experts_per_tok=cls.CHOSEN,
            moe_intermediate_size=cls.INNER,
            vocab_size=cls.WORDS,
        )
        model = build("Qwen3MoeForCausalLM", config)
        return serving(model, prompt=cls.PROMPT, new_tokens=cls.NEW, batch=BATCH)

    def test_flops(self, served):
        length, head = self.PROMPT + self.NEW, 2 * self.WIDTH * self.WORDS
        attention = 4 * self.HEADS * self.HEAD
        prefill = self.LAYERS * self.PROMPT * (2 * self.LAYER + attention * self.PROMPT) + head
        decode = self.LAYERS * (2 * self.LAYER + attention * length) + head
        assert products(served.prefill) == BATCH * prefill
        assert products(served.decode) == BATCH * decode

    def test_cache(self, served):
        assert served.kv_cache_per_token == self.LAYERS * 2 * self.GROUPS * self.HEAD * 2  # 96 KiB with all 48 layers
        assert served.kv_cache == BATCH * (self.PROMPT + self.NEW) * served.kv_cache_per_token

    def test_reads_the_chosen_experts(self, served):
        """All requests may choose the same experts, so at least 8 of 128 experts are read, for any batch."""
        norms = self.LAYERS * (2 * self.WIDTH + 2 * self.HEAD) + self.WIDTH
        row, frequencies = self.WIDTH, self.HEAD // 2
        weights = self.LAYERS * self.LAYER + self.WIDTH * self.WORDS + norms + row + frequencies
        assert served.decode.bytes_read == 2 * weights + served.kv_cache


class TestGemma3:
    """Gemma 3 27B, with 6 of 62 layers: five layers look back 1,024 tokens, and one layer looks back to the start."""

    WIDTH, HEADS, GROUPS, HEAD, INNER, WORDS, WINDOW = 5376, 32, 16, 128, 21_504, 262_208, 1024
    PROMPT, NEW = 2048, 128
    #: Bytes of one token in the cache of one layer.
    TOKEN = 2 * GROUPS * HEAD * 2
    LAYER = 2 * WIDTH * HEADS * HEAD + 2 * WIDTH * GROUPS * HEAD + 3 * WIDTH * INNER

    @classmethod
    def serve(cls):
        config = transformers.Gemma3TextConfig(
            hidden_size=cls.WIDTH,
            num_hidden_layers=6,
            num_attention_heads=cls.HEADS,
            num_key_value_heads=cls.GROUPS,
            head_dim=cls.HEAD,
            intermediate_size=cls.INNER,
            vocab_size=cls.WORDS,
            sliding_window=cls.WINDOW,
            layer_types=["sliding_attention"] * 5 + ["full_attention"],
        )
        model = build("Gemma3ForCausalLM", config)
        return serving(model, prompt=cls.PROMPT, new_tokens=cls.NEW, batch=BATCH)

    def test_flops(self, served):
        length, head, attention = self.PROMPT + self.NEW, 2 * self.WIDTH * self.WORDS, 4 * self.HEADS * self.HEAD
        # Masked work counts in full, so the windows of a prefill count like whole prompts.
        prefill = 6 * self.PROMPT * (2 * self.LAYER + attention * self.PROMPT) + head
        decode = 6 * 2 * self.LAYER + attention * (5 * self.WINDOW + length) + head
        assert products(served.prefill) == BATCH * prefill
        assert products(served.decode) == BATCH * decode

    def test_cache(self, served):
        # A window of 1,024 tokens has the new token and 1,023 tokens of the cache.
        length, window = self.PROMPT + self.NEW, self.WINDOW - 1
        assert served.prefill.kv_cache == BATCH * self.TOKEN * (5 * window + self.PROMPT)
        assert served.kv_cache == BATCH * self.TOKEN * (5 * window + length)
        assert served.kv_cache_per_token == self.TOKEN  # only one of six layers grows

    def test_a_formula_without_windows_is_wrong(self, served):
        """2 * layers * groups * head * length, which servers have logged for such models, gives 1.8 times as much."""
        length = self.PROMPT + self.NEW
        assert BATCH * self.TOKEN * 6 * length > 1.78 * served.kv_cache


class TestDeepSeekV3:
    """DeepSeek V3, with 2 of 61 layers: one dense, one with 8 of 256 experts and a shared one. The cache is latent."""

    WIDTH, HEADS, QUERY_RANK, RANK, PLAIN, ROTARY, VALUE = 7168, 128, 1536, 512, 128, 64, 128
    INNER, EXPERT_INNER, EXPERTS, CHOSEN, WORDS = 18_432, 2048, 256, 8, 129_280
    PROMPT, NEW = 256, 32
    #: Weights that make queries, the latent numbers, and the output.
    PROJECTIONS = (
        WIDTH * QUERY_RANK + QUERY_RANK * HEADS * (PLAIN + ROTARY) + WIDTH * (RANK + ROTARY) + HEADS * VALUE * WIDTH
    )
    #: Weights that make keys and values of the latent numbers.
    EXPAND = RANK * HEADS * (PLAIN + VALUE)
    FEED_FORWARD = 3 * WIDTH * INNER + WIDTH * EXPERTS + (CHOSEN + 1) * 3 * WIDTH * EXPERT_INNER

    @classmethod
    def serve(cls):
        config = transformers.DeepseekV3Config(
            hidden_size=cls.WIDTH,
            num_hidden_layers=2,
            first_k_dense_replace=1,
            num_attention_heads=cls.HEADS,
            num_key_value_heads=cls.HEADS,
            q_lora_rank=cls.QUERY_RANK,
            kv_lora_rank=cls.RANK,
            qk_nope_head_dim=cls.PLAIN,
            qk_rope_head_dim=cls.ROTARY,
            v_head_dim=cls.VALUE,
            intermediate_size=cls.INNER,
            moe_intermediate_size=cls.EXPERT_INNER,
            n_routed_experts=cls.EXPERTS,
            num_experts_per_tok=cls.CHOSEN,
            n_shared_experts=1,
            n_group=8,
            topk_group=4,
            vocab_size=cls.WORDS,
        )
        model = build("DeepseekV3ForCausalLM", config)
        if not hasattr(model.model.layers[0].self_attn, "expand_kv"):
            pytest.skip("this version of transformers caches keys and values")
        return serving(model, prompt=cls.PROMPT, new_tokens=cls.NEW, batch=BATCH)

    def test_flops(self, served):
        length, head = self.PROMPT + self.NEW, 2 * self.WIDTH * self.WORDS
        attention = 2 * self.HEADS * (self.PLAIN + self.ROTARY + self.VALUE)
        weights = 2 * (2 * self.PROJECTIONS + self.FEED_FORWARD)
        prefill = self.PROMPT * (weights + 2 * 2 * self.EXPAND + 2 * attention * self.PROMPT) + head
        # Each step makes keys and values of all latent numbers again.
        decode = weights + 2 * length * (2 * self.EXPAND + attention) + head
        assert products(served.prefill) == BATCH * prefill
        assert products(served.decode) == BATCH * decode

    def test_cache(self, served):
        assert served.kv_cache_per_token == 2 * (self.RANK + self.ROTARY) * 2  # 68.6 KiB with all 61 layers
        assert served.kv_cache == BATCH * (self.PROMPT + self.NEW) * served.kv_cache_per_token


class TestMamba2:
    """Mamba 2 2.7B, with 2 of 64 layers: a state of constant size."""

    LAYERS, WIDTH, INNER, HEADS, HEAD, STATE, KERNEL, CHUNK, WORDS = 2, 2560, 5120, 80, 64, 128, 4, 256, 50_288
    PROMPT, NEW = 1024, 16
    CHANNELS = INNER + 2 * STATE
    PROJECTIONS = WIDTH * (INNER + CHANNELS + HEADS) + INNER * WIDTH

    @classmethod
    def serve(cls):
        config = transformers.Mamba2Config(
            hidden_size=cls.WIDTH,
            num_hidden_layers=cls.LAYERS,
            num_heads=cls.HEADS,
            head_dim=cls.HEAD,
            state_size=cls.STATE,
            n_groups=1,
            chunk_size=cls.CHUNK,
            conv_kernel=cls.KERNEL,
            vocab_size=cls.WORDS,
        )
        return serving(build("Mamba2ForCausalLM", config), prompt=cls.PROMPT, new_tokens=cls.NEW, batch=BATCH)

    def test_prefill(self, served):
        """The products of the chunked algorithm: Dao and Gu, "Transformers are SSMs", 2024, section 6."""
        length, chunks = self.PROMPT, self.PROMPT // self.CHUNK
        convolution = 2 * self.CHANNELS * self.KERNEL * (length + self.KERNEL - 1)  # padded on both sides
        inside = 2 * length * self.CHUNK * self.HEADS * (self.STATE + self.HEAD)
        states = 2 * 2 * length * self.HEADS * self.STATE * self.HEAD  # made from a chunk, and used in the next one
        between = 2 * (chunks + 1) ** 2 * self.HEADS * self.STATE * self.HEAD
        layer = 2 * length * self.PROJECTIONS + convolution + inside + states + between
        assert served.prefill.flops == BATCH * (self.LAYERS * layer + 2 * self.WIDTH * self.WORDS)

    def test_decode(self, served):
        # The convolution runs over the kernel's width and one token more, which gives two positions.
        convolution = 2 * self.CHANNELS * self.KERNEL * 2
        layer = 2 * self.PROJECTIONS + convolution + 2 * self.HEADS * self.HEAD * self.STATE
        assert served.decode.flops == BATCH * (self.LAYERS * layer + 2 * self.WIDTH * self.WORDS)

    def test_cache(self, served):
        # The states of the recurrence are float32, with 4 bytes.
        layer = self.CHANNELS * self.KERNEL * 2 + self.HEADS * self.HEAD * self.STATE * 4
        assert served.prefill.kv_cache == served.kv_cache == BATCH * self.LAYERS * layer
        assert served.kv_cache_per_token == 0


class TestT5:
    """Flan-T5 XL, with 2 of 24 layers in encoder and decoder: the cache is of the decoder and the encoder's output."""

    LAYERS, WIDTH, HEADS, HEAD, INNER, WORDS = 2, 2048, 32, 64, 5120, 32_128
    PROMPT, NEW = 512, 32
    ATTENTION = HEADS * HEAD
    FEED_FORWARD = 3 * WIDTH * INNER

    @classmethod
    def serve(cls):
        config = transformers.T5Config(
            d_model=cls.WIDTH,
            d_kv=cls.HEAD,
            d_ff=cls.INNER,
            num_layers=cls.LAYERS,
            num_heads=cls.HEADS,
            feed_forward_proj="gated-gelu",
            vocab_size=cls.WORDS,
        )
        model = build("T5ForConditionalGeneration", config)
        return serving(model, prompt=cls.PROMPT, new_tokens=cls.NEW, batch=BATCH)

    def decoder(self, keys):
        """Return the FLOPs of a decoder layer for one token that attends to ``keys`` tokens of the decoder."""
        weights = 2 * (6 * self.WIDTH * self.ATTENTION + self.FEED_FORWARD)
        return weights + 4 * self.ATTENTION * (keys + self.PROMPT)

    def test_flops(self, served):
        head, width = 2 * self.WIDTH * self.WORDS, self.WIDTH * self.ATTENTION
        encoder = self.PROMPT * (2 * (4 * width + self.FEED_FORWARD) + 4 * self.ATTENTION * self.PROMPT)
        encoded = self.PROMPT * 2 * 2 * width  # keys and values of the encoder's output, once for each request
        assert served.prefill.flops == BATCH * (self.LAYERS * (encoder + encoded + self.decoder(1)) + head)
        assert served.decode.flops == BATCH * (self.LAYERS * self.decoder(1 + self.NEW) + head)

    def test_cache(self, served):
        token = self.LAYERS * 2 * self.ATTENTION * 2
        assert served.prefill.kv_cache == BATCH * token * (self.PROMPT + 1)
        assert served.kv_cache == BATCH * token * (self.PROMPT + 1 + self.NEW)
        assert served.kv_cache_per_token == token

    def test_decoding_reads_no_encoder(self, served):
        """A step reads the decoder without the weights that make keys and values of the encoder's output.

        The output and the embedding share their weights.
        """
        norms, row = 3 * self.LAYERS + 1, self.HEADS  # a row of the position bias
        layers = self.LAYERS * (6 * self.WIDTH * self.ATTENTION + self.FEED_FORWARD)
        weights = layers + norms * self.WIDTH + row + self.WIDTH * self.WORDS
        assert served.decode.bytes_read == 2 * weights + served.kv_cache
