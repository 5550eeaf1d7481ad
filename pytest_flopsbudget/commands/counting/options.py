"""The options that `measure` and `compare` share, and the measuring of their targets."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_flopsbudget.commands.profile_files import add_profile_arguments, check_path, check_profile_arguments
from pytest_flopsbudget.errors import UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from pytest_flopsbudget.commands.console import Output
    from pytest_flopsbudget.results.complexity import Complexity
    from pytest_flopsbudget.targets.grammar import Target

TARGETS = """\
A TARGET is one of these:
  mypkg.net:build              a model, a class or a function of a module;
                               the current folder is searched first
  'mypkg.net:build(18)'        a class or a function with plain arguments
  hf:gpt2, hf:LlamaForCausalLM a model of transformers: a model type, a class, a
                               configuration file, a model on the hub
  timm:resnet50                a model of timm
  model.pt2                    an exported program
?input=SPEC&kwargs=JSON&batch=N&backward after a TARGET are options for this target alone.
"""


#: The exit code if a model could not be counted.
FAILED = 2


def add_call_arguments(
    parser: argparse.ArgumentParser, inputs: str, *, backward: bool = True, batch: bool = True
) -> None:
    """Add the options of a call of a model to ``parser``.

    Args:
        parser: the parser.
        inputs: examples of inputs, for the help.
        backward: whether the command counts the backward pass only on request.
        batch: whether --batch is the first size of the inputs.
    """
    parser.add_argument(
        "--input",
        metavar="SPEC",
        action="append",
        default=[],
        help=f"sizes of an argument, such as {inputs}; repeat it for more",
    )
    parser.add_argument("--kwargs", metavar="JSON", help="""arguments by name, such as '{"use_cache": false}'""")
    if batch:
        parser.add_argument("--batch", metavar="N", help="the first size of each input")
    if backward:
        parser.add_argument("--backward", action="store_true", help="count the backward pass of the summed outputs too")


def add_target_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of a call and of its outputs to ``parser``."""
    add_call_arguments(parser, "1x3x224x224, 1x128:int64 or tokens=1x128:int64")
    parser.add_argument(
        "--on", metavar="DEVICE", action="append", default=[], help="estimate the time on a device, such as A100"
    )
    parser.add_argument("--metrics", metavar="LIST", help="the metrics of the table, such as macs,params")
    parser.add_argument("--json", action="store_true", help="write JSON to standard output instead of a table")
    parser.add_argument("--html", metavar="PATH", help="write a page with module trees, operators and rooflines")
    add_profile_arguments(parser)


def parse_targets(texts: Sequence[str], arguments: argparse.Namespace) -> list[Target]:
    """Return the targets, each with the options of the command line that it does not have itself.

    Raises:
        UsageError: a target or an option has the wrong form, or a file cannot be written to.
    """
    from pytest_flopsbudget.targets.grammar import CallOptions, parse_batch, parse_inputs, parse_kwargs, parse_target

    check_path("--html", arguments.html)
    check_profile_arguments(arguments)
    defaults = CallOptions(
        inputs=parse_inputs(arguments.input),
        kwargs={} if arguments.kwargs is None else parse_kwargs(arguments.kwargs),
        batch=None if arguments.batch is None else parse_batch(arguments.batch),
        backward=arguments.backward,
    )
    return [parse_target(text).with_defaults(defaults) for text in texts]


def metrics_of(arguments: argparse.Namespace) -> list[str] | None:
    """Return the metrics that --metrics names; None without the option."""
    return None if arguments.metrics is None else [one.strip() for one in arguments.metrics.split(",")]


def measure_all(
    targets: Sequence[Target], arguments: argparse.Namespace, output: Output
) -> Iterator[tuple[Target, Complexity | None]]:
    """Count the targets one after another. Yield None for a target that cannot be counted, after writing its error.

    Raises:
        UsageError: a device is unknown.
    """
    from pytest_flopsbudget.counting.tracing.timeline import keeping_timelines
    from pytest_flopsbudget.hardware.catalog import resolve_devices
    from pytest_flopsbudget.targets.loading import measure_target

    resolve_devices(arguments.on)
    for number, target in enumerate(targets):
        complexity = None
        try:
            with _progress(number, targets, arguments), keeping_timelines(arguments.html is not None):
                complexity = measure_target(target, Path.cwd(), devices=arguments.on)
        except UsageError as error:
            output.error(f"error: {error}")
        yield target, complexity


@contextmanager
def _progress(number: int, targets: Sequence[Target], arguments: argparse.Namespace) -> Iterator[None]:
    """Show a progress bar on standard error, if it is a terminal and there are several targets.

    The bar disappears at the end of the context, so that results can be written.
    """
    if len(targets) == 1 or not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from pytest_flopsbudget.safe_text import visible

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    console = Console(stderr=True, no_color=arguments.no_color or None)
    with Progress(*columns, console=console, transient=True, redirect_stdout=False) as progress:
        progress.add_task(escape(visible(targets[number].text)), total=len(targets), completed=number)
        yield
