"""The setting ``shapes`` decides whether a model that needs data runs on data."""

import pytest

TEST = """
import pytest
import torch
from torch import nn


class Keeps(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        y = self.layer(x)
        return y[y[:, 0] > 0]


@pytest.mark.flops_budget
def test_net(flops_budget):
    flops_budget(Keeps(), torch.ones(3, 4))
"""


@pytest.mark.parametrize(
    ("setting", "passes"), [("", True), ('shapes = "preferred"', True), ('shapes = "only"', False)], ids=repr
)
def test_a_model_that_needs_data(pytester: pytest.Pytester, setting: str, passes: bool) -> None:
    """With shapes = "only", a test fails if its model needs data."""
    pytester.makepyprojecttoml(f"[tool.pytest-flopsbudget]\n{setting}\n")
    pytester.makepyfile(TEST)
    done = pytester.runpytest("-q", "-p", "no:asyncio")
    done.assert_outcomes(passed=int(passes), failed=int(not passes))
    told = "ran on real data, because" if passes else 'shapes = "only" demands:'
    done.stdout.fnmatch_lines([f"*{told} aten.index in 'the model itself' needs data*"])


def test_a_typing_mistake(pytester: pytest.Pytester) -> None:
    """If the setting has an invalid value, a usage error names the allowed values."""
    pytester.makepyprojecttoml('[tool.pytest-flopsbudget]\nshapes = "always"\n')
    pytester.makepyfile(TEST)
    done = pytester.runpytest("-q", "-p", "no:asyncio")
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines(["*shapes*'always'*preferred*only*"])
