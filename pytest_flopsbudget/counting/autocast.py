"""Autocast on shapes: it looks at where tensors are, and so leaves those on the meta device as they are.

FLOPs do not hang on the dtype, but models do: they ask for it, or mix what autocast would have made alike. So functions
are given what autocast would give them. Which ones it casts is asked of PyTorch's dispatcher, which has kernels of
autocast's for them.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch.overrides import TorchFunctionMode

from pytest_flopsbudget.counting.replaced import replaced
from pytest_flopsbudget.counting.threads import on_this_thread

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
#: Those that bring what they are given to the widest dtype among it, which nearly all of them do by themselves.
_WIDEST_NAMES = """
addcdiv addcmul atan2 bilinear cat cross dot grid_sampler index_copy index_put scatter_add stack tensordot vdot
"""
_LOWER, _WIDEST = frozenset(_LOWER_NAMES.split()), frozenset(_WIDEST_NAMES.split())
#: Python's functions that are made of such operators, by the one that tells what comes out.
_MADE_OF = {
    "__matmul__": "matmul",
    "__pow__": "pow",
    "__rmatmul__": "matmul",
    "cross_entropy": "nll_loss",
    "einsum": "bmm",
    "interpolate": "upsample_bilinear2d",
    "multi_head_attention_forward": "linear",
    "normalize": "norm",
}


@cache
def _cast_by_autocast(device: str) -> frozenset[str]:
    """The names of the operators for which the dispatcher has kernels of autocast's."""
    registered = torch._C._dispatch_get_registrations_for_dispatch_key(_KEYS[device])  # noqa: SLF001
    return frozenset(name.removeprefix("aten::").partition(".")[0] for name in registered)


@cache
def _precision(name: str, device: str) -> Literal["lower", "single"] | None:
    """What autocast of this kind of device computes a function in; None where it leaves it alone."""
    name = _MADE_OF.get(name, name)
    if name not in _cast_by_autocast(device) or name in _WIDEST:
        return None
    return "lower" if name in _LOWER else "single"


class _Casting(TorchFunctionMode):
    """Gives functions what autocast would give them."""

    def __init__(self, devices: Sequence[str]) -> None:
        super().__init__()
        self._devices = devices

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        dtype = None if kwargs.get("out") is not None else self._dtype(getattr(func, "__name__", ""))
        if dtype is not None:
            args = _cast(args, dtype)
            kwargs = {name: _cast(value, dtype) for name, value in kwargs.items()}
        return func(*args, **kwargs)

    def _dtype(self, name: str) -> torch.dtype | None:
        for device in self._devices:
            if torch.is_autocast_enabled(device):
                precision = _precision(name, device)
                if precision is not None:
                    return torch.get_autocast_dtype(device) if precision == "lower" else torch.float32
        return None


def _cast(value: Any, dtype: torch.dtype) -> Any:
    if isinstance(value, torch.Tensor):
        casts = value.is_meta and value.is_floating_point() and value.dtype not in (torch.float64, dtype)
        return value.to(dtype) if casts else value
    if type(value) in (list, tuple):
        return type(value)(_cast(item, dtype) for item in value)
    return value


@contextmanager
def autocast_followed(tensors: Callable[[], Iterable[torch.Tensor]]) -> Iterator[None]:
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

    with ExitStack() as around:
        if any(map(torch.is_autocast_enabled, _KEYS)):
            around.enter_context(_Casting(devices()))
        inside: list[ExitStack] = []

        def enter_followed(self: torch.amp.autocast_mode.autocast) -> Any:
            result = enter(self)  # type: ignore[no-untyped-call]
            mode = ExitStack()
            mode.enter_context(_Casting(devices()))
            inside.append(mode)
            return result

        def leave_followed(self: torch.amp.autocast_mode.autocast, *failure: Any) -> Any:
            if inside:
                inside.pop().close()
            return leave(self, *failure)

        with replaced(
            (
                (kind, "__enter__", on_this_thread(enter_followed, enter)),
                (kind, "__exit__", on_this_thread(leave_followed, leave)),
            )
        ):
            yield
