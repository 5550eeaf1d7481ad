"""Tests of docs/performance."""

from __future__ import annotations

import mmap
import pkgutil
import sys
from xml.etree import ElementTree as ET

import pytest
import torch
from paths import DOCS

from pytest_flopsbudget.counting.measure import measure

sys.path.append(str(DOCS))

from peers.table import between_markers
from performance import alone, chart, closed_forms, page, process, schedule
from performance.__main__ import CHART, PAGE
from performance.constant_answers import Answering, Remembering
from performance.depth import line
from performance.memory import Growth
from performance.models import MODELS, UNET
from performance.results import FILE, Pair, Results, load, save, to_json
from performance.runners import CONSTANTS, FORWARD, OURS, RUNNERS
from performance.targets import beside_constants, beside_forward, beside_peers, fastest_right, targets
from performance.weights import BLOCK, RepeatedWeights

UNET_NAME = "U-Net (DDPM, 32×32)"  # noqa: RUF001 -- as in the table


class TestModels:
    @pytest.mark.parametrize("name", [name for name in MODELS if name != UNET_NAME])
    def test_the_closed_form_is_what_is_counted_here(self, name):
        case = MODELS[name].case
        with torch.device("meta"):
            model, args = case.build()
        assert measure(model.eval(), args, backward=case.backward).flops == case.flops

    def test_published_numbers(self):
        # Sources: torchvision; Sandler et al., 2018, table 4; Liu et al., 2021, table 1; Liu et al., 2022, table 1.
        macs = {name: model.case.flops / 2e9 for name, model in MODELS.items()}
        assert macs["ResNet-18"] == pytest.approx(1.814, abs=0.0005)
        assert macs["ResNet-152"] == pytest.approx(11.514, abs=0.0005)
        assert macs["MobileNetV2"] == pytest.approx(0.300, abs=0.001)
        assert macs["MobileNetV2 ×0.35"] == pytest.approx(0.059, abs=0.0005)  # noqa: RUF001 -- as in the table
        assert macs["ViT-L/16"] == pytest.approx(61.555, abs=0.0005)
        assert macs["ConvNeXt-L"] == pytest.approx(34.361, abs=0.0005)
        assert macs["Swin-T"] == pytest.approx(4.5, abs=0.05)
        assert macs["Swin-B"] == pytest.approx(15.4, abs=0.05)

    def test_a_unet_of_two_levels(self):
        def conv(side, inputs, outputs, kernel=9):
            return 2 * side**2 * inputs * outputs * kernel

        def block(side, inputs, outputs):
            shortcut = conv(side, inputs, outputs, 1) if inputs != outputs else 0
            return conv(side, inputs, outputs) + 2 * 16 * outputs + conv(side, outputs, outputs) + shortcut

        attention = 4 * 2 * 4 * 8 * 8 + 2 * 2 * 4 * 4 * 8  # attention among four positions of width 8
        down = [conv(4, 3, 4), block(4, 4, 4), block(4, 4, 4), conv(2, 4, 4), block(2, 4, 8), block(2, 8, 8)]
        middle = [block(2, 8, 8), attention, block(2, 8, 8)]
        up = [block(2, 8 + 8, 8), block(2, 8 + 8, 8), block(2, 8 + 4, 8), conv(4, 8, 8)]
        top = [block(4, 8 + 4, 4), block(4, 4 + 4, 4), block(4, 4 + 4, 4), conv(4, 4, 3)]
        step = 2 * 4 * 16 + 2 * 16 * 16
        assert closed_forms.ddpm_unet((4, 8), 1, side=4) == sum(down + middle + up + top) + 5 * attention + step

    def test_the_unet_as_it_was_measured(self):
        """For the U-Net, the recorded counts of this plugin and of PyTorch are right."""
        pairs = load(FILE).models[UNET_NAME]
        assert pairs[OURS].verdict == "right"
        assert pairs["FlopCounterMode on meta"].verdict == "right"
        # Fang et al., "Structural Pruning for Diffusion Models", 2023, table 1: 6.1 GMACs, which leave out a part of
        # attention.
        assert closed_forms.ddpm_unet(*UNET) / 2e9 == pytest.approx(6.1, rel=0.03)


