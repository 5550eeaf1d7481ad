"""The hooks that pytest calls: options, marker, fixture, reports of tests, summary. Other files do the work.

Until a test is marked or uses the fixture, this file imports only the standard library, pytest and small files of this
package. All other imports are inside of functions.
"""

from __future__ import annotations

import argparse
from contextlib import nullcontext, suppress
from traceback import walk_tb
from typing import TYPE_CHECKING, Any

import pytest

from pytest_flopsbudget.config.prescan import PyprojectFinder
from pytest_flopsbudget.errors import BudgetExceededError, UsageError
from pytest_flopsbudget.identifiers import is_model
from pytest_flopsbudget.plugin.collection import CollectionRecorder
from pytest_flopsbudget.plugin.items import is_outside_root

if TYPE_CHECKING:
    from collections.abc import Generator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from _pytest._code.code import TerminalRepr

    from pytest_flopsbudget.plugin.controller import Controller
    from pytest_flopsbudget.plugin.explain import ExplainPlugin
    from pytest_flopsbudget.plugin.fixture import FlopsBudget
    from pytest_flopsbudget.plugin.other_revision import OtherRevision
    from pytest_flopsbudget.plugin.session import BudgetSession


_MARKER = (
    "flops_budget(**limits, modules=None, phases=None, tolerance=None, hold=None): hold what the test computes, or "
    'measures with the flops_budget fixture, to these limits, e.g. flops_budget(flops="8.2 GFLOPs", params="25.6M"); '
    "see the README of pytest-flopsbudget."
)

_UPDATE_OPTIONS = ("--flops-budget-update", "--flops-budget-update=new", "--flops-budget-update=improved")

#: The flag of a report → a description of the report.
_REPORTS = {
    "--flops-budget-json": "the whole report as JSON, to accept and compare later and for other programs",
    "--flops-budget-markdown": "a table with module diffs as Markdown, for pull requests",
    "--flops-budget-html": "a page with module trees, operators and rooflines as one HTML file, to look at",
    "--flops-budget-csv": "a row a measurement as CSV, for spreadsheets and data frames",
    "--flops-budget-gitlab": "OpenMetrics text, for GitLab's metrics reports",
    "--flops-budget-codequality": "the failing tests as JSON, for GitLab's code quality widget",
    "--flops-budget-sarif": "the failing tests as SARIF, for code scanning",
}

_SESSION: pytest.StashKey[BudgetSession] = pytest.StashKey()
_FINDER: pytest.StashKey[PyprojectFinder] = pytest.StashKey()
_COLLECTION_RECORDER: pytest.StashKey[CollectionRecorder] = pytest.StashKey()
_CONTROLLER: pytest.StashKey[Controller] = pytest.StashKey()
_EXPLAIN_PLUGIN: pytest.StashKey[ExplainPlugin] = pytest.StashKey()
_OTHER_REVISION: pytest.StashKey[OtherRevision] = pytest.StashKey()
_FIXTURE: pytest.StashKey[FlopsBudget] = pytest.StashKey()
#: The measurements of a watched test. If the test calls the fixture, the fixture's measurements are used instead.
_WATCHED: pytest.StashKey[FlopsBudget] = pytest.StashKey()
#: The data that a test's report carries to the controlling process.
_PAYLOAD: pytest.StashKey[dict[str, Any]] = pytest.StashKey()
#: Why a test breaks its budget. The test itself may also fail for another reason, before the budget is judged.
_BROKEN: pytest.StashKey[str] = pytest.StashKey()
_ATTEMPT_KEYS: tuple[pytest.StashKey[Any], ...] = (_FIXTURE, _WATCHED, _PAYLOAD, _BROKEN)


class _Update(argparse.Action):
    """An argparse action for ``--flops-budget-update`` and ``--flops-budget-update=new``. Stores the word after "=".

    The option takes no value, because argparse would take a path after ``--flops-budget-update`` as its value.
    """

    def __call__(
        self,
        parser: argparse.ArgumentParser,  # noqa: ARG002 -- argparse hands it over
        namespace: argparse.Namespace,
        values: object,  # noqa: ARG002
        option_string: str | None = None,
    ) -> None:
        setattr(namespace, self.dest, (option_string or "").partition("=")[2] or "all")


