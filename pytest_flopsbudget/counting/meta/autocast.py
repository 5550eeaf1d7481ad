"""Apply autocast to meta tensors, which PyTorch's autocast ignores because of their device.

FLOPs do not depend on the dtype. But a model may read the dtype, or may combine tensors that autocast casts to one
dtype. So this file casts the arguments of the functions for which autocast has a kernel in the dispatcher.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from pytest_flopsbudget.counting.isolation.patching import patched
from pytest_flopsbudget.counting.isolation.threads import on_this_thread
from pytest_flopsbudget.counting.meta.asking import is_really_on_meta, seeing_meta
from pytest_flopsbudget.counting.tensors.metadata import PLAIN_TYPES, tensors_in, true_device
from pytest_flopsbudget.counting.torch_private import is_view, keeps_gradients_of_casts, kernels_of_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence


#: Device type → the dispatch key of autocast for this device type.
_KEYS = {"cpu": "AutocastCPU", "cuda": "AutocastCUDA"}

#: Operators that autocast runs in lower precision. Source: "Autocast Op Reference" in PyTorch's documentation.
_LOWER_NAMES = """
addbmm addmm addmv addr baddbmm bmm chain_matmul conv1d conv2d conv3d conv_tbc conv_transpose1d conv_transpose2d
conv_transpose3d convolution gru_cell linalg_multi_dot linalg_vecdot linear lstm_cell matmul mm mv prelu rnn_relu_cell
rnn_tanh_cell scaled_dot_product_attention
"""
#: Operators that autocast runs in the widest dtype among their inputs. Source: "Autocast Op Reference" in PyTorch's
#: documentation.
_WIDEST_NAMES = """
addcdiv addcmul atan2 bilinear cat cross dot grid_sampler index_copy index_put scatter_add stack tensordot vdot
"""
_PLAIN = frozenset((*PLAIN_TYPES, type(None)))
#: The function with which `torch.nn.functional` checks whether a mode or a tensor overrides a function.
_OVERRIDE_CHECK = "has_torch_function"
_LOWER, _WIDEST = frozenset(_LOWER_NAMES.split()), frozenset(_WIDEST_NAMES.split())
#: Name of a Python function → name of the operator that decides the dtype of its output.
_MADE_OF = {
    "mkldnn_rnn_layer": "linear",
    "__matmul__": "matmul",
    "__pow__": "pow",
    "__rmatmul__": "matmul",
    "cross_entropy": "nll_loss",
    "einsum": "bmm",
    "interpolate": "upsample_bilinear2d",
    "normalize": "norm",
}


@cache
def _cast_by_autocast(device: str) -> frozenset[str]:
    """Return the names of the operators for which autocast on ``device`` has a kernel in the dispatcher."""
    return frozenset(name.removeprefix("aten::").partition(".")[0] for name in kernels_of_key(_KEYS[device]))


@cache
def _precision(name: str, device: str) -> Literal["lower", "single", "widest"] | None:
    """Return the precision in which autocast runs a function, or None if autocast does not change the function.

    "lower" is the dtype of autocast. "single" is float32. "widest" is float32 if an argument has this dtype.
    """
    name = _MADE_OF.get(name, name)
    if name not in _cast_by_autocast(device):
        return None
    if name in _WIDEST:
        return "widest"
    return "lower" if name in _LOWER else "single"


def _name_of(function: Any) -> str:
    name: str = getattr(getattr(function, "overloadpacket", function), "__name__", "")
    return name


class _Casting(TorchFunctionMode):
    """A mode that casts the arguments of functions as autocast would cast them."""

    def __init__(
        self,
        devices: Sequence[str],
        device_of: Callable[[torch.Tensor], torch.device],
        kept: dict[int, tuple[torch.Tensor, torch.Tensor]],
    ) -> None:
        super().__init__()
        self._devices = devices
        self._device_of = device_of
        #: `id` of a weight → the weight and its cast. Autocast casts each weight once and keeps the result.
        self._kept = kept

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        dtype = None if kwargs.get("out") is not None else self._dtype(func, (*args, *kwargs.values()))
        if dtype is not None:
            cast = partial(self._cast, dtype=dtype)
            args, kwargs = cast(args), {name: cast(value) for name, value in kwargs.items()}
        return func(*args, **kwargs)

    def _dtype(self, function: Any, values: Sequence[Any]) -> torch.dtype | None:
        for device in _KEYS:
            if torch.is_autocast_enabled(device) and (device in self._devices or self._is_used(device, values)):
                precision = _precision(_name_of(function), device)
                if precision == "widest":
                    dtypes = {tensor.dtype for value in values for tensor in tensors_in(value)}
                    return torch.float32 if torch.float32 in dtypes else None
                if precision is not None:
                    return torch.get_autocast_dtype(device) if precision == "lower" else torch.float32
        return None

    def _is_used(self, device: str, values: Sequence[Any]) -> bool:
        """Return whether one of the tensors in ``values`` would be on ``device`` outside of a run on shapes."""
        return any(
            is_really_on_meta(tensor) and self._device_of(tensor).type == device
            for value in values
            for tensor in tensors_in(value)
        )

    def _cast(self, value: Any, dtype: torch.dtype) -> Any:
        """Return ``value`` with the casts that autocast to ``dtype`` would make."""
        if isinstance(value, torch.Tensor):
            casts = is_really_on_meta(value) and value.is_floating_point() and value.dtype not in (torch.float64, dtype)
            if not casts:
                return value
            if not _is_kept(value, dtype):
                return value.to(dtype)
            key = id(value)
            if key not in self._kept:
                # A later call may need the gradient of the cast.
                with torch.set_grad_enabled(torch.is_grad_enabled() or keeps_gradients_of_casts()):
                    self._kept[key] = value, value.to(dtype)
            return self._kept[key][1]
        if type(value) in (list, tuple):
            return type(value)(self._cast(item, dtype) for item in value)
        return value


def _is_kept(tensor: torch.Tensor, dtype: torch.dtype) -> bool:
    """Return whether autocast casts this tensor only once and reuses the result until the autocast block ends.

    For example, autocast reuses the casts of weights.
    """
    return (
        dtype is not torch.float32
        and tensor.dtype is torch.float32
        and tensor.requires_grad
        and tensor.is_leaf
        and not is_view(tensor)
        and torch.is_autocast_cache_enabled()
    )


def _is_overridden(values: Sequence[Any]) -> bool:
    """Return whether a value's class overrides PyTorch's functions. Return False for plain tensors."""
    return not _PLAIN.issuperset(map(type, values)) and torch.overrides.has_torch_function(values)


@contextmanager
def autocast_on_meta(
    tensors: Callable[[], Iterable[torch.Tensor]], device_of: Callable[[torch.Tensor], torch.device]
) -> Iterator[None]:
    """Inside the ``with`` block, autocast also casts meta tensors, as it would cast the tensors of the user's model.

    Args:
        tensors: returns the user's tensors, of model and inputs. Their devices decide which autocast applies. If one of
            them is on meta, the autocast of every device applies.
        device_of: returns the device on which a meta tensor of the run would be. The autocast of this device applies to
            the tensor too.
    """
    kind = torch.amp.autocast_mode.autocast
    enter, leave = kind.__enter__, kind.__exit__

    @cache
    def devices() -> tuple[str, ...]:
        with seeing_meta():
            kinds = {true_device(tensor).type for tensor in tensors()}
        return tuple(device for device in _KEYS if device in kinds or "meta" in kinds)

    kept: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
    with ExitStack() as around:
        is_around = any(map(torch.is_autocast_enabled, _KEYS))
        if is_around:
            around.enter_context(_Casting(devices(), device_of, kept))
        inside: list[ExitStack] = []

        def enter_followed(self: torch.amp.autocast_mode.autocast) -> Any:
            result = enter(self)  # type: ignore[no-untyped-call]
            mode = ExitStack()
            mode.enter_context(_Casting(devices(), device_of, kept))
            inside.append(mode)
            return result

        def leave_followed(self: torch.amp.autocast_mode.autocast, *failure: Any) -> Any:
            if inside:
                inside.pop().close()
                if not (inside or is_around):
                    kept.clear()
            return leave(self, *failure)

        with patched(
            (
                (kind, "__enter__", on_this_thread(enter_followed, enter)),
                (kind, "__exit__", on_this_thread(leave_followed, leave)),
                (functional, _OVERRIDE_CHECK, on_this_thread(_is_overridden, getattr(functional, _OVERRIDE_CHECK))),
            )
        ):
            yield
