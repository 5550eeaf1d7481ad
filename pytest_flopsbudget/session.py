"""What one process knows of a run: settings, baselines, the budgets of its tests; and how it judges a test."""

from __future__ import annotations

from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from pytest_flopsbudget.errors import BaselineError, UsageError
from pytest_flopsbudget.settings import Budget, Settings, describe, load_settings, marker_budget

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import pytest

    from pytest_flopsbudget.fixture import FlopsBudget
    from pytest_flopsbudget.ledger import Baselines, Ledger


class BudgetSession:
    """Settings and baselines, read once each, and the rules that put them together."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._budgets: dict[int, Budget] = {}

    @cached_property
    def settings(self) -> Settings:
        """What the pyproject says.

        Raises:
            UsageError: it says something wrong.
        """
        return load_settings(self._config.rootpath)

    @cached_property
    def baselines(self) -> Baselines:
        """The baseline files."""
        from pytest_flopsbudget.ledger import Baselines  # noqa: PLC0415 -- brings msgspec

        return Baselines()

    @property
    def accepts(self) -> bool:
        """Whether this run accepts what it measures."""
        return bool(self._config.getoption("--flops-budget-update"))

    def header(self) -> str | None:
        """A line on what the pyproject holds; None where it holds nothing, or what will be told as a mistake."""
        try:
            settings = self.settings
        except UsageError:
            return None
        return None if settings.path is None else f"flops-budget: {describe(settings)}"

    def mistakes(self, items: Iterable[pytest.Item]) -> list[str]:
        """What is wrong with the pyproject, the markers and the baselines of ``items``, each told once."""
        checks: list[Callable[[], object]] = [lambda: self.settings]
        for item in items:
            checks += [partial(self._marker_budgets, item), partial(self.baselines.entries, item.path, item.nodeid)]
        # A dict for its order: a marker's mistake is found once for each of its parameter sets.
        return list(dict.fromkeys(filter(None, map(_mistake, checks))))

    def _marker_budgets(self, item: pytest.Item) -> list[Budget]:
        """The budgets of the item's markers, the closest last."""
        budgets = []
        for node, mark in reversed(list(item.iter_markers_with_node("flops_budget"))):
            if id(mark) not in self._budgets:
                place = node.nodeid.partition("[")[0] if node is item else node.nodeid
                self._budgets[id(mark)] = marker_budget(mark.args, mark.kwargs, f"@pytest.mark.flops_budget on {place}")
            budgets.append(self._budgets[id(mark)])
        return budgets

    def judge(self, item: pytest.Item, budget: FlopsBudget | None) -> tuple[dict[str, Any] | None, str]:
        """Judge what a test measured.

        Returns:
            What its report carries, and why it fails; None and "" where there is nothing.
        """
        if self._config.getoption("--flops-budget-disable"):
            return None, ""
        measurements = list(budget or ())
        if not measurements:
            marked = next(item.iter_markers("flops_budget"), None)
            return None, _NOTHING_MEASURED if marked else ""
        from pytest_flopsbudget.ledger import packed  # noqa: PLC0415 -- brings msgspec
        from pytest_flopsbudget.reports.failure import explain  # noqa: PLC0415
        from pytest_flopsbudget.reports.text import with_signs  # noqa: PLC0415
        from pytest_flopsbudget.results.verdict import judge  # noqa: PLC0415

        budgets = (*self.settings.budgets_for(item.nodeid), *self._marker_budgets(item))
        try:
            baseline = self.baselines.entries(item.path, item.nodeid)
        except BaselineError as error:
            return None, str(error)
        judged = []
        for measurement in measurements:
            accepted = baseline.get(measurement.name)
            verdict = judge(measurement, budgets, self.settings, accepted, accepts=self.accepts)
            self._config.hook.pytest_flopsbudget_judged(item=item, verdict=verdict)
            judged.append((verdict, accepted))
        text = explain(item.nodeid, judged)
        vanished = [name for name in baseline if name not in {measurement.name for measurement in measurements}]
        verdicts = [verdict for verdict, _ in judged]
        return packed(item.path, item.location[1] or 0, verdicts, vanished), with_signs(text)

    def located(self, item: pytest.Item, error: UsageError) -> str:
        """The error's message, led by the line of the test that it is about."""
        line, step = None, error.__traceback__
        while step is not None:
            if step.tb_frame.f_code.co_filename == str(item.path):
                line = step.tb_lineno
            step = step.tb_next
        file = item.nodeid.partition("::")[0]
        return f"{file}:{line}: {error}" if line else str(error)

    def write_summary(self, reporter: pytest.TerminalReporter, ledger: Ledger) -> None:
        """Write what the run measured to the terminal."""
        from pytest_flopsbudget.reports.terminal import Screen, summary  # noqa: PLC0415 -- brings rich

        writer = reporter._tw  # noqa: SLF001 -- pytest offers no other way to its width and colour
        screen = Screen(
            width=writer.fullwidth,
            colour=writer.hasmarkup,
            encoding=getattr(writer._file, "encoding", None),  # noqa: SLF001
        )
        verbosity = self._config.get_verbosity()
        entries = list(ledger)
        quiet = verbosity < 0
        if quiet and not any(verdict.outcome != "ok" for entry in entries for verdict in entry.verdicts):
            return
        if not quiet:
            reporter.write_sep("=", "flops budgets")
        for line in summary(entries, screen, self.settings, verbosity=verbosity, accepts=self.accepts):
            reporter.write_line(line)
        for path in ledger.written:
            reporter.write_line(f"baseline written: {_relative(path, self._config)}")
        for error in ledger.errors:
            reporter.write_line(f"ERROR: {error}", red=True)


_NOTHING_MEASURED = (
    "marked with flops_budget, but measured nothing: take the flops_budget fixture and call "
    "flops_budget(model, inputs), or remove the marker"
)


def _mistake(check: Callable[[], object]) -> str | None:
    try:
        check()
    except UsageError as error:
        return str(error)
    return None


def _relative(path: Any, config: pytest.Config) -> str:
    try:
        return str(path.relative_to(config.rootpath))
    except ValueError:
        return str(path)
