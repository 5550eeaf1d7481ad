"""``law TARGET``: find out how the costs of a model grow with its sizes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_flopsbudget.commands.counting.options import TARGETS, add_call_arguments, metrics_of
from pytest_flopsbudget.commands.counting.size_options import ranges_of
from pytest_flopsbudget.errors import UsageError
from pytest_flopsbudget.laws.algebra.solving import Limit, solve
from pytest_flopsbudget.quantities.metrics import METRICS, base_of
from pytest_flopsbudget.quantities.parsing import nearest_spelling, parse_quantity
from pytest_flopsbudget.targets.sizes import known_symbol, parse_sizes, symbols_in, widened

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping, Sequence

    from pytest_flopsbudget.commands.console import Output
    from pytest_flopsbudget.laws.algebra.solving import Solution
    from pytest_flopsbudget.laws.law import Law

SUMMARY = "find out how the costs of a model grow with its sizes, exactly"
DESCRIPTION = f"""\
Find out how the costs of a model grow with its sizes. Write a name in braces in place of a size, and an option of this
name with the first and the last size. One to three sizes are possible. A name may also be an argument of the model, as
in 'mypkg.net:build({{W}})'; the model is then built for each size.

{TARGETS}"""
EXAMPLES = """\
examples:
  flopsbudget law mypkg.net:build --input '1x{S}x512' --S 128:8192
  flopsbudget law mypkg.net:build --input '1x3x{n}x{n}' --n 64:512:32 --at n=224
  flopsbudget law hf:gpt2 --input '{B}x1024:int64' --B 1:4096 --solve 'peak_memory <= 80 GiB'
