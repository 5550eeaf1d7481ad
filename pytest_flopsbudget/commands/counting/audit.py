"""``audit FUNCTION TARGET``: hold a project's formula for FLOPs to the count, for every size of a range."""

from __future__ import annotations

import contextlib
import inspect
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_flopsbudget.commands.counting.options import TARGETS, add_call_arguments
from pytest_flopsbudget.commands.counting.size_options import ranges_of
from pytest_flopsbudget.errors import UsageError
from pytest_flopsbudget.quantities.metrics import METRICS
from pytest_flopsbudget.quantities.parsing import nearest_spelling
from pytest_flopsbudget.targets.sizes import symbols_in

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pytest_flopsbudget.commands.console import Output
    from pytest_flopsbudget.laws.audit import Audit
    from pytest_flopsbudget.targets.laws import SymbolicTarget

SUMMARY = "hold a formula of your code to the count, and name the modules that it counts wrongly"
DESCRIPTION = f"""\
Compare a Python function of sizes with the count, for every size of a range: it is equal, or it leaves out a module,
or counts it twice or at half. FUNCTION is written as module:function, and TARGET like for law: a name in braces in
place of a size, which is a parameter of the function too. A parameter "model" gets the model, and "config" its config.

{TARGETS}"""
EXAMPLES = """\
examples:
  flopsbudget audit mypkg:per_token mypkg:build --input '1x{S}:int64' --S 128:8192 --backward
  flopsbudget audit mypkg:per_call mypkg:build --input '{B}x512' --B 1:64 --per call
"""

