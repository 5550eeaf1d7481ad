"""Run each measurement in a separate process, because counters patch functions and may crash."""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from multiprocessing.connection import Connection

T = TypeVar("T")

#: On systems that can fork, one process loads PyTorch and forks into the processes that measure.
_FORKING = "forkserver"
_METHOD = _FORKING if _FORKING in multiprocessing.get_all_start_methods() else "spawn"
_CONTEXT: Any = multiprocessing.get_context(_METHOD)
_PRELOADED = ("torch", "transformers")
if _METHOD == _FORKING:
    _CONTEXT.set_forkserver_preload([*_PRELOADED])

SECONDS = 180


@dataclass(frozen=True)
class Ended(Generic[T]):
    """How a process ended: its value or its failure, and the text that it printed."""

    value: T | None
    failure: str
    text: str


def preloaded(modules: Iterable[str]) -> None:
    """Import ``modules`` in the process from which all other processes fork.

    Call this before the first process starts.
    """
    if _METHOD == _FORKING:
        _CONTEXT.set_forkserver_preload([*_PRELOADED, *modules])


def isolated(function: Callable[..., T], *args: Any, seconds: float = SECONDS) -> Ended[T]:
    """Call a function in a new process. The function and its arguments must be picklable."""
    receiver, sender = _CONTEXT.Pipe(duplex=False)
    with tempfile.TemporaryDirectory() as directory:
        printed = Path(directory) / "printed"
        process = _CONTEXT.Process(target=_run, args=(sender, printed, function, args))
        process.start()
        sender.close()
        value, failure = _received(receiver, seconds)
        process.kill()
        process.join()
        return Ended(value, failure, printed.read_text(errors="replace") if printed.exists() else "")


def _received(receiver: Connection, seconds: float) -> tuple[Any, str]:
    if not receiver.poll(seconds):
        return None, "timeout"
    try:
        answer: tuple[Any, str] = receiver.recv()
    except EOFError:
        return None, "crash"
    return answer


def _run(sender: Connection, printed: Path, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    descriptor = os.open(printed, os.O_CREAT | os.O_WRONLY)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    warnings.simplefilter("always")
    try:
        answer = function(*args), ""
    except BaseException as error:  # noqa: BLE001 -- any exception of a counter is a result
        answer = None, type(error).__name__
        print(f"{type(error).__name__}: {error}")
    sys.stdout.flush()
    sys.stderr.flush()
    sender.send(answer)
