"""For common models, peak memory equals the CPU allocations that PyTorch's profiler reports."""

# The models have their usual width, but only two layers (or one block per stage) and 1,000 words.
#
# The profiler reports each allocation and each release. It does not see tensors that existed before, so we add their
# bytes. Kernels of oneDNN's convolutions may copy their operands to a new layout. Such a workspace begins and ends
# within one operator, and is not part of `peak_memory`. So we run convolutional models with channels last, which needs
# almost no workspaces, or we subtract the workspaces.

from __future__ import annotations

import gc

import pytest
import torch
import transformers as hf
from torch import nn
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile

from pytest_flopsbudget.counting.measure import measure


class _Double(nn.Sequential):
    def __init__(self, inputs, outputs):
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, padding=1),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, padding=1),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )


class UNet(nn.Module):
    """A U-Net (Ronneberger et al., 2015) with padding and batch norms."""

    def __init__(self, width=32):
        super().__init__()
        widths = [width * 2**level for level in range(5)]
        self.down = nn.ModuleList(map(_Double, [3, *widths[:3]], widths[:4]))
        self.bottom = _Double(widths[3], widths[4])
        self.widen = nn.ModuleList(nn.ConvTranspose2d(2 * size, size, 2, 2) for size in reversed(widths[:4]))
        self.up = nn.ModuleList(_Double(2 * size, size) for size in reversed(widths[:4]))
        self.head = nn.Conv2d(width, 2, 1)

    def forward(self, x):
        skipped = []
        for block in self.down:
            x = block(x)
            skipped.append(x)
            x = functional.max_pool2d(x, 2)
        x = self.bottom(x)
        for widen, block in zip(self.widen, self.up, strict=True):
            x = block(torch.cat([widen(x), skipped.pop()], 1))
        return self.head(x)


def images(batch, size):
    return torch.randn(batch, 3, size, size)


def tokens(batch, length):
    return torch.randint(0, WORDS, (batch, length))


# Before each run, the tests collect garbage.
pytestmark = [
    pytest.mark.usefixtures("only_new_objects"),
    # Some versions of PyTorch's profiler warn once in each process.
    pytest.mark.filterwarnings("ignore:Warning. Profiler clears events:UserWarning"),
]

WORDS = 1000
MODELS = {
    "ResNet-50": (
        lambda: hf.ResNetForImageClassification(hf.ResNetConfig(num_labels=1000, depths=[1, 1, 1, 1])),
        lambda: images(2, 224),
    ),
    "ViT-B/16": (
        lambda: hf.ViTForImageClassification(hf.ViTConfig(num_labels=1000, num_hidden_layers=2)),
        lambda: images(2, 224),
    ),
    "BERT-base": (
        lambda: hf.BertModel(hf.BertConfig(vocab_size=WORDS, num_hidden_layers=2)),
        lambda: tokens(2, 128),
    ),
    "U-Net": (lambda: UNet(width=16), lambda: images(2, 128)),
    "GPT-2": (lambda: hf.GPT2LMHeadModel(hf.GPT2Config(vocab_size=WORDS, n_layer=2)), lambda: tokens(2, 128)),
}
CONVOLUTIONAL = ("ResNet-50", "U-Net")


def prepared(name):
    torch.manual_seed(0)
    build, inputs = MODELS[name]
    model, x = build(), inputs()
    if name in CONVOLUTIONAL:
        model, x = model.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)
    return model, x


def standing(*tensors):
    """Return the bytes of the tensors. A storage that several tensors share counts once."""
    return sum({id(one.untyped_storage()): one.untyped_storage().nbytes() for one in tensors}.values())


def held_by(model, *others):
    return standing(*model.parameters(), *model.buffers(), *others)


_CONVOLUTIONS = ("aten::mkldnn_convolution", "aten::convolution_backward")


def allocated(function, *, workspaces=True):
    """Return the largest number of bytes that are allocated at once while the function runs.

    If ``workspaces`` is false, memory that a convolution both allocates and frees is left out.
    """
    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        function()
    events = sorted(profiler.profiler.kineto_results.events(), key=lambda event: event.start_ns())
    current = peak = 0
    if workspaces:
        for event in events:
            if event.name() == "[memory]":
                current += event.nbytes()
                peak = max(peak, current)
        return peak
    # Read the allocated bytes only before and after each convolution kernel, not inside.
    kernels = [(event.start_ns(), event.end_ns()) for event in events if event.name() in _CONVOLUTIONS]
    inside = iter([*kernels, (float("inf"), float("inf"))])
    begin, end = next(inside)
    for event in events:
        if event.name() == "[memory]":
            while event.start_ns() > end:
                peak = max(peak, current)
                begin, end = next(inside)
            current += event.nbytes()
            if event.start_ns() < begin:
                peak = max(peak, current)
    return max(peak, current)


@pytest.mark.parametrize("name", MODELS)
def test_inference(name):
    """In inference, the peak differs from the profiler's peak by at most 1%."""
    model, x = prepared(name)
    model.eval()

    @torch.no_grad()
    def forward():
        model(x)

    forward()  # allocates what PyTorch keeps after the first call
    real = held_by(model, x) + allocated(forward)
    assert measure(model, x).peak_memory == pytest.approx(real, rel=0.01)


def loss_of(output):
    if not isinstance(output, torch.Tensor):
        output = output.logits if "logits" in output else output.last_hidden_state
    return output.float().square().mean()


@pytest.mark.parametrize("name", MODELS)
def test_a_training_step(name):
    model, x = prepared(name)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters())

    def step(x):
        loss_of(model(x)).backward()
        optimizer.step()
        optimizer.zero_grad()

    counted = measure(step, x)
    assert counted.execution == "shapes"
    real = held_by(model, x) + allocated(lambda: step(x))
    assert counted.peak_memory == pytest.approx(real, rel=0.01)


@pytest.mark.parametrize("name", MODELS)
def test_the_passes_of_training(name):
    model, x = prepared(name)
    model.train()
    x = torch.cat([x, x])  # a larger batch: activations need more memory than weights

    def passes(x):
        loss_of(model(x)).backward()

    counted = measure(passes, x)
    assert counted.memory_at_peak.activations > counted.memory_at_peak.gradients
    real = held_by(model, x) + allocated(lambda: passes(x), workspaces=name not in CONVOLUTIONAL)
    assert counted.peak_memory == pytest.approx(real, rel=0.01)


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_in_the_usual_layout(name):
    """With channels first, the peak agrees with the profiler's peak without workspaces of convolutions."""
    model, x = prepared(name)
    model, x = model.eval().to(memory_format=torch.contiguous_format), x.contiguous()

    @torch.no_grad()
    def forward():
        model(x)

    forward()
    real = held_by(model, x) + allocated(forward, workspaces=False)
    assert measure(model, x).peak_memory == pytest.approx(real, rel=0.01)