#: The exit code if the formula is not the count.
_DIFFERS = 1
_DIMENSION = re.compile(r"\{[^\W\d]\w*\}|\d+")
#: The sizes of token ids, (batch, sequence), and a dtype of whole numbers.
_TOKEN_IDS = re.compile(
    r"(?:[^\W\d]\w*=)?((?:\{[^\W\d]\w*\}|\d+)[x\u00d7](?:\{[^\W\d]\w*\}|\d+)):(?:u?int\d+)", re.ASCII
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command ``audit`` to ``parser``, without those for sizes."""
    parser.add_argument("function", metavar="FUNCTION", help="the formula, such as mypkg:flops_per_token")
    parser.add_argument("target", metavar="TARGET", help="the model to count; see above")
    add_call_arguments(parser, "'{B}x{S}:int64' or 'tokens=1x{S}:int64'")
    parser.add_argument("--per", metavar="UNIT", default="token", help="what the formula is for: token (default), call")
    parser.add_argument(
        "--tokens", metavar="FORMULA", help="the tokens of a call, such as B*S, if its inputs are no token ids"
    )
    parser.add_argument("--metric", metavar="METRIC", default="flops", help="the metric to compare with; flops")
    parser.add_argument(
        "--on-data", action="store_true", help="let a model that needs data run on its inputs, which are zeros"
    )
    parser.add_argument("--json", action="store_true", help="write JSON to standard output instead of text")


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Compare the formula with the law of the model.

    Returns:
        0 if the formula is the count for every size, 1 if not.

    Raises:
        UsageError: an argument has the wrong form, the function or the model cannot be loaded or called.
    """
    from pytest_flopsbudget.targets.grammar import parse_batch

    # A wrong argument is an error before the model is loaded.
    symbols = symbols_in([arguments.target, *arguments.input, arguments.kwargs or ""])
    ranges = ranges_of(arguments, symbols)
    _check_metric(arguments.metric)
    batch = None if arguments.batch is None else parse_batch(arguments.batch)
    tokens = arguments.tokens or _tokens_in([*arguments.input, arguments.target], batch)
    per = _per(arguments.per, tokens)

    from pytest_flopsbudget.targets.laws import SymbolicTarget, law_of_target
    from pytest_flopsbudget.targets.project_models import load_project_function

    target = SymbolicTarget(
        arguments.target, arguments.input, arguments.kwargs, batch=batch, backward=arguments.backward
    )
    smallest = {symbol: sizes[0] for symbol, sizes in ranges.items()}
    with _project():
        function = load_project_function(arguments.function)
    given = _given(function, target, smallest)
    found, notes = law_of_target(
        target, ranges, Path.cwd(), on_data=arguments.on_data, metrics=[arguments.metric, "params"]
    )
    if arguments.metric not in found:
        raise UsageError(f"{arguments.metric} was not measured; there are {', '.join(found)}")
    with _project():
        audit = found.audit(
            function, arguments.metric, per=per, tokens=tokens, given=given, name=arguments.function.partition(":")[2]
        )
    if arguments.json:
        output.document(f"{json.dumps(_document(audit))}\n")
    else:
        output.lines([*audit.text().splitlines(), *notes])
    return 0 if audit else _DIFFERS


@contextlib.contextmanager
def _project() -> Iterator[None]:
    """Import and call the user's function in this context. What it prints must not mix with results."""
    from pytest_flopsbudget.targets.project_models import importable

    with importable(Path.cwd()), contextlib.redirect_stdout(sys.stderr):
        yield


def _check_metric(metric: str) -> None:
    if metric not in METRICS or METRICS[metric].over:
        known = [key for key, one in METRICS.items() if not one.over and one.per is None]
        near = nearest_spelling(metric, known)
        hint = f"did you mean {near}?" if near else f"there are {', '.join(known)}"
        raise UsageError(f"--metric {metric}: no metric of whole numbers has this name; {hint}")


def _tokens_in(texts: Sequence[str], batch: int | None) -> str | None:
    """Return the number of elements of the first token ids among the inputs, as a formula; None if there are none."""
    for text in texts:
        found = _TOKEN_IDS.search(text)
        if found is not None:
            first, second = _DIMENSION.findall(found[1])
            return f"{first if batch is None else batch} * {second}".replace("{", "").replace("}", "")
    return None


def _per(unit: str, tokens: str | None) -> str | None:
    if unit == "call":
        return None
    if unit != "token":
        near = nearest_spelling(unit, ("token", "call"))
        raise UsageError(f"--per {unit}: {f'did you mean {near}?' if near else 'there are token and call'}")
    if tokens is None:
        raise UsageError(
            "--per token: which input has the tokens? No input is (batch, sequence) of whole numbers; write --tokens "
            "'B*S', or --per call for a formula of the whole call"
        )
    return tokens


def _given(function: Callable[..., Any], target: SymbolicTarget, smallest: Mapping[str, int]) -> dict[str, Any]:
    """Return values for the parameters "model" and "config", if the function takes them."""
    from pytest_flopsbudget.targets.loading import explained, load

    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return {}
    wanted = [name for name in ("model", "config") if name in parameters]
    if not wanted:
        return {}
    if target.is_built_for_sizes:
        raise UsageError(f"the function takes {wanted[0]}, and the target is another model for each size")
    with explained(target.at(smallest), Path.cwd()):
        model = load(target.at(smallest), Path.cwd()).model
    if "config" in wanted and not hasattr(model, "config"):
        raise UsageError("the function takes config, and the model has no attribute config")
    return {name: model if name == "model" else model.config for name in wanted}


def _document(audit: Audit) -> dict[str, Any]:
    document: dict[str, Any] = {
        "function": audit.function,
        "metric": audit.metric,
        "holds": audit.holds,
        "sizes": audit.sizes,
        "counted": audit.counted,
        "formula": audit.formula,
        "difference": audit.difference,
        "tried": audit.tried,
        "findings": [
            {
                "modules": finding.modules,
                "factor": None if finding.factor is None else str(finding.factor),
                "sentence": finding.sentence,
            }
            for finding in audit.findings
        ],
    }
    if audit.counterexample is not None:
        point, counted, given = audit.counterexample
        document["counterexample"] = {"sizes": point, "counted": str(counted), "formula": str(given)}
    return document
