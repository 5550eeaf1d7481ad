"""Mocks in a model answer while the model is measured, and record nothing."""

from __future__ import annotations

import threading
from unittest import mock

import pytest
import torch
from torch import nn

from pytest_flopsbudget import measure

ROWS = torch.ones(3, 4)
#: 3 rows, 4 inputs, 5 outputs, a multiplication and an addition each.
FLOPS = 2 * 3 * 4 * 5


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 5)
        self.log = lambda *_: None

    def forward(self, rows):
        rows = nn.functional.relu(rows)
        self.log("mean", rows.mean())
        return self.head(rows)


def mocked_logger(net):
    net.log = mock.MagicMock()
    return net.log, FLOPS


def spied_submodule(net):
    net.head.forward = mock.Mock(wraps=net.head.forward)
    return net.head.forward, FLOPS


def replaced_submodule(net):
    net.head.forward = mock.Mock(side_effect=lambda rows: rows)
    return net.head.forward, 0


def child_of_a_mock(net):
    parent = mock.MagicMock()
    net.log = parent.logger.log
    return parent, FLOPS


def check(change, *, backward):
    net = Net()
    spy, flops = change(net)
    spy(ROWS)
    counted = measure(net, ROWS, backward=backward)
    assert len(spy.mock_calls) == 1
    assert spy.call_args.args[0] is ROWS
    assert backward or counted.flops == flops


@pytest.mark.parametrize("change", [mocked_logger, spied_submodule, replaced_submodule, child_of_a_mock])
def test_no_call_is_recorded(change):
    check(change, backward=False)


@pytest.mark.parametrize("change", [mocked_logger, child_of_a_mock])
def test_no_call_of_training_is_recorded(change):
    check(change, backward=True)


@pytest.mark.fails_on_shapes  # the mock calls the original submodule, not its clone
def test_no_call_of_training_is_recorded_on_data():
    check(spied_submodule, backward=True)


def test_a_function_of_pytorch():
    with mock.patch("torch.nn.functional.relu", wraps=nn.functional.relu) as relu:
        assert measure(Net(), ROWS).flops == FLOPS
        assert relu.call_count == 0
        Net()(ROWS)
        assert relu.call_count == 1


def test_another_thread_records():
    net, seen = Net(), mock.Mock()

    def log(*_):
        thread = threading.Thread(target=seen, args=("elsewhere",))
        thread.start()
        thread.join()

    net.log = log
    measure(net, ROWS)
    assert mock.call("elsewhere") in seen.mock_calls
