"""Check one model: count it on data and on shapes, and compare with PyTorch's own counter."""

from __future__ import annotations

import copy
import re
import time
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import flop_counter

from pytest_flopsbudget import measure, shape_only
from pytest_flopsbudget.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_flopsbudget import Complexity

EQUAL = "equal"
SEED = 0
#: The fused attention of a CPU.
FUSED = "aten._scaled_dot_product_flash_attention_for_cpu"


def check(model: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], rebuild: Callable[[], Any]) -> dict[str, Any]:
    """Count a model in evaluation mode, and return the findings as {name of the finding: value}.

    Args:
        model: the model on the CPU, or on the meta device if the model is too large.
        args: the positional inputs of the model, on the device of the model.
        kwargs: the inputs of the model by name.
        rebuild: builds the same model again, while PyTorch creates only shapes of tensors.
    """
    found: dict[str, Any] = {}
    begin = time.perf_counter()
    torch.manual_seed(SEED)  # before each run: how much some models compute depends on random numbers
    try:
        counted = measure(model, args, kwargs)
    except Exception as error:  # noqa: BLE001 -- it is the finding
        return {"error": in_words(error)}
    found["seconds"] = round(time.perf_counter() - begin, 2)
    found |= {"flops": counted.flops, "params": counted.params, "execution": counted.execution}
    if counted.notes:
        found["notes"] = list(counted.notes)
    if counted.unknown_operators:
        found["unknown"] = sorted(counted.unknown_operators)
    found["meta"] = _on_meta(counted, model, args, kwargs, rebuild)
    found["counter"] = _beside_pytorch(counted, model, args, kwargs)
    return found


def in_words(error: BaseException) -> str:
    """Return the type and the first line of an error, without addresses, which differ from run to run."""
    lines = re.sub(r" at 0x[0-9a-f]+", "", str(error)).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:300]}"


def _on_meta(
    counted: Complexity, model: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], rebuild: Callable[[], Any]
) -> str:
    """Count the model on meta tensors. Return how the count differs from ``counted``, as text."""
    prefix = ""
    try:
        with shape_only():
            other = rebuild().eval()
    except Exception as error:  # noqa: BLE001 -- it is the finding
        prefix = f"not built on shapes: {in_words(error)}; moved to meta: "
        other = copy.deepcopy(model).to("meta")
    try:
        meta = measure(other, *moved((args, dict(kwargs))))
    except UsageError as error:
        return f"{prefix}needs data: {in_words(error)}"
    except Exception as error:  # noqa: BLE001 -- it is the finding
        return f"{prefix}error: {in_words(error)}"
    difference = _difference(counted, meta)
    if difference and not prefix:
        # Models that keep something of their first run, as masks or a way of attention, count less or more in a second.
        difference = _difference(_counted_anew(counted, model, args, kwargs, rebuild), meta)
    return prefix + (difference or EQUAL)


def _counted_anew(
    counted: Complexity, model: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], rebuild: Callable[[], Any]
) -> Complexity:
    if any(value.is_meta for value in model.parameters()):
        with torch.device("meta"):
            try:
                fresh = rebuild().eval()
            except Exception:  # noqa: BLE001 -- a constructor that needs data
                return counted
    else:
        fresh = rebuild().eval()
    return measure(fresh, args, kwargs)


def _difference(counted: Complexity, meta: Complexity) -> str:
    texts = [
        f"{key} {value} and {meta.metrics.get(key)}"
        for key, value in counted.metrics.items()
        if meta.metrics.get(key) != value
    ]
    texts += [
        f"{path}.{key} {value} and {meta.modules[path].metrics.get(key) if path in meta.modules else None}"
        for path, module in counted.modules.items()
        for key, value in module.metrics.items()
        if path and (path not in meta.modules or meta.modules[path].metrics.get(key) != value)
    ][:3]
    return f"differs: {', '.join(texts)}" if texts else ""


