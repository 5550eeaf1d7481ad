"""The models of diffusers, each with a small configuration."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import torch

from model_zoo import diffusers_inputs
from model_zoo.check import check, in_words
from model_zoo.diffusers_settings import NOT_RUN, SMALL
from model_zoo.diffusers_small import Small

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Row = dict[str, Any]


def names() -> list[str]:
    import diffusers
    from diffusers import ModelMixin

    found = []
    for name in dir(diffusers):
        try:
            kind = getattr(diffusers, name)
        except Exception:  # noqa: BLE001, S112 -- a class whose requirements are not installed
            continue
        if inspect.isclass(kind) and issubclass(kind, ModelMixin) and kind is not ModelMixin:
            found.append(name)
    return found


def check_class(name: str) -> Row:
    """Check one class with the inputs that are made for it, or else with the first ones that the model accepts."""
    import diffusers

    if name in NOT_RUN:
        return {"model": name, "skipped": [NOT_RUN[name]]}
    kind, small = getattr(diffusers, name), SMALL.get(name, Small())

    def build() -> Any:
        torch.manual_seed(0)
        return small.build(kind) if small.build else kind(**small.settings)

    try:
        model = build().eval()
    except Exception as error:  # noqa: BLE001 -- it cannot be built
        return {"model": name, "skipped": [in_words(error)]}
    problems: dict[str, None] = {}
    for inputs in _inputs(small, model):
        try:
            with torch.no_grad():
                build().eval()(**inputs)
        except Exception as error:  # noqa: BLE001 -- these inputs do not fit
            problems[in_words(error)] = None
            continue
        return {"model": name, "inputs": _shown(inputs), **check(model, (), inputs, build)}
    if small.inputs is None and (missing := diffusers_inputs.missing(model)):
        problems[f"no inputs are made for {', '.join(missing)}"] = None
    return {"model": name, "skipped": list(problems)}


def _inputs(small: Small, model: Any) -> Iterable[Mapping[str, Any]]:
    if small.inputs is None:
        return diffusers_inputs.candidates(model)
    return [small.inputs(model) if callable(small.inputs) else small.inputs]


def _shown(inputs: Mapping[str, Any]) -> list[str]:
    return [f"{key}{list(value.shape) if isinstance(value, torch.Tensor) else ''}" for key, value in inputs.items()]
