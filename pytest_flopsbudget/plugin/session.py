"""The settings, baselines and budgets of a run in one process, and the judgment of one test."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pytest_flopsbudget.config.prescan import FILE
from pytest_flopsbudget.config.reading import load_settings, marker_budget, settings_of_test
from pytest_flopsbudget.config.settings import Budget, Settings, describe
from pytest_flopsbudget.errors import BaselineError, UsageError
from pytest_flopsbudget.plugin.items import as_typed, item_nodeid, nodeid_in
from pytest_flopsbudget.plugin.latency_policy import LatencyPolicy
from pytest_flopsbudget.plugin.xdist import ENCODING, terminal_encoding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import pytest
    from _pytest.nodes import Node

    from pytest_flopsbudget.config.prescan import PyprojectFinder
    from pytest_flopsbudget.hardware.profile import Device
    from pytest_flopsbudget.plugin.anchor import Anchor
    from pytest_flopsbudget.plugin.fixture import FlopsBudget
    from pytest_flopsbudget.reports.causes import ShownCauses
    from pytest_flopsbudget.results.verdict import UpdateMode, Verdict
    from pytest_flopsbudget.storage.run_record import Baselines


#: Settings of a run in which the measurements at another revision take the place of the baselines.
_BESIDE_A_REVISION: Mapping[str, Any] = {"missing_baseline": "ignore", "improved_baseline": "pass"}


class BudgetSession:
    """Reads each pyproject and each baseline file once, and judges the measurements of every test."""

    def __init__(
        self, config: pytest.Config, finder: PyprojectFinder, other_results: tuple[Path, str] | None = None
    ) -> None:
        self._config = config
        #: The report of another revision that takes the place of the baselines, and the name of the revision.
        self._other_results = other_results
        self._finder = finder
        #: Folder → the settings in its pyproject.
        self._in_folder: dict[Path, Settings] = {}
        #: Folder of a test file → the settings for its tests.
        self._of_tests: dict[Path, Settings] = {}
        #: (folder of the pyproject, revision) → the baselines at the revision.
        self._anchors: dict[tuple[Path, str], Anchor] = {}
        #: ``id`` of a marker → (the marker, its budget). The marker itself is no key, because its arguments may not be
        #: hashable. The marker is kept alive, so no later marker gets the same ``id``.
        self._budgets: dict[int, tuple[pytest.Mark, Budget]] = {}

    @cached_property
    def settings(self) -> Settings:
        """The settings of the run, from the pyproject in pytest's root folder.

        If tests are outside of the root folder, folders above it are searched, too.
        With ``--flops-budget-disable``, a pyproject with mistakes counts as empty.

        Raises:
            UsageError: the pyproject has mistakes. The message names all of them.
        """
        found = self._first_settings(self._finder.folders_of_run())
        return found or (Settings() if self._other_results is None else Settings(**_BESIDE_A_REVISION))

    def settings_of(self, test_file: Path) -> Settings:
        """Return the settings for the tests of a file, from the nearest pyproject with a table for this plugin.

        Raises:
            UsageError: the pyproject has mistakes. The message names all of them.
        """
        folder = test_file.parent
        found = self._of_tests.get(folder)
        if found is None:
            nearest = self._first_settings(self._finder.folders_of(test_file))
            run = self.settings
            found = run if nearest is None or nearest.path == run.path else settings_of_test(nearest, run)
            self._of_tests[folder] = found
        return found

    def _first_settings(self, folders: Iterable[Path]) -> Settings | None:
        """Return the settings in the first pyproject that has a table for this plugin; None if there is none."""
        for folder in folders:
            if folder not in self._in_folder:
                self._in_folder[folder] = self._load(folder)
            if self._in_folder[folder].path is not None:
                return self._in_folder[folder]
        return None

    def _load(self, folder: Path) -> Settings:
        try:
            settings = load_settings(folder, self._shown(folder / FILE))
        except UsageError:
            if self._disabled:
                return Settings()
            raise
        # In place of the baselines there is another revision. So no setting on missing or improved baselines applies.
        return settings if self._other_results is None else replace(settings, **_BESIDE_A_REVISION)

    def _shown(self, path: Path) -> str:
        try:
            return Path(os.path.relpath(path, self._config.rootpath)).as_posix()
        except ValueError:  # the two paths are on different drives
            return path.as_posix()

    @cached_property
    def baselines(self) -> Baselines:
        """The reader of baseline files. It reads each file once."""
        from pytest_flopsbudget.storage.run_record import Baselines, MeasuredBaselines

        if self._other_results is not None:
            from pytest_flopsbudget.storage.report_file import load

            path, revision = self._other_results
            return MeasuredBaselines(load(path), self._config.rootpath, revision)
        # Only --flops-budget-update without a mode may replace an entry with merge conflicts. Such an entry is not new,
        # and it has two values, so it cannot be tightened.
        return Baselines(torn=self.accepts is True)

    @property
    def accepts(self) -> UpdateMode | bool:
        """Which measurements the run writes to the baselines: all (True), none (False), or some (the mode)."""
        update: Literal["all"] | UpdateMode | None = self._config.getoption("--flops-budget-update")
        return update is not None if update is None or update == "all" else update

    def header(self) -> str | None:
        """Return the line on the settings for the head of pytest's output; None if settings are missing or wrong."""
        try:
            settings = self.settings
        except UsageError:
            return None
        return None if settings.path is None else f"flops-budget: {describe(settings)}"

    def find_problems(self, items: Iterable[pytest.Item], test_files: Iterable[Path] = ()) -> list[str]:
        """Return all mistakes in the pyprojects, markers and baselines. Each mistake occurs once.

        Args:
            items: the tests that use budgets.
            test_files: more test files whose pyprojects are checked.
        """
        items = list(items)
        checks: list[Callable[[], object]] = [lambda: self.settings]
        files = dict.fromkeys([*test_files, *(item.path for item in items)])
        checks += [partial(self.settings_of, path) for path in files]
        checks += [partial(self._anchor_for, path) for path in dict.fromkeys(item.path for item in items)]
        checks += [partial(self._marker_budget, item, *found) for item in items for found in _markers(item)]
        checks += [partial(self.baselines.file, path) for path in dict.fromkeys(item.path for item in items)]
        # A dict keeps the order and drops repetitions. Each parameter set of a test has the mistakes of the test's
        # marker.
        return list(dict.fromkeys(filter(None, map(_find_problem, checks))))

    def _anchor_for(self, test_file: Path) -> Anchor | None:
        """Return the baselines of the revision that the setting ``anchor`` names; None without the setting.

        Raises:
            UsageError: git does not know the revision.
        """
        settings = self.settings_of(test_file)
        if settings.anchor is None or settings.path is None:
            return None
        from pytest_flopsbudget.plugin.anchor import Anchor

        key = settings.path.parent, settings.anchor.revision
        if key not in self._anchors:
            try:
                self._anchors[key] = Anchor(*key)
            except UsageError as error:
                raise UsageError(f"{settings.anchor.source}: {error}") from error
        return self._anchors[key]

    def _marker_budgets(self, item: pytest.Item) -> list[Budget]:
        return [self._marker_budget(item, *found) for found in _markers(item)]

    def _marker_budget(self, item: pytest.Item, node: Node, mark: pytest.Mark) -> Budget:
        if id(mark) not in self._budgets:
            place = _marked_as(mark, item) if node is item else node.nodeid
            source = f"@pytest.mark.flops_budget on {place}"
            budget = marker_budget(mark.args, mark.kwargs, source, self._project_devices(item))
            self._budgets[id(mark)] = mark, budget
        return self._budgets[id(mark)][1]

    def _project_devices(self, item: pytest.Item) -> Mapping[str, Device]:
        try:
            return self.settings_of(item.path).devices
        except UsageError:
            # This mistake is reported separately. The markers are still checked.
            return {}

    def prepare(self) -> None:
        """Prepare a measurement: register the formulas of the run, and let results name files from the root folder.

        Raises:
            UsageError: a formula is for an operator that does not exist.
        """
        from pytest_flopsbudget.counting.aggregation.sources import use_project

        use_project(self._config.rootpath)
        _ = self.formulas

    @cached_property
    def formulas(self) -> tuple[str, ...]:
        """The operators with a formula from hooks or the pyproject. The first access registers the formulas.

        Raises:
            UsageError: a formula is for an operator that does not exist.
        """
        from pytest_flopsbudget.counting.costs import flops_formula

        found = {}
        for formulas in self._config.hook.pytest_flopsbudget_formulas(config=self._config):
            found.update(formulas)
        found.update(dict.fromkeys(self.settings.free_operators, _free))
        for operator, formula in found.items():
            flops_formula(operator)(formula)
        return tuple(found)

    def devices_for(self, item: pytest.Item) -> tuple[Device, ...]:
        """Return the devices for which the test's time is estimated: ``time-on``, ``show`` or a limit names them."""
        from pytest_flopsbudget.config.settings import find_device
        from pytest_flopsbudget.quantities.metrics import devices_in
        from pytest_flopsbudget.results.limits import limited_devices

        settings = self.settings_of(item.path)
        shown = devices_in([settings.show])
        names = (*settings.time_on, *shown, *limited_devices(self._enforced_budgets(item)))
        return tuple(find_device(settings, name) for name in dict.fromkeys(names))

    def latency_policy_for(self, item: pytest.Item) -> LatencyPolicy:
        """Return whether and how the test's measurements are timed."""
        from pytest_flopsbudget.results.limits import asks_for_latency, limits_latency

        settings, budgets = self.settings_of(item.path), self._enforced_budgets(item)
        workers: Mapping[str, int] = getattr(self._config, "workerinput", {})
        return LatencyPolicy(
            wanted=not self._disabled and asks_for_latency(budgets),
            limited=limits_latency(budgets),
            machine=settings.machine,
            run_time=settings.latency_run_time / 10**9,
            devices=settings.devices,
            concurrent_processes=workers.get("workercount", 1) - 1,
        )

    @property
    def _disabled(self) -> bool:
        return bool(self._config.getoption("--flops-budget-disable"))

    def _enforced_budgets(self, item: pytest.Item) -> tuple[Budget, ...]:
        """Return the budgets that the run enforces. With ``--flops-budget-disable``, no budget is read or enforced."""
        return () if self._disabled else self.budgets_for(item)

    def budgets_for(self, item: pytest.Item) -> tuple[Budget, ...]:
        """Return the budgets of the pyproject and of the markers for the test. Later budgets win."""
        settings = self.settings_of(item.path)
        return (*settings.budgets_for(self.matched_nodeid(item, settings)), *self._marker_budgets(item))

    def matched_nodeid(self, item: pytest.Item, settings: Settings) -> str:
        """Return the test's node id relative to the pyproject's folder, as patterns in the pyproject are written."""
        return item_nodeid(item) if settings.path is None else nodeid_in(settings.path.parent, item)

    def watches(self, item: pytest.Item) -> bool:
        """Return whether the setting ``watch`` matches the test. Markers are not considered."""
        settings = self.settings_of(item.path)
        return bool(settings.watch) and settings.watches(self.matched_nodeid(item, settings))

    def judge(
        self,
        item: pytest.Item,
        budget: FlopsBudget | None,
        watched: FlopsBudget | None = None,
        *,
        own_failure: bool = False,
    ) -> tuple[dict[str, Any] | None, str]:
        """Judge the measurements of a test.

        The measurements of the fixture are judged. If there are none, the measurements of the watch are judged.

        Args:
            item: the test.
            budget: the fixture's measurements; None if the test does not use the fixture.
            watched: the measurements of the watch; None if the test was not watched.
            own_failure: whether the test failed for a reason other than its budget.

        Returns:
            The verdicts for the test's report, or None if there are none; and the text of the failure, or "" if the
                test is within its budget.
        """
        if self._disabled:
            return None, ""
        measurements = [] if budget is None else budget.close()
        marked = item.get_closest_marker("flops_budget") is not None
        if not measurements and watched is not None:
            measurements = [one for one in watched.close() if marked or one.complexity.runs_model]
        if not measurements and marked:
            return None, _NOTHING_MEASURED if watched is None else _NOTHING_COMPUTED
        import msgspec

        from pytest_flopsbudget.reports.ci.junit import properties
        from pytest_flopsbudget.results.verdict import judge
        from pytest_flopsbudget.safe_text import visible
        from pytest_flopsbudget.storage.run_record import pack_verdicts

        nodeid = item_nodeid(item)
        settings, budgets = self.settings_of(item.path), self.budgets_for(item)
        try:
            baseline = self.baselines.entries(item.path, nodeid)
            anchor = self._anchor_for(item.path)
            anchored = {} if anchor is None else anchor.entries(item.path, nodeid)
        except BaselineError as error:
            return None, visible(str(error))
        verdicts: list[Verdict] = []
        others = {one.name: one.complexity for one in measurements}
        has_laws = any(one.laws is not None for one in measurements)
        for measurement in measurements:
            accepted = baseline.get(measurement.name)
            verdict = judge(
                measurement,
                budgets,
                settings,
                accepted,
                accepts=self.accepts,
                neighbours=self.baselines.neighbours(item.path, nodeid, measurement.name),
                others=others,
                has_laws=has_laws,
                anchor=anchored.get(measurement.name),
            )
            if self.baselines.revision:
                comparison = msgspec.structs.replace(verdict.comparison, revision=self.baselines.revision)
                verdict = msgspec.structs.replace(verdict, comparison=comparison)
            item.ihook.pytest_flopsbudget_judged(item=item, verdict=verdict)
            verdicts.append(verdict)
        if settings.junit_properties == "on":
            item.user_properties += properties(verdicts)
        text = self.explain(nodeid, verdicts, own_failure=own_failure)
        vanished = sorted(baseline.keys() - {verdict.name for verdict in verdicts})
        if not verdicts and not vanished:
            return None, ""
        seconds = sum(measurement.seconds for measurement in measurements)
        payload = pack_verdicts(nodeid, item.path, item.location[1] or 0, verdicts, vanished, seconds=seconds)
        return payload, text

    def explain(self, nodeid: str, verdicts: Sequence[Verdict], *, own_failure: bool) -> str:
        """Return the text on a test's broken budget. It refers to an earlier test that failed for the same cause.

        A worker of pytest-xdist knows only its own tests, so the controlling process makes the texts again.

        Args:
            nodeid: the test's node id, relative to the root folder.
            verdicts: the test's measurements.
            own_failure: whether the test failed for a reason other than its budget.
        """
        from pytest_flopsbudget.reports.failure import explain
        from pytest_flopsbudget.safe_text import use_signs

        text = explain(
            as_typed(nodeid, self._config),
            verdicts,
            own_failure=own_failure,
            # With pytest 8.2 and `-p no:terminal`, the option does not exist.
            verbose=getattr(self._config.option, "verbose", 0) > 0,
            shown=self._shown_causes,
        )
        return use_signs(text) if self._signs else text

    @cached_property
    def _shown_causes(self) -> ShownCauses:
        """The causes that this process has shown in full."""
        from pytest_flopsbudget.reports.causes import ShownCauses

        return ShownCauses()

    @cached_property
    def _signs(self) -> bool:
        """Whether the run's terminal, which the controlling process has, can show signs beyond ASCII."""
        from pytest_flopsbudget.safe_text import can_show_signs

        worker = getattr(self._config, "workerinput", None)
        return can_show_signs(terminal_encoding(self._config) if worker is None else worker.get(ENCODING))


