"""The encoders of conditions and the adapters of diffusers, made small."""

from __future__ import annotations

from typing import Any

import torch

from model_zoo.diffusers_inputs import real, whole
from model_zoo.diffusers_small import Small


def _two_adapters(kind: Any) -> Any:
    from diffusers import T2IAdapter

    return kind([T2IAdapter(channels=[32, 64], downscale_factor=2) for _ in range(2)])


# fmt: off
ENCODERS: dict[str, Small] = {
    "AceStepAudioTokenDetokenizer": Small(
        {"hidden_size": 32, "intermediate_size": 64, "audio_acoustic_hidden_dim": 8, "pool_window_size": 2,
         "num_attention_pooler_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2,
         "head_dim": 8, "sliding_window": 16},
        {"hidden_states": real(1, 8, 32)},
    ),
    "AceStepAudioTokenizer": Small(
        {"hidden_size": 32, "intermediate_size": 64, "audio_acoustic_hidden_dim": 8, "pool_window_size": 2,
         "fsq_dim": 32, "num_attention_pooler_hidden_layers": 1, "num_attention_heads": 4,
         "num_key_value_heads": 2, "head_dim": 8, "sliding_window": 16},
        {"hidden_states": real(1, 4, 2, 8)},
    ),
    "AceStepConditionEncoder": Small(
        {"hidden_size": 32, "intermediate_size": 64, "text_hidden_dim": 32, "timbre_hidden_dim": 8,
         "num_lyric_encoder_hidden_layers": 2, "num_timbre_encoder_hidden_layers": 2,
         "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "sliding_window": 16},
        {"text_hidden_states": real(1, 8, 32), "text_attention_mask": whole(1, 1, 8),
         "lyric_hidden_states": real(1, 12, 32), "lyric_attention_mask": whole(1, 1, 12),
         "refer_audio_acoustic_hidden_states_packed": real(1, 10, 8), "refer_audio_order_mask": whole(0, 1)},
    ),
    "AnimaTextConditioner": Small(
        {"source_dim": 16, "target_dim": 16, "model_dim": 16, "num_layers": 2, "num_attention_heads": 4,
         "target_vocab_size": 128, "min_sequence_length": 8},
        {"source_hidden_states": real(1, 8, 16), "target_input_ids": whole(5, 1, 8)},
    ),
    "AudioLDM2ProjectionModel": Small(
        {"text_encoder_dim": 16, "text_encoder_1_dim": 32, "langauge_model_dim": 16},
        {"hidden_states": real(1, 1, 16), "hidden_states_1": real(1, 8, 32), "attention_mask": whole(1, 1, 1),
         "attention_mask_1": whole(1, 1, 8)},
    ),
    "CLIPImageProjection": Small(inputs={"x": real(1, 768)}),
    "Ideogram4PromptEnhancerHead": Small({"hidden_size": 32, "vocab_size": 200}, {"hidden_states": real(1, 8, 32)}),
    "MiniMaxMusic3ConditionEncoder": Small(
        {"condition_hidden_dim": 16, "out_dim": 16},
        {"hidden_states": real(1, 8, 128)},
    ),
    "MiniMaxMusic3RVQDepthDecoder": Small(
        {"hidden_size": 32, "num_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
         "audio_vocab_size": 32},
        {"inputs_embeds": real(1, 8, 32)},
    ),
    "MultiAdapter": Small(inputs={"xs": [real(1, 3, 32, 32), real(1, 3, 32, 32)]}, build=_two_adapters),
    "ReduxImageEncoder": Small({"redux_dim": 16, "txt_in_features": 32}, {"x": real(1, 8, 16)}),
    "StableAudio3DurationEmbedder": Small({"output_dim": 16, "fourier_dim": 16}, {"seconds": torch.tensor([10.0])}),
    "StableAudioProjectionModel": Small(
        {"text_encoder_dim": 32, "conditioning_dim": 4, "min_value": 0, "max_value": 32},
        {"text_hidden_states": real(1, 8, 32), "start_seconds": torch.tensor([0.0]),
         "end_seconds": torch.tensor([8.0])},
    ),
    "T2IAdapter": Small({"channels": [32, 64], "downscale_factor": 2}, {"x": real(1, 3, 32, 32)}),
    "UniDiffuserTextDecoder": Small(
        {"prefix_length": 8, "prefix_inner_dim": 32, "prefix_hidden_dim": 32, "vocab_size": 200,
         "n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 4},
        {"input_ids": whole(5, 1, 8), "prefix_embeds": real(1, 8, 32)},
    ),
}
