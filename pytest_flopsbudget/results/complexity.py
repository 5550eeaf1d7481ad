"""What a measurement found: totals, the tree of modules, the operators, and what could not be counted."""

from __future__ import annotations

import difflib
from typing import Annotated, Literal, get_args

import msgspec

from pytest_flopsbudget.results.metrics import METRICS, measured_value

Execution = Literal["shapes", "real", "watched"]
PhaseName = Literal["forward", "backward", "optimizer"]
PHASES: tuple[PhaseName, ...] = get_args(PhaseName)

#: Nothing is measured below zero.
Count = Annotated[int, msgspec.Meta(ge=0)]


class _Measured(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something that has values of metrics."""

    #: Stored metric key → value. A key that is absent was not measured.
    metrics: dict[str, Count]

    def value(self, key: str) -> int:
        """The value of metric ``key``.

        Raises:
            KeyError: no such metric, or it was not measured.
        """
        value = measured_value(self.metrics, key)
        if value is None:
            raise KeyError(f"metric {key!r} was not measured; there are {', '.join(METRICS)}")
        return value

    @property
    def flops(self) -> int:
        """FLOPs of the sums of products, 2 per MAC."""
        return self.value("flops")

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return self.value("macs")

    @property
    def other_flops(self) -> int:
        """FLOPs of all other arithmetic on floating-point numbers."""
        return self.value("other_flops")

    @property
    def total_flops(self) -> int:
        """FLOPs of everything that computes on floating-point numbers."""
        return self.value("total_flops")

    @property
    def recomputed_flops(self) -> int:
        """Of `flops`, what the backward pass computed again, as activation checkpointing has it."""
        return self.value("recomputed_flops")

    @property
    def communication(self) -> int:
        """Bytes of the messages of all collective calls of this rank; 0 without a process group."""
        return self.value("communication")


class _Parametrized(_Measured, frozen=True, kw_only=True):
    @property
    def params(self) -> int:
        """Distinct parameters."""
        return self.value("params")

    @property
    def trainable_params(self) -> int:
        """Distinct parameters that require a gradient."""
        return self.value("trainable_params")

    @property
    def param_bytes(self) -> int:
        """Bytes of the parameters, as stored."""
        return self.value("param_bytes")

    @property
    def buffer_bytes(self) -> int:
        """Bytes of the buffers, as stored."""
        return self.value("buffer_bytes")


class Module(_Parametrized, frozen=True, kw_only=True):
    """One module of the tree; its metrics hold everything below it too."""

    #: The class's name: "Conv2d".
    type: str
    #: What its size hangs on, in ASCII: "512->512, 3x3, stride 2x2"; empty where nothing is known.
    shape: str = ""
    #: How often its ``forward`` was called.
    calls: Count = 0


class Operator(_Measured, frozen=True, kw_only=True):
    """One operator of PyTorch's dispatcher, over all its calls."""

    calls: Count


class Phase(_Measured, frozen=True, kw_only=True):
    """The work of one phase: of the forward pass with losses and all else, of the backward pass, of optimizers."""


class UnknownOperator(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An operator that no formula covers: its work is missing from the totals."""

    calls: Count
    #: Paths of the modules it ran in, sorted; "" is the model itself.
    modules: tuple[str, ...] = ()


class Complexity(_Parametrized, frozen=True, kw_only=True):
    """What one run of a model costs. Plain data: needs neither torch nor pytest."""

    #: Class name of the model, or the name of the function measured.
    model: str
    #: The inputs' signature, one entry a tensor: "float32[1, 3, 224, 224]", "attention_mask=int64[1, 128]".
    inputs: tuple[str, ...]
    #: "shapes" where nothing was computed; "real" where the model had to run on data, on which the count may then hang;
    #: "watched" where the test ran it itself.
    execution: Execution
    #: Whether the backward pass is in the numbers.
    backward: bool = False
    #: Path → module, "" for the model itself, in the model's own order.
    modules: dict[str, Module]
    #: Operator ("aten.mm") → its calls and metrics, for those that do arithmetic or pass bytes to other processes.
    operators: dict[str, Operator] = {}
    #: Operator → where it ran, for those that no formula covers.
    unknown_operators: dict[str, UnknownOperator] = {}
    #: "forward", "backward", "optimizer" → the work of each; empty where all is forward work.
    phases: dict[PhaseName, Phase] = {}
    #: What else a reader of the numbers should know, a sentence each.
    notes: tuple[str, ...] = ()

    @property
    def runs_model(self) -> bool:
        """Whether a module was called, or something computed that a model is made of."""
        called = any(module.calls for module in self.modules.values() if module.type != "function")
        return called or bool(self.unknown_operators) or bool(self.metrics.get("flops"))

    def work_of(self, phase: str) -> dict[str, int] | None:
        """The metrics of a phase's work; None where nothing ran in it."""
        if not self.phases and phase == "forward":
            return self.metrics
        metrics = next((part.metrics for name, part in self.phases.items() if name == phase), None)
        return metrics if metrics and (phase == "forward" or any(metrics.values())) else None

    def __getitem__(self, path: str) -> Module:
        """The module at ``path``, as in ``dict(model.named_modules())``.

        Raises:
            KeyError: no such module; the message lists near names.
        """
        try:
            return self.modules[path]
        except KeyError:
            near = difflib.get_close_matches(path, self.modules, n=3, cutoff=0.5)
            hint = f"; near names: {', '.join(near)}" if near else ""
            raise KeyError(f"no module {path!r} in {self.model}{hint}") from None
