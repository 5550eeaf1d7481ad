"""Tests of docs/beyond-flops.md: a separable block has fewer FLOPs, but takes longer on a GPU."""

from __future__ import annotations

import re
import sys
from itertools import combinations
from xml.etree import ElementTree as ET

import pytest
import torch
from paths import DOCS

from pytest_flopsbudget.config.reading import load_settings
from pytest_flopsbudget.hardware.catalog import DEVICES

sys.path.append(str(DOCS))

from inversion import chart, page
from inversion.blocks import (
    BATCH,
    EARLY,
    STAGES,
    WIDTHS,
    Place,
    counted,
    dense,
    dense_alone,
    fused_mbconv,
    mbconv,
    separable,
    separable_alone,
)

PAGE = page.PAGE.read_text(encoding="utf-8")
DTYPES = {torch.float32: 4, torch.bfloat16: 2}
A100, PI = "A100", "raspberry-pi-5"

#: FLOP/s of products; FLOP/s of other work; bytes per second; nanoseconds per launch. From data sheets, see
#: docs/hardware.md.
FIGURES = {
    (A100, torch.float32): (156e12, 19.5e12, 1555e9, 900),  # convolutions run in TF32
    (A100, torch.bfloat16): (312e12, 78e12, 1555e9, 900),
    (PI, torch.float32): (153.6e9, 153.6e9, 17.068e9, 500),
}


def test_the_page_shows_what_is_counted():
    """docs/beyond-flops.md shows the current counts. If this test fails, run `make inversion-page`."""
    assert page.page(PAGE) == PAGE


def test_the_picture_shows_what_is_counted():
    """The chart in docs/beyond-flops.md shows the current counts. If this test fails, run `make inversion-page`."""
    assert chart.svg() == page.CHART.read_text(encoding="utf-8")


def convolution(place: Place, inputs: int, outputs: int, kernel: int, groups: int = 1) -> tuple[int, int, int]:
    """Return (elements moved, FLOPs of products, other FLOPs) of a convolution."""
    positions = BATCH * place.side**2
    weights = kernel**2 * inputs * outputs // groups
    return positions * (inputs + outputs) + weights, 2 * positions * weights, 0


def batch_norm(place: Place, channels: int) -> tuple[int, int, int]:
    """Return (elements moved, FLOPs of products, other FLOPs) of a batch norm."""
    elements = BATCH * place.side**2 * channels
    return 2 * elements + 4 * channels, 0, 2 * elements


def pointwise(place: Place, channels: int, each: int) -> tuple[int, int, int]:
    """Return (elements moved, 0, FLOPs) of an activation function that needs ``each`` FLOPs per element."""
    elements = BATCH * place.side**2 * channels
    return 2 * elements, 0, each * elements


def added(place: Place, channels: int) -> tuple[int, int, int]:
    """Return (elements moved, 0, FLOPs) of an addition, which reads two images and writes their sum."""
    elements = BATCH * place.side**2 * channels
    return 3 * elements, 0, elements


RELU, SILU = 1, 5


def by_hand(build, place: Place) -> list[tuple[int, int, int]]:
    """Return (elements moved, FLOPs of products, other FLOPs) of each operator of a block, computed by hand."""
    c = place.channels
    wide = c * place.expansion
    around = [batch_norm(place, c), pointwise(place, c, RELU)]
    around_wide = [batch_norm(place, wide), pointwise(place, wide, SILU)]
    narrowing = [convolution(place, wide, c, 1), batch_norm(place, c), added(place, c)]
    full, depthwise, mixing = (
        convolution(place, c, c, 3),
        convolution(place, c, c, 3, groups=c),
        convolution(place, c, c, 1),
    )
    return {
        dense: [full, *around],
        dense_alone: [full],
        separable: [depthwise, *around, mixing, *around],
        separable_alone: [depthwise, mixing],
        fused_mbconv: [convolution(place, c, wide, 3), *around_wide, *narrowing],
        mbconv: [
            convolution(place, c, wide, 1),
            *around_wide,
            convolution(place, wide, wide, 3, groups=wide),
            *around_wide,
            *narrowing,
        ],
    }[build]


CASES = [
    *((build, place) for build in (dense, separable) for place in WIDTHS),
    *((build, EARLY) for build in (dense_alone, separable_alone)),
    *((build, place) for build in (fused_mbconv, mbconv) for place in STAGES.values()),
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("build", "place"), CASES, ids=[f"{build.__name__}-{place.channels}" for build, place in CASES]
)
def test_by_hand(build, place, dtype):
    block, parts = counted(build, place, dtype), by_hand(build, place)
    assert block.memory_traffic == sum(elements for elements, _, _ in parts) * DTYPES[dtype]
    assert block.flops == sum(flops for _, flops, _ in parts)
    assert block.other_flops == sum(other for _, _, other in parts)
    assert block.launches == len(parts)
    for device in (A100, PI):
        if (device, dtype) in FIGURES:
            products, rest, bandwidth, launch = FIGURES[device, dtype]
            expected = sum(
                max(flops / products, other / rest, elements * DTYPES[dtype] / bandwidth) * 1e9 + launch
                for elements, flops, other in parts
            )
            assert block.time(device) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("big", "small"), [(dense, separable), (dense_alone, separable_alone)])