def pairs(**seconds):
    """Return {runner: its result}. All results are right, and ``seconds`` has the time of the first count of each."""
    names = {"ours": OURS, "forward": FORWARD, "constants": CONSTANTS}
    return {
        names.get(name, name): Pair(first=[time], again=[time / 2], verdict="right") for name, time in seconds.items()
    }


class TestTargets:
    def test_the_fastest_right_peer(self):
        found = pairs(ours=1, forward=2, fvcore=3, thop=5, torchinfo=7)
        found["fvcore"].verdict = "×0.96 (w)"  # noqa: RUF001 -- as in the table
        found["torchinfo"].first = []
        assert fastest_right(found) == ("thop", 5)
        assert fastest_right(pairs(ours=1)) is None

    def test_ratios_of_medians(self):
        results = Results(models={"a": pairs(ours=2, thop=12, forward=8, constants=1), "b": pairs(ours=1)})
        results.models["a"][OURS].first = [2, 2, 50]
        assert beside_peers(results) == {"a": 6}
        assert beside_forward(results, warm=False) == {"a": 4}
        assert beside_forward(results, warm=True) == {"a": 2}
        assert beside_constants(results) == {"a": 2}

    @pytest.mark.parametrize(("thop", "holds"), [(2.9, [False, False]), (5.0, [False, True]), (9.0, [True, True])])
    def test_the_median_and_the_least(self, thop, holds):
        """Each of the two targets holds only if this plugin is fast enough compared with thop."""
        # Targets: 8 times as fast in the median of all models, 3 times as fast for each model.
        found = targets(Results(models={"a": pairs(ours=1, thop=thop)}))
        assert [target.holds for target in found] == holds

    def test_memory_and_time_of_the_largest(self):
        results = Results(models={"Llama-3.1-405B": {OURS: Pair(first=[0.3], again=[0.3], memory=[101_000_000])}})
        assert [target.holds for target in targets(results)] == [True, False]

    def test_a_straight_line(self):
        exact = line({"1": [5.0], "2": [7.0], "10": [23.0]})
        assert (exact.start, exact.slope, exact.r_squared) == pytest.approx((3, 2, 1))
        bent = line({"0": [0.0], "1": [0.0], "2": [3.0]})
        # Both means are 1 and the slope is 3/2. The squares of the residuals 1/2, 1, 1/2 sum to 1.5, of 6 in total.
        assert (bent.start, bent.slope, bent.r_squared) == pytest.approx((-0.5, 1.5, 0.75))


class TestConstantAnswers:
    def test_are_like_the_first_time(self):
        """The remembered answers have the shape, strides and dtype of the first run."""
        model = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.ReLU(inplace=True)).to("meta")
        inputs = torch.empty(3, 4, device="meta")
        remembering = Remembering()
        with remembering:
            first = model(inputs)
        with Answering(remembering.answers) as answering:
            second = model(inputs)
        assert answering.complete()
        assert (second.shape, second.stride(), second.dtype) == (first.shape, first.stride(), first.dtype)

    def test_another_way_is_seen(self):
        remembering = Remembering()
        with remembering:
            torch.ones(2).relu().relu()
        with Answering(remembering.answers) as answering:
            torch.ones(2).relu()
        assert not answering.complete()


@pytest.mark.parametrize("name", alone._LEFT_OUT)
def test_what_is_left_out_exists(name):
    assert callable(pkgutil.resolve_name(name))


def test_weights_repeat_a_random_block():
    size = 2 * BLOCK + 3
    with RepeatedWeights():
        weights = torch.empty(size).uniform_(2, 3)
        small = torch.empty(4).normal_()
    assert 2 <= weights.min() < weights.max() <= 3
    assert len(weights[:BLOCK].unique()) > BLOCK / 2
    assert torch.equal(weights[BLOCK:-3], weights[:BLOCK])
    assert torch.equal(weights[-3:], weights[:3])
    assert len(small.unique()) == 4


