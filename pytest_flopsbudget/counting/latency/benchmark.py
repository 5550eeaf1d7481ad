"""Time a model on this machine with PyTorch's benchmark timer."""

from __future__ import annotations

import sys
import timeit
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from pytest_flopsbudget.counting.cloning.lightning import disable_logging
from pytest_flopsbudget.counting.cloning.optimizers import find_optimizers
from pytest_flopsbudget.counting.cloning.wrapped import unwrap_compiled, unwrap_program
from pytest_flopsbudget.counting.distributed.world import has_process_group
from pytest_flopsbudget.counting.higher_order import flex_attention
from pytest_flopsbudget.counting.inputs import find_inputs
from pytest_flopsbudget.counting.isolation.global_state import isolated, state_restored
from pytest_flopsbudget.counting.latency.machine import describe_hardware, device_of, machine_name
from pytest_flopsbudget.counting.latency.timed_copy import TimedCopy
from pytest_flopsbudget.counting.latency.write_guard import ForeignTensorError, WriteGuard
from pytest_flopsbudget.counting.lazy_outputs import take_lazy_outputs
from pytest_flopsbudget.counting.original_values import find_tensor_without_data
from pytest_flopsbudget.counting.run import run_backward
from pytest_flopsbudget.counting.torch_private import COMPILER_ERRORS
from pytest_flopsbudget.counting.tracing.labels import name_of
from pytest_flopsbudget.errors import UsageError
from pytest_flopsbudget.results.data import Latency

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_flopsbudget.counting.inputs import Inputs


#: The minimum number of seconds for which a model is run again and again.
RUN_TIME = 1.0
#: The minimum number of blocks of runs. Quartiles of fewer blocks mean little.
_MIN_BLOCKS = 5
#: The number of runs before the first timed run. Compilers and allocators need two or three runs until times are
#: stable.
_WARM_UP = 3
#: The minimum number of runs before the first timed run, if runs take long.
_MIN_WARM_UP = 2
_NANOSECONDS = 10**9


class TimedModel(NamedTuple):
    """A model's latency, and the name of the hardware according to its driver or the operating system."""

    latency: Latency
    hardware: str


class Blocks(NamedTuple):
    """The measured times. Each block consists of several runs that are timed together."""

    #: The average seconds of a run, for each block.
    seconds: list[float]
    #: The number of runs in each block.
    size: int


def time_model(  # noqa: PLR0913 -- as `measure` is called
    model: Callable[..., Any],
    args: Any = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    backward: bool = False,
    run_time: float = RUN_TIME,
    machine: str | None = None,
) -> TimedModel:
    """Run ``model(*args, **kwargs)`` for real, again and again, and return how long one run takes.

    A clone of the model runs, with copied tensors. The clone is compiled if the model is compiled. The model, the
    arguments and the random state stay unchanged. A forward pass runs without gradients. If a run changes the state of
    the clone (a cache, a step of an optimizer), the next run starts with the changed state. Only gradients are removed
    after each backward pass.

    Args:
        model: a module, a method of a module, or a function that calls modules.
        args: the positional arguments as a list or tuple, or a single argument.
        kwargs: the keyword arguments.
        backward: whether the backward pass of the summed outputs is timed too.
        run_time: the minimum number of seconds for which runs are timed. A model that takes longer is run a few times.
        machine: the name of the machine. None means the name of the first accelerator that holds one of the model's
            tensors. If no accelerator holds one, None means the name of the processor with the number of threads.

    Raises:
        UsageError: a tensor holds no data, the model cannot be compiled here, this process is one of several in a
            group, or the model changes a tensor that is neither part of the model nor an argument.
        Exception: any exception that the model raises.
    """
    inputs = find_inputs(model, args, kwargs)
    return time_inputs(model, inputs, backward=backward, run_time=run_time, machine=machine)


def time_inputs(
    model: Callable[..., Any],
    inputs: Inputs,
    *,
    backward: bool = False,
    run_time: float = RUN_TIME,
    machine: str | None = None,
) -> TimedModel:
    """Time a model like `time_model`, with the arguments in ``inputs``.

    Raises:
        UsageError: see `time_model`.
        Exception: any exception that the model raises.
    """
    name = name_of(unwrap_compiled(unwrap_program(model)))
    if has_process_group() and torch.distributed.get_world_size() > 1:
        raise UsageError(
            f"{name} cannot be timed as one process of several, which wait for each other; time it alone, or "
            "remove the latency limit"
        )
    with state_restored():
        gradients = backward
        try:
            return _timed(_TimedRun(model, inputs.args, inputs.kwargs, name, backward, gradients), run_time, machine)
        except UsageError:
            raise
        except Exception as error:
            _refuse_uncompilable(error, name)
            if gradients or not torch.is_grad_enabled():
                raise
        # The first try failed. The model may compute gradients in its forward pass.
        return _timed(_TimedRun(model, inputs.args, inputs.kwargs, name, backward, True), run_time, machine)


