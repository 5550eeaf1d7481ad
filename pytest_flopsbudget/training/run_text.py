"""A training run as text for the terminal, as a block for a model card, and as JSON values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_flopsbudget.errors import UsageError
from pytest_flopsbudget.hardware.catalog import resolve_devices
from pytest_flopsbudget.quantities.formatting import format_value
from pytest_flopsbudget.quantities.metrics import METRICS
from pytest_flopsbudget.training.conventions import CONVENTIONS
from pytest_flopsbudget.training.regulation import CAVEAT, LINES, share_of
from pytest_flopsbudget.training.utilization import peak_rate
from pytest_flopsbudget.versions import own_version

if TYPE_CHECKING:
    from collections.abc import Iterator
    from fractions import Fraction

    from pytest_flopsbudget.hardware.profile import Device
    from pytest_flopsbudget.training.energy import Energy
    from pytest_flopsbudget.training.run import TrainingRun

_BYTES, _COUNT = METRICS["param_bytes"], METRICS["params"]
_DAY = 24


@dataclass(frozen=True, slots=True)
class Hardware:
    """The devices of a run, and what is assumed of them."""

    #: None if the run has no device: only FLOPs and the bytes of states are known then.
    device: Device | None = None
    mfu: float | None = None
    dtype: str = "bfloat16"
    devices: int | None = None
    tensor: int = 1
    #: None for all devices that are left beside tensor parallelism.
    fsdp: int | None = None
    #: The power of a device; None for that of its data sheet.
    watts: int | None = None

    @property
    def fsdp_ranks(self) -> int:
        """The number of ranks over which FSDP shards."""
        return self.fsdp if self.fsdp is not None else (self.devices or 1) // self.tensor


def hardware(  # noqa: PLR0913 -- what a run is assumed to run on
    *,
    device: str | Device | None = None,
    mfu: float | None = None,
    dtype: str = "bfloat16",
    devices: int | None = None,
    tensor: int = 1,
    fsdp: int | None = None,
    watts: int | None = None,
) -> Hardware:
    """Check what is assumed of the hardware of a run, and return it.

    Raises:
        UsageError: there is no such device, it has no rate for the dtype, ``device`` or ``mfu`` is given without the
            other, or the devices cannot be divided into ranks.
    """
    if (device is None) != (mfu is None):
        raise UsageError("a device and a utilization belong together: device='H100', mfu=0.4, or --on H100 --mfu 40%")
    profile = None if device is None else resolve_devices([device])[0]
    if profile is not None:
        peak_rate(profile, dtype)
    if mfu is not None and not 0 < mfu <= 1:
        raise UsageError(f"mfu={mfu!r}: a utilization is above 0 and at most 1, such as 0.4")
    for name, value in (("devices", devices), ("tensor", tensor), ("fsdp", fsdp), ("watts", watts)):
        if value is not None and (type(value) is not int or value < 1):
            raise UsageError(f"{name}={value!r}: write a whole number from 1 on")
    ranks = tensor * (fsdp or 1)
    if devices is not None and devices % ranks:
        raise UsageError(f"{devices:,} devices cannot be divided into groups of {ranks:,} ranks (tensor x fsdp)")
    return Hardware(profile, mfu, dtype, devices, tensor, fsdp, watts)


def run_lines(run: TrainingRun, on: Hardware) -> Iterator[str]:
    """Yield the lines of a run for the terminal."""
    yield (
        f"{run.micro.complexity.model}: a training run of {run.tokens:,} tokens, {run.steps:,} steps of {run.batch:,} "
        f"sequences of {run.sequence:,} tokens, in micro-batches of {run.micro_batch:,}"
    )
    yield "FLOPs of a step"
    for name, flops in run.step_flops().items():
        yield f"  {name:12}  {scientific(flops)}{f'  products of {run.optimizer.name}' if name == 'optimizer' else ''}"
    yield "FLOPs of the run"
    exact = run.flops()
    _, reasons = run.micro.available()
    for key in CONVENTIONS:
        if key not in reasons:
            flops = run.flops(key)
            share = "counted" if key == "exact" else f"{float((flops - exact) / exact) * 100 if exact else 0:+.2f}%"
            yield f"  {key:12}  {scientific(flops)}  {share}"
    unknown = ", ".join(run.micro.complexity.unknown_operators)
    if unknown:
        yield f"  the counts leave out operators without a formula: {unknown}"
    if run.micro.complexity.recomputed_flops:
        yield f"  {'recomputing':12}  {scientific(run.flops(recompute=True))}  with what checkpointing computes again"
    yield f"  {'other':12}  {scientific(run.other_flops)}  all other arithmetic, with the optimizer's"
    yield from _device_lines(run, on)
    yield from _memory_lines(run, on)
    yield "lines that texts of the European Union draw, for the counted products"
    for line in LINES:
        yield f"  {line.name}  {_reached(share_of(line, exact))}: {line.meaning}; {line.text}"
    yield f"  {CAVEAT}"


def _reached(share: float) -> str:
    return f"reached, {share:.3g} times" if share >= 1 else f"not reached, {share:.3g} of it"


def _device_lines(run: TrainingRun, on: Hardware) -> Iterator[str]:
    if on.device is None or on.mfu is None:
        return
    hours = run.device_hours(on.device, on.mfu, dtype=on.dtype)
    rate = peak_rate(on.device, on.dtype)
    yield f"on {on.device.name}, at an assumed MFU of {on.mfu:.4g}, {rate / 10**12:,g} TFLOP/s in {on.dtype}"
    days = "" if on.devices is None else f", {hours / on.devices / _DAY:,.4g} days on {on.devices:,} devices"
    yield f"  {hours:,.0f} device hours{days}"
    used = _energy(run, on.device, on.mfu, on)
    if isinstance(used, str):
        yield f"  energy: {used}"
    else:
        yield f"  energy: {_interval(used)}; {used.assumptions}"


def _energy(run: TrainingRun, device: Device, mfu: float, on: Hardware) -> Energy | str:
    """Return the energy, or why it is unknown."""
    try:
        return run.energy(device, mfu, dtype=on.dtype, watts=on.watts)
    except UsageError as error:
        return str(error)


def _interval(used: Energy) -> str:
    for unit, size in (("GWh", 10**9), ("MWh", 10**6), ("kWh", 10**3)):
        if used.high >= size:
            return f"{used.low / size:,.3g} to {used.high / size:,.3g} {unit}"
    return f"{used.low:,.3g} to {used.high:,.3g} Wh"


def _memory_lines(run: TrainingRun, on: Hardware) -> Iterator[str]:
    states = run.states
    parts = {"parameters": states.parameters, "gradients": states.gradients, "optimizer": states.optimizer}
    if states.master:
        parts["float32 copies"] = states.master
    shown = ", ".join(f"{name} {format_value(size, _BYTES)}" for name, size in parts.items())
    yield f"memory between steps, without sharding: {format_value(states.total, _BYTES)} ({shown})"
    rank = run.rank_memory(fsdp=on.fsdp_ranks, tensor=on.tensor)
    parts = {"states": rank.states, "gathered layers": rank.gathered, "activations": rank.activations}
    shown = ", ".join(f"{name} {format_value(size, _BYTES)}" for name, size in parts.items())
    fits = ""
    if on.device is not None and on.device.memory is not None:
        word = "fits" if rank.total <= on.device.memory else "does not fit"
        fits = f"; {word} into the {format_value(on.device.memory, _BYTES)} of {on.device.name}"
    yield f"memory of a rank: {format_value(rank.total, _BYTES)} ({shown}){fits}"
    yield f"  formula: {rank.formula}"


def model_card(run: TrainingRun, on: Hardware) -> str:
    """Return a block of Markdown for a model card."""
    counted = run.micro.complexity
    params = format_value(counted.params, _COUNT)
    if counted.active_params != counted.params:
        params += f", of which a token uses {format_value(counted.active_params, _COUNT)}"
    rows = [
        ("Parameters", params),
        ("Training tokens", f"{run.tokens:,}"),
        ("Batch", f"{run.batch:,} sequences of {run.sequence:,} tokens, {run.steps:,} steps"),
        ("Training compute", f"{scientific(run.flops())} FLOPs, counted: products of forward and backward passes"),
    ]
    if "6nd" not in run.micro.available()[1]:
        rows.append(("By 6ND", f"{scientific(run.flops('6nd'))} FLOPs"))
    if run.micro.complexity.recomputed_flops:
        rows.append(("With recomputation", f"{scientific(run.flops(recompute=True))} FLOPs"))
    if on.device is not None and on.mfu is not None:
        hours = run.device_hours(on.device, on.mfu, dtype=on.dtype)
        count = "" if on.devices is None else f"{on.devices:,} x "
        rows.append(("Hardware", f"{count}{on.device.name}, an assumed MFU of {on.mfu:.4g} in {on.dtype}"))
        rows.append(("Device hours", f"{hours:,.0f}"))
        used = _energy(run, on.device, on.mfu, on)
        if not isinstance(used, str):
            rows.append(("Energy", f"{_interval(used)}; {used.assumptions}"))
    rows += [(line.name, f"{_reached(share_of(line, run.flops()))}: {line.meaning}; {line.text}") for line in LINES]
    table = "\n".join(f"| {name} | {value} |" for name, value in rows)
    version = f"pytest-flopsbudget {own_version()} with PyTorch {run.micro.complexity.pytorch}"
    return f"## Training compute\n\n| | |\n|---|---|\n{table}\n\nCounted from shapes by {version}. Note: {CAVEAT}.\n"


def run_document(run: TrainingRun, on: Hardware) -> dict[str, Any]:
    """Return a run as JSON values."""
    values, reasons = run.micro.available()
    rank = run.rank_memory(fsdp=on.fsdp_ranks, tensor=on.tensor)
    document: dict[str, Any] = {
        "model": run.micro.complexity.model,
        "tokens": run.tokens,
        "steps": run.steps,
        "step_flops": run.step_flops(),
        "flops": {key: run.flops(key) for key in values},
        "flops_with_recomputation": run.flops(recompute=True),
        "other_flops": run.other_flops,
        "unknown": reasons,
        "states": {
            "parameters": run.states.parameters,
            "gradients": run.states.gradients,
            "optimizer": run.states.optimizer,
            "master": run.states.master,
        },
        "rank": {
            "fsdp": rank.fsdp,
            "tensor": rank.tensor,
            "states": rank.states,
            "gathered": rank.gathered,
            "activations": rank.activations,
            "total": rank.total,
            "formula": rank.formula,
        },
        "lines": [
            {"flops": line.flops, "share": share_of(line, run.flops()), "text": line.text, "meaning": line.meaning}
            for line in LINES
        ],
    }
    if on.device is not None and on.mfu is not None:
        document["device"] = {
            "name": on.device.name,
            "mfu": on.mfu,
            "dtype": on.dtype,
            "hours": run.device_hours(on.device, on.mfu, dtype=on.dtype),
        }
        used = _energy(run, on.device, on.mfu, on)
        if not isinstance(used, str):
            document["energy"] = {"low_wh": used.low, "high_wh": used.high, "assumptions": used.assumptions}
    return document


def scientific(value: int | Fraction) -> str:
    """Return a number with four significant digits and an exponent: "3.142e23"; 0 is "0"."""
    if not value:
        return "0"
    digits, _, exponent = f"{float(value):.3e}".partition("e")
    return f"{digits}e{int(exponent)}"
