"""``diff OLD NEW``: what became dearer or cheaper between two reports, baselines or revisions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_flopsbudget.commands.diff_sources import find_sources

if TYPE_CHECKING:
    import argparse

    from pytest_flopsbudget.commands.console import Output

SUMMARY = "compare two reports, baselines or revisions, module by module"
DESCRIPTION = """\
Show what became dearer, cheaper, new, removed or renamed, and through which modules and operators. OLD and NEW are each
a report, a baseline file, a folder with baselines, or a revision of git. NEW is the working tree if it is left out, and
so is OLD HEAD. A..B are two revisions, and A...B is what B did since it left A.
"""
EXAMPLES = """\
examples:
  python -m pytest_flopsbudget diff                       what is not committed yet
  python -m pytest_flopsbudget diff main..HEAD --markdown >> "$GITHUB_STEP_SUMMARY"
  python -m pytest_flopsbudget diff main report.json      a run, held against the baseline on main
  python -m pytest_flopsbudget diff old.json new.json --exit-code
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    parser.add_argument("old", metavar="OLD", nargs="?", help="before; HEAD if it is left out")
    parser.add_argument("new", metavar="NEW", nargs="?", help="after; the working tree if it is left out")
    parser.add_argument("--markdown", action="store_true", help="write Markdown, for a pull request or a job summary")
    parser.add_argument("--exit-code", action="store_true", help="exit with 1 where there are differences")


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Show the differences.

    Raises:
        UsageError: one of the two means nothing, or cannot be read.
    """
    from pytest_flopsbudget.reports.terminal import changes as shown  # noqa: PLC0415 -- brings rich, which errors do without
    from pytest_flopsbudget.results.changes import changes, differing  # noqa: PLC0415

    old, new = find_sources(arguments.old, arguments.new)
    found = changes(old.entries, new.entries)
    left_out = 0
    if new.is_report and not old.is_report:
        # A report tells of the tests that ran; the others are as they were.
        left_out = sum(change.kind == "removed" for change in found)
        found = [change for change in found if change.kind != "removed"]
    if arguments.markdown:
        from pytest_flopsbudget.reports.markdown import changes as in_markdown  # noqa: PLC0415 -- half of the runs do without

        output.document(in_markdown.text(found, old.label, new.label))
    else:
        output.line(output.screen.text(f"{old.label} -> {new.label}"))
        output.line()
        output.lines(shown.lines(found, output.screen))
        if left_out:
            output.line(f"{left_out:,} more in {old.label}, which {new.label} does not tell of")
    return 1 if arguments.exit_code and differing(found) else 0
