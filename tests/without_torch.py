"""A plugin that runs pytest without PyTorch. ``-p without_torch`` loads it.

It replaces modules of the package that import PyTorch. If something still imports PyTorch, the run fails. A model is a
function without arguments that returns its measurement.
"""

from __future__ import annotations

import os
import sys
import types
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import NamedTuple

from inner_runs import IN_ORDER

#: Arguments for pytest that load this plugin and exclude plugins that load slowly and are not needed.
ARGUMENTS = (*IN_ORDER, "-p", "without_torch", "-p", "no:hypothesispytest", "-p", "no:asyncio", "-p", "no:anyio")
#: An environment variable with the path of a JSON file. The file has a measurement of each `Net`, which was counted
#: earlier.
RECORDED = "FLOPSBUDGET_TESTS_RECORDED"


class _Refuse(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise AssertionError("a run that is not about counting imports PyTorch")


class Net:
    """Replaces the model `Net` of conftest.py by its recorded measurement."""

    def __init__(self, kernel=3, width=4):
        self.key = f"{kernel},{width}"

    def __call__(self):
        import msgspec

        from pytest_flopsbudget.results.complexity import Complexity

        recorded = Path(os.environ[RECORDED]).read_bytes()
        return msgspec.json.decode(recorded, type=dict[str, Complexity])[self.key]


class Inputs(NamedTuple):
    args: tuple
    kwargs: dict


class MeasuredCall:
    """Replaces the class `MeasuredCall`. Each call takes 10 ms."""

    def __init__(self, model):
        self.complexity = model()

    def time(self, _run_time, machine, _find_profile):
        from pytest_flopsbudget.results.data import Latency

        return Latency(machine=machine, median_ns=10**7, q1_ns=10**7, q3_ns=10**7, runs=1, threads=1)


def measure_inputs(model, *_, **__):
    return MeasuredCall(model)


STAND_INS = {
    "models": {"Net": Net, "IMAGE": "an image"},
    "pytest_flopsbudget.counting.latency.measured_call": {"measure_inputs": measure_inputs},
    "pytest_flopsbudget.counting.aggregation.sources": {"use_project": lambda _: None},
    "pytest_flopsbudget.counting.call_hints": {"check_call": lambda *_: None},
    "pytest_flopsbudget.counting.inputs": {
        "find_inputs": lambda _, args, kwargs: Inputs((args,), kwargs or {}),
        "required_arguments": lambda _: [],
    },
    "pytest_flopsbudget.counting.tensors.traversal": {"iterate_tensors": iter},
    "pytest_flopsbudget.counting.costs": {"flops_formula": None},
}


def stand_in():
    """Replace the modules that would import PyTorch."""
    assert "torch" not in sys.modules
    sys.meta_path.insert(0, _Refuse())
    for name, contents in STAND_INS.items():
        module = types.ModuleType(name)
        vars(module).update(contents)
        sys.modules[name] = module


# Tests import this module for its names too. Only a run that loads it as a plugin is changed.
def pytest_addoption(parser):
    stand_in()
    # The projects in tests have this setting of pytest-asyncio, which is not loaded here.
    parser.addini("asyncio_default_fixture_loop_scope", "the setting of pytest-asyncio, without effect")


def pytest_unconfigure():
    assert "torch" not in sys.modules
