"""`training_run` and `TrainingRun`: hand-derived costs of a small model, and published numbers of runs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from pytest_flopsbudget import UsageError, shape_only, training_run
from pytest_flopsbudget.hardware.profile import Device
from pytest_flopsbudget.training.conventions import find_convention
from pytest_flopsbudget.training.energy import energy
from pytest_flopsbudget.training.memory import StateBytes, rank_memory
from pytest_flopsbudget.training.model_sizes import ModelSizes
from pytest_flopsbudget.training.regulation import LINES, share_of
from pytest_flopsbudget.training.run import check_run
from pytest_flopsbudget.training.run_text import hardware, model_card, run_document, run_lines, scientific

DAY = 24 * 3_600


class Net(nn.Module):
    """Per token: 3 layers of 2 * 64 FLOPs and a head of 2 * 40, three times. 80 + 192 + 40 parameters."""

    def __init__(self, *, recompute=False):
        super().__init__()
        self.table = nn.Embedding(10, 8)
        self.layers = nn.ModuleList(nn.Linear(8, 8, bias=False) for _ in range(3))
        self.head = nn.Linear(8, 5, bias=False)
        self.recompute = recompute

    def forward(self, tokens):
        x = self.table(tokens)
        for layer in self.layers:
            x = checkpoint(self._layer, layer, x, use_reentrant=False) if self.recompute else self._layer(layer, x)
        return self.head(x)

    def _layer(self, layer, x):
        return layer(x).relu()


PARAMS = 80 + 192 + 40
FORWARD = 2 * (192 + 40)
#: 1,000 steps of 6 sequences of 4 tokens; the last step has half of them.
SIZES = {"tokens": 999 * 24 + 12, "batch": 6, "sequence": 4, "micro_batch": 2}


@pytest.fixture(scope="module")
def run():
    return training_run(Net(), **SIZES)


@pytest.fixture(scope="module")
def recomputing():
    return training_run(Net(recompute=True), **SIZES)


def test_flops(run):
    assert (run.steps, run.micro_batches) == (1_000, 3)
    assert run.step_flops() == {
        "forward": 24 * FORWARD,
        "backward": 2 * 24 * FORWARD,
        "recomputed": 0,
        "optimizer": 0,
    }
    assert run.flops() == run.flops(recompute=True) == 3 * FORWARD * SIZES["tokens"]
    assert run.flops("6nd") == 6 * PARAMS * SIZES["tokens"]


def test_recomputation(run, recomputing):
    """ReLU's backward pass needs its output, so the product of each layer is computed again."""
    assert recomputing.step_flops()["recomputed"] == 24 * 2 * 192
    assert recomputing.flops() == run.flops()
    assert recomputing.flops(recompute=True) == (3 * FORWARD + 2 * 192) * SIZES["tokens"]
    assert "with what checkpointing computes again" in "\n".join(run_lines(recomputing, hardware()))
    assert "| With recomputation |" in model_card(recomputing, hardware())


def test_states(run):
    """AdamW has two values of 4 bytes for each parameter, and the number of steps for each of 5 tensors."""
    assert run.states == StateBytes(4 * PARAMS, 4 * PARAMS, 8 * PARAMS + 5 * 4)
    plain = training_run(Net().to(torch.bfloat16), optimizer="SGD", master_weights=True, **SIZES)
    assert plain.states == StateBytes(2 * PARAMS, 2 * PARAMS, 0, 4 * PARAMS)
    momentum = training_run(Net(), optimizer=lambda found: torch.optim.SGD(found, lr=1.0, momentum=0.9), **SIZES)
    assert momentum.states.optimizer == 4 * PARAMS


def test_frozen_parameters_have_no_states():
    net = Net()
    net.table.requires_grad_(False)
    found = training_run(net, **SIZES)
    assert found.states == StateBytes(4 * PARAMS, 4 * 232, 8 * 232 + 4 * 4)
    assert found.step_flops()["backward"] == 24 * (2 * FORWARD - 2 * 64)  # nobody needs the first input's gradient