def _check_update_option(pluginmanager: pytest.PytestPluginManager) -> None:
    """Raise a usage error for an unknown word after ``--flops-budget-update=``. The message suggests a similar word."""
    config = pluginmanager.get_plugin("pytestconfig")
    for arg in config.invocation_params.args if isinstance(config, pytest.Config) else ():
        name, separator, word = str(arg).partition("=")
        if name == _UPDATE_OPTIONS[0] and separator and arg not in _UPDATE_OPTIONS:
            import difflib

            words = [option.partition("=")[2] for option in _UPDATE_OPTIONS[1:]]
            near = difflib.get_close_matches(word, words, n=1)
            hint = f"; did you mean {name}={near[0]}?" if near else "."
            raise pytest.UsageError(
                f"{arg}: {word!r} is nothing that can be accepted{hint} There are {', '.join(_UPDATE_OPTIONS)}"
            )


def _number_of_measurements(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of measurements; write a whole number, as in 12")
    return int(text[:9])  # Python refuses numbers of thousands of digits, and no run makes a billion measurements


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Add the command-line flags of this plugin. A flag that the user does not give has the value None."""
    _check_update_option(pluginmanager)
    group = parser.getgroup("flops-budget", "complexity budgets (pytest-flopsbudget)")
    group.addoption(
        *_UPDATE_OPTIONS,
        action=_Update,
        nargs=0,
        dest="flops_budget_update",
        default=None,
        help="accept what the tests measure as the new baseline; =new accepts only measurements without a baseline, "
        "=improved only those that lower it; only tests that ran and passed are written",
    )
    group.addoption(
        "--flops-budget-prune",
        action="store_true",
        default=None,
        help="remove the baseline entries of tests that no longer exist; needs a run that leaves no test out",
    )
    group.addoption(
        "--flops-budget-disable",
        action="store_true",
        default=None,
        help="measure, but check no limits and no baselines",
    )
    group.addoption(
        "--flops-budget-compare",
        metavar="REVISION",
        help="measure the tests at this branch, tag or commit first, and judge growth against it instead of the "
        "baselines",
    )
    group.addoption(
        "--flops-budget-explain",
        metavar="NODEID",
        help="run this one test, and show a page about each of its measurements, or about NODEID:NAME alone: which "
        "modules do the work, what bounds the time, and where a change would help most",
    )
    group.addoption(
        "--flops-budget-require",
        metavar="N",
        type=_number_of_measurements,
        help="fail the run if it makes fewer than N measurements, for example because all budgets are skipped",
    )
    group.addoption(
        "--flops-budget-model",
        metavar="TARGET",
        action="append",
        help="measure this model like a test: mypkg.net:build?input=1x3x224x224, hf:NAME, timm:NAME or FILE.pt2; may "
        "be repeated; docs/commands.md describes a TARGET",
    )
    for flag, meaning in _REPORTS.items():
        group.addoption(flag, metavar="PATH", help=f"write {meaning}")


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Add the hooks that conftest.py and other plugins may implement."""
    from pytest_flopsbudget.plugin import hookspecs

    pluginmanager.add_hookspecs(hookspecs)


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker and, in the controlling process, the `Controller` that receives every test's report."""
    config.addinivalue_line("markers", _MARKER)
    for flag in ("--flops-budget-update", "--flops-budget-prune"):
        if config.getoption(flag) and config.getoption("--flops-budget-disable"):
            raise pytest.UsageError(
                f"{flag} and --flops-budget-disable contradict each other: a run that checks no baselines does not "
                "change them either; give one of the two"
            )
    if config.getoption("--flops-budget-compare") is not None:
        _refuse_beside_compare(config)
    _register_models(config)
    config.stash[_COLLECTION_RECORDER] = collection_recorder = CollectionRecorder(config)
    config.pluginmanager.register(collection_recorder, "flopsbudget-collection")
    explain_plugin = _make_explain_plugin(config, collection_recorder)
    if not hasattr(config, "workerinput"):
        from pytest_flopsbudget.plugin.controller import Controller

        config.stash[_CONTROLLER] = controller = Controller(
            config,
            lambda: _get_session(config),
            collection_recorder.collected,
            _given_reports(config),
            explain_plugin,
        )
        config.pluginmanager.register(controller, "flopsbudget-controller")
        _register_other_revision(config)


def _refuse_beside_compare(config: pytest.Config) -> None:
    """Raise a usage error for an option that has no meaning together with --flops-budget-compare."""
    for flag in ("--flops-budget-update", "--flops-budget-prune", "--flops-budget-disable"):
        if config.getoption(flag):
            raise pytest.UsageError(
                f"{flag} and --flops-budget-compare contradict each other: a run that compares with another revision "
                "neither reads nor writes baselines; give one of the two"
            )


def _register_models(config: pytest.Config) -> None:
    """Register the plugin that adds the models of --flops-budget-model to the tests, if there are any."""
    named = [*config.args, config.getoption("--flops-budget-explain") or ""]
    if not config.getoption("--flops-budget-model") and not any(map(is_model, named)):
        return
    from pytest_flopsbudget.plugin.models import ModelCollection, take_models
    from pytest_flopsbudget.targets.grammar import parse_target

    try:
        targets = [parse_target(text) for text in take_models(config)]
    except UsageError as error:
        raise pytest.UsageError(f"--flops-budget-model: {error}") from error
    if targets:
        config.pluginmanager.register(ModelCollection(targets, _keep_budget), "flopsbudget-models")


def _make_explain_plugin(config: pytest.Config, collection_recorder: CollectionRecorder) -> ExplainPlugin | None:
    """Make the plugin that selects the test to explain. Without --flops-budget-explain, return None."""
    if config.getoption("--flops-budget-explain") is None:
        return None
    if config.getoption("--flops-budget-disable"):
        raise pytest.UsageError(
            "--flops-budget-explain and --flops-budget-disable contradict each other: a run that keeps no measurements "
            "has nothing to explain; give one of the two"
        )
    from pytest_flopsbudget.plugin.explain import ExplainPlugin

    config.stash[_EXPLAIN_PLUGIN] = explain_plugin = ExplainPlugin(config, collection_recorder)
    config.pluginmanager.register(explain_plugin, "flopsbudget-explain")
    return explain_plugin


def _register_other_revision(config: pytest.Config) -> None:
    """Register the plugin that measures another revision, if --flops-budget-compare names one."""
    revision = config.getoption("--flops-budget-compare")
    if revision is None:
        return
    from pytest_flopsbudget.plugin.other_revision import OtherRevision

    config.stash[_OTHER_REVISION] = other_revision = OtherRevision(config, revision)
    config.pluginmanager.register(other_revision, "flopsbudget-other-revision")


def _given_reports(config: pytest.Config) -> dict[str, Path]:
    """Return flag → file, for each report that the command line requests."""
    given = {flag: path for flag in _REPORTS if (path := config.getoption(flag)) is not None}
    if not given:
        return {}
    from pytest_flopsbudget.plugin.report_writer import check_paths

    try:
        return check_paths(given, config.invocation_params.dir)
    except UsageError as error:
        raise pytest.UsageError(str(error)) from error


def _get_session(config: pytest.Config) -> BudgetSession:
    """Return the object that has the settings and baselines of this run. Files are read when they are first needed."""
    session = config.stash.get(_SESSION, None)
    if session is None:
        from pytest_flopsbudget.plugin.session import BudgetSession

        session = config.stash[_SESSION] = BudgetSession(config, _get_finder(config), _other_results(config))
    return session


def _other_results(config: pytest.Config) -> tuple[Path, str] | None:
    """Return the report of the revision that the run compares with, and the name of the revision; None without one."""
    if config.getoption("--flops-budget-compare") is None or config.option.collectonly:
        return None
    if _OTHER_REVISION in config.stash:
        return config.stash[_OTHER_REVISION].results
    from pytest_flopsbudget.plugin.xdist import compared_results

    return compared_results(config)


def _get_finder(config: pytest.Config) -> PyprojectFinder:
    finder = config.stash.get(_FINDER, None)
    if finder is None:
        finder = PyprojectFinder(config.rootpath, config.invocation_params.dir, config.args)
        config.stash[_FINDER] = finder
    return finder


def pytest_report_header(config: pytest.Config) -> str | None:
    """Return a line on the number of budgets in the pyproject; None if the pyproject has no table for this plugin."""
    return _get_session(config).header() if _get_finder(config).may_run_have_table() else None


def _uses_budget(item: pytest.Item) -> bool:
    return _requests_fixture(item) or item.get_closest_marker("flops_budget") is not None or _matches_watch(item)


def _requests_fixture(item: pytest.Item) -> bool:
    return "flops_budget" in getattr(item, "fixturenames", ())


def _matches_watch(item: pytest.Item) -> bool:
    """Return whether the setting ``watch`` in a pyproject matches the test; False if the pyproject has mistakes.

    `BudgetSession.find_problems` reports these mistakes.
    """
    if not _get_finder(item.config).may_have_table(item.path):
        return False
    with suppress(UsageError):
        return _get_session(item.config).watches(item)
    return False


def _watching(item: pytest.Item) -> AbstractContextManager[None]:
    """Return a context that measures what the test runs, if the test's marker or a pyproject requests this.

    Otherwise, or if the test uses the fixture, return a context that does nothing.
    """
    marked = item.get_closest_marker("flops_budget") is not None
    if (
        _requests_fixture(item)
        or item.config.getoption("--flops-budget-disable")
        or not (marked or _matches_watch(item))
    ):
        return nullcontext()
    from pytest_flopsbudget.plugin.watched_tests import watching

    budget = item.stash[_WATCHED] = _make_budget(item)
    return watching(item, budget)


def _timed_calls_uncounted(item: pytest.Item) -> AbstractContextManager[None]:
    """Return a context in which the calls that pytest-benchmark times are not counted, if the test has a budget."""
    if "benchmark" not in getattr(item, "fixturenames", ()) or not _uses_budget(item):
        return nullcontext()
    from pytest_flopsbudget.plugin.watched_tests import timed_calls_uncounted

    return timed_calls_uncounted(item)


def _make_budget(item: pytest.Item) -> FlopsBudget:
    from pytest_flopsbudget.plugin.fixture import FlopsBudget

    session = _get_session(item.config)
    settings = session.settings_of(item.path)
    return FlopsBudget(
        prepare=session.prepare,
        reuse_answers=settings.reuse_answers == "on",
        shapes=settings.shapes,
        test=getattr(item, "originalname", None) or item.name,
        devices=session.devices_for(item),
        latency_policy=session.latency_policy_for(item),
        keeps_timeline=bool(item.config.getoption("--flops-budget-html")),
    )


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Report all mistakes in the pyproject, the markers and the baselines at once, before any test runs."""
    if config.getoption("--flops-budget-disable"):
        return
    concerned = [item for item in items if _uses_budget(item)]
    finder, recorder = _get_finder(config), config.stash[_COLLECTION_RECORDER]
    recorder.collected.budgets = len(concerned)
    recorder.collected.deselected_budgets = sum(map(_uses_budget, recorder.deselected))
    test_files = dict.fromkeys(item.path for item in items if finder.may_have_table(item.path))
    needs_check = concerned or test_files or finder.may_run_have_table()
    problems = _get_session(config).find_problems(concerned, test_files) if needs_check else []
    if config.getoption("--flops-budget-prune"):
        problems += filter(None, [recorder.prune_refusal(items)])
    if _EXPLAIN_PLUGIN in config.stash:
        problems += config.stash[_EXPLAIN_PLUGIN].mistakes
    if not problems:
        everything = [*items, *recorder.deselected]
        held = [item for item in everything if finder.may_have_table(item.path)]
        if (held or finder.may_run_have_table()) and recorder.collects_all_it_names:
            from pytest_flopsbudget.plugin.pattern_notes import pattern_notes

            recorder.collected.notes = pattern_notes(config, _get_session(config), held, recorder.skipped)
        return
    if hasattr(config, "workeroutput"):
        # A worker cannot end the run, so it runs no test and sends its problems to the controller. The controller ends
        # the run.
        from pytest_flopsbudget.plugin.xdist import PROBLEMS

        config.workeroutput[PROBLEMS] = problems
        items.clear()
        return
    from pytest_flopsbudget.safe_text import visible

    raise pytest.UsageError("\n".join(visible(line) for problem in problems for line in problem.split("\n")))


@pytest.fixture
def flops_budget(request: pytest.FixtureRequest) -> FlopsBudget:
    """Measure models, and check them against the test's budget. Call the fixture with a model and its inputs."""
    return _keep_budget(request.node)


def _keep_budget(item: pytest.Item) -> FlopsBudget:
    budget = item.stash[_FIXTURE] = _make_budget(item)
    return budget


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Drop the measurements of an earlier run of the test. A plugin may run a test several times."""
    _forget(item)
    item.user_properties[:] = [pair for pair in item.user_properties if not str(pair[0]).startswith("flops_budget.")]


def _forget(item: pytest.Item) -> None:
    for key in _ATTEMPT_KEYS:
        if key in item.stash:
            del item.stash[key]


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """After the test's body, fail the test in its call phase if its measurements break its budget."""
    try:
        with _timed_calls_uncounted(item), _watching(item):
            result = yield
    except (Exception, pytest.fail.Exception) as error:
        # A test that fails for another reason is judged too, because summary and reports show its numbers. A mistake in
        # its marker or its baseline is reported only if the test does not fail for another reason.
        with suppress(UsageError):
            _judge(item, own_failure=True)
        if _FIXTURE not in item.stash and _WATCHED not in item.stash:
            raise
        from pytest_flopsbudget.tracebacks import without_own_frames

        raise error.with_traceback(without_own_frames(error.__traceback__))  # noqa: B904 -- the same error
    text = _judge(item)
    if text:
        raise BudgetExceededError(text)
    return result


def _judge(item: pytest.Item, *, own_failure: bool = False) -> str:
    """Judge the measurements of a test, and keep the verdicts for the report. Return why it fails; "" if it passes."""
    budget, watched = item.stash.get(_FIXTURE, None), item.stash.get(_WATCHED, None)
    if budget is None and watched is None and item.get_closest_marker("flops_budget") is None:
        return ""
    payload, text = _get_session(item.config).judge(item, budget, watched, own_failure=own_failure)
    if payload is not None:
        item.stash[_PAYLOAD] = payload
        item.stash[_BROKEN] = text
    return text


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Attach the verdicts to the report. A broken budget is shown without a traceback."""
    report = yield
    if call.when == "teardown":
        _forget(item)
    if report.skipped and _uses_budget(item):
        report.__dict__["flops_budget_skipped"] = "failed as expected" if hasattr(report, "wasxfail") else "skipped"
    if is_outside_root(item):
        report.__dict__["flops_budget_file"] = str(item.path)
    if call.when == "call" and _PAYLOAD in item.stash:
        own = call.excinfo is not None and not isinstance(call.excinfo.value, BudgetExceededError)
        item.stash[_PAYLOAD]["own_failure"] = own
        # The attributes of a report are sent to another process together with it.
        report.__dict__["flops_budget"] = item.stash[_PAYLOAD]
    elif call.when in {"setup", "call"} and report.failed and _reports_failure(item):
        from pytest_flopsbudget.plugin.session import failure_without_measurement

        report.__dict__["flops_budget"] = failure_without_measurement(item)
    # The reports of a skipped test and of an expected failure keep pytest's form.
    if call.excinfo is None or report.outcome != "failed":
        return report
    if isinstance(call.excinfo.value, (BudgetExceededError, UsageError)):
        report.longrepr = _without_traceback(call.excinfo.value, item)
        report.__dict__["flops_budget_text"] = True
    elif call.when == "call" and item.stash.get(_BROKEN, ""):
        from pytest_flopsbudget.plugin.xdist import SECTION

        report.sections.append((SECTION, item.stash[_BROKEN]))
    return report


def _reports_failure(item: pytest.Item) -> bool:
    """Return whether the run's reports name the test if it fails before it measures anything."""
    return not item.config.getoption("--flops-budget-disable") and _uses_budget(item)


def _without_traceback(error: BudgetExceededError | UsageError, item: pytest.Item) -> TerminalRepr:
    """Return what pytest shows for the error: the message alone, because a traceback would hide the message."""
    line, message = (item.location[1] or 0) + 1, str(error)
    if isinstance(error, UsageError):
        line = _line_in(item.path, error) or line
        if not is_model(item.nodeid):  # the message begins with the model, which has no file
            message = f"{item.nodeid.partition('::')[0]}:{line}: {message}"
    copy = type(error)(message).with_traceback(error.__traceback__)
    shown = pytest.ExceptionInfo.from_exception(copy).getrepr(style="value")
    if shown.reprcrash is not None:
        # pytest's short summary has one line per test: the first line of the message, without the exception's name.
        shown.reprcrash.message = message.partition("\n")[0]
        shown.reprcrash.path = str(item.path)
        shown.reprcrash.lineno = line
    return shown


def _line_in(path: Path, error: Exception) -> int | None:
    """Return the innermost line of the file in the error's traceback; None if the traceback has no line of the file."""
    lines = [line for frame, line in walk_tb(error.__traceback__) if frame.f_code.co_filename == str(path)]
    return lines[-1] if lines else None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Write this plugin's part of pytest's summary."""
    controller = config.stash.get(_CONTROLLER, None)
    if controller is not None:
        controller.write_summary(terminalreporter)
        if _OTHER_REVISION in config.stash:
            from pytest_flopsbudget.safe_text import visible

            notes = config.stash[_OTHER_REVISION].notes(controller.entries(), complete=controller.is_complete)
            for line in notes:
                terminalreporter.write_line(visible(line))
