"""``mfu TARGET``: training FLOPs per token by each published formula, and the utilization at a throughput."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_flopsbudget.commands.counting.options import TARGETS, add_call_arguments
from pytest_flopsbudget.errors import UsageError
from pytest_flopsbudget.quantities.metrics import METRICS
from pytest_flopsbudget.quantities.parsing import parse_quantity

if TYPE_CHECKING:
    import argparse
    from fractions import Fraction

    from pytest_flopsbudget.commands.console import Output
    from pytest_flopsbudget.training.flops import TrainingFlops
    from pytest_flopsbudget.training.utilization import Utilization

SUMMARY = "training FLOPs per token by published formulas, and the model FLOPs utilization (MFU)"
DESCRIPTION = f"""\
Count a forward and a backward pass, and show the FLOPs per token beside what published formulas give: 6nd, palm,
megatron, torchtitan, nanogpt, hf. With a throughput and a device, show the model FLOPs utilization by each of them.

{TARGETS}"""
EXAMPLES = """\
examples:
  flopsbudget mfu hf:gpt2 --input 1x1024:int64
  flopsbudget mfu hf:gpt2 --input 1x1024:int64 --convention palm
  flopsbudget mfu hf:gpt2 --input 8x1024:int64 --tokens-per-second 178k --on A100
"""

#: Options for sizes of the model that formulas read.
_SIZE_OPTIONS = ("layers", "hidden", "heads", "head_dim", "value_dim", "vocabulary", "sequence")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command ``mfu`` to ``parser``."""
    from pytest_flopsbudget.training.model_sizes import SIZES

    parser.add_argument("target", metavar="TARGET", help="the model to count; see above")
    add_call_arguments(parser, "1x4096:int64 or input_ids=1x4096:int64", backward=False)
    parser.add_argument("--convention", metavar="NAME", help="show this formula's difference from the count by module")
    parser.add_argument("--tokens-per-second", metavar="N", help="the tokens that all devices train on in a second")
    parser.add_argument("--on", metavar="DEVICE", help="the device, such as H100")
    parser.add_argument("--devices", metavar="N", help="the number of devices; 1 without this option")
    parser.add_argument("--dtype", metavar="DTYPE", default="bfloat16", help="the dtype of the products; bfloat16")
    parser.add_argument("--recompute", action="store_true", help="include products that checkpointing computes again")
    parser.add_argument("--tokens", metavar="N", help="the tokens of the counted call, if its inputs are no token ids")
    for name in _SIZE_OPTIONS:
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, metavar="N", dest=f"size {name}", help=f"{SIZES[name]}, if not the configuration's")
    parser.add_argument("--json", action="store_true", help="write JSON to standard output instead of text")


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Count the model and show its FLOPs per token, and the utilization.

    Raises:
        UsageError: an argument has the wrong form, or the model cannot be counted.
    """
    from pytest_flopsbudget.hardware.catalog import resolve_devices
    from pytest_flopsbudget.targets.grammar import CallOptions, parse_batch, parse_inputs, parse_kwargs, parse_target
    from pytest_flopsbudget.training.conventions import find_convention
    from pytest_flopsbudget.training.utilization import peak_rate

    # A wrong argument is an error before the model is loaded.
    chosen = None if arguments.convention is None else find_convention(arguments.convention).key
    speed = whole_option("--tokens-per-second", arguments.tokens_per_second)
    devices = whole_option("--devices", arguments.devices)
    if (speed is None) != (arguments.on is None) or (devices is not None and speed is None):
        raise UsageError("--tokens-per-second, --on and --devices belong together: --tokens-per-second 9600 --on H100")
    for device in resolve_devices([] if arguments.on is None else [arguments.on]):
        peak_rate(device, arguments.dtype)
    sizes = {
        name: whole_option(f"--{name.replace('_', '-')}", getattr(arguments, f"size {name}")) for name in _SIZE_OPTIONS
    }
    tokens = whole_option("--tokens", arguments.tokens)
    defaults = CallOptions(
        inputs=parse_inputs(arguments.input),
        kwargs={} if arguments.kwargs is None else parse_kwargs(arguments.kwargs),
        batch=None if arguments.batch is None else parse_batch(arguments.batch),
        backward=True,
    )
    target = parse_target(arguments.target).with_defaults(defaults)

    from pytest_flopsbudget.targets.loading import explained, load
    from pytest_flopsbudget.training.measuring.per_token import training_flops

    with explained(target, Path.cwd()):
        loaded = load(target, Path.cwd())
        given = {name: value for name, value in sizes.items() if value is not None}
        found = training_flops(loaded.model, loaded.args, loaded.kwargs, tokens=tokens, sizes=given)
        used: Utilization | None = None
        if speed is not None:
            used = found.mfu(
                speed,
                arguments.on,
                chosen or "exact",
                dtype=arguments.dtype,
                devices=devices or 1,
                recompute=arguments.recompute,
            )
        elif chosen is not None:
            found.per_token(chosen)
    if arguments.json:
        output.document(f"{json.dumps(_document(found, chosen, used, recompute=arguments.recompute))}\n")
        return 0
    signs = output.screen.unicode
    output.lines(found.text(recompute=arguments.recompute, signs=signs).splitlines())
    if chosen is not None:
        output.line()
        output.lines(found.difference_text(chosen, recompute=arguments.recompute, signs=signs).splitlines())
    if used is not None:
        output.line()
        output.line(used.text())
    output.lines([*loaded.notes, *found.complexity.notes])
    return 0


def whole_option(option: str, text: str | None) -> int | None:
    """Return the value of an option that is a whole number from 1 on, such as "9600" or "15T"; None without it.

    Raises:
        UsageError: the text is no such number.
    """
    if text is None:
        return None
    try:
        value = parse_quantity(text, METRICS["params"])
    except ValueError as error:
        raise UsageError(f"{option} {text!r}: {error}") from error
    if type(value) is not int or value < 1:
        raise UsageError(f"{option} {text!r} is no whole number from 1 on")
    return value


def _document(found: TrainingFlops, chosen: str | None, used: Utilization | None, *, recompute: bool) -> dict[str, Any]:
    from pytest_flopsbudget.training.conventions import CONVENTIONS

    values, reasons = found.available(recompute=recompute)
    document: dict[str, Any] = {
        "model": found.complexity.model,
        "tokens": found.tokens,
        "sizes": dict(found.sizes.values),
        "conventions": {
            key: {
                "flops_per_token": _json_number(values[key]),
                "formula": one.text(recompute=recompute),
                "source": one.source,
            }
            for key, one in CONVENTIONS.items()
            if key in values
        },
        "unknown": reasons,
    }
    if chosen is not None:
        document["differences"] = [
            {
                "path": one.path,
                "modules": one.modules,
                "counted": _json_number(one.counted),
                "formula": _json_number(one.formula),
                "reason": one.reason,
            }
            for one in found.differences(chosen, recompute=recompute)
        ]
    if used is not None:
        document["utilization"] = {
            "convention": used.convention,
            "value": used.value,
            "by_convention": dict(used.by_convention),
            "device": used.device,
            "devices": used.devices,
            "dtype": used.dtype,
            "rate": used.rate,
            "tokens_per_second": used.tokens_per_second,
        }
    return document


def _json_number(value: Fraction) -> int | float:
    return value.numerator if value.denominator == 1 else float(value)