def test_activations_grow_with_the_micro_batch():
    sizes = {**SIZES, "batch": 24, "sequence": 64}
    four, eight, twelve = (
        training_run(Net(), **{**sizes, "micro_batch": micro}).activation_bytes for micro in (4, 8, 12)
    )
    assert twelve - eight == eight - four
    # At least the embeddings, the outputs of three layers and those of the head, of 4 * 64 tokens.
    assert eight - four >= 4 * 64 * 4 * (8 + 3 * 8 + 5)


def test_optimizers_with_products():
    """Muon multiplies matrices, so its steps are a part of the FLOPs of a run, once for each step."""
    if not hasattr(torch.optim, "Muon"):
        pytest.skip("this PyTorch has no Muon")
    found = training_run(Net(), optimizer="muon", **SIZES)
    assert found.optimizer.flops > 0
    assert found.flops() == 3 * FORWARD * SIZES["tokens"] + 1_000 * found.optimizer.flops


def test_the_model_is_unchanged():
    net = Net()
    before = [parameter.clone() for parameter in net.parameters()]
    training_run(net, **SIZES)
    assert all(torch.equal(one, two) for one, two in zip(before, net.parameters(), strict=True))
    assert all(parameter.grad is None for parameter in net.parameters())
    assert not any(parameter._post_accumulate_grad_hooks for parameter in net.parameters())


def test_other_inputs():
    def make_inputs(micro_batch, sequence):
        return {"tokens": torch.zeros(micro_batch, sequence, dtype=torch.int64)}

    assert training_run(Net(), make_inputs=make_inputs, **SIZES).flops() == 3 * FORWARD * SIZES["tokens"]


GPU = Device("GPU", {"bfloat16": 10**12}, {}, 10**9, 2_000, 0)


def test_hours_and_energy(run):
    hours = run.device_hours(GPU, 0.5)
    assert hours == pytest.approx(run.flops() / (0.5 * 10**12) / 3_600)
    used = run.energy(GPU, 0.5, watts=100)
    assert (used.low, used.high) == pytest.approx((hours * 100 * 0.5 * 1.1 * 1.1, hours * 100 * 1.6 * 1.6))
    assert "assumed, not measured" in used.assumptions
    with pytest.raises(UsageError, match="the power of GPU is unknown; give it: watts"):
        run.energy(GPU, 0.5)
    assert energy(10, "H100").watts == 700


def test_megatron_gpt_3():
    """D. Narayanan et al., 2021, section 5.1: 300 B tokens on 1,024 A100 at 140 TFLOP/s each take 34 days.

    The 34 days are 8TP / nX, an approximation of the formula.
    """
    sizes = ModelSizes({"layers": 96, "hidden": 12_288, "vocabulary": 51_200, "sequence": 2_048})
    flops = find_convention("megatron").value(sizes, recompute=True) * 300 * 10**9
    assert float(flops / (1_024 * 140 * 10**12)) / DAY == pytest.approx(34, rel=0.03)


def test_nanogpt():
    """karpathy/nanoGPT, transformer_sizing.ipynb: 3.46 days for 300 B tokens on 8 A100 at an MFU of 30 %."""
    flops = find_convention("6nd").value(ModelSizes({"active_params": 124_337_664})) * 300 * 10**9
    assert f"{float(flops) / (312e12 * 8 * 0.3) / DAY:.2f}" == "3.46"


