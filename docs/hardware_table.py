"""Write the tables of hardware.md from the devices' profiles: ``cd docs && python -m hardware_table``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pytest_flopsbudget.hardware.catalog import DEVICES
from pytest_flopsbudget.hardware.profile import DTYPES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_flopsbudget.hardware.profile import Device

PATH = Path(__file__).with_name("hardware.md")
BEGIN, END = "<!-- devices: begin -->", "<!-- devices: end -->"

_LAUNCH = "launch: "
_SHORT = {
    "float64": "FP64",
    "float32": "FP32",
    "tfloat32": "TF32",
    "bfloat16": "BF16",
    "float16": "FP16",
    "float8": "FP8",
    "float4": "FP4",
    "int8": "INT8",
}


def tables() -> str:
    """Return a Markdown table of the devices' rates, memory and launch times, and then the sources of the numbers."""
    head = (
        "device",
        *(_SHORT[dtype] for dtype in DTYPES),
        "FP32, FP16 without matrix units",
        "bandwidth",
        "memory",
        "launch",
    )
    return "\n\n".join(
        (_markdown(head, map(_cells, DEVICES.values())), "\n".join(_sources()), "Launches:", "\n".join(_launches()))
    )


def _sources() -> Iterable[str]:
    for device in DEVICES.values():
        yield f"- **{device.name}**: {'; '.join(text for text in device.sources if not text.startswith(_LAUNCH))}."


def _launches() -> Iterable[str]:
    """Yield a Markdown line for each source of launch times, with the devices that have this source."""
    sharing: dict[str, list[str]] = {}
    for device in DEVICES.values():
        for text in device.sources:
            if text.startswith(_LAUNCH):
                sharing.setdefault(text.removeprefix(_LAUNCH), []).append(device.name)
    for text, names in sharing.items():
        yield f"- {', '.join(names)}: {text}."


def page(old: str) -> str:
    """Return the text ``old`` of the page, with its tables replaced by tables of the current profiles."""
    before, _, rest = old.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise ValueError(f"{PATH.name} lacks {BEGIN} or {END}")
    return f"{before}{BEGIN}\n\n{tables()}\n\n{END}{after}"


def _cells(device: Device) -> tuple[str, ...]:
    return (
        device.name,
        *(_tera(device.rates[dtype]) if dtype in device.rates else "" for dtype in DTYPES),
        f"{_tera(device.vector_rate('float32'))}, {_tera(device.vector_rate('float16'))}",
        f"{round(device.bandwidth / 10**9, 2):,g}" if device.bandwidth < 10**12 else f"{device.bandwidth / 10**9:,.0f}",
        "" if device.memory is None else f"{device.memory // 2**30:,}",
        f"{device.launch / 1000:g}",
    )


def _tera(rate: int) -> str:
    """Convert FLOP/s to TFLOP/s, and return the number as text."""
    return f"{rate / 10**12:.4g}" if rate < 10**16 else f"{rate / 10**12:,.0f}"


def _markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    PATH.write_text(page(PATH.read_text(encoding="utf-8")), encoding="utf-8")
