"""Counts are right if several threads compute."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.pool import ThreadPool

import pytest
import torch
from torch import nn

from pytest_flopsbudget.counting.measure import measure

X, WEIGHT = torch.randn(3, 4), torch.randn(4, 5)
LINEAR = 2 * 3 * 4 * 5


class Calls(nn.Module):
    """A model that passes its layer and its input to a given function."""

    def __init__(self, function):
        super().__init__()
        self.layer = nn.Linear(4, 5)
        self.function = function

    def forward(self, x):
        return self.function(self.layer, x)


def on_a_thread(function, *args):
    thread = threading.Thread(target=function, args=args)
    thread.start()
    thread.join()


def test_measurements_side_by_side():
    lstm, steps = nn.LSTM(4, 6), torch.randn(7, 2, 4)
    attention, tokens = nn.MultiheadAttention(8, 2, batch_first=True), torch.randn(2, 5, 8, requires_grad=True)
    products = 2 * 2 * (4 * 5 * 8 * 8 + 2 * 5 * 5 * 8)

    def measured(number):
        if number % 2:
            return measure(attention, (tokens, tokens, tokens), backward=True).flops == 3 * products
        return measure(lstm, steps).flops == 2 * 7 * 2 * 4 * 6 * (4 + 6)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(measured, range(40)))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad])
def test_other_threads_compute_what_they_did(mode):
    """While one thread measures, an LSTM on another thread returns the right values."""
    lstm, steps = nn.LSTM(4, 6), torch.randn(7, 2, 4)
    with mode():
        expected = lstm(steps)[0]
    returned = []

    def runs():
        with mode():
            returned.append(lstm(steps)[0])

    running, done = threading.Event(), threading.Event()

    def bystander():
        running.wait()
        runs()
        done.set()

    def model(x):
        running.set()
        done.wait()
        return x @ x.T

    thread = threading.Thread(target=bystander)
    thread.start()
    counted = measure(model, X)
    thread.join()
    assert torch.equal(returned[0], expected)
    assert counted.flops == 2 * 3 * 3 * 4
    assert not counted.unknown_operators


@pytest.fixture
def pool():
    """Yield a pool whose thread was started before the measurement."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(int).result()
        yield pool


class TestOwnThreads:
    """Work on threads that the model starts is reported as the unknown operator `threading.Thread`."""

    def test_functions(self):
        counted = measure(Calls(lambda layer, x: (on_a_thread(torch.matmul, x, WEIGHT), layer(x))[1]), X)
        assert counted.flops == LINEAR
        assert counted.unknown_operators["threading.Thread"].modules == ("",)

    def test_pools(self, pool):
        counted = measure(Calls(lambda layer, x: pool.submit(torch.matmul, x, WEIGHT).result() + layer(x)), X)
        assert counted.flops == LINEAR
        assert counted.unknown_operators["threading.Thread"].modules == ("",)

    @pytest.mark.parametrize("there_before", [True, False])
    @pytest.mark.parametrize("method", ["map", "starmap", "apply_async", "imap", "imap_unordered"])
    def test_pools_of_multiprocessing(self, method, there_before):
        def handed_over(pool, x):
            if method == "apply_async":
                return pool.apply_async(torch.matmul, (x, WEIGHT)).get()
            if method == "starmap":
                return pool.starmap(torch.matmul, [(x, WEIGHT)])[0]
            return next(iter(getattr(pool, method)(lambda weight: x @ weight, [WEIGHT])))

        def makes_its_own(layer, x):
            with ThreadPool(1) as pool:
                return handed_over(pool, x) + layer(x)

        with ThreadPool(1) as outer:
            model = Calls((lambda layer, x: handed_over(outer, x) + layer(x)) if there_before else makes_its_own)
            counted = measure(model, X)
        assert counted.flops == LINEAR
        assert counted.unknown_operators["threading.Thread"].modules == ("",)

    def test_modules_in_pools(self, pool):
        counted = measure(Calls(lambda layer, x: pool.submit(layer, x).result()), X)
        assert counted.unknown_operators["threading.Thread"].modules == ("layer",)

    @pytest.mark.parametrize("work", [int, lambda: X.shape, lambda: X.view(-1)], ids=["none", "shape", "view"])
    def test_nothing_to_count(self, work, pool):
        def forward(layer, x):
            on_a_thread(work)
            pool.submit(work).result()
            return layer(x)

        counted = measure(Calls(forward), X)
        assert counted.flops == LINEAR
        assert not counted.unknown_operators

    def test_nothing_stays(self, pool):
        before = threading.Thread.start, ThreadPoolExecutor.submit
        measure(Calls(lambda layer, x: pool.submit(layer, x).result()), X)
        assert (threading.Thread.start, ThreadPoolExecutor.submit) == before
        assert pool.submit(torch.matmul, X, WEIGHT).result().shape == (3, 5)

    def test_a_measurement_within_a_measurement(self, pool):
        """A model may wait for a measurement on another thread without a deadlock."""

        def forward(layer, x):
            counted = pool.submit(measure, nn.Linear(4, 6), X).result(timeout=60)
            assert counted.flops == 2 * 3 * 4 * 6
            return layer(x)

        assert measure(Calls(forward), X).flops == LINEAR
