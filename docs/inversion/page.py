"""Write the tables of docs/beyond-flops.md."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from inversion.blocks import (
    BOARD,
    EARLY,
    SERVER,
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
from peers.table import markdown
from pytest_flopsbudget.hardware.roofline import bound_of
from pytest_flopsbudget.quantities.formatting import format_value
from pytest_flopsbudget.quantities.metrics import METRICS
from pytest_flopsbudget.reports.details import parts_of_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch import nn

    from pytest_flopsbudget import Complexity
    from pytest_flopsbudget.hardware.profile import Device

PAGE, CHART = Path(__file__).parent.parent / "beyond-flops.md", Path(__file__).with_name("roofline.svg")

_DTYPES = (torch.float32, torch.bfloat16)
_ALIKE = {"dense": dense, "separable": separable}
_ALONE = {"dense, convolution alone": dense_alone, "separable, convolutions alone": separable_alone}


def page(old: str) -> str:
    """Return the text ``old`` of the page, with its tables replaced by tables of new counts.

    Raises:
        ValueError: the page lacks the markers of a table.
    """
    for name, table in (("blocks", blocks), ("widths", widths), ("stages", stages)):
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        before, _, rest = old.partition(begin)
        _, found, after = rest.partition(end)
        if not found:
            raise ValueError(f"{PAGE.name} lacks {begin} or {end}")
        old = f"{before}{begin}\n\n{table()}\n\n{end}{after}"
    return old


def blocks() -> str:
    """Return a table of six metrics of the dense and the separable block, with and without batch norm and ReLU."""
    head = (
        "block",
        "dtype",
        "`total_flops`",
        "`memory_traffic`",
        "`arithmetic_intensity`",
        "`launches`",
        f"`time[{SERVER.name}]`",
        f"`time[{BOARD.name}]`",
    )
    return markdown(head, _blocks())


def _blocks() -> Iterable[tuple[str, ...]]:
    for dtype in _DTYPES:
        for name, build in (_ALIKE | _ALONE).items():
            block = counted(build, EARLY, dtype)
            keys = ("total_flops", "memory_traffic", "arithmetic_intensity", "launches")
            amounts = (format_value(block.value(key), METRICS[key]) for key in keys)
            board = _bounded(block, BOARD) if dtype is torch.float32 else ""  # it has no arithmetic in bfloat16
            yield name, _name(dtype), *amounts, _bounded(block, SERVER), board


def widths() -> str:
    """Return a table that compares the dense and the separable block at several places of a network."""
    return _against(
        {f"{place.channels}, {place.side}×{place.side}": place for place in WIDTHS},
        "channels, image",
        ("dense", dense),
        ("separable", separable),
    )


def stages() -> str:
    """Return a table that compares Fused-MBConv and MBConv at several stages of EfficientNetV2."""
    return _against(
        {
            f"{stage}: {place.channels}, {place.side}×{place.side}, {place.expansion}": place
            for stage, place in STAGES.items()
        },
        "stage: channels, image, expansion",
        ("Fused-MBConv", fused_mbconv),
        ("MBConv", mbconv),
    )


_Named = tuple[str, "Callable[[Place], nn.Module]"]


def _against(places: dict[str, Place], first: str, one: _Named, other: _Named) -> str:
    names = f"{one[0]}, {other[0]}"
    head = (
        first,
        f"`total_flops`: {names}",
        "`memory_traffic`, float32",
        f"`time[{SERVER.name}]`, bfloat16",
        f"`time[{SERVER.name}]`, float32",
        f"`time[{BOARD.name}]`, float32",
    )
    return markdown(head, (_row(name, place, one[1], other[1]) for name, place in places.items()))


def _row(
    name: str, place: Place, one: Callable[[Place], nn.Module], other: Callable[[Place], nn.Module]
) -> tuple[str, ...]:
    single = [counted(build, place, torch.float32) for build in (one, other)]
    half = [counted(build, place, torch.bfloat16) for build in (one, other)]
    return (
        name,
        _pair(single, "total_flops"),
        _pair(single, "memory_traffic"),
        _times(half, SERVER),
        _times(single, SERVER),
        _times(single, BOARD),
    )


def _pair(two: list[Complexity], key: str) -> str:
    return ", ".join(format_value(block.value(key), METRICS[key]) for block in two)


def _times(two: list[Complexity], device: Device) -> str:
    """Format the times of two blocks on a device, the shorter time in bold."""
    minimum = min(block.time(device.name) for block in two)
    return ", ".join(
        f"**{text}**" if block.time(device.name) == minimum else text
        for block in two
        for text in (format_value(block.time(device.name), METRICS["time"]),)
    )


def _bounded(block: Complexity, device: Device) -> str:
    """Format the minimum time of a block and what bounds it, as in "412.3 us, memory"."""
    time = format_value(block.time(device.name), METRICS["time"])
    return f"{time}, {bound_of(*parts_of_time(block.metrics, device.name))}"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