def moved(value: Any, made: dict[int, torch.Tensor] | None = None) -> Any:
    """Return ``value`` with all its tensors on the meta device.

    Args:
        value: tensors in dictionaries, lists and tuples, of any depth.
        made: the meta tensors by the ``id`` of their originals: a tensor that occurs twice is one tensor on meta too.
    """
    made = {} if made is None else made
    if isinstance(value, torch.Tensor):
        return made.setdefault(id(value), value.to("meta"))
    if isinstance(value, dict):
        return {key: moved(item, made) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(moved(item, made) for item in value)
    return value


class _NoModules:
    """A replacement of the module tracker of PyTorch's counter. The tracker fails if an output has no gradient."""

    parents: ClassVar[set[str]] = {"Global"}

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


def _beside_pytorch(counted: Complexity, model: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """Return how ``counted`` differs from the count of PyTorch's own counter, as text.

    Where that counter has no formula for fused attention, both count once more with eager attention.
    """
    text = _difference_to_pytorch(counted, model, args, kwargs)
    if FUSED not in text:
        return text
    with sdpa_kernel(SDPBackend.MATH):
        torch.manual_seed(SEED)
        eager = measure(model, args, kwargs)
        if eager.flops != counted.flops:
            return f"differs: {counted.flops} with fused attention, {eager.flops} with eager attention"
        return _difference_to_pytorch(eager, model, args, kwargs)


def _difference_to_pytorch(counted: Complexity, model: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    try:
        counter = flop_counter.FlopCounterMode(display=False)
        vars(counter)["mod_tracker"] = _NoModules()
        torch.manual_seed(SEED)
        with torch.no_grad(), counter:
            model(*args, **kwargs)
    except Exception as error:  # noqa: BLE001 -- it is the finding
        if "flex_attention" in str(error):
            torch._dynamo.reset()  # noqa: SLF001 -- the counter leaves the compiler unable to run flex_attention again
        return f"raises {in_words(error)}"
    theirs = counter.get_total_flops()
    if theirs == counted.flops:
        return EQUAL
    known = {str(operator) for operator in flop_counter.flop_registry}
    missing = {
        name: operator.metrics["flops"]
        for name, operator in counted.operators.items()
        if operator.metrics.get("flops") and name not in known
    }
    if theirs == counted.flops - sum(missing.values()):
        return f"no formula for {', '.join(sorted(missing))}"
    per = {str(key): value for key, value in counter.get_flop_counts().get("Global", {}).items()}
    ours = {
        key: operator.metrics["flops"] for key, operator in counted.operators.items() if operator.metrics.get("flops")
    }
    texts = [
        f"{key} {ours.get(key, 0)} here, {per.get(key, 0)} there"
        for key in sorted({*ours, *per})
        if ours.get(key, 0) != per.get(key, 0)
    ]
    return f"differs: {'; '.join(texts)}"


#: Models with more parameters, or more FLOPs, are run on meta alone.
LARGE, LONG = 60_000_000, 30_000_000_000


def check_built(build: Callable[[], Any], inputs: Callable[[], tuple[Any, ...]]) -> dict[str, Any]:
    """Build a model and check it. A large model is built only on the meta device.

    Args:
        build: builds the model.
        inputs: makes the positional inputs of the model.
    """
    problems: list[str] = []
    model: Any = None
    try:
        with shape_only():
            model = build().eval()
        large = sum(value.numel() for value in model.parameters()) > LARGE
        large = large or measure(model, moved(inputs())).flops > LONG
    except Exception as error:  # noqa: BLE001 -- it may need data
        problems.append(in_words(error))
        large = False
    try:
        if large:
            model = model.to("meta")  # a constructor may have made a part of it elsewhere
        else:
            torch.manual_seed(0)
            model = build().eval()
        args = inputs()
        with torch.no_grad():
            model(*(moved(args) if large else args))
    except Exception as error:  # noqa: BLE001 -- it does not run
        return {"skipped": list(dict.fromkeys([*problems, in_words(error)]))}
    return {
        "model": type(model).__name__,
        "inputs": [f"{list(value.shape)}" for value in args],
        "form": "on meta alone" if large else "",
        **check(model, moved(args) if large else args, {}, build),
    }
