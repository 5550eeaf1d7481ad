"""Models of images and text: open_clip and x-transformers."""

from __future__ import annotations

from typing import Any

import torch

from model_zoo.check import check_built

Row = dict[str, Any]


def open_clip_names() -> list[str]:
    import open_clip

    return sorted(open_clip.list_models())


def check_open_clip(name: str) -> Row:
    """Check a model of open_clip with one image and one text."""
    import open_clip

    config: Any = open_clip.get_model_config(name)

    def build() -> Any:
        return open_clip.create_model(name, pretrained=None, load_weights=False, pretrained_image=False)

    size = config["vision_cfg"].get("image_size", 224)
    size = size if isinstance(size, (list, tuple)) else (size, size)
    length = config["text_cfg"].get("context_length", 77)
    return check_built(build, lambda: (torch.rand(1, 3, *size), torch.ones(1, length, dtype=torch.long)))


def _x_transformers() -> dict[str, Any]:
    import x_transformers as x

    def decoder(**settings: Any) -> Any:
        return x.TransformerWrapper(
            num_tokens=256, max_seq_len=64, attn_layers=x.Decoder(dim=64, depth=2, heads=4, **settings)
        )

    def encoder(**settings: Any) -> Any:
        return x.TransformerWrapper(
            num_tokens=256, max_seq_len=64, attn_layers=x.Encoder(dim=64, depth=2, heads=4, **settings)
        )

    def image() -> Any:
        layers = x.Encoder(dim=64, depth=2, heads=4)
        return x.ViTransformerWrapper(image_size=32, patch_size=8, num_classes=10, attn_layers=layers)

    def continuous() -> Any:
        layers = x.Encoder(dim=64, depth=2, heads=4)
        return x.ContinuousTransformerWrapper(dim_in=32, dim_out=32, max_seq_len=64, attn_layers=layers)

    def two_stacks() -> Any:
        return x.XTransformer(
            dim=64, enc_num_tokens=256, enc_depth=2, enc_heads=4, enc_max_seq_len=64,
            dec_num_tokens=256, dec_depth=2, dec_heads=4, dec_max_seq_len=64,
        )  # fmt: skip

    def text() -> Any:
        return (torch.ones(1, 32, dtype=torch.long),)

    settings: dict[str, dict[str, Any]] = {
        "plain": {}, "rotary": {"rotary_pos_emb": True}, "alibi": {"alibi_pos_bias": True},
        "relative positions": {"rel_pos_bias": True}, "xpos": {"rotary_xpos": True}, "flash": {"attn_flash": True},
        "grouped queries": {"attn_kv_heads": 2}, "one key": {"attn_one_kv_head": True}, "gated": {"ff_glu": True},
        "swish, no bias": {"ff_swish": True, "ff_glu": True, "ff_no_bias": True},
        "talking heads": {"attn_talking_heads": True}, "memory": {"attn_num_mem_kv": 8},
        "RMSNorm": {"use_rmsnorm": True},
        "scale norm": {"use_scalenorm": True}, "sandwich": {"sandwich_norm": True}, "macaron": {"macaron": True},
        "sparse top-k": {"attn_sparse_topk": 8}, "hyper-connections": {"num_residual_streams": 4},
        "dynamic positions": {"dynamic_pos_bias": True}, "qk norm": {"attn_qk_norm": True},
        "shift": {"shift_tokens": 1},
        "gate residual": {"gate_residual": True}, "value gates": {"attn_gate_values": True},
    }  # fmt: skip
    made: dict[str, Any] = {}
    for name, given in settings.items():
        made[f"Decoder, {name}"] = (lambda given=given: decoder(**given), text)
        made[f"Encoder, {name}"] = (lambda given=given: encoder(**given), text)
    made["ViTransformerWrapper"] = (image, lambda: (torch.rand(1, 3, 32, 32),))
    made["ContinuousTransformerWrapper"] = (continuous, lambda: (torch.rand(1, 16, 32),))
    made["XTransformer"] = (two_stacks, lambda: (*text(), *text()))
    return made


def x_transformers_names() -> list[str]:
    """Return the names of the models of x-transformers that are checked."""
    return list(_x_transformers())


def check_x_transformers(name: str) -> Row:
    return check_built(*_x_transformers()[name])
