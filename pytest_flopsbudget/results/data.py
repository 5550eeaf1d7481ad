"""The data of a measurement: totals, modules, operators, phases, and operators that could not be counted."""

from __future__ import annotations

import difflib
from fractions import Fraction
from typing import Annotated, Literal, cast, get_args

import msgspec

from pytest_flopsbudget.quantities.metrics import Amount, key_for, measured_value
from pytest_flopsbudget.results.call_arguments import why_no_value
from pytest_flopsbudget.results.law_data import MeasuredLaws

Execution = Literal["shapes", "real", "watched"]
#: "setup" is the work of a watched block before its first module runs, such as the initialization of weights.
PhaseName = Literal["setup", "forward", "backward", "optimizer"]
PHASES: tuple[PhaseName, ...] = get_args(PhaseName)
#: Words of a note on a PyTorch that behaves in a way that the plugin does not know. The summary of a run shows such a
#: note once, not for each measurement.
PLEASE_REPORT = "please report it to pytest-flopsbudget"

#: An integer that is not negative, like every measured value.
Count = Annotated[int, msgspec.Meta(ge=0)]


class _Measured(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The base class of objects that have values of metrics."""

    #: Stored metric key → value. A missing key was not measured.
    metrics: dict[str, Count]

    def value(self, key: str) -> Amount:
        """Return the value of a metric: a whole number, or a fraction for a ratio.

        Args:
            key: a metric key as in limits. "time[A100]" is the time on one device. "latency" is the latency on the
                machine that measured.

        Raises:
            KeyError: there is no such metric, it was not measured, or it is a ratio with denominator 0.
        """
        value = measured_value(self.metrics, key) if isinstance(key, str) else None
        if value is not None:
            return value
        why = why_no_value(self.metrics, key)
        raise KeyError(why or f"the metric {key!r} has no value: it is divided by another metric, which is 0")

    def _count(self, key: str) -> int:
        return cast("int", self.value(key))

    @property
    def flops(self) -> int:
        """The FLOPs of products, 2 per MAC."""
        return self._count("flops")

    @property
    def masked_flops(self) -> int:
        """The part of `flops` that masks of attention leave; without masks, equal to `flops`."""
        return self._count("masked_flops")

    @property
    def macs(self) -> int:
        """The number of multiply-accumulates (MACs)."""
        return self._count("macs")

    @property
    def other_flops(self) -> int:
        """The FLOPs of all other arithmetic on floating-point numbers."""
        return self._count("other_flops")

    @property
    def total_flops(self) -> int:
        """The FLOPs of all arithmetic on floating-point numbers."""
        return self._count("total_flops")

    @property
    def recomputed_flops(self) -> int:
        """The part of `flops` that the backward pass computed again because of activation checkpointing."""
        return self._count("recomputed_flops")

    @property
    def bit_operations(self) -> int:
        """The MACs, each times the bits of its one operand and the bits of the other, as the operators receive them.

        Source: van Baalen et al., "Bayesian Bits: Unifying Quantization and Pruning", 2020, section 4.
        """
        return self._count("bit_operations")

    @property
    def communication(self) -> int:
        """The bytes of the messages of all collective calls of this rank; 0 without a process group."""
        return self._count("communication")

    @property
    def activations(self) -> int:
        """The number of elements in the outputs of convolutions and matrix products in the forward pass."""
        return self._count("activations")

    @property
    def memory_traffic(self) -> int:
        """The bytes that operators read and write."""
        return self._count("memory_traffic")

    @property
    def launches(self) -> int:
        """The number of operators that compute or move data. In eager mode, each is a kernel launch."""
        return self._count("launches")

    @property
    def arithmetic_intensity(self) -> Fraction:
        """`total_flops` per byte of `memory_traffic`, as an exact fraction."""
        return Fraction(self.value("arithmetic_intensity"))

    def time(self, device: str) -> int:
        """The minimum time on ``device`` in nanoseconds: an estimate, and a lower bound.

        Raises:
            KeyError: the time was not estimated for this device.
        """
        return self._count(key_for("time", device))


class _Parametrized(_Measured, frozen=True, kw_only=True):
    @property
    def params(self) -> int:
        """The number of elements in the parameters. A shared parameter counts once."""
        return self._count("params")

    @property
    def trainable_params(self) -> int:
        """The number of elements in the parameters that require a gradient. A shared parameter counts once."""
        return self._count("trainable_params")

    @property
    def active_params(self) -> int:
        """The number of elements in the parameters that one token uses: all but the routed experts it does not choose.

        Of ``experts`` equal experts of which the router chooses ``chosen`` for each token, the share
        ``chosen / experts`` counts. Embedding tables count in full, as in published numbers. Equal to `params` if
        nothing is routed. A note names experts for which the share is not known; they count in full.
        """
        return self._count("active_params")

    @property
    def non_embedding_params(self) -> int:
        """The number of elements in the parameters that are no embedding tables. A shared parameter counts once.

        Embedding tables are the weights of `torch.nn.Embedding` and `torch.nn.EmbeddingBag`, and other parameters of
        which the operator ``embedding`` read rows. An output layer counts, unless its weight is such a table.
        """
        return self._count("non_embedding_params")

    @property
    def param_bytes(self) -> int:
        """The bytes of the parameters, as stored. A shared parameter counts once."""
        return self._count("param_bytes")

    @property
    def bits_per_param(self) -> Fraction:
        """The bits that one parameter takes on average, scales of quantized weights included, as an exact fraction.

        Raises:
            KeyError: there are no parameters.
        """
        return Fraction(self.value("bits_per_param"))

    @property
    def buffer_bytes(self) -> int:
        """The bytes of the buffers, as stored. A shared buffer counts once."""
        return self._count("buffer_bytes")

    @property
    def peak_memory(self) -> int:
        """The maximum number of bytes that were alive at the same time during the run."""
        return self._count("peak_memory")


class Module(_Parametrized, frozen=True, kw_only=True):
    """One module of the tree. Its metrics include all modules below it."""

    #: The name of the class: "Conv2d".
    type: str
    #: The settings that determine the module's size, in ASCII: "512->512, 3x3, stride 2x2"; empty if unknown.
    shape: str = ""
    #: The number of calls of its ``forward``.
    calls: Count = 0
    #: The tensors that its first call returned, one text for each tensor, at most eight: "float32[1, 64, 56, 56]".
    #: Empty in baselines, and for modules that were not called or that TorchScript called. Tensors of other classes
    #: than `torch.Tensor` and `torch.nn.Parameter` are not listed.
    outputs: tuple[str, ...] = ()


class Operator(_Measured, frozen=True, kw_only=True):
    """All calls of one operator of PyTorch's dispatcher."""

    calls: Count


class Phase(_Measured, frozen=True, kw_only=True):
    """The work of one phase: the forward pass with losses, the backward pass, or the optimizer."""


class UnknownOperator(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An operator that no formula covers. Its work is missing from the totals."""

    calls: Count
    #: Sorted paths of the modules that ran the operator; "" is the model itself.
    modules: tuple[str, ...] = ()


class MemoryAtPeak(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The bytes that were alive at the peak of memory, by kind."""

    #: The sum of all kinds: `peak_memory`.
    total: Count
    #: The operator that ran at the peak: "aten.convolution".
    operator: str
    #: Path of the module that ran the operator; "" is the model itself.
    module: str
    #: Parameters. A shared parameter counts once.
    parameters: Count = 0
    #: Buffers of the model.
    buffers: Count = 0
    #: Inputs of the model.
    inputs: Count = 0
    #: Gradients of parameters.
    gradients: Count = 0
    #: State of optimizers.
    optimizer_state: Count = 0
    #: Intermediate results that are still needed.
    activations: Count = 0
    #: Memory that the operator holds only while it runs.
    temporaries: Count = 0


#: The kinds of bytes in `MemoryAtPeak`.
MEMORY_KINDS: tuple[str, ...] = (
    "parameters",
    "buffers",
    "inputs",
    "gradients",
    "optimizer_state",
    "activations",
    "temporaries",
)


class Latency(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The measured time of the model on this machine; all times are nanoseconds."""

    #: The name of the machine: the name of its processor or its GPU.
    machine: str
    #: The median: half of the runs took at most this long.
    median_ns: Count
    #: The first quartile: a quarter of the runs took at most this long.
    q1_ns: Count
    #: The third quartile: three quarters of the runs took at most this long.
    q3_ns: Count
    #: The number of runs that were timed.
    runs: Count
    #: The number of threads that each run had.
    threads: Count
    #: The minimum time by the roofline model of this machine, divided by the median; null if the machine is unknown.
    share_of_roofline: float | None = None
    #: Model FLOPs utilization: `flops` per second, divided by the machine's peak rate; null if the machine is unknown.
    mfu: float | None = None

    @property
    def spread_ns(self) -> int:
        """The interquartile range of the times of the runs, in nanoseconds."""
        return self.q3_ns - self.q1_ns


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the project under test defines the class of a module."""

    #: The name of the class.
    type: str
    #: The path of the file, relative to pytest's root folder; outside of pytest, to the current folder.
    file: str
    #: The line of the class; 0 if it is unknown.
    line: Count = 0


class ComplexityData(_Parametrized, frozen=True, kw_only=True):
    """The fields of a `Complexity`. Functions that make tables take this class, because it does not import them."""

    #: The class name of the model, or the name of the measured function.
    model: str
    #: The signature of the inputs, one text for each tensor: "float32[1, 3, 224, 224]", "attention_mask=int64[1, 128]".
    inputs: tuple[str, ...]
    #: "shapes": nothing was computed. "real": the model had to run on data, and the counts may depend on that data.
    #: "watched": the test itself ran the model.
    execution: Execution
    #: Whether the backward pass is counted.
    backward: bool = False
    #: The minor version of PyTorch that ran or counted the model: "2.13"; empty if it is unknown.
    pytorch: str = ""
    #: Path → module, in the order of the model's modules. The path of the model itself is "".
    modules: dict[str, Module]
    #: Operator ("aten.mm") → its calls and metrics. Only operators that do arithmetic or send bytes to other processes
    #: are listed.
    operators: dict[str, Operator] = {}
    #: Operator → its calls and modules, for operators that no formula covers.
    unknown_operators: dict[str, UnknownOperator] = {}
    #: "forward", "backward", "optimizer" → the work of each phase; empty if all work is forward.
    phases: dict[PhaseName, Phase] = {}
    #: The bytes alive at the peak of memory; null if memory was not followed.
    memory_at_peak: MemoryAtPeak | None = None
    #: The maximum of the bytes alive in each of up to 400 equal parts of the run; empty if nobody asked for it.
    memory_over_time: tuple[Count, ...] = ()
    #: Name of a module's class → where the project defines it. Classes of installed libraries are not listed, and
    #: neither is a name that several classes have. Empty in baselines.
    sources: dict[str, Source] = {}
    #: The measured time; null if it was not requested. Files call it "latency".
    timing: Latency | None = msgspec.field(name="latency", default=None)
    #: How the metrics grow with sizes; null if the measurement is of one size. The other fields are then of the largest
    #: sizes.
    laws: MeasuredLaws | None = None
    #: Notes on the measurement for the user, one sentence each.
    notes: tuple[str, ...] = ()

    @property
    def depth(self) -> int:
        """The number of operators in the longest chain in which each operator depends on the operator before it."""
        return self._count("depth")

    @property
    def latency(self) -> int:
        """The median time of a run in nanoseconds, on the machine that measured.

        Raises:
            KeyError: the model was not timed.
        """
        return self._count("latency")

    @property
    def kv_cache(self) -> int:
        """The bytes of the cache of keys, values and states after a step of serving, for all requests.

        Raises:
            KeyError: the model was not measured in serving.
        """
        return self._count("kv_cache")

    @property
    def kv_cache_per_token(self) -> int:
        """The bytes that each new token adds to the cache of one request, on average, rounded up.

        Raises:
            KeyError: this is not a decoding step of serving.
        """
        return self._count("kv_cache_per_token")

    @property
    def bytes_read(self) -> int:
        """The bytes of weights and cache that a step of serving reads at least.

        Raises:
            KeyError: the model was not measured in serving.
        """
        return self._count("bytes_read")

    @property
    def average_parallelism(self) -> Fraction:
        """`total_flops` divided by `depth`, as an exact fraction."""
        return Fraction(self.value("average_parallelism"))

    @property
    def runs_model(self) -> bool:
        """Whether a model seems to have run: a module was called, or products or unknown operators ran."""
        called = any(module.calls for module in self.modules.values() if module.type != "function")
        return called or bool(self.unknown_operators) or bool(self.metrics.get("flops"))

    def work_of(self, phase: str) -> dict[str, int] | None:
        """Return the metrics of a phase; None if nothing ran in it."""
        if not self.phases and phase == "forward":
            return self.metrics
        metrics = next((part.metrics for name, part in self.phases.items() if name == phase), None)
        return metrics if metrics and (phase == "forward" or any(metrics.values())) else None

    def __contains__(self, path: object) -> bool:
        """Return whether the model has a module at ``path``."""
        return path in self.modules

    def __getitem__(self, path: str) -> Module:
        """Return the module at ``path``, a key of ``dict(model.named_modules())``.

        A dot in the name of a single module, which PyTorch's constructors refuse, is written as a colon in the path.

        Raises:
            KeyError: there is no such module. The message lists similar names.
        """
        try:
            return self.modules[path]
        except KeyError:
            near = difflib.get_close_matches(str(path), self.modules, n=3, cutoff=0.5)
            hint = f"; near names: {', '.join(near)}" if near else ""
            raise KeyError(f"no module {path!r} in {self.model}{hint}") from None
