"""If a process is forked during a measurement, the new process can measure too."""

from __future__ import annotations

import gc
import os
import signal
import threading
from queue import SimpleQueue

import pytest
import torch
from torch import nn
from torch.optim import optimizer

from pytest_flopsbudget.counting.isolation.forks import forget_change, note_change
from pytest_flopsbudget.counting.measure import measure
from pytest_flopsbudget.counting.watch import watch

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork"),
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),
]

X = torch.ones(2, 4)


def state():
    """Return the settings and functions that a measurement changes in its process."""
    return (
        torch.get_default_dtype(),
        torch.backends.mha.get_fastpath_enabled(),
        gc.isenabled(),
        nn.Module.__call__,
        nn.LSTM.forward,
        threading.Thread.start,
        torch.UntypedStorage.resize_,
        len(optimizer._global_optimizer_pre_hooks),
        torch.get_rng_state().tolist(),
    )


def in_fork(function):
    """Call ``function`` in a forked process. Return whether it returned true within a minute."""
    process = os.fork()
    if not process:
        signal.alarm(60)
        try:
            os._exit(0 if function() else 1)
        finally:
            os._exit(2)
    return os.waitpid(process, 0)[1] == 0


def while_waiting(run):
    """Call ``run(wait)`` on another thread. ``wait()`` blocks until the ``with`` block ends."""
    running, done = threading.Event(), threading.Event()

    def wait():
        running.set()
        done.wait()

    thread = threading.Thread(target=run, args=(wait,))
    thread.start()
    running.wait()
    yield
    done.set()
    thread.join()


def measures_function(wait):
    measure(lambda x: (wait(), x @ x.mT)[1], X)


def measures_module(wait):
    class Waiting(nn.Module):
        def forward(self, x):
            torch.set_default_dtype(torch.float64)
            torch.rand(3)
            wait()
            return x @ x.mT

    measure(Waiting(), X, backward=False)


LAYER = nn.Linear(4, 4)


def watches(wait):
    with watch():
        LAYER(X)
        wait()


def measures_on_data(wait):
    def model(x):
        rows = int(x.sum())
        wait()
        return x[:rows] @ x.mT

    measure(model, X)


@pytest.mark.parametrize("run", [measures_function, measures_module, watches, measures_on_data])
def test_while_another_thread_measures(run):
    before = state()

    def fresh():
        return state() == before and measure(nn.Linear(4, 3), X).flops == 2 * 2 * 4 * 3

    for _ in while_waiting(run):
        assert in_fork(fresh)
    assert state() == before


def test_by_the_measured_model():
    """If the measured model forks, both processes get the right count."""
    forked = SimpleQueue()  # the measurement does not clone a queue

    def model(x):
        if forked.empty():
            forked.put(os.fork())
        return x @ x.mT

    flops = measure(model, X).flops
    process = forked.get()
    again = measure(LAYER, X).flops
    right = (flops, again) == (2 * 2 * 4 * 2, 2 * 2 * 4 * 4)
    if not process:
        os._exit(0 if right else 1)
    assert os.waitpid(process, 0)[1] == 0
    assert right


def test_within_a_watch():
    """If a watched block forks, both processes get the right count."""
    with watch() as seen:
        process = os.fork()
        LAYER(X)
    right = seen.complexity.flops == 2 * 2 * 4 * 4
    if not process:
        os._exit(0 if right else 1)
    assert os.waitpid(process, 0)[1] == 0
    assert right


def test_changes_are_undone_once_and_backwards():
    undone = []

    def change(wait):
        changes = [note_change(lambda: undone.append(1)), note_change(lambda: undone.append(2))]
        wait()
        for each in reversed(changes):
            forget_change(each)

    for _ in while_waiting(change):
        assert in_fork(lambda: undone == [2, 1])
        assert undone == []
    assert in_fork(lambda: undone == [])
