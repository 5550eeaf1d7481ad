"""Count many models in this process and print their metrics as JSON: ``python -m compatibility.sweep``.

The models are those of the comparison with other counters, whose FLOPs are known in closed form, and one model for each
kind of layer in PyTorch. Each is counted in forward and, where its outputs have gradients, in forward and backward.
"""

from __future__ import annotations

import json
import sys
import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from comparison.cases import CASES
from pytest_flopsbudget import measure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Built = tuple[nn.Module, tuple[Any, ...]]

#: 2 sequences of 6 tokens of width 8.
_TOKENS = (2, 6, 8)
_IMAGE = (2, 4, 12, 12)


class _First(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *args: torch.Tensor) -> Any:
        return self.model(*args)[0]


def _layers() -> dict[str, Callable[[], Built]]:
    """Return a model and its inputs for each kind of layer, by name."""
    plain: dict[str, tuple[Callable[[], nn.Module], tuple[tuple[int, ...], ...]]] = {
        "Linear": (lambda: nn.Linear(8, 5), (_TOKENS,)),
        "Bilinear": (lambda: nn.Bilinear(8, 8, 5), (_TOKENS, _TOKENS)),
        **{
            f"{kind}{dims}d": (
                lambda kind=kind, dims=dims: getattr(nn, f"{kind}{dims}d")(4, 6, 3, stride=2, padding=1),  # type: ignore[misc]
                ((2, 4, *[9] * dims),),
            )
            for kind in ("Conv", "ConvTranspose")
            for dims in (1, 2, 3)
        },
        "Conv2d depthwise": (lambda: nn.Conv2d(4, 8, 3, groups=4), (_IMAGE,)),
        "Conv2d dilated": (lambda: nn.Conv2d(4, 8, 3, dilation=2), (_IMAGE,)),
        "LayerNorm": (lambda: nn.LayerNorm(8), (_TOKENS,)),
        "RMSNorm": (lambda: nn.RMSNorm(8), (_TOKENS,)),
        "GroupNorm": (lambda: nn.GroupNorm(2, 4), (_IMAGE,)),
        "BatchNorm2d": (lambda: nn.BatchNorm2d(4), (_IMAGE,)),
        "BatchNorm2d, eval": (lambda: nn.BatchNorm2d(4).eval(), (_IMAGE,)),
        "InstanceNorm2d": (lambda: nn.InstanceNorm2d(4), (_IMAGE,)),
        "LocalResponseNorm": (lambda: nn.LocalResponseNorm(2), (_IMAGE,)),
        "MaxPool2d": (lambda: nn.MaxPool2d(2), (_IMAGE,)),
        "AvgPool2d": (lambda: nn.AvgPool2d(2), (_IMAGE,)),
        "AdaptiveAvgPool2d": (lambda: nn.AdaptiveAvgPool2d(5), (_IMAGE,)),
        "LPPool2d": (lambda: nn.LPPool2d(2, 2), (_IMAGE,)),
        "FractionalMaxPool2d": (lambda: nn.FractionalMaxPool2d(2, output_size=5), (_IMAGE,)),
        "Upsample, bilinear": (lambda: nn.Upsample(scale_factor=2, mode="bilinear"), (_IMAGE,)),
        "Upsample, bicubic": (lambda: nn.Upsample(scale_factor=2, mode="bicubic"), (_IMAGE,)),
        "PixelShuffle": (lambda: nn.PixelShuffle(2), (_IMAGE,)),
        "Fold and unfold": (lambda: nn.Sequential(nn.Unfold(3), nn.Fold((12, 12), 3)), (_IMAGE,)),
        "RNN": (lambda: _First(nn.RNN(8, 5, num_layers=2, batch_first=True)), (_TOKENS,)),
        "LSTM": (lambda: _First(nn.LSTM(8, 5, bidirectional=True, batch_first=True)), (_TOKENS,)),
        "LSTM with projections": (lambda: _First(nn.LSTM(8, 5, proj_size=3, batch_first=True)), (_TOKENS,)),
        "GRU": (lambda: _First(nn.GRU(8, 5, num_layers=2, batch_first=True)), (_TOKENS,)),
        "LSTMCell": (lambda: _First(nn.LSTMCell(8, 5)), ((2, 8),)),
        "GRUCell": (lambda: nn.GRUCell(8, 5), ((2, 8),)),
        "RNNCell": (lambda: nn.RNNCell(8, 5), ((2, 8),)),
        "MultiheadAttention": (lambda: _First(nn.MultiheadAttention(8, 2, batch_first=True)), (_TOKENS,) * 3),
        "MultiheadAttention, eval": (
            lambda: _First(nn.MultiheadAttention(8, 2, batch_first=True).eval()),
            (_TOKENS,) * 3,
        ),
        "TransformerEncoderLayer": (lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), (_TOKENS,)),
        "TransformerEncoderLayer, eval": (
            lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval(),
            (_TOKENS,),
        ),
        "TransformerDecoderLayer": (lambda: nn.TransformerDecoderLayer(8, 2, 16, batch_first=True), (_TOKENS,) * 2),
        "Transformer": (lambda: nn.Transformer(8, 2, 1, 1, 16, batch_first=True), (_TOKENS,) * 2),
        **{
            name: (getattr(nn, name), (_TOKENS,))
            for name in (
                *("ReLU", "GELU", "SiLU", "Mish", "ELU", "SELU", "CELU", "Hardswish", "Hardsigmoid", "Softplus"),
                *("LeakyReLU", "PReLU", "Sigmoid", "LogSigmoid", "Tanh", "Softsign", "Tanhshrink", "GLU", "RReLU"),
                *("Softmax", "LogSoftmax", "Softmin", "Dropout", "AlphaDropout", "Identity", "Flatten"),
            )
        },
        **{
            name: (getattr(nn, name), (_TOKENS, _TOKENS))
            for name in (
                *("MSELoss", "L1Loss", "SmoothL1Loss", "HuberLoss", "KLDivLoss", "BCEWithLogitsLoss", "PoissonNLLLoss"),
                *("SoftMarginLoss", "CosineSimilarity", "PairwiseDistance"),
            )
        },
        "GaussianNLLLoss": (nn.GaussianNLLLoss, (_TOKENS,) * 3),
        "TripletMarginLoss": (nn.TripletMarginLoss, (_TOKENS,) * 3),
    }
    layers: dict[str, Callable[[], Built]] = {
        name: lambda build=build, shapes=shapes: (build(), tuple(torch.ones(shape) for shape in shapes))  # type: ignore[misc]
        for name, (build, shapes) in plain.items()
    }
    ids = torch.zeros(2, 6, dtype=torch.long)
    layers["Embedding"] = lambda: (nn.Embedding(10, 8), (ids,))
    layers["EmbeddingBag"] = lambda: (nn.EmbeddingBag(10, 8), (ids,))
    layers["CrossEntropyLoss"] = lambda: (nn.CrossEntropyLoss(), (torch.ones(2, 10, 6), ids))
    layers["NLLLoss"] = lambda: (nn.NLLLoss(), (torch.ones(2, 10, 6), ids))
    layers["CTCLoss"] = lambda: (
        nn.CTCLoss(),
        (torch.ones(6, 2, 10), ids[:, :3] + 1, torch.tensor([6, 6]), torch.tensor([3, 3])),
    )
    return layers


def _cases() -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield (name, function that measures) for each case."""
    for case in CASES.values():

        def compared(case: Any = case) -> Any:
            model, args = case.build()
            with case.surroundings():
                return measure(model.eval(), args, backward=case.backward)

        yield case.name.replace("`", ""), compared
    for name, build in _layers().items():
        for backward in (False, True):

            def measured(build: Callable[[], Built] = build, backward: bool = backward) -> Any:
                model, args = build()
                if backward:
                    args = tuple(item.requires_grad_() if item.is_floating_point() else item for item in args)
                return measure(model, args, backward=backward)

            yield f"{name}, backward" if backward else name, measured


def main() -> None:
    """Print {case: {metric: value}}; a case that fails has the text of its error instead."""
    found: dict[str, dict[str, int] | str] = {}
    for name, run in _cases():
        torch.manual_seed(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                counted = run()
                found[name] = {**counted.metrics, "macs": counted.macs}
                if counted.unknown_operators:
                    found[name] = f"unknown: {', '.join(sorted(counted.unknown_operators))}"
            except Exception as error:  # noqa: BLE001 -- an exception is a finding too
                found[name] = f"{type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''}"
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
