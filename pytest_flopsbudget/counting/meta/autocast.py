"""Autocast on shapes: it looks at where tensors are, and so leaves those on the meta device as they are.

FLOPs do not hang on the dtype, but models do: they ask for it, or mix what autocast would have made alike. So functions
are given what autocast would give them. Which ones it casts is asked of PyTorch's dispatcher, which has kernels of
autocast's for them.
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
from pytest_flopsbudget.counting.tensors.metadata import PLAIN_TYPES, tensors_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence


#: The kinds of devices whose autocast is followed, and the name of its key.
_KEYS = {"cpu": "AutocastCPU", "cuda": "AutocastCUDA"}

#: Operators of autocast's that compute in its lower precision: "autocast op reference" in PyTorch's documentation.
_LOWER_NAMES = """
addbmm addmm addmv addr baddbmm bmm chain_matmul conv1d conv2d conv3d conv_tbc conv_transpose1d conv_transpose2d
conv_transpose3d convolution gru_cell linalg_multi_dot linalg_vecdot linear lstm_cell matmul mm mv prelu rnn_relu_cell
rnn_tanh_cell scaled_dot_product_attention
"""
#: Those that bring what they are given to the widest dtype among it.
_WIDEST_NAMES = """
addcdiv addcmul atan2 bilinear cat cross dot grid_sampler index_copy index_put scatter_add stack tensordot vdot
"""
_PLAIN = frozenset((*PLAIN_TYPES, type(None)))
#: The name under which `torch.nn.functional` has the question whether something else is to run in a function's place.
_ASKS = "has_torch_function"
_LOWER, _WIDEST = frozenset(_LOWER_NAMES.split()), frozenset(_WIDEST_NAMES.split())
#: Python's functions that are made of such operators, by the one that tells what comes out.
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
    """The names of the operators for which the dispatcher has kernels of autocast's."""
    registered = torch._C._dispatch_get_registrations_for_dispatch_key(_KEYS[device])  # noqa: SLF001
    return frozenset(name.removeprefix("aten::").partition(".")[0] for name in registered)


@cache
def _precision(name: str, device: str) -> Literal["lower", "single", "widest"] | None:
    """What autocast of this kind of device computes a function in; None where it leaves it alone."""
    name = _MADE_OF.get(name, name)
    if name not in _cast_by_autocast(device):
        return None
    if name in _WIDEST:
        return "widest"
    return "lower" if name in _LOWER else "single"


def _name_of(function: Any) -> str:
    """As autocast's tables have it."""
    name: str = getattr(getattr(function, "overloadpacket", function), "__name__", "")
    return name


class _Casting(TorchFunctionMode):
    """Gives functions what autocast would give them."""

    def __init__(self, devices: Sequence[str], kept: dict[int, tuple[torch.Tensor, torch.Tensor]]) -> None:
        super().__init__()
        self._devices = devices
        #: By identity, the weights that have been cast, and what came out: autocast casts them once.
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
        for device in self._devices:
            if torch.is_autocast_enabled(device):
                precision = _precision(_name_of(function), device)
                if precision == "widest":
                    dtypes = {tensor.dtype for value in values for tensor in tensors_in(value)}
                    return torch.float32 if torch.float32 in dtypes else None
                if precision is not None:
                    return torch.get_autocast_dtype(device) if precision == "lower" else torch.float32
        return None

    def _cast(self, value: Any, dtype: torch.dtype) -> Any:
        """``value`` with its tensors in this dtype."""
        if isinstance(value, torch.Tensor):
            casts = value.is_meta and value.is_floating_point() and value.dtype not in (torch.float64, dtype)
            if not casts:
                return value
            if not _is_kept(value, dtype):
                return value.to(dtype)
            key = id(value)
            if key not in self._kept:
                with torch.enable_grad():  # as autocast does, so that what is kept serves whoever comes next
                    self._kept[key] = value, value.to(dtype)
            return self._kept[key][1]
        if type(value) in (list, tuple):
            return type(value)(self._cast(item, dtype) for item in value)
        return value


def _is_kept(tensor: torch.Tensor, dtype: torch.dtype) -> bool:
    """Whether autocast keeps what comes out until it is left (`cached_cast`): that of weights."""
    return (
        dtype is not torch.float32
        and tensor.dtype is torch.float32
        and tensor.requires_grad
        and tensor.is_leaf
        and not tensor._is_view()  # noqa: SLF001 -- there is no other way to ask
        and torch.is_autocast_cache_enabled()
    )


def _has_function_of_its_own(values: Sequence[Any]) -> bool:
    """`torch.overrides.has_torch_function`, but for modes: what Python's functions are made of is to be seen."""
    return not _PLAIN.issuperset(map(type, values)) and torch.overrides.has_torch_function(values)


@contextmanager
def autocast_on_meta(tensors: Callable[[], Iterable[torch.Tensor]]) -> Iterator[None]:
    """Let autocast, around and inside of what is run, do on meta what it does where the tensors are.

    Args:
        tensors: gives the model's and its inputs', before they were doubled. Those on meta stand for any device.
    """
    kind = torch.amp.autocast_mode.autocast
    enter, leave = kind.__enter__, kind.__exit__

    @cache
    def devices() -> tuple[str, ...]:
        kinds = {tensor.device.type for tensor in tensors()}
        return tuple(device for device in _KEYS if device in kinds or "meta" in kinds)

    kept: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
    with ExitStack() as around:
        is_around = any(map(torch.is_autocast_enabled, _KEYS))
        if is_around:
            around.enter_context(_Casting(devices(), kept))
        inside: list[ExitStack] = []

        def enter_followed(self: torch.amp.autocast_mode.autocast) -> Any:
            result = enter(self)  # type: ignore[no-untyped-call]
            mode = ExitStack()
            mode.enter_context(_Casting(devices(), kept))
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
                (functional, _ASKS, on_this_thread(_has_function_of_its_own, getattr(functional, _ASKS))),
            )
        ):
            yield