class TestSample:
    """`sample` measures one count. The tests call it in their own process."""

    @pytest.mark.parametrize("runner", [OURS, "FlopCounterMode on meta"])
    def test_of_a_counter(self, runner):
        sample = process._sample(runner, "ResNet-18")
        assert sample.number == MODELS["ResNet-18"].case.flops
        assert sample.first > 0
        assert (sample.again is None) == (runner != OURS)

    @pytest.mark.parametrize("runner", [FORWARD, CONSTANTS])
    def test_of_what_counts_nothing(self, runner):
        sample = process._sample(runner, "ResNet-18")
        assert sample.number is None
        assert sample.again > 0

    def test_memory_grows_by_what_is_held(self):
        with mmap.mmap(-1, 96 << 20) as before:
            before.write(b"x" * len(before))
        growth = Growth()
        with mmap.mmap(-1, 32 << 20) as held:
            for page_start in range(0, len(held), mmap.PAGESIZE):
                held[page_start] = 1
            assert growth.bytes() == pytest.approx(len(held), rel=0.1)


class TestSchedule:
    @pytest.mark.parametrize(
        ("pair", "enough"),
        [
            (Pair(), False),
            (Pair(first=[1.0], processes=[schedule.ENOUGH - 1]), False),
            (Pair(first=[1.0], processes=[schedule.ENOUGH]), True),
            (Pair(processes=[0.1], verdict="raises KeyError"), True),
        ],
    )
    def test_when_a_pair_has_been_asked_enough(self, pair, enough):
        assert schedule.enough(pair) == enough

    def test_a_run_that_was_cut_off_goes_on(self, monkeypatch):
        asked = []

        def measured(runner, model):
            asked.append((model.name, runner.name))
            return None, "raises KeyError"

        monkeypatch.setattr(schedule, "measured", measured)
        models, runners = list(MODELS.values())[:2], [RUNNERS[OURS], RUNNERS["thop"]]
        (one, two), results = [model.name for model in models], Results()
        results.models[one] = {OURS: Pair(first=[0.1], processes=[0.1])}
        schedule.in_turn(models, runners, 1, results, lambda: None)
        assert asked == [(one, "thop"), (two, OURS), (two, "thop")]


class TestPage:
    def test_shows_what_was_measured(self):
        """The page and the chart show the stored results. If this test fails, run ``make bench-page``."""
        results = load(FILE)
        assert PAGE.read_text() == between_markers(PAGE.read_text(), page.measured(results))
        assert CHART.read_text() == chart.svg(results)

    def test_everything_was_measured(self):
        """The results have each model with each of its counters, and nothing else."""
        measured = {model: set(pairs) for model, pairs in load(FILE).models.items()}
        expected = {
            name: {runner.name for runner in RUNNERS.values() if runner.answers(model)}
            for name, model in MODELS.items()
        }
        assert measured == expected

    def test_this_counter_is_right(self):
        assert {pairs[OURS].verdict for pairs in load(FILE).models.values()} == {"right"}

    def test_nothing_measured_is_a_page_too(self):
        """If there are no results, the tables of the page have dashes."""
        assert "| ResNet-50 | –" in page.measured(Results())  # noqa: RUF001 -- as in the table
        assert ET.fromstring(chart.svg(Results())).tag.endswith("svg")  # noqa: S314 -- we made this file

    def test_bars_grow_with_the_logarithm(self):
        results = Results(models={"ResNet-50": pairs(ours=0.01, thop=0.1, forward=1.0)})
        drawn = ET.fromstring(chart.svg(results))  # noqa: S314 -- we made this file
        ours, peer, forward = [float(bar.get("width")) for bar in drawn.iter() if bar.get("height") == "10"]
        assert (ours, peer) == (0, forward / 2)

    def test_results_survive_the_file(self, tmp_path):
        results = Results(machine={"system": "x"}, rounds=2, models={"a": pairs(ours=1.5)})
        save(results, tmp_path / "results.json")
        assert load(tmp_path / "results.json") == results
        assert '"first": [1.5]' in to_json(results)
        assert load(tmp_path / "none.json") == Results()
