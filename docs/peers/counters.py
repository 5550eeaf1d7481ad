"""Other FLOP counters, each called as its documentation shows.

If a counter reports multiply-accumulates, its number is doubled. If it reports FLOPs too, the number that is closer to
the closed form is used.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from peers.case import Case
    from peers.whole_models import Built


@dataclass(frozen=True)
class Counter:
    """A FLOP counter to compare with, how to call it, and what it can count."""

    name: str
    #: The package whose version is reported.
    package: str
    #: The number that is used: the counter's name for it, and its unit.
    unit: str
    #: The module to import before calling it.
    module: str
    #: Calls it and returns the model's FLOPs. Raises what the counter raises.
    count: Callable[[torch.nn.Module, tuple[torch.Tensor, ...], Case], float]
    #: Whether it can count a backward pass.
    backward: bool = False
    #: Whether it can give the cost of a submodule in forward and backward.
    modules: bool = False
    #: Whether the model has to be on the ``meta`` device.
    moves: bool = False

    def answers(self, case: Case) -> bool:
        return (self.backward or not case.backward) and (self.modules or not case.module)

    def asked(self, model: torch.nn.Module, args: tuple[torch.Tensor, ...], case: Case) -> float:
        """Return the FLOPs that the counter reports. If the counter needs a model on ``meta``, move the model."""
        return self.count(*(on_meta(model, args) if self.moves else (model, args)), case)


def on_meta(model: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> Built:
    """Move the model to ``meta``, and return it with inputs of the same shapes."""
    return model.to("meta"), tuple(value.detach().to("meta").requires_grad_(value.requires_grad) for value in args)


class RefusedError(Exception):
    """A counter printed an exception and returned nothing."""


def _flopsbudget(model: torch.nn.Module, args: tuple[torch.Tensor, ...], case: Case) -> float:
    from pytest_flopsbudget import measure

    counted = measure(model, args, backward=case.backward)
    for unknown in counted.unknown_operators:
        print(f"not counted: {unknown}")
    return float(counted[case.module].flops if case.module else counted.flops)


def _torch(model: torch.nn.Module, args: tuple[torch.Tensor, ...], case: Case) -> float:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        outputs = model(*args)
        if case.backward:
            outputs.sum().backward()
    if case.module:
        return float(sum(counter.get_flop_counts()[f"{type(model).__name__}.{case.module}"].values()))
    return float(counter.get_total_flops())


def _fvcore(model: torch.nn.Module, args: tuple[torch.Tensor, ...], _: Case) -> float:
    from fvcore.nn import FlopCountAnalysis

    return 2 * float(FlopCountAnalysis(model, args).total())


def _thop(model: torch.nn.Module, args: tuple[torch.Tensor, ...], _: Case) -> float:
    from thop import profile

    macs, _parameters = profile(model, inputs=args, report_missing=True)
    return 2 * float(macs)


class _ByKeyword(torch.nn.Module):
    """A module that takes its inputs by keyword. ptflops needs it for models with several inputs."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, **inputs: torch.Tensor) -> Any:
        return self.model(*inputs.values())


def _ptflops(model: torch.nn.Module, args: tuple[torch.Tensor, ...], backend: str) -> float:
    from ptflops import get_model_complexity_info

    printed = io.StringIO()
    macs, _parameters = get_model_complexity_info(
        _ByKeyword(model),
        (1,),  # the shape that is passed to the constructor of the inputs
        input_constructor=lambda _: {f"input{place}": value for place, value in enumerate(args)},
        as_strings=False,
        print_per_layer_stat=False,
        verbose=True,
        backend=backend,
        ost=printed,
    )
    print(printed.getvalue())
    if macs is None:
        raise RefusedError
    return 2 * float(macs)


def _torchinfo(model: torch.nn.Module, args: tuple[torch.Tensor, ...], _: Case) -> float:
    from torchinfo import summary

    return 2 * float(summary(model, input_data=args, verbose=0).total_mult_adds)


def _torchprofile(model: torch.nn.Module, args: tuple[torch.Tensor, ...], _: Case) -> float:
    from torchprofile import profile_macs

    return 2 * float(profile_macs(model, args))


def _calflops(model: torch.nn.Module, args: tuple[torch.Tensor, ...], case: Case) -> float:
    from calflops import calculate_flops

    flops, macs, _parameters = calculate_flops(
        model,
        args=list(args),
        include_backPropagation=case.backward,
        print_results=False,
        output_as_string=False,
    )
    return _closer(flops, macs, case)


def _deepspeed(model: torch.nn.Module, args: tuple[torch.Tensor, ...], case: Case) -> float:
    from deepspeed.profiling.flops_profiler import get_model_profile

    flops, macs, _parameters = get_model_profile(model, args=list(args), print_profile=False, as_string=False)
    return _closer(flops, macs, case)


def _closer(flops: float, macs: float, case: Case) -> float:
    return min(float(flops), 2 * float(macs), key=lambda number: abs(number - case.flops))


_BOTH = {"backward": True, "modules": True}

COUNTERS = {
    counter.name: counter
    for counter in (
        Counter(
            "pytest-flopsbudget",
            "pytest-flopsbudget",
            "FLOPs",
            "pytest_flopsbudget.counting.measure",
            _flopsbudget,
            **_BOTH,
        ),
        Counter("FlopCounterMode", "torch", "FLOPs", "torch.utils.flop_counter", _torch, **_BOTH),
        Counter("FlopCounterMode on meta", "torch", "FLOPs", "torch.utils.flop_counter", _torch, **_BOTH, moves=True),
        Counter("fvcore", "fvcore", '"flops", which are MACs', "fvcore.nn", _fvcore),
        Counter("thop", "thop", '"macs"', "thop", _thop),
        Counter(
            "ptflops, pytorch",
            "ptflops",
            '"macs"',
            "ptflops",
            lambda model, args, _: _ptflops(model, args, backend="pytorch"),
        ),
        Counter(
            "ptflops, aten",
            "ptflops",
            '"macs"',
            "ptflops",
            lambda model, args, _: _ptflops(model, args, backend="aten"),
        ),
        Counter("torchinfo", "torchinfo", '"mult-adds", which are MACs', "torchinfo", _torchinfo),
        Counter("torchprofile", "torchprofile", '"macs"', "torchprofile", _torchprofile),
        Counter("calflops", "calflops", '"macs" or "flops", the closer', "calflops", _calflops, backward=True),
        Counter(
            "DeepSpeed",
            "deepspeed",
            '"macs" or "flops", the closer',
            "deepspeed.profiling.flops_profiler",
            _deepspeed,
        ),
    )
}

#: Texts by which counters say that something was not counted.
_ADMISSION = re.compile(
    r"unsupported operator|no handlers found|cannot find rule|treated as a zero-op|never called|not counted",
    re.IGNORECASE,
)


def admits(text: str) -> bool:
    """Return whether the counter says in ``text`` that its number leaves something out."""
    return bool(_ADMISSION.search(text))


def raised(text: str) -> str:
    """Return the class name of an exception that the counter printed in ``text``, or "" if there is none."""
    found = re.search(r"^<class '(?:[\w]+\.)*(\w+)'>:", text, re.MULTILINE)
    return found[1] if found else ""
