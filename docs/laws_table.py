"""Write the table of known models in laws.md: ``cd docs && python -m laws_table`` (seconds)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import transformers as hf

from pytest_flopsbudget import law, shape_only

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PATH = Path(__file__).with_name("laws.md")
BEGIN, END = "<!-- models: begin -->", "<!-- models: end -->"

_LLAMA_8B = {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "use_cache": False,
}


def _tokens(sequence: int, batch: int = 1) -> torch.Tensor:
    return torch.empty(batch, sequence, dtype=torch.long, device="meta")


def _images(resolution: int) -> torch.Tensor:
    return torch.empty(1, 3, resolution, resolution, device="meta")


def _gpt2() -> torch.nn.Module:
    return hf.GPT2LMHeadModel(hf.GPT2Config(use_cache=False)).eval()


def _llama() -> torch.nn.Module:
    return hf.LlamaForCausalLM(hf.LlamaConfig(**_LLAMA_8B)).eval()


def _resnet50() -> torch.nn.Module:
    return hf.ResNetForImageClassification(hf.ResNetConfig(num_labels=1000)).eval()


class _Spectral(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.fft.irfft(torch.fft.rfft(x, dim=1), n=x.shape[1], dim=1)


class _Sort(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.sort(dim=1).values


def _signal(n: int) -> torch.Tensor:
    return torch.empty(1, n, 8, device="meta")


@dataclass(frozen=True)
class Row:
    """A model, the metrics to show, and the sizes of the range."""

    model: str
    metrics: tuple[str, ...]
    build: Callable[[], torch.nn.Module]
    inputs: Callable[..., torch.Tensor]
    sizes: Mapping[str, range]


ROWS = (
    Row("GPT-2", ("flops", "peak_memory"), _gpt2, _tokens, {"sequence": range(16, 1025)}),
    Row("GPT-2", ("flops",), _gpt2, _tokens, {"batch": range(1, 65), "sequence": range(16, 1025)}),
    Row("Llama 3.1 8B", ("flops", "peak_memory"), _llama, _tokens, {"sequence": range(128, 8193)}),
    Row("ResNet-50", ("flops",), _resnet50, _images, {"resolution": range(64, 1025, 32)}),
    Row("FFT and its inverse", ("other_flops",), _Spectral, _signal, {"n": range(64, 8193)}),
    Row("sort", ("other_flops",), _Sort, _signal, {"n": range(64, 8193)}),
)


def table() -> str:
    """Return a Markdown table with a line for each metric of each row."""
    lines = ["| model | sizes | metric | law | counts |", "| --- | --- | --- | --- | --- |"]
    for row in ROWS:
        with shape_only():
            model = row.build()
        found = law(model, row.inputs, **row.sizes)
        sizes = found.domain.text(found.letters, signs=True)
        lines += [f"| {row.model} | {sizes} | {key} | {found[key]} | {len(found.counted)} |" for key in row.metrics]
    return "\n".join(lines)


def main() -> None:
    """Write the table to the page, between its two marks."""
    text = PATH.read_text(encoding="utf-8")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    PATH.write_text(f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
