"""Advise how a module usually becomes cheaper.

The rules look at the module's numbers, class and settings, not at the module's code.
Each rule is a function that returns half a sentence, or None if the rule does not apply. The first rule that applies
gives the advice. If no rule applies, there is no advice.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Literal

from pytest_flopsbudget.hardware.catalog import DEVICES
from pytest_flopsbudget.hardware.roofline import Bound, bound_of
from pytest_flopsbudget.quantities.formatting import format_value
from pytest_flopsbudget.quantities.metrics import METRICS, count_of, key_for
from pytest_flopsbudget.safe_text import pluralize

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_flopsbudget.hardware.profile import Device
    from pytest_flopsbudget.results.complexity import Complexity
    from pytest_flopsbudget.results.module_tree import ModuleGroup

_BATCH_NORMS = frozenset({"BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "SyncBatchNorm"})
_LAYER = re.compile(r"(\d+)->(\d+)")
_GROUPS = re.compile(r"groups (\d+)")
#: The bytes of a float32 number. If all parameters have this size and no tensor is converted, the model computes in
#: float32.
_FLOAT32_BYTES = 4
#: The output layer over a vocabulary has more outputs than both of these: 10,000, and 4 times its inputs. Layers inside
#: of a model have at most 4 times as many outputs as inputs.
_WIDENING, _VOCABULARY = 4, 10_000
#: Two rates count as equal unless one is at least 1.25 times the other, because data sheets round their figures.
_FASTER = Fraction(5, 4)
#: The tolerance for a rate that is computed from times. Times are rounded down for each operator.
_ROUNDING = Fraction(1, 100)
_HALVES = ("bfloat16", "float16")
#: Matrix products, batch by batch, of two computed tensors. Neither tensor is a weight.
_BATCHED = ("bmm", "baddbmm")
#: Parts of the names of operators that libraries implement.
_LIBRARIES = ("fft", "linalg", "cholesky", "lu_", "sort", "topk", "scan")
#: The common name of a dtype if PyTorch has no name for it.
NAMES = {"tfloat32": "TF32"}


@dataclass(frozen=True)
class AdviceTarget:
    """A group of equal modules that may get advice, with the measurement and the device."""

    group: ModuleGroup
    complexity: Complexity
    #: The device for which the time is estimated; None without a device.
    device: Device | None

    @functools.cached_property
    def bound(self) -> Bound | Literal["low intensity"] | None:
        """What takes most of the module's time on the device.

        Without a device, this is "low intensity" if the module is memory-bound on every device, else None.
        """
        if self.device is not None:
            return bound_of(*self.times)
        intensity = self.intensity
        return "low intensity" if intensity is not None and intensity < min_balance() else None

    @functools.cached_property
    def times(self) -> tuple[int, int, int]:
        """The nanoseconds of compute, memory and launches on the device; zeros without a device."""
        name = "" if self.device is None else self.device.name
        compute, memory, launch = (self.self_value(key_for(part, name)) for part in METRICS["time"].derived)
        return compute, memory, launch

    @property
    def intensity(self) -> Fraction | None:
        """The FLOPs of all kinds per byte; None if no byte is moved."""
        traffic = self.self_value("memory_traffic")
        return Fraction(self.self_value("flops") + self.self_value("other_flops"), traffic) if traffic else None

    @property
    def waits_for_memory(self) -> bool:
        """Return whether moving bytes takes most of the time."""
        return self.bound in {"memory", "low intensity"}

    @property
    def is_leaf(self) -> bool:
        """Return whether no child module does work."""
        return not any(any(child.total_metrics.values()) for child in self.group.children)

    @property
    def trains(self) -> bool:
        """Return whether the measurement has more than a forward pass."""
        return self.complexity.backward or any(map(self.complexity.work_of, ("backward", "optimizer")))

    @property
    def operators_per_call(self) -> int:
        """The average number of operators in one call of a module of the group, rounded down."""
        return self.self_value("launches") // max(1, self.group.calls)

    @property
    def weight_bytes(self) -> int:
        """The bytes of parameters that all calls of the modules read, if each call reads each parameter once."""
        return self.group.module.metrics.get("param_bytes", 0) * self.group.calls

    @functools.cached_property
    def layer(self) -> tuple[int, int] | None:
        """The numbers of input features and output features of a linear layer; None for any other module."""
        found = _LAYER.fullmatch(self.group.module.shape)
        is_layer = found is not None and self.group.module.type != "Embedding" and self.self_value("flops") > 0
        return (int(found[1]), int(found[2])) if found is not None and is_layer else None

    @property
    def rows(self) -> int | None:
        """The number of input rows in one call of a linear layer in a forward pass; None if the number is not known."""
        if self.layer is None or self.trains or not self.group.calls:
            return None
        rows, rest = divmod(self.self_value("flops"), 2 * self.layer[0] * self.layer[1] * self.group.calls)
        return None if rest else rows

    @property
    def is_float32(self) -> bool:
        """Return whether the module surely computes in float32 (float32 parameters, no conversion of dtypes)."""
        metrics = self.group.module.metrics
        params = metrics.get("params", 0)
        converts = any("_to_copy" in name for name in self.complexity.operators)
        return bool(params) and metrics.get("param_bytes") == _FLOAT32_BYTES * params and not converts

    def self_value(self, key: str) -> int:
        """Return the metric's value without child modules; 0 if the metric was not measured."""
        return count_of(self.group.self_metrics, key) or 0

    def calls_of(self, *names: str) -> int:
        """Return the number of calls of the named ATen operators in the whole model."""
        operators = self.complexity.operators
        return sum(operators[f"aten.{name}"].calls for name in names if f"aten.{name}" in operators)


