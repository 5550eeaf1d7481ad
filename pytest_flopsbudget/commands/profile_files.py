"""The options --speedscope, --collapsed, --model-explorer and --metric, and the files that they write."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pytest_flopsbudget.errors import UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from pytest_flopsbudget.commands.console import Output
    from pytest_flopsbudget.results.complexity import Complexity


def add_profile_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options to ``parser``."""
    parser.add_argument("--speedscope", metavar="PATH", help="write the modules as profiles for speedscope.app")
    parser.add_argument("--collapsed", metavar="PATH", help="write the modules as collapsed stacks, for flame graphs")
    parser.add_argument(
        "--model-explorer",
        metavar="PATH",
        help="write the modules as a graph for Model Explorer, and their values beside it: net.json, net.flops.json",
    )
    parser.add_argument(
        "--metric",
        metavar="METRIC",
        default="flops",
        help="the metric of --collapsed and --model-explorer, and the first of --speedscope",
    )


def check_path(option: str, path: str | None) -> None:
    """Refuse a path that cannot be written to, before a model is counted.

    Raises:
        UsageError: the path names no file, names a source file, or cannot be written to.
    """
    from pytest_flopsbudget.storage.atomic_file import find_obstacle

    if path is None:
        return
    if path in {"", "-"}:
        raise UsageError(f"{option} {path or repr('')}: names no file; write {option} PATH")
    if Path(path).suffix in {".py", ".toml", ".ini", ".cfg"}:
        raise UsageError(f"{option} {path}: would overwrite a source file; write {option} PATH")
    why = find_obstacle(Path(path))
    if why:
        raise UsageError(f"{option} {path}: cannot be written: {why}")


def check_profile_arguments(arguments: argparse.Namespace) -> None:
    """Refuse a metric without stacks, and paths that cannot be written to, before a model is counted.

    Raises:
        UsageError: there is no such metric, or it does not add up over modules; or a path names no file, names a source
            file, or cannot be written to.
    """
    from pytest_flopsbudget.reports.profiles.stacks import check_metric

    check_metric(arguments.metric)
    check_path("--speedscope", arguments.speedscope)
    check_path("--collapsed", arguments.collapsed)
    check_path("--model-explorer", arguments.model_explorer)
    if arguments.model_explorer is not None:
        check_path("--model-explorer", str(_node_data_path(arguments)))


def write_profiles(
    arguments: argparse.Namespace, measurements: Sequence[tuple[str, Complexity]], output: Output
) -> None:
    """Write the files that the options request, and a line about each to standard error.

    Raises:
        UsageError: a measurement has no sum of the metric over modules, or a file cannot be written.
    """
    from pytest_flopsbudget.reports.profiles import collapsed, model_explorer, speedscope

    if arguments.speedscope is not None:
        write_text(arguments.speedscope, speedscope.text(measurements, arguments.metric), output)
    if arguments.collapsed is not None:
        write_text(arguments.collapsed, collapsed.text(measurements, arguments.metric), output)
    if arguments.model_explorer is not None:
        values = model_explorer.node_data_text(measurements, arguments.metric)
        write_text(arguments.model_explorer, model_explorer.graph_text(measurements), output)
        write_text(str(_node_data_path(arguments)), values, output)


def _node_data_path(arguments: argparse.Namespace) -> Path:
    """Return the file for the values of Model Explorer's nodes, beside the graph: net.flops.json for net.json."""
    graph = Path(arguments.model_explorer)
    metric = "".join(sign if sign.isalnum() or sign in "_-" else "-" for sign in arguments.metric).rstrip("-")
    return graph.with_name(f"{graph.stem}.{metric}.json")


def write_text(path: str, text: str, output: Output) -> None:
    """Write a file in UTF-8, and a line about it to standard error.

    Raises:
        UsageError: the file cannot be written.
    """
    from pytest_flopsbudget.storage.atomic_file import write_report

    write_report(Path(path), text.encode("utf-8", "backslashreplace"))
    output.error(f"written: {path}")
