"""What usually helps at a place of a model: rules that look at its numbers, its class and its shape, and at no code.

Each rule is a function that returns half a sentence, or None where it has nothing true to say. The first that says
something is taken; where none does, there is no advice.
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
from pytest_flopsbudget.reports.wording import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_flopsbudget.hardware.profile import Device
    from pytest_flopsbudget.results.complexity import Complexity
    from pytest_flopsbudget.results.module_tree import Place

_BATCH_NORMS = frozenset({"BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "SyncBatchNorm"})
_LAYER = re.compile(r"(\d+)->(\d+)")
_GROUPS = re.compile(r"groups (\d+)")
#: A dtype of 4 bytes: where all parameters have so many, and nothing is converted, all is computed in float32.
_FLOAT32_BYTES = 4
#: An output layer of a vocabulary is wider than any layer between others: those have at most four times their inputs.
_WIDENING, _VOCABULARY = 4, 10_000
#: A rate that is not this much higher is no other rate: data sheets round.
_FASTER = Fraction(5, 4)
#: What a rate that follows from times may be off, as times are rounded down operator by operator.
_ROUNDING = Fraction(1, 100)
_HALVES = ("bfloat16", "float16")
#: Products of what was computed, batch by batch.
_BATCHED = ("bmm", "baddbmm")
#: Names of operators that are libraries' have one of these in them.
_LIBRARIES = ("fft", "linalg", "cholesky", "lu_", "sort", "topk", "scan")
#: What people call a dtype that PyTorch has no name for.
NAMES = {"tfloat32": "TF32"}


@dataclass(frozen=True)
class Site:
    """A place, and what rules look at beside it."""

    place: Place
    complexity: Complexity
    #: On which it runs; None where none was asked for.
    device: Device | None

    @functools.cached_property
    def bound(self) -> Bound | Literal["low intensity"] | None:
        """What takes most of its time; without a device "low intensity" where memory would on any, else None."""
        if self.device is not None:
            return bound_of(*self.times)
        intensity = self.intensity
        return "low intensity" if intensity is not None and intensity < least_balance() else None

    @functools.cached_property
    def times(self) -> tuple[int, int, int]:
        """Nanoseconds of compute, memory and launches on the device; zeros without one."""
        name = "" if self.device is None else self.device.name
        compute, memory, launch = (self.own(key_for(part, name)) for part in METRICS["time"].derived)
        return compute, memory, launch

    @property
    def intensity(self) -> Fraction | None:
        """FLOPs of all kinds per byte; None where no byte is moved."""
        traffic = self.own("memory_traffic")
        return Fraction(self.own("flops") + self.own("other_flops"), traffic) if traffic else None

    @property
    def waits_for_memory(self) -> bool:
        """Whether moving bytes takes most of its time."""
        return self.bound in {"memory", "low intensity"}

    @property
    def is_leaf(self) -> bool:
        """Whether nothing below it works."""
        return not any(any(child.whole.values()) for child in self.place.children)

    @property
    def trains(self) -> bool:
        """Whether more was measured than a forward pass."""
        return self.complexity.backward or any(name != "forward" for name in self.complexity.phases)

    @property
    def operators_a_call(self) -> int:
        """Operators of one call of one of its modules, rounded down."""
        return self.own("launches") // max(1, self.place.calls)

    @property
    def weight_bytes(self) -> int:
        """Bytes of parameters that all its calls read, if each call reads each parameter once."""
        return self.place.module.metrics.get("param_bytes", 0) * self.place.calls

    @functools.cached_property
    def layer(self) -> tuple[int, int] | None:
        """Inputs and outputs of a linear layer; None of anything else."""
        found = _LAYER.fullmatch(self.place.module.shape)
        is_layer = found is not None and self.place.module.type != "Embedding" and self.own("flops") > 0
        return (int(found[1]), int(found[2])) if found is not None and is_layer else None

    @property
    def rows(self) -> int | None:
        """Rows of inputs of a linear layer's call in a forward pass; None where that is not known."""
        if self.layer is None or self.trains or not self.place.calls:
            return None
        rows, rest = divmod(self.own("flops"), 2 * self.layer[0] * self.layer[1] * self.place.calls)
        return None if rest else rows

    @property
    def is_float32(self) -> bool:
        """Whether it surely computes in float32: its parameters do, and nothing was converted."""
        metrics = self.place.module.metrics
        params = metrics.get("params", 0)
        converts = any("_to_copy" in name for name in self.complexity.operators)
        return bool(params) and metrics.get("param_bytes") == _FLOAT32_BYTES * params and not converts

    def own(self, key: str) -> int:
        """What it does itself; 0 where that was not measured."""
        return count_of(self.place.own, key) or 0

    def calls_of(self, *names: str) -> int:
        """Calls in the whole model of the operators that are called like this."""
        operators = self.complexity.operators
        return sum(operators[f"aten.{name}"].calls for name in names if f"aten.{name}" in operators)