class _TimedRun:
    """The clone of a model with its arguments, which is run again and again."""

    def __init__(  # noqa: PLR0913, PLR0917 -- all that a run needs
        self,
        model: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        name: str,
        backward: bool,
        gradients: bool,
    ) -> None:
        cloner = TimedCopy(gradients=not (backward or isinstance(unwrap_compiled(model), torch.nn.Module)))
        self._model = cloner.clone(unwrap_program(model))
        self._args, self._kwargs = cloner.clone(args), cloner.clone(kwargs)
        self._name = name
        disable_logging(cloner.modules)
        without_data = find_tensor_without_data(cloner)
        if without_data is not None:
            raise UsageError(
                f"{name} cannot be timed: {without_data} has no data, which latency needs (FLOPs do not); build the "
                "model and its inputs on a real device, or remove the latency limit"
            )
        self.gradients = gradients or (torch.is_grad_enabled() and bool(find_optimizers(cloner)))
        self._backward = backward
        tensors = [clone for _, clone in cloner.clones() if isinstance(clone, torch.Tensor)]
        # The tensors of a scripted module are cloned together with the module, so they are listed here.
        held = (tensor for module in cloner.modules for tensor in (*module.parameters(), *module.buffers()))
        self._owned = [*tensors, *held]
        self._leaves = [tensor for tensor in tensors if tensor.is_leaf and tensor.requires_grad]
        self.device = device_of(tensors)

    def run_guarded(self) -> None:
        """Run the clone once, and check that the run changes no tensor that was not cloned.

        Raises:
            UsageError: the run would change a tensor that was not cloned.
        """
        try:
            with (
                isolated(),
                flex_attention.countable(on_meta=False),
                torch.set_grad_enabled(self.gradients),
                WriteGuard(self._owned, gradients=self.gradients),
            ):
                self.run()
        except ForeignTensorError:
            raise UsageError(
                f"{self._name} cannot be timed: it changes a model or a tensor that is neither a part of it nor an "
                "argument, such as a global name of another file; pass it as an argument"
            ) from None

    def run(self) -> None:
        output = take_lazy_outputs(self._model(*self._args, **self._kwargs), set(), keep=self._backward)
        if self._backward:
            run_backward(output)
            for leaf in self._leaves:
                # Every run begins without gradients, because adding to existing gradients would be more work.
                leaf.grad = None


def _timed(run: _TimedRun, run_time: float, machine: str | None) -> TimedModel:
    threads = torch.get_num_threads()
    run.run_guarded()
    with torch.set_grad_enabled(run.gradients):
        blocks = run_in_blocks(run.run, choose_clock(run.device), threads, run_time)
    # Autocast caches casts of weights. Drop the casts of the clone's weights.
    torch.clear_autocast_cache()
    quartiles = torch.tensor(blocks.seconds, dtype=torch.float64).quantile(
        torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)
    )
    q1, median, q3 = (round(seconds * _NANOSECONDS) for seconds in quartiles.tolist())
    latency = Latency(
        machine=machine_name(run.device, threads) if machine is None else machine,
        median_ns=median,
        q1_ns=q1,
        q3_ns=q3,
        runs=len(blocks.seconds) * blocks.size,
        threads=threads,
    )
    return TimedModel(latency, describe_hardware(run.device))


def choose_clock(device: torch.device) -> Callable[[], float]:
    """Return a clock, in seconds, that waits until ``device`` has finished its work before it reads the time."""
    if device.type == "cpu":
        return timeit.default_timer

    def clock() -> float:
        torch.accelerator.synchronize(device)
        return timeit.default_timer()

    return clock


def run_in_blocks(run: Callable[[], None], clock: Callable[[], float], threads: int, run_time: float) -> Blocks:
    """Warm up, then time at least five blocks of runs for at least ``run_time`` seconds."""
    from torch.utils.benchmark import Timer  # noqa: PLC0415 -- only who times pays for it

    shortest = _warm_up(run, clock, run_time)
    timer = Timer("run()", globals={"run": run}, timer=clock, num_threads=threads)
    measured = timer.blocked_autorange(min_run_time=max(run_time, _MIN_BLOCKS * shortest))
    seconds, size = list(measured.times), measured.number_per_run
    while len(seconds) < _MIN_BLOCKS:
        seconds += timer.timeit(size).times
    return Blocks(seconds, size)


def _warm_up(run: Callable[[], None], clock: Callable[[], float], run_time: float) -> float:
    """Run the model a few times before the timed runs. Return the seconds of the shortest run."""
    times: list[float] = []
    # The first run may compile the model, so its time says nothing about later runs.
    while len(times) < _WARM_UP and (len(times) < _MIN_WARM_UP or sum(times) < run_time):
        start = clock()
        run()
        times.append(clock() - start)
    return min(times)


def _refuse_uncompilable(error: Exception, name: str) -> None:
    """Raise an error with a short message if ``error`` comes from PyTorch's compiler.

    Raises:
        UsageError: ``error`` comes from PyTorch's compiler.
    """
    homes = {kind.__module__ for cause in _causes(error) for kind in type(cause).__mro__}
    if not homes & COMPILER_ERRORS & sys.modules.keys():
        return
    # The first line of the message names the backend that failed, and the second line gives the reason.
    reason = " ".join(str(error).split("\n", 2)[:2]).strip()
    raise UsageError(
        f"{name} cannot be timed: it is compiled, and compiling its copy failed: {reason}; on the CPU, PyTorch needs "
        "a C++ compiler for this; install one, or time the model before it is compiled"
    ) from error


def _causes(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__
    return found
