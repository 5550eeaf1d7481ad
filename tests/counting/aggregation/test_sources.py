"""Where the project defines the classes of a model."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from pytest_flopsbudget import measure
from pytest_flopsbudget.counting.aggregation.sources import use_project
from pytest_flopsbudget.results.data import Source

X = torch.zeros(1, 3)
HERE = Path(__file__)


class Head(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 2)

    def forward(self, x):
        return self.linear(x)


class Silent(Head):
    pass


def one_of_two():
    class Twin(nn.Module):
        def forward(self, x):
            return x

    return Twin


def other_of_two():
    class Twin(nn.Module):
        def forward(self, x):
            return -x

    return Twin


def line_of(text, number=0):
    lines = HERE.read_text(encoding="utf-8").splitlines()
    return [place for place, line in enumerate(lines, 1) if line.strip() == text][number]


@pytest.fixture(autouse=True)
def root(monkeypatch):
    monkeypatch.setattr("pytest_flopsbudget.counting.aggregation.sources._project", [])
    use_project(HERE.parent.parent)
    return HERE.parent.parent


def sources(model):
    return measure(model, X).sources


def here(kind, line):
    return Source(type=kind, file="aggregation/test_sources.py", line=line)


def test_classes_of_the_project():
    assert sources(nn.Sequential(Head(), nn.ReLU())) == {"Head": here("Head", line_of("class Head(nn.Module):"))}


def test_a_class_without_methods():
    assert sources(Silent())["Silent"] == here("Silent", line_of("class Silent(Head):"))


@pytest.mark.parametrize(("make", "number"), [(one_of_two, 0), (other_of_two, 1)])
def test_classes_of_one_name(make, number):
    assert sources(make()()) == {"Twin": here("Twin", line_of("class Twin(nn.Module):", number))}


def test_a_name_of_two_classes_in_one_model():
    assert sources(nn.Sequential(one_of_two()(), other_of_two()())) == {}


def test_a_name_that_a_library_has_too():
    class ReLU(nn.ReLU):
        pass

    assert sources(nn.Sequential(ReLU())).keys() == {"ReLU"}
    assert sources(nn.Sequential(ReLU(), nn.ReLU())) == {}


def test_a_class_that_torch_derives():
    model = Head()
    model.extra = nn.Parameter(torch.zeros(2))
    nn.utils.parametrize.register_parametrization(model, "extra", nn.Identity())
    (found,) = sources(model).values()
    assert found == here("Head", line_of("class Head(nn.Module):"))


def test_without_pytest_the_current_folder_is_the_root(monkeypatch):
    monkeypatch.setattr("pytest_flopsbudget.counting.aggregation.sources._project", [])
    monkeypatch.chdir(HERE.parent)
    assert sources(Head())["Head"].file == "test_sources.py"


def test_another_project(tmp_path):
    use_project(tmp_path)
    assert sources(Head()) == {}


@pytest.mark.parametrize("folder", ["", "venv/lib/python3.11/site-packages"])
def test_installed_libraries(tmp_path, monkeypatch, folder):
    """A virtual environment may be in the project's folder."""
    use_project(tmp_path)
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    text = "\n\nfrom torch import nn\n\nclass Far(nn.Identity):\n    pass\n"
    (tmp_path / folder / "far_away_nets.py").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path / folder)
    try:
        model = importlib.import_module("far_away_nets").Far()
        expected = {} if folder else {"Far": Source(type="Far", file="far_away_nets.py", line=5)}
        assert sources(model) == expected
    finally:
        sys.modules.pop("far_away_nets", None)


def test_a_class_without_a_file():
    names = {"nn": nn}
    exec("class Sudden(nn.Identity):\n    pass\n", names)  # noqa: S102 -- a class of a shell
    assert sources(names["Sudden"]()) == {}