@functools.cache
def least_balance() -> Fraction:
    """FLOPs per byte below which float32 waits for memory on every device that is known by name."""
    return min(Fraction(device.vector_rate("float32"), device.bandwidth) for device in DEVICES.values())


def sentence(site: Site) -> str:
    """What bounds the place, and what usually helps: "memory-bound: 3.2 FLOPs/byte; for inference it can be …"."""
    return "; ".join(filter(None, (_why(site), advice(site))))


def advice(site: Site) -> str:
    """What usually helps; empty where no rule has anything to say."""
    return next((text for rule in _RULES if (text := rule(site))), "")


def _why(site: Site) -> str:
    """The numbers that put it where it is."""
    intensity = "" if site.intensity is None else format_value(site.intensity, METRICS["arithmetic_intensity"])
    if site.device is None:
        low = ", few for any device" if site.bound == "low intensity" else ""
        return f"{intensity}{low}" if intensity else ""
    if site.bound == "launch":
        each = format_value(site.device.launch, METRICS["time"])
        return f"launch-bound: {counted(site.own('launches'), 'operator')} of {each} beside their work"
    return f"{site.bound}-bound: {intensity}" if intensity else f"{site.bound}-bound"


def _batch_norm(site: Site) -> str | None:
    """Its factors and offsets are constants in inference, and a convolution's weights can take them over."""
    if site.place.module.type not in _BATCH_NORMS or site.trains or site.bound == "compute":
        return None
    return "for inference it can be folded into the convolution or linear layer before it, where there is one"


def _multihead_attention(site: Site) -> str | None:
    """PyTorch's own module writes all scores out where it has to return them, as it does unless told otherwise."""
    if site.place.module.type != "MultiheadAttention" or not _writes_scores(site, 1):
        return None
    return "it writes out its scores to return them; need_weights=False lets it use scaled_dot_product_attention"


def _attention(site: Site) -> str | None:
    """Products of what was computed, two and a softmax a call, by a module whose own weights take no part in them."""
    if not site.own("flops") or site.own("params"):
        return None
    if _writes_scores(site, 2):
        operators = counted(site.operators_a_call, "operator")
        return (
            f"products around a softmax in {operators} a call; scaled_dot_product_attention need not write its scores"
        )
    if _is_attention(site, "_safe_softmax", 2):
        return (
            "scaled_dot_product_attention ran in its plain form, which writes its scores out; the CPU's fused one "
            "takes no dropout, so that model.eval() may be enough"
        )
    return None


def _writes_scores(site: Site, products: int) -> bool:
    """Whether it is attention that is written out, and not PyTorch's own in its plain form."""
    return _is_attention(site, "_softmax", products) and not site.calls_of("_safe_softmax")


def _is_attention(site: Site, softmax: str, products: int) -> bool:
    """Whether each call has a softmax of its own and so many products, and nothing in the model a fused form.

    Which operators run in a module is not known. What has as many FLOPs a call as the model has for a softmax at least
    half of, is no other product that happens to be there, like that of rotary embeddings.
    """
    calls, softmaxes = site.place.calls, site.calls_of(softmax)
    is_fused = any("scaled_dot_product" in name for name in site.complexity.operators)
    if not softmaxes >= calls > 0 or site.calls_of(*_BATCHED) < products * calls or is_fused:
        return False
    found = (site.complexity.operators.get(f"aten.{name}") for name in _BATCHED)
    in_all = sum(operator.metrics.get("flops", 0) for operator in found if operator is not None)
    return 2 * site.own("flops") * softmaxes >= in_all * calls


def _head(site: Site) -> str | None:
    """One layer far wider than its inputs, over several rows."""
    if site.layer is None or site.place.count > 1 or (site.rows or 0) <= 1:
        return None
    inputs, outputs = site.layer
    if outputs < max(_VOCABULARY, _WIDENING * inputs + 1):
        return None
    return (
        f"it computes {outputs:,} outputs for each of {site.rows:,} rows; where only some rows are needed, like the "
        "last one in generation, compute those alone"
    )


