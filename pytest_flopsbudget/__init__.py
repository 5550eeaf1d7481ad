"""Complexity budgets for PyTorch models in pytest: limits on FLOPs, parameters and more, checked in CI."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    #: The version of the installed package.
    __version__: str

    from pytest_flopsbudget.counting.costs.registry import Call, flops_formula
    from pytest_flopsbudget.counting.distributed.world import world
    from pytest_flopsbudget.counting.latency.benchmark import time_model
    from pytest_flopsbudget.counting.measure import measure
    from pytest_flopsbudget.counting.shape_only import shape_only
    from pytest_flopsbudget.counting.watch import watch
    from pytest_flopsbudget.errors import BaselineError, BudgetExceededError, UsageError
    from pytest_flopsbudget.hardware.profile import Device
    from pytest_flopsbudget.inference.serving import Serving, serving
    from pytest_flopsbudget.laws.algebra.metric_law import MetricLaw
    from pytest_flopsbudget.laws.law import Law, law
    from pytest_flopsbudget.plugin.fixture import FlopsBudget
    from pytest_flopsbudget.results.complexity import Complexity
    from pytest_flopsbudget.results.complexity_diff import ComplexityDiff, compare
    from pytest_flopsbudget.results.data import Latency, Module, Operator, Phase, UnknownOperator
    from pytest_flopsbudget.results.verdict import Measurement, Verdict
    from pytest_flopsbudget.training.flops import TrainingFlops
    from pytest_flopsbudget.training.measuring.per_token import training_flops
    from pytest_flopsbudget.training.measuring.run import training_run
    from pytest_flopsbudget.training.run import TrainingRun

#: Public name → the module that defines it. A module is imported when one of its names is first used: every run of
#: pytest imports this package, and most runs measure nothing.
_HOMES = {
    "BaselineError": "errors",
    "BudgetExceededError": "errors",
    "Call": "counting.costs.registry",
    "Complexity": "results.complexity",
    "ComplexityDiff": "results.complexity_diff",
    "Device": "hardware.profile",
    "FlopsBudget": "plugin.fixture",
    "Latency": "results.data",
    "Law": "laws.law",
    "Measurement": "results.verdict",
    "MetricLaw": "laws.algebra.metric_law",
    "Module": "results.data",
    "Operator": "results.data",
    "Phase": "results.data",
    "Serving": "inference.serving",
    "TrainingFlops": "training.flops",
    "TrainingRun": "training.run",
    "UnknownOperator": "results.data",
    "UsageError": "errors",
    "Verdict": "results.verdict",
    "compare": "results.complexity_diff",
    "flops_formula": "counting.costs.registry",
    "law": "laws.law",
    "measure": "counting.measure",
    "serving": "inference.serving",
    "shape_only": "counting.shape_only",
    "time_model": "counting.latency.benchmark",
    "training_flops": "training.measuring.per_token",
    "training_run": "training.measuring.run",
    "watch": "counting.watch",
    "world": "counting.distributed.world",
}

__all__ = [
    "BaselineError",
    "BudgetExceededError",
    "Call",
    "Complexity",
    "ComplexityDiff",
    "Device",
    "FlopsBudget",
    "Latency",
    "Law",
    "Measurement",
    "MetricLaw",
    "Module",
    "Operator",
    "Phase",
    "Serving",
    "TrainingFlops",
    "TrainingRun",
    "UnknownOperator",
    "UsageError",
    "Verdict",
    "compare",
    "flops_formula",
    "law",
    "measure",
    "serving",
    "shape_only",
    "time_model",
    "training_flops",
    "training_run",
    "watch",
    "world",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from pytest_flopsbudget.versions import own_version  # noqa: PLC0415 -- see _HOMES

        return own_version()
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 -- see _HOMES

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
