"""``run TARGET``: the cost of a whole training run, from the counts of a micro-batch and an optimizer step."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_flopsbudget.commands.counting.mfu import whole_option
from pytest_flopsbudget.commands.counting.options import TARGETS, add_call_arguments
from pytest_flopsbudget.errors import UsageError
from pytest_flopsbudget.quantities.parsing import nearest_spelling
from pytest_flopsbudget.targets.sizes import symbols_in, with_sizes

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from pytest_flopsbudget.commands.console import Output
    from pytest_flopsbudget.training.run_text import Hardware

SUMMARY = "the cost of a training run: FLOPs, device hours, memory of a rank, energy, a model card"
DESCRIPTION = f"""\
Count a micro-batch and a step of the optimizer, and show what a whole training run costs: FLOPs, device hours at an
assumed utilization, the memory of a rank, energy as an interval, and the lines that regulation draws.

{TARGETS}"""
EXAMPLES = """\
examples:
  flopsbudget run hf:gpt2 --tokens 300B --batch 512 --sequence 1024 --on A100 --mfu 40%
  flopsbudget run mypkg:build --tokens 15T --batch 2048 --sequence 8192 --devices 1024 --tensor 8
  flopsbudget run hf:gpt2 --tokens 300B --batch 512 --sequence 1024 --card