def _depthwise(site: Site) -> str | None:
    """Each channel by itself: the kernel's FLOPs for an element that is read and one that is written."""
    shape = site.place.module.shape
    channels, groups = _LAYER.match(shape), _GROUPS.search(shape)
    if channels is None or groups is None or channels[1] != groups[1] or not site.waits_for_memory:
        return None
    return (
        "depthwise: each channel is convolved by itself, so that its bytes count and not its FLOPs; fewer channels or "
        "a lower resolution help, a smaller kernel hardly does"
    )


def _weights(site: Site) -> str | None:
    """Most of what it moves is its own weights: a call has too few inputs to share them."""
    traffic = site.own("memory_traffic")
    most = traffic and 2 * site.weight_bytes >= traffic >= site.weight_bytes
    if not most or not site.is_leaf or not site.own("flops") or not site.waits_for_memory:
        return None
    percent = int(100 * Fraction(site.weight_bytes, traffic))
    read = f", read for {counted(site.rows, 'row')} of inputs a call" if site.rows else ""
    return f"{percent}% of its bytes are weights{read}: a larger batch shares them, fewer bits make them smaller"


def _optimizer(site: Site) -> str | None:
    """An operator a parameter, where there are forms with one for many."""
    if site.place.path or site.bound != "launch" or "optimizer" not in site.complexity.phases:
        return None
    operators = site.complexity.phases["optimizer"].metrics.get("launches", 0)
    takes_many = any("_foreach_" in name or "_fused_" in name for name in site.complexity.operators)
    if takes_many or 2 * operators < site.own("launches"):
        return None
    return f"{operators:,} of them are the optimizer's; foreach=True, the default on GPUs, or fused=True needs few"


def _no_products(site: Site) -> str | None:
    """Element by element, or reductions: what a compiler puts into one kernel with what is around it."""
    if site.own("flops") or not site.own("other_flops") or site.bound in {"compute", None}:
        return None
    if any(_stands_alone(name) and one.metrics.get("other_flops") for name, one in site.complexity.operators.items()):
        # It may be what runs here.
        return None
    operators = counted(max(1, site.operators_a_call), "operator")
    return f"{operators} a call without a product, which a compiler (torch.compile) usually fuses with what is around"


def _stands_alone(operator: str) -> bool:
    """Whether compilers leave the operator to a library, or to who wrote it."""
    return not operator.startswith("aten.") or any(word in operator for word in _LIBRARIES)


def _launches(site: Site) -> str | None:
    """Operators that are too small for the device."""
    if site.bound != "launch":
        return None
    return (
        "fewer and larger operators help: a larger batch gives each more to do, a compiler (torch.compile) fuses some"
    )


def _faster_products(site: Site) -> str | None:
    """Products at a rate that the device exceeds in another dtype."""
    if site.device is None or site.bound != "compute" or not site.own("flops") or not site.is_float32:
        return None
    rate = Fraction(site.own("flops") * 10**9, site.times[0])
    now = next((dtype for dtype in ("float32", "tfloat32") if _is_rate(rate, site.device.rate(dtype))), None)
    others = _faster_than(site.device, now) if now else {}
    if not others:
        return None
    words = ", ".join(f"{NAMES.get(dtype, dtype)} {float(times):.3g}x" for dtype, times in others.items())
    own = NAMES.get(now or "", now)
    return f"its products run in {own}; {site.device.name} multiplies faster in others: {words}"


def _is_rate(found: Fraction, rate: int) -> bool:
    return abs(found / rate - 1) <= _ROUNDING


def _faster_than(device: Device, now: str) -> Mapping[str, Fraction]:
    """Dtype that floating-point models run in → how many times as fast as ``now`` the device multiplies in it."""
    times = {
        dtype: Fraction(device.rates[dtype], device.rate(now))
        for dtype in ("tfloat32", *_HALVES)
        if dtype in device.rates
    }
    return {dtype: factor for dtype, factor in times.items() if factor >= _FASTER}


def _halves(site: Site) -> str | None:
    """Bytes of products that wait for them."""
    if not site.waits_for_memory or not site.own("flops") or not site.is_float32:
        return None
    return "in half precision it would move half of its bytes"


_RULES: tuple[Callable[[Site], str | None], ...] = (
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