"""

#: The exit code if no size is within the limit of --solve.
_NOTHING_FITS = 1
_LIMIT = re.compile(r"\s*([\w\[\] .-]+?)\s*(<=|\u2264)(.+)")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command ``law`` to ``parser``, without those for sizes."""
    parser.add_argument("target", metavar="TARGET", help="the model to count; see above")
    add_call_arguments(parser, "'1x{S}x512', '{B}x{S}:int64' or 'tokens=1x{S}:int64'")
    parser.add_argument(
        "--on-data", action="store_true", help="let a model that needs data run on its inputs, which are zeros"
    )
    parser.add_argument(
        "--on", metavar="DEVICE", action="append", default=[], help="estimate the time on a device, such as A100"
    )
    parser.add_argument(
        "--at", metavar="SIZES", action="append", default=[], help="show the values for one size, such as S=1024"
    )
    parser.add_argument("--solve", metavar="LIMIT", help="a limit, such as 'peak_memory <= 80 GiB': which sizes fit?")
    parser.add_argument(
        "--for", metavar="NAME", dest="unknown", help="the size that --solve asks for; --at gives the other sizes"
    )
    parser.add_argument("--metrics", metavar="LIST", help="the metrics to show, such as flops,params")
    parser.add_argument("--json", action="store_true", help="write JSON to standard output instead of text")


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Find the laws and show them.

    Returns:
        0, or 1 if no size is within the limit of --solve.

    Raises:
        UsageError: an argument has the wrong form, the model cannot be loaded, or it refuses a size.
    """
    from pytest_flopsbudget.targets.grammar import parse_batch

    # A wrong argument is an error before the model is loaded.
    symbols = symbols_in([arguments.target, *arguments.input, arguments.kwargs or ""])
    ranges = ranges_of(arguments, symbols)
    metrics = metrics_of(arguments)
    _check_metrics(metrics or [])
    points = [parse_sizes("--at", text, symbols) for text in arguments.at]
    limit = _limit(arguments, symbols, points)
    ranges = _extended(ranges, points, None if limit is None else limit.symbol, output)
    batch = None if arguments.batch is None else parse_batch(arguments.batch)

    from pytest_flopsbudget.commands.counting import law_text
    from pytest_flopsbudget.hardware.catalog import resolve_devices
    from pytest_flopsbudget.targets.laws import SymbolicTarget, law_of_target

    resolve_devices(arguments.on)
    target = SymbolicTarget(
        arguments.target, arguments.input, arguments.kwargs, batch=batch, backward=arguments.backward
    )

    def count(fixed: Mapping[str, int]) -> tuple[Law, tuple[str, ...]]:
        rest = {symbol: sizes for symbol, sizes in ranges.items() if symbol not in fixed}
        one = target.fixed(fixed)
        return law_of_target(one, rest, Path.cwd(), on_data=arguments.on_data, devices=arguments.on)

    found, notes = count({})
    shown = _shown(found, metrics)
    answers = [] if limit is None else _solutions(found, limit, points, count)
    if arguments.json:
        document = law_text.document(found, shown)
        if limit is not None:
            document["solve"] = law_text.answers_document(limit, answers)
        elif points:
            document["at"] = law_text.values_document(found, points, shown)
        output.document(f"{json.dumps(document)}\n")
    else:
        lines = law_text.lines(found, shown, notes, signs=output.screen.unicode, width=output.screen.width)
        if limit is not None:
            lines += law_text.answers(ranges[limit.symbol], limit, answers, width=output.screen.width)
        else:
            lines += law_text.values(found, points, shown)
        output.lines(lines)
    return _NOTHING_FITS if any(solution.largest is None for _, solution in answers) else 0


def _check_metrics(metrics: Sequence[str]) -> None:
    for metric in metrics:
        if base_of(metric) not in METRICS:
            near = nearest_spelling(metric, METRICS)
            hint = f"did you mean {near}?" if near else f"there are {', '.join(METRICS)}"
            raise UsageError(f"no metric {metric!r}; {hint}")
        of = METRICS[base_of(metric)]
        if of.over:
            raise UsageError(
                f"{metric} is a ratio of two laws: {' + '.join(of.derived)}, and {' + '.join(of.over)}; write "
                f"--metrics {','.join((*of.derived, *of.over))}"
            )


def _limit(arguments: argparse.Namespace, symbols: Sequence[str], points: Sequence[Mapping[str, int]]) -> Limit | None:
    """Return the question of --solve and --for; None without --solve."""
    text, name = arguments.solve, arguments.unknown
    if text is None:
        if name is not None:
            raise UsageError(f"--for {name} belongs to --solve; write --solve 'peak_memory <= 80 GiB' --for {name}")
        return None
    found = _LIMIT.fullmatch(text)
    if found is None:
        raise UsageError(f"--solve {text!r} is no limit; write METRIC <= AMOUNT, as in --solve 'peak_memory <= 80 GiB'")
    metric, amount = found[1].strip(), found[3].strip()
    _check_metrics([metric])
    try:
        value = parse_quantity(amount, METRICS[base_of(metric)])
    except ValueError as error:
        raise UsageError(f"--solve {text!r}: {error}") from error
    if name is None and len(symbols) > 1:
        raise UsageError(f"--solve {text!r}: for which size? write --for {symbols[0]}")
    symbol = symbols[0] if name is None else known_symbol("--for", name, symbols)
    if len(symbols) > 1 and not points:
        others = ",".join(f"{one}=1024" for one in symbols if one != symbol)
        raise UsageError(f"--solve for {symbol} needs the other sizes; write --at {others}")
    return Limit(metric, symbol, value, amount)


def _check_complete(point: Mapping[str, int], symbols: Sequence[str], asked: str | None) -> None:
    text = ",".join(f"{symbol}={size}" for symbol, size in point.items())
    if asked in point:
        raise UsageError(f"--at {text}: --solve asks for {asked}, so it has no size here")
    missing = [symbol for symbol in symbols if symbol not in point and symbol != asked]
    if missing:
        raise UsageError(f"--at {text}: it needs a size of {', '.join(missing)} too; write --at {text},{missing[0]}=8")


def _extended(
    ranges: Mapping[str, range], points: Sequence[Mapping[str, int]], asked: str | None, output: Output
) -> dict[str, range]:
    """Return the ranges, extended so that they include all points of --at."""
    for point in points:
        _check_complete(point, list(ranges), asked)
    extended = dict(ranges)
    for symbol, size in [item for point in points for item in point.items()]:
        try:
            found = widened(symbol, extended[symbol], size)
        except UsageError as error:
            raise UsageError(f"--at {error}") from error
        if found != extended[symbol]:
            output.error(f"note: the range of {symbol} is extended to {size:,}, so that the law is checked there")
            extended[symbol] = found
    return extended


def _shown(found: Law, metrics: Sequence[str] | None) -> list[str]:
    if metrics is None:
        return list(found)
    for metric in metrics:
        if metric not in found:
            raise UsageError(f"{metric} was not measured; there are {', '.join(found)}")
    return list(metrics)


def _solutions(
    found: Law,
    limit: Limit,
    points: Sequence[Mapping[str, int]],
    count: Callable[[Mapping[str, int]], tuple[Law, tuple[str, ...]]],
) -> list[tuple[Mapping[str, int], Solution]]:
    if limit.metric not in found:
        raise UsageError(f"{limit.metric} was not measured; there are {', '.join(found)}")
    answers = []
    for others in points or [{}]:
        of_metric = found[limit.metric]
        if others and not of_metric.found:
            # A maximum of laws in several sizes has no law, but often has one if all sizes but one are fixed.
            of_metric = count(others)[0][limit.metric]
            answers.append((others, solve(of_metric, limit, {})))
        else:
            answers.append((others, solve(of_metric, limit, others)))
    return answers
