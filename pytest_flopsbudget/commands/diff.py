"""``diff OLD NEW``: show what became more expensive or cheaper between two reports, baselines or revisions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_flopsbudget.commands.diff_sources import find_sources

if TYPE_CHECKING:
    import argparse

    from pytest_flopsbudget.commands.console import Output

SUMMARY = "compare two reports, baselines or revisions: what was edited, and what it costs"
DESCRIPTION = """\
Show which measurements became more expensive, cheaper, new, removed or renamed, and through which edits and modules.
OLD and NEW are each a report, a baseline file, a folder with baselines, or a git revision. The default of
OLD is HEAD, the default of NEW is the working tree. A..B compares two revisions; A...B compares B with the commit at
which it branched off A.
"""
EXAMPLES = """\
examples:
  flopsbudget diff                       show uncommitted changes
  flopsbudget diff main..HEAD --markdown >> "$GITHUB_STEP_SUMMARY"
  flopsbudget diff main report.json      compare a run with the baseline on main
  flopsbudget diff old.json new.json --exit-code
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command ``diff`` to ``parser``."""
    parser.add_argument("old", metavar="OLD", nargs="?", help="the side before; HEAD by default")
    parser.add_argument("new", metavar="NEW", nargs="?", help="the side after; the working tree by default")
    parser.add_argument("--markdown", action="store_true", help="write Markdown, for a pull request or a job summary")
    parser.add_argument(
        "-v",
        "--verbose",
        action="store_true",
        help="show all edits, metrics, modules and operators of each measurement",
    )
    parser.add_argument("--exit-code", action="store_true", help="exit with 1 if there are differences")


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Show the differences between the two sides that the arguments name.

    Raises:
        UsageError: OLD or NEW names no file, folder or revision, or the named source cannot be read.
    """
    from pytest_flopsbudget.reports.terminal import changes as shown
    from pytest_flopsbudget.results.changes import changes, differing

    old, new = find_sources(arguments.old, arguments.new)
    found = changes(old.entries, new.entries)
    left_out = 0
    if new.is_report and not old.is_report:
        # A report has only the tests that ran. If a test is not in the report, this does not mean that it was removed.
        left_out = sum(change.kind == "removed" for change in found)
        found = [change for change in found if change.kind != "removed"]
    if arguments.markdown:
        from pytest_flopsbudget.reports.markdown import changes as in_markdown

        output.document(in_markdown.text(found, old.label, new.label, verbose=arguments.verbose))
    else:
        output.line(output.screen.text(f"{old.label} -> {new.label}"))
        output.line()
        output.lines(shown.lines(found, output.screen, verbose=arguments.verbose))
        if left_out:
            output.line(f"{left_out:,} more in {old.label}, which {new.label} does not have")
    return 1 if arguments.exit_code and differing(found) else 0
