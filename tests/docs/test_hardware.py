"""docs/hardware.md shows the current device profiles, and its examples are valid."""

from __future__ import annotations

import re
import sys

import pytest
import torch
import transformers as hf
from paths import DOCS

from pytest_flopsbudget.config.reading import load_settings
from pytest_flopsbudget.counting.measure import measure
from pytest_flopsbudget.hardware.catalog import DEVICES

sys.path.append(str(DOCS))

import hardware_table

PAGE = hardware_table.PATH.read_text(encoding="utf-8")


def test_the_page_shows_the_profiles():
    """docs/hardware.md shows the current device profiles. If this test fails, run `make hardware-page`."""
    assert hardware_table.page(PAGE) == PAGE


def test_every_device_has_a_row_and_sources():
    rows = re.findall(r"^\| ([\w-]+) \| .* \|$", PAGE, re.MULTILINE)
    sources = re.findall(r"^- \*\*([\w-]+)\*\*: \w", PAGE, re.MULTILINE)
    assert list(DEVICES) == [name for name in rows if name in DEVICES]
    assert list(DEVICES) == sources


def test_a_row_by_hand():
    """The row of the A100 in docs/hardware.md has its published figures."""
    row = "| A100 | 19.5 | 19.5 | 156 | 312 | 312 |  |  | 624 | 19.5, 78 | 1,555 | 40 | 0.9 |"
    assert row in PAGE


def test_a_page_without_its_markers():
    with pytest.raises(ValueError, match="lacks"):
        hardware_table.page("a")


def test_its_examples_are_read(tmp_path):
    examples = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "pyproject.toml").write_text("\n".join(examples), encoding="utf-8")
    settings = load_settings(tmp_path)
    assert settings.time_on == ("A100", "raspberry-pi-5")
    camera, half = settings.devices.values()
    assert (camera.rate("float32"), camera.vector_rate("float32")) == (50 * 10**9, 25 * 10**9)
    assert (half.rates, half.bandwidth) == (DEVICES["A100"].rates, 777 * 10**9)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # raised by transformers
def test_what_it_says_of_optimizers():
    with torch.device("meta"):
        model = hf.ResNetForImageClassification(hf.ResNetConfig(num_labels=1000))
        images = {batch: torch.empty(batch, 3, 224, 224) for batch in (1, 32)}
    shares = {}
    for foreach in (None, True):
        optimizer = torch.optim.AdamW(model.parameters(), foreach=foreach)
        for parameter in model.parameters():
            parameter.grad = torch.empty_like(parameter)
        optimizer.step()  # makes the moments
        for batch, image in images.items():
            shares[foreach, batch] = launches_of_steps(model, optimizer, image)
    # AdamW launches 10 operators for each of 161 parameters. A launch takes 900 ns.
    launches = 10 * 161
    assert launches == 1610
    assert (launches, launches * 900) == shares[None, 1][:2]
    assert shares[None, 1][2] == pytest.approx(0.37, abs=0.01)
    assert shares[None, 32][2] == pytest.approx(0.07, abs=0.005)
    assert shares[True, 1][0] < launches / 4


def launches_of_steps(model, optimizer, image):
    """Return (launches, their nanoseconds, their share of the step's estimated time) of an optimizer."""

    def step(image):
        optimizer.zero_grad()
        model(image).logits.mean().backward()
        optimizer.step()

    counted = measure(step, image, devices=["A100"])
    phase = counted.phases["optimizer"]
    launches = phase.value("launch_time[A100]")
    return phase.launches, launches, launches / counted.time("A100")