def failure_without_measurement(item: pytest.Item) -> dict[str, Any]:
    """Return the data for the report of a test that failed before it measured anything."""
    from pytest_flopsbudget.storage.run_record import pack_verdicts

    packed = pack_verdicts(item_nodeid(item), item.path, item.location[1] or 0, [], [])
    return packed | {"own_failure": True}


_NOTHING_MEASURED = (
    "marked with flops_budget, but measured nothing: take the flops_budget fixture and call "
    "flops_budget(model, inputs), or remove the marker"
)

_NOTHING_COMPUTED = (
    "marked with flops_budget, but computed nothing that PyTorch's dispatcher saw on the test's thread: run a model in "
    "the test itself, not in its fixtures or in another process, or remove the marker"
)


def _free(_call: object) -> int:
    return 0


def _markers(item: pytest.Item) -> list[tuple[Node, pytest.Mark]]:
    """Return (node, its marker) for each `flops_budget` marker of the test. Markers of the test itself come last."""
    return list(item.iter_markers_with_node("flops_budget"))[::-1]


def _marked_as(mark: pytest.Mark, item: pytest.Item) -> str:
    """Return the marked test's node id. The id has parameters only if the marker belongs to one parameter set."""
    nodeid = item_nodeid(item)
    callspec = getattr(item, "callspec", None)
    if callspec is None or any(own is mark for own in callspec.marks):
        return nodeid
    return nodeid.removesuffix(f"[{callspec.id}]")


def _find_problem(check: Callable[[], object]) -> str | None:
    try:
        check()
    except UsageError as error:
        return str(error)
    return None
