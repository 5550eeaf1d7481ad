import pytest
import torch
from torch import nn

from pytest_flopsbudget import FlopsBudget, UsageError
from pytest_flopsbudget.fixture import DEFAULT_NAME


class TestCall:
    def test_returns_the_measurement(self):
        """A linear layer 3→4 on 2 rows: 2·2·3·4 FLOPs, 16 parameters."""
        measured = FlopsBudget()(nn.Linear(3, 4), torch.empty(2, 3))
        assert (measured.flops, measured.macs, measured.params) == (48, 24, 16)

    def test_keyword_arguments(self):
        measured = FlopsBudget()(nn.Linear(3, 4), kwargs={"input": torch.empty(2, 3)})
        assert measured.inputs == ("input=float32[2, 3]",)

    def test_backward(self):
        """The gradients of the weight and of the input cost as much each; the input asks for none here."""
        measured = FlopsBudget()(nn.Linear(3, 4), torch.empty(2, 3), backward=True)
        assert measured.flops == 2 * 48

    @pytest.mark.parametrize("args", [(), 3, ([1, 2],)])
    def test_no_tensor(self, args):
        with pytest.raises(UsageError, match="no tensor among the arguments"):
            FlopsBudget()(nn.Linear(3, 4), args)

    @pytest.mark.parametrize("name", ["", 3])
    def test_a_name_that_is_none(self, name):
        with pytest.raises(UsageError, match="a name is a text that is not empty"):
            FlopsBudget()(nn.Linear(3, 4), torch.empty(2, 3), name=name)

    def test_a_failure_keeps_nothing(self):
        """What could not be measured is not there half."""
        budget = FlopsBudget()
        with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
            budget(nn.Linear(3, 4), torch.empty(2, 5))
        assert budget.close() == []


class TestNames:
    def test_default(self):
        budget = FlopsBudget()
        budget(nn.Linear(3, 4), torch.empty(2, 3))
        assert [item.name for item in budget.close()] == [DEFAULT_NAME]

    def test_the_largest_counts(self):
        """Rows of 1, 5 and 2: the one of 5 stands, of 3 measurements."""
        budget = FlopsBudget()
        for rows in (1, 5, 2):
            budget(nn.Linear(3, 4), torch.empty(rows, 3))
        (measurement,) = budget.close()
        assert (measurement.complexity.flops, measurement.times) == (2 * 5 * 3 * 4, 3)

    def test_different_models(self):
        budget = FlopsBudget()
        budget(nn.Linear(3, 4), torch.empty(2, 3), name="student")
        budget(nn.Linear(3, 5), torch.empty(2, 3), name="teacher")
        with pytest.raises(UsageError, match=r"two different models were measured as 'student'.*16.*20 parameters"):
            budget(nn.Linear(3, 5), torch.empty(2, 3), name="student")
        assert [item.name for item in budget.close()] == ["student", "teacher"]


def test_closed():
    """After the test's body nothing holds a measurement to the budget any more."""
    budget = FlopsBudget()
    budget.close()
    with pytest.raises(UsageError, match="called after the test's body"):
        budget(nn.Linear(3, 4), torch.empty(2, 3))