def test_fewer_flops_take_longer(big, small, dtype):
    many, few = counted(big, EARLY, dtype), counted(small, EARLY, dtype)
    assert 7.5 < many.flops / few.flops < 8
    assert few.memory_traffic / many.memory_traffic == pytest.approx(2, rel=0.01)
    assert few.time(A100) > many.time(A100)
    assert few.time(PI) < many.time(PI)


def test_as_the_text_says():
    many, few = counted(dense, EARLY, torch.float32), counted(separable, EARLY, torch.float32)
    assert few.time(A100) / many.time(A100) == pytest.approx(1.75, abs=0.01)
    assert few.value("memory_time[A100]") > 0.99 * (few.time(A100) - few.value("launch_time[A100]"))
    for device, bend in ((A100, 100), (PI, 9)):
        products, _, bandwidth, _ = FIGURES[device, torch.float32]
        assert round(products / bandwidth) == bend


def test_where_it_turns_round():
    """On an A100, the dense block is faster in early stages, and the separable block is faster in late stages."""
    faster = [counted(separable, place, torch.float32).time(A100) for place in WIDTHS]
    slower = [counted(dense, place, torch.float32).time(A100) for place in WIDTHS]
    assert [one < other for one, other in zip(faster, slower, strict=True)] == [False, False, True, True]


def test_the_stages_of_efficientnet():
    """On an A100, Fused-MBConv is faster in early stages, and MBConv is faster in late stages."""
    for stage, place in STAGES.items():
        fused, plain = (counted(build, place, torch.bfloat16) for build in (fused_mbconv, mbconv))
        assert plain.flops < fused.flops / 3
        assert (fused.time(A100) < plain.time(A100)) == (stage < 6)
        assert plain.time(PI) < fused.time(PI)
    fused, plain = (counted(build, STAGES[4], torch.bfloat16) for build in (fused_mbconv, mbconv))
    assert 4.5 < fused.params / plain.params < 5.5


def test_no_text_lies_over_another():
    texts = [text for text in ET.fromstring(chart.svg()).iter() if text.tag.endswith("text")]  # noqa: S314 -- we made this file
    boxes = [box(text) for text in texts if "transform" not in text.attrib]
    assert len(boxes) > 30
    for (left, top, right, bottom), (x1, y1, x2, y2) in combinations(boxes, 2):
        assert right <= x1 or x2 <= left or bottom <= y1 or y2 <= top
    assert min(left for left, *_ in boxes) >= 0
    assert max(right for _, _, right, _ in boxes) <= 920


def box(text):
    size = float(text.get("font-size"))
    bold = text.get("font-weight") == "bold"
    width = size * len(text.text) * (0.68 if bold else 0.6)
    x = float(text.get("x")) - {"start": 0, "middle": width / 2, "end": width}[text.get("text-anchor")]
    y = float(text.get("y"))
    return x, y - 0.75 * size, x + width, y + 0.2 * size


def test_a_page_without_its_markers():
    with pytest.raises(ValueError, match="lacks"):
        page.page("a")


def test_its_pyproject_is_read(tmp_path):
    (example,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "pyproject.toml").write_text(example, encoding="utf-8")
    settings = load_settings(tmp_path)
    assert settings.time_on == (A100,)
    assert len(settings.budgets) == 2


def test_its_marker_holds(pytester):
    (example,) = re.findall(r"```python\n(import pytest\n.*?)```", PAGE, re.DOTALL)
    pytester.makepyfile(example)
    pytester.runpytest_inprocess("-p", "no:asyncio").assert_outcomes(passed=1)
    for loose, tight in {
        '"300 MiB"': '"290 MiB"',
        '"1.2 GiB"': '"1.1 GiB"',
        "launches=6": "launches=5",
        "depth=6": "depth=5",
        '"52M"': '"51M"',
        '"3 FLOPs/byte"': '"4 FLOPs/byte"',
        '"500M FLOPs/step"': '"700M FLOPs/step"',
        '"850 us"': '"750 us"',
        '"90 ms"': '"80 ms"',
        '"200 MiB"': '"190 MiB"',
        '"140 us"': '"130 us"',
    }.items():
        assert example.count(loose) == 1
        example = example.replace(loose, tight)
    pytester.makepyfile(example)
    result = pytester.runpytest_inprocess("-p", "no:asyncio")
    result.assert_outcomes(failed=1)
    assert sum(line.endswith("  marker") for line in result.outlines) >= 11  # one row for each broken limit


def test_the_readme_says_the_same(pytester):
    readme = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    assert f"[{len(DEVICES)} devices](docs/hardware.md)" in readme
    (marker,) = re.findall(r"^@pytest\.mark\.flops_budget\(peak_memory=.*\)$", readme, re.MULTILINE)
    test = "def test_it(flops_budget):\n    flops_budget(torch.nn.Linear(2, 2), torch.empty(1, 2))"
    pytester.makepyfile(f"import pytest\nimport torch\n\n\n{marker}\n{test}\n")
    pytester.runpytest_inprocess("-p", "no:asyncio").assert_outcomes(passed=1)


def test_its_first_example_runs(capsys):
    (example,) = re.findall(r"```python\n(import torch\n.*?)```", PAGE, re.DOTALL)
    exec(example, {})  # noqa: S102 -- from our documentation
    flops, traffic, intensity, time = capsys.readouterr().out.split()
    block = counted(separable, EARLY, torch.float32)
    assert (int(flops), int(traffic), int(time)) == (block.total_flops, block.memory_traffic, block.time(A100))
    assert float(intensity) == pytest.approx(3.167, abs=0.001)
