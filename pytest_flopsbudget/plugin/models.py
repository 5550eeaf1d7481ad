"""Collect and run the models that --flops-budget-model names: a test item for each, without a test file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_flopsbudget.identifiers import MODELS_FILE, is_model
from pytest_flopsbudget.targets.grammar import with_plain_signs

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence

    from pytest_flopsbudget.plugin.fixture import FlopsBudget
    from pytest_flopsbudget.targets.grammar import Target


def take_models(config: pytest.Config) -> list[str]:
    """Return the models that the command line names, and remove their node ids from the paths that pytest collects.

    The node id of a model names no file, and pytest would refuse it.

    Raises:
        pytest.UsageError: the place of the models is named, but no model.
    """
    models = [with_plain_signs(model) for model in config.getoption("--flops-budget-model") or ()]
    paths = []
    for arg in config.args:
        _, _, model = arg.partition("::")
        if not is_model(arg):
            paths.append(arg)
        elif model:
            models.append(with_plain_signs(model))
        elif not models:
            raise pytest.UsageError(f"{arg}: no model is named; write --flops-budget-model=TARGET")
    config.args[:] = paths
    explained = config.getoption("--flops-budget-explain") or ""
    if is_model(explained):
        model = with_plain_signs(explained.partition("::")[2])
        # After the model, there may be the name of a measurement.
        if not any(model == one or model.startswith(f"{one}:") for one in models):
            models.append(model)
    return list(dict.fromkeys(models))


class ModelCollection:
    """The plugin object that adds an item for each model to the collected tests."""

    def __init__(self, targets: Sequence[Target], make_budget: Callable[[pytest.Item], FlopsBudget]) -> None:
        self._targets = targets
        self._make_budget = make_budget

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_make_collect_report(
        self, collector: pytest.Collector
    ) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        """Add the collector of the models to what the session collects."""
        report = yield
        if isinstance(collector, pytest.Session) and report.passed:
            path = collector.config.rootpath / MODELS_FILE
            models = ModelCollector.from_parent(collector, name=MODELS_FILE, path=path, nodeid=MODELS_FILE)
            models.targets, models.make_budget = self._targets, self._make_budget
            report.result.append(models)
        return report


class ModelCollector(pytest.Collector):
    """Collects an item for each model. It is no `pytest.File`, so a baseline without an item is no orphan."""

    targets: Sequence[Target]
    make_budget: Callable[[pytest.Item], FlopsBudget]

    def collect(self) -> Iterable[pytest.Item]:
        """Return the items."""
        for target in self.targets:
            item = ModelItem.from_parent(self, name=target.text)
            item.target, item.make_budget = target, self.make_budget
            yield item


class ModelItem(pytest.Item):
    """Measures one model like a test with the ``flops_budget`` fixture."""

    target: Target
    make_budget: Callable[[pytest.Item], FlopsBudget]
    #: The hooks of this plugin treat the item like a test that takes the fixture.
    fixturenames = ("flops_budget",)

    def runtest(self) -> None:
        """Load the model and measure one call.

        Raises:
            UsageError: the model cannot be loaded, or it raises an error.
        """
        from pytest_flopsbudget.targets.loading import explained, load

        budget = self.make_budget(self)
        with explained(self.target, self.config.rootpath):
            loaded = load(self.target, self.config.rootpath)
            if loaded.notes:
                self.add_report_section("call", "model", "\n".join(loaded.notes))
            budget(loaded.model, loaded.args, loaded.kwargs, backward=self.target.options.backward)

    def reportinfo(self) -> tuple[str, None, str]:
        """Return the place of the item for pytest's messages."""
        return str(self.path), None, f"{MODELS_FILE}::{self.name}"
