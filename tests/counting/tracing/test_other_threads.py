"""Work on other threads is reported as the unknown operator `threading.Thread`."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.pool import ThreadPool

import pytest
import torch
from torch import nn

from pytest_flopsbudget.counting.measure import measure
from pytest_flopsbudget.counting.watch import watch

X = torch.ones(4, 4)
#: FLOPs of a square layer on `X`.
SQUARE = 2 * 4 * 4 * 4


def on_a_thread(work):
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def on_a_thread_of_a_class(work):
    class Own(threading.Thread):
        def run(self):
            work()

    thread = Own()
    thread.start()
    thread.join()


def on_a_timer(work):
    timer = threading.Timer(0, work)
    timer.start()
    timer.join()


def on_a_thread_of_a_thread(work):
    on_a_thread(lambda: on_a_thread(work))


def in_a_pool(work):
    with ThreadPoolExecutor(1) as pool:
        pool.submit(work).result()


def in_a_pool_of_a_thread(work):
    on_a_thread(lambda: in_a_pool(work))


def mapped_in_a_pool(work):
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: work(), range(3)))


def in_another_pool(work):
    with ThreadPool(1) as pool:
        pool.map(lambda _: work(), range(2))


def in_an_executor(work):
    async def run():
        await asyncio.to_thread(work)

    asyncio.run(run())


WAYS = [
    on_a_thread,
    on_a_thread_of_a_class,
    on_a_timer,
    on_a_thread_of_a_thread,
    in_a_pool,
    in_a_pool_of_a_thread,
    mapped_in_a_pool,
    in_another_pool,
    in_an_executor,
]


def multiply():
    return X @ X


class Starts(nn.Module):
    """A module that runs some work on a thread, and calls its layer."""

    def __init__(self, way, work=multiply):
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.start = [way, work]

    def forward(self, x):
        way, work = self.start
        way(work)
        return self.layer(x)


def threads_of(counted):
    return counted.unknown_operators["threading.Thread"].modules


@pytest.mark.parametrize("way", WAYS)
class TestNamed:
    def test_watched_outside_of_modules(self, way):
        """If no module runs the work on another thread, the work is still reported as an unknown operator."""
        with watch() as seen:
            nn.Linear(4, 4)(X)
            way(multiply)
        assert seen.complexity.flops == SQUARE
        assert threads_of(seen.complexity) == ("",)

    def test_watched_alone(self, way):
        with watch() as seen:
            way(multiply)
        assert threads_of(seen.complexity) == ("",)
        assert seen.has_run

    def test_watched_in_a_module(self, way):
        """If a module starts the thread, the result names the module by its path."""
        model = nn.Sequential(nn.Linear(4, 4), Starts(way))
        with watch() as seen:
            model(X)
        assert seen.complexity.flops == 2 * SQUARE
        assert threads_of(seen.complexity) == ("1",)

    def test_measured(self, way):
        model = nn.Sequential(nn.Linear(4, 4), Starts(way, lambda: torch.ones(4, 4) @ torch.ones(4, 4)))
        counted = measure(model, X)
        assert counted.flops == 2 * SQUARE
        assert threads_of(counted) == ("1",)

    def test_nothing_to_count(self, way):
        with watch() as seen:
            nn.Linear(4, 4)(X)
            way(lambda: X.view(-1).shape)
        assert not seen.complexity.unknown_operators

    def test_nothing_stays(self, way):
        before = threading.Thread.start, ThreadPoolExecutor.submit, ThreadPool.imap
        results = []
        with watch():
            way(lambda: results.append(multiply()))
        assert all(torch.equal(result, X @ X) for result in results)
        assert results
        assert (threading.Thread.start, ThreadPoolExecutor.submit, ThreadPool.imap) == before


def test_the_thread_stays_as_it_was():
    plain, seen = threading.Thread(target=multiply), threading.Thread(target=multiply)
    plain.start()
    with watch():
        seen.start()
        seen.join()
    plain.join()
    assert vars(seen).keys() == vars(plain).keys()


def test_a_measurement_on_a_thread_of_a_watch():
    results = []
    with watch() as seen:
        on_a_thread(lambda: results.append(measure(nn.Linear(4, 4), X).flops))
    assert results == [SQUARE]
    assert seen.complexity.flops == 0
