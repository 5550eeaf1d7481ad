"""Write the summary of a run, and the page of ``--flops-budget-explain``, to the terminal."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from pytest_flopsbudget.config.settings import find_device
from pytest_flopsbudget.plugin.items import as_typed, relative_path, typed_paths
from pytest_flopsbudget.plugin.xdist import terminal_encoding
from pytest_flopsbudget.quantities.metrics import devices_in
from pytest_flopsbudget.reports.terminal.baseline_notes import baseline_notes
from pytest_flopsbudget.reports.terminal.explain import explain_page
from pytest_flopsbudget.reports.terminal.screen import Screen
from pytest_flopsbudget.reports.terminal.summary import summary
from pytest_flopsbudget.safe_text import visible

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

    from pytest_flopsbudget.config.settings import Settings
    from pytest_flopsbudget.hardware.profile import Device
    from pytest_flopsbudget.results.verdict import UpdateMode, Verdict
    from pytest_flopsbudget.storage.run_record import Entry, RunRecord


def write_summary(
    reporter: pytest.TerminalReporter,
    run_record: RunRecord,
    settings_of: Callable[[Path], Settings],
    show: str,
    accepts: UpdateMode | bool,
) -> None:
    """Write the measurements of the run, and what was done with its baselines.

    Args:
        reporter: pytest's reporter, which writes to the terminal.
        run_record: the record of the measurements.
        settings_of: returns the settings for the tests of a file.
        show: the metric to show.
        accepts: which measurements the run accepts as new baselines: all (True), none (False), or some (the mode).
    """
    config = reporter.config
    screen, verbosity = _screen(config), config.get_verbosity()
    paths = typed_paths(config)
    # Node ids are shown in pytest's form. Commands are shown as the user would type them in the folder of this run.
    entries = [replace(entry, nodeid=as_typed(entry.nodeid, config)) for entry in run_record]
    if verbosity >= 0:
        reporter.write_sep("=", "flops budgets")
    if verbosity >= 0 or any(entry.needs_attention for entry in entries):
        for line in summary(
            entries, screen, settings_of, show=show, verbosity=verbosity, accepts=accepts is True, paths=paths
        ):
            reporter.write_line(line)
    for line in baseline_notes(
        run_record,
        accepts=accepts,
        verbosity=verbosity,
        shown_path=partial(relative_path, config=config),
        shown_nodeid=partial(as_typed, config=config),
        paths=paths,
    ):
        reporter.write_line(visible(line))
    for error in run_record.errors:
        reporter.write_line(visible(f"ERROR: {error}"), red=True)


def write_page(reporter: pytest.TerminalReporter, entry: Entry, name: str | None, settings: Settings) -> None:
    """Write the page about a test's measurements, or, if ``name`` is given, about the measurement of this name."""
    nodeid = as_typed(entry.nodeid, reporter.config)
    for verdict in entry.unpack_verdicts():
        if name is None or verdict.name == name:
            reporter.write_sep("=", "flops budget explained")
            if entry.own_failure:
                reporter.write_line("the test failed for another reason than its budget; these are its measurements")
            for line in explain_page(nodeid, verdict, _estimated_devices(verdict, settings), _screen(reporter.config)):
                reporter.write_line(line)


def _screen(config: pytest.Config) -> Screen:
    writer = config.get_terminal_writer()
    return Screen(width=writer.fullwidth, colour=writer.hasmarkup, encoding=terminal_encoding(config))


def _estimated_devices(verdict: Verdict, settings: Settings) -> list[Device]:
    """Return the devices for which a measurement has estimated times. Devices that the pyproject names come first."""
    estimated = devices_in(verdict.complexity.metrics)
    asked = [name for name in settings.time_on if name in estimated]
    return [find_device(settings, name) for name in dict.fromkeys((*asked, *estimated))]