@functools.cache
def min_balance() -> Fraction:
    """The FLOPs per byte below which an operator in float32 is memory-bound on every device of the catalog."""
    return min(Fraction(device.vector_rate("float32"), device.bandwidth) for device in DEVICES.values())


def describe_bound(target: AdviceTarget) -> str:
    """Describe what bounds the module and what usually helps: "memory-bound: 3.2 FLOPs/byte; for inference it …"."""
    return "; ".join(filter(None, (_why(target), advice(target))))


def advice(target: AdviceTarget) -> str:
    """Return the advice of the first rule that applies; empty if no rule applies."""
    return next((text for rule in _RULES if (text := rule(target))), "")


def _why(target: AdviceTarget) -> str:
    """Return the numbers that show what bounds the module."""
    intensity = "" if target.intensity is None else format_value(target.intensity, METRICS["arithmetic_intensity"])
    if target.device is None:
        low = ", few for any device" if target.bound == "low intensity" else ""
        return f"{intensity}{low}" if intensity else ""
    if target.bound == "launch":
        each = format_value(target.device.launch, METRICS["time"])
        return f"launch-bound: {pluralize(target.self_value('launches'), 'operator')} of {each} beside their work"
    return f"{target.bound}-bound: {intensity}" if intensity else f"{target.bound}-bound"


def _batch_norm(target: AdviceTarget) -> str | None:
    """Advise to fold a batch norm into the layer before it. Only inference, with constant statistics, allows this."""
    if target.group.module.type not in _BATCH_NORMS or target.trains or target.bound == "compute":
        return None
    return "for inference it can be folded into the convolution or linear layer before it, where there is one"


def _multihead_attention(target: AdviceTarget) -> str | None:
    """Advise need_weights=False for `torch.nn.MultiheadAttention`, which by default writes all scores to memory."""
    if target.group.module.type != "MultiheadAttention" or not _writes_scores(target, 1):
        return None
    return "it writes out its scores to return them; need_weights=False lets it use scaled_dot_product_attention"


def _attention(target: AdviceTarget) -> str | None:
    """Advise fused attention for a module that computes attention in plain operators.

    Such a module has no parameters, and calls a softmax between two products of activations.
    """
    if not target.self_value("flops") or target.self_value("params"):
        return None
    if _writes_scores(target, 2):
        operators = pluralize(target.operators_per_call, "operator")
        return (
            f"products around a softmax in {operators} a call; scaled_dot_product_attention need not write its scores"
        )
    if _is_attention(target, "_safe_softmax", 2):
        return (
            "scaled_dot_product_attention ran in its plain form, which writes its scores out; the CPU's fused one "
            "takes no dropout, so that model.eval() may be enough"
        )
    return None


def _writes_scores(target: AdviceTarget, products: int) -> bool:
    """Return whether the module computes attention in separate operators, which write the scores to memory.

    ``products`` is the minimum number of batched products in one call.
    """
    return _is_attention(target, "_softmax", products) and not target.calls_of("_safe_softmax")


def _is_attention(target: AdviceTarget, softmax: str, products: int) -> bool:
    """Return whether each call of the module seems to run one ``softmax`` and ``products`` batched products.

    The measurement does not store which operators ran in which module, so numbers of calls and FLOPs decide.
    """
    calls, softmaxes = target.group.calls, target.calls_of(softmax)
    is_fused = any("scaled_dot_product" in name for name in target.complexity.operators)
    if not softmaxes >= calls > 0 or target.calls_of(*_BATCHED) < products * calls or is_fused:
        return False
    found = (target.complexity.operators.get(f"aten.{name}") for name in _BATCHED)
    in_all = sum(operator.metrics.get("flops", 0) for operator in found if operator is not None)
    # One call must have at least half of the FLOPs that the batched products have for each softmax of the model.
    return 2 * target.self_value("flops") * softmaxes >= in_all * calls


def _head(target: AdviceTarget) -> str | None:
    """Advise to compute an output layer for fewer input rows, if the layer has far more outputs than inputs."""
    if target.layer is None or target.group.count > 1 or (target.rows or 0) <= 1:
        return None
    inputs, outputs = target.layer
    if outputs < max(_VOCABULARY, _WIDENING * inputs + 1):
        return None
    return (
        f"it computes {outputs:,} outputs for each of {target.rows:,} rows; where only some rows are needed, like the "
        "last one in generation, compute those alone"
    )