"""

_PERCENT = re.compile(r"(\d{1,3}(?:\.\d{1,6})?)\s*(%?)")
_NUMBERS = ("tokens", "batch", "sequence", "micro_batch", "devices", "tensor", "fsdp", "watts")
_DTYPES = ("float32", "bfloat16", "float16", "float64")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command ``run`` to ``parser``."""
    parser.add_argument("target", metavar="TARGET", help="the model to count; see above")
    parser.add_argument("--tokens", metavar="N", required=True, help="the tokens of the run, such as 15T")
    parser.add_argument("--batch", metavar="N", required=True, help="the sequences of a step")
    parser.add_argument("--sequence", metavar="N", required=True, help="the tokens of a sequence")
    parser.add_argument("--micro-batch", metavar="N", default="1", help="the sequences of a forward pass; 1")
    inputs = "'input_ids={B}x{S}:int64', where B is the micro-batch and S the sequence"
    add_call_arguments(parser, inputs, backward=False, batch=False)
    parser.add_argument("--optimizer", metavar="NAME", default="adamw", help="a class of torch.optim; adamw")
    parser.add_argument("--param-dtype", metavar="DTYPE", help="the dtype of the parameters, if not the model's")
    parser.add_argument("--master-weights", action="store_true", help="the optimizer updates copies in float32")
    parser.add_argument("--recompute", action="store_true", help="turn on the activation checkpointing of transformers")
    parser.add_argument("--on", metavar="DEVICE", help="the device, such as H100")
    parser.add_argument("--mfu", metavar="SHARE", help="the assumed model FLOPs utilization, such as 40%%")
    parser.add_argument("--dtype", metavar="DTYPE", default="bfloat16", help="the dtype of the products; bfloat16")
    parser.add_argument("--devices", metavar="N", help="the number of devices")
    parser.add_argument("--tensor", metavar="N", default="1", help="the ranks of tensor parallelism; 1")
    parser.add_argument("--fsdp", metavar="N", help="the ranks over which FSDP shards; the other devices without it")
    parser.add_argument("--watts", metavar="N", help="the power of a device, if not that of its data sheet")
    parser.add_argument("--card", action="store_true", help="write a block of Markdown for a model card")
    parser.add_argument("--json", action="store_true", help="write JSON to standard output instead of text")


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Count the parts of the run and show its cost.

    Raises:
        UsageError: an argument has the wrong form, or the model cannot be counted.
    """
    from pytest_flopsbudget.training.run import check_run

    # A wrong argument is an error before the model is loaded.
    numbers = {name: whole_option(f"--{name.replace('_', '-')}", getattr(arguments, name)) for name in _NUMBERS}
    on = _hardware(arguments, numbers)
    tokens, batch, sequence, micro = (numbers[name] or 1 for name in ("tokens", "batch", "sequence", "micro_batch"))
    check_run(tokens, batch, sequence, micro, 1 if on.devices is None else on.devices // on.tensor)
    if arguments.param_dtype is not None and arguments.param_dtype not in _DTYPES:
        near = nearest_spelling(arguments.param_dtype, _DTYPES)
        hint = f"did you mean {near}?" if near else f"there are {', '.join(_DTYPES)}"
        raise UsageError(f"--param-dtype {arguments.param_dtype}: {hint}")
    inputs = _inputs(arguments.input, micro, sequence)

    from pytest_flopsbudget.targets.grammar import CallOptions, parse_inputs, parse_kwargs, parse_target
    from pytest_flopsbudget.targets.loading import explained, load
    from pytest_flopsbudget.training import run_text
    from pytest_flopsbudget.training.measuring.run import training_run

    options = CallOptions(
        inputs=parse_inputs(inputs),
        kwargs={} if arguments.kwargs is None else parse_kwargs(arguments.kwargs),
        backward=True,
    )
    target = parse_target(arguments.target).with_defaults(options)
    with explained(target, Path.cwd()):
        loaded = load(target, Path.cwd())
        model = _prepared(loaded.model, arguments)
        found = training_run(
            model,
            tokens=tokens,
            batch=batch,
            sequence=sequence,
            micro_batch=micro,
            make_inputs=lambda *_: (loaded.args, loaded.kwargs),
            optimizer=arguments.optimizer,
            master_weights=arguments.master_weights,
        )
    if arguments.json:
        output.document(f"{json.dumps(run_text.run_document(found, on))}\n")
    elif arguments.card:
        output.document(run_text.model_card(found, on))
    else:
        output.lines([*run_text.run_lines(found, on), *loaded.notes])
    return 0


def _hardware(arguments: argparse.Namespace, numbers: dict[str, int | None]) -> Hardware:
    from pytest_flopsbudget.training.run_text import hardware

    return hardware(
        device=arguments.on,
        mfu=None if arguments.mfu is None else _share(arguments.mfu),
        dtype=arguments.dtype,
        devices=numbers["devices"],
        tensor=numbers["tensor"] or 1,
        fsdp=numbers["fsdp"],
        watts=numbers["watts"],
    )


def _share(text: str) -> float:
    found = _PERCENT.fullmatch(text.strip())
    value = 0.0 if found is None else float(found[1]) / (100 if found[2] else 1)
    if not 0 < value <= 1:
        raise UsageError(f"--mfu {text!r} is no share above 0 and at most 100%; write --mfu 40%")
    return value


def _inputs(texts: Sequence[str], micro: int, sequence: int) -> list[str]:
    """Return the inputs with the sizes of a micro-batch; token ids if no input is given."""
    texts = texts or ["{B}x{S}:int64"]
    unknown = next((symbol for symbol in symbols_in(texts) if symbol not in {"B", "S"}), None)
    if unknown is not None:
        raise UsageError(f"--input: no size is called {{{unknown}}}; {{B}} is the micro-batch, {{S}} the sequence")
    if not any(set(symbols_in([text])) == {"B", "S"} for text in texts):
        raise UsageError(
            f"--input {texts[0]!r}: no input has both {{B}}, the micro-batch, and {{S}}, the sequence; write "
            "--input '{B}x{S}:int64'"
        )
    return [with_sizes(text, {"B": micro, "S": sequence}) for text in texts]


def _prepared(model: Any, arguments: argparse.Namespace) -> Any:
    """Return the model with the dtype of --param-dtype, and with the activation checkpointing of --recompute."""
    import torch

    if not isinstance(model, torch.nn.Module):
        raise UsageError("an exported program cannot be trained; name a model or a function that builds one")
    if arguments.param_dtype is not None:
        model = model.to(getattr(torch, arguments.param_dtype))
    if arguments.recompute:
        # transformers 5 renamed this method.
        names = ("activation_checkpointing_enable", "gradient_checkpointing_enable")
        enable = next((found for name in names if callable(found := getattr(model, name, None))), None)
        if enable is None:
            raise UsageError(
                "--recompute is for models of transformers, and this model has no gradient_checkpointing_enable(); "
                "turn on activation checkpointing where the model is built"
            )
        enable()
    return model