def test_memory_of_a_rank(run):
    """States are divided by all ranks, rounded up; two layers of 256 bytes are gathered by FSDP."""
    total = run.states.total
    rank = run.rank_memory(fsdp=4, tensor=2)
    assert (rank.states, rank.gathered) == (-(-total // 8), 2 * 128)
    assert rank.total == rank.states + rank.gathered + run.activation_bytes
    whole = run.rank_memory()
    assert (whole.states, whole.gathered) == (total, 0)
    assert "4 FSDP x 2 tensor ranks" in rank.formula


def test_zero_3():
    """S. Rajbhandari et al., ZeRO, 2020, figure 1: 7.5 B parameters with Adam, 2 + 2 + 12 bytes each, on 64 ranks.

    120 GB become 1.9 GB on each rank.
    """
    states = StateBytes(2 * 7_500_000_000, 2 * 7_500_000_000, 8 * 7_500_000_000, 4 * 7_500_000_000)
    assert states.total == 120 * 10**9
    assert f"{rank_memory(states, layer=0, activations=0, fsdp=64, tensor=1).states / 10**9:.1f}" == "1.9"


def test_lines_of_regulation():
    assert [line.flops for line in LINES] == [10**23, 10**25]
    assert [line.name for line in LINES] == ["10^23 FLOPs", "10^25 FLOPs"]
    assert "Article 51(2)" in LINES[1].text
    # Llama 3 405B (3.8e25) is above both lines, GPT-3 (3.14e23) above the first one.
    assert [share_of(line, 38 * 10**24) for line in LINES] == [380, 3.8]
    assert [round(share_of(line, 314 * 10**21), 4) for line in LINES] == [3.14, 0.0314]


def test_texts(run):
    on = hardware(device=GPU, mfu=0.5, devices=4, tensor=2)
    text = "\n".join(run_lines(run, on))
    assert "a training run of 23,988 tokens, 1,000 steps of 6 sequences of 4 tokens, in micro-batches of 2" in text
    assert f"  exact         {scientific(run.flops())}  counted" in text
    assert "energy: the power of GPU is unknown" in text
    assert "does not fit into the 1.953 KiB of GPU" in text
    assert "10^25 FLOPs  not reached" in text
    assert "check them; this is no legal advice" in text
    card = model_card(run, replace(on, watts=100))
    assert card.startswith("## Training compute\n\n| | |\n|---|---|\n| Parameters | 312 |")
    assert "| Hardware | 4 x GPU, an assumed MFU of 0.5 in bfloat16 |" in card
    assert "| Energy | " in card
    document = run_document(run, on)
    assert document["flops"]["exact"] == run.flops()
    assert document["rank"]["fsdp"] == 2
    assert "energy" not in document


def test_scientific():
    assert [scientific(value) for value in (0, 314_280_000 * 10**15, 10**25)] == ["0", "3.143e23", "1.000e25"]


def test_a_large_model_on_shapes():
    """States of a model that no machine could hold: 4 bytes a parameter, and AdamW's 8."""
    with shape_only():
        net = nn.Sequential(nn.Embedding(10, 200_000), nn.Linear(200_000, 200_000, bias=False))
    found = training_run(net, tokens=10, batch=1, sequence=10)
    params = 10 * 200_000 + 200_000**2
    assert found.states.total == 16 * params + 2 * 4


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: check_run(0, 1, 1, 1), "tokens is 0, and not a whole number from 1 on"),
        (lambda: check_run(1, 1, 1.5, 1), "sequence is 1.5"),
        (
            lambda: check_run(1, 7, 1, 2),
            "a batch of 7 sequences is no multiple of the micro-batch of 2; choose",
        ),
        (lambda: check_run(1, 7, 1, 2, 2), "micro-batch of 2 x 2 data-parallel ranks; choose a batch of 4 or 8"),
        (lambda: training_run(Net(), optimizer="adamx", **SIZES), "no optimizer 'adamx' in torch.optim; did you mean"),
        (lambda: training_run(nn.Flatten(), **SIZES), "backward=True, but no output of the model requires a gradient"),
        (lambda: hardware(device="H100"), "a device and a utilization belong together"),
        (lambda: hardware(mfu=0.4), "a device and a utilization belong together"),
        (lambda: hardware(device="H100", mfu=40), "mfu=40: a utilization is above 0 and at most 1"),
        (lambda: hardware(devices=6, tensor=4), "6 devices cannot be divided into groups of 4 ranks"),
        (lambda: hardware(tensor=0), "tensor=0: write a whole number from 1 on"),
        (lambda: rank_memory(StateBytes(1, 1, 1), layer=1, activations=1, fsdp=0, tensor=1), "fsdp=0: write a whole"),
    ],
)
def test_errors(call, message):
    with pytest.raises(UsageError) as error:
        call()
    assert message in str(error.value)


def test_an_optimizer_that_needs_data():
    def needs_data(found):
        class Reading(torch.optim.SGD):
            def step(self, closure=None):
                return found[0].sum().item()

        return Reading(found, lr=1.0)

    with pytest.raises(UsageError, match="the optimizer does not run on shapes"):
        training_run(Net(), optimizer=needs_data, **SIZES)