def _depthwise(target: AdviceTarget) -> str | None:
    """Advise fewer channels for a depthwise convolution that waits for memory."""
    shape = target.group.module.shape
    channels, groups = _LAYER.match(shape), _GROUPS.search(shape)
    if channels is None or groups is None or channels[1] != groups[1] or not target.waits_for_memory:
        return None
    return (
        "depthwise: each channel is convolved by itself, so that its bytes count and not its FLOPs; fewer channels or "
        "a lower resolution help, a smaller kernel hardly does"
    )


def _weights(target: AdviceTarget) -> str | None:
    """Advise a larger batch for a module if its weights are at least half of the bytes that it moves."""
    traffic = target.self_value("memory_traffic")
    maximum = traffic and 2 * target.weight_bytes >= traffic >= target.weight_bytes
    if not maximum or not target.is_leaf or not target.self_value("flops") or not target.waits_for_memory:
        return None
    percent = int(100 * Fraction(target.weight_bytes, traffic))
    read = f", read for {pluralize(target.rows, 'row')} of inputs a call" if target.rows else ""
    return f"{percent}% of its bytes are weights{read}: a larger batch shares them, fewer bits make them smaller"


def _optimizer(target: AdviceTarget) -> str | None:
    """Advise ``foreach=True`` or ``fused=True``, if the optimizer launches at least half of the operators."""
    if target.group.path or target.bound != "launch" or "optimizer" not in target.complexity.phases:
        return None
    operators = target.complexity.phases["optimizer"].metrics.get("launches", 0)
    takes_many = any("_foreach_" in name or "_fused_" in name for name in target.complexity.operators)
    if takes_many or 2 * operators < target.self_value("launches"):
        return None
    return f"{operators:,} of them are the optimizer's; foreach=True, the default on GPUs, or fused=True needs few"


def _no_products(target: AdviceTarget) -> str | None:
    """Advise to compile elementwise operators and reductions. A compiler fuses such operators with their neighbours."""
    if target.self_value("flops") or not target.self_value("other_flops") or target.bound in {"compute", None}:
        return None
    if any(_stands_alone(name) and one.metrics.get("other_flops") for name, one in target.complexity.operators.items()):
        # The module may run only this operator.
        return None
    operators = pluralize(max(1, target.operators_per_call), "operator")
    return f"{operators} a call without a product, which a compiler (torch.compile) usually fuses with what is around"


def _stands_alone(operator: str) -> bool:
    """Return whether compilers do not fuse the operator, because a library or the user implements it."""
    return not operator.startswith("aten.") or any(word in operator for word in _LIBRARIES)


def _launches(target: AdviceTarget) -> str | None:
    """Advise larger operators if launching the operators takes most of the time."""
    if target.bound != "launch":
        return None
    return (
        "fewer and larger operators help: a larger batch gives each more to do, a compiler (torch.compile) fuses some"
    )


def _faster_products(target: AdviceTarget) -> str | None:
    """Advise another dtype for the products, if the device multiplies faster in that dtype."""
    if target.device is None or target.bound != "compute" or not target.self_value("flops") or not target.is_float32:
        return None
    rate = Fraction(target.self_value("flops") * 10**9, target.times[0])
    now = next((dtype for dtype in ("float32", "tfloat32") if _is_rate(rate, target.device.rate(dtype))), None)
    others = _faster_than(target.device, now) if now else {}
    if not others:
        return None
    words = ", ".join(f"{NAMES.get(dtype, dtype)} {float(times):.3g}x" for dtype, times in others.items())
    own = NAMES.get(now or "", now)
    return f"its products run in {own}; {target.device.name} multiplies faster in others: {words}"


def _is_rate(found: Fraction, rate: int) -> bool:
    return abs(found / rate - 1) <= _ROUNDING


def _faster_than(device: Device, now: str) -> Mapping[str, Fraction]:
    """Return dtype → speed of products, relative to the speed in the dtype ``now``, for clearly faster dtypes."""
    times = {
        dtype: Fraction(device.rates[dtype], device.rate(now))
        for dtype in ("tfloat32", *_HALVES)
        if dtype in device.rates
    }
    return {dtype: factor for dtype, factor in times.items() if factor >= _FASTER}


def _halves(target: AdviceTarget) -> str | None:
    """Advise half precision for a memory-bound module with products. Half precision halves the bytes that are moved."""
    if not target.waits_for_memory or not target.self_value("flops") or not target.is_float32:
        return None
    return "in half precision it would move half of its bytes"


_RULES: tuple[Callable[[AdviceTarget], str | None], ...] = (
    _batch_norm,
    _multihead_attention,
    _attention,
    _head,
    _depthwise,
    _weights,
    _optimizer,
    _no_products,
    _launches,
    _faster_products,
    _halves,
)
