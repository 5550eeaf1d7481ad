"""The architectures of transformers, each with a small configuration."""

from __future__ import annotations

import copy
import importlib
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import torch

from model_zoo import configurations, transformers_inputs
from model_zoo.architectures import ARCHITECTURES, DEFAULT, Run
from model_zoo.check import check, in_words, moved
from pytest_flopsbudget import measure, shape_only

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from model_zoo.architectures import Architecture

#: Models with more parameters are run on meta alone.
LARGE = 40_000_000
#: If such a model reads values, it runs on the CPU up to this number of parameters.
LARGEST = 200_000_000
Row = dict[str, Any]


def names() -> list[str]:
    """Return the types of models that ``AutoModel`` can build."""
    from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

    return sorted(MODEL_MAPPING_NAMES)


def check_architecture(name: str) -> Row:
    from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

    classes = MODEL_MAPPING_NAMES[name]
    kind = _kind(name, classes if isinstance(classes, str) else classes[0])
    architecture = ARCHITECTURES.get(name, DEFAULT)
    if kind.forward is torch.nn.Module.forward and not architecture.run:
        return {"model": kind.__name__, "skipped": [f"{kind.__name__} has no forward"]}
    problems: dict[str, None] = {}
    for form, config in _forms(name, architecture):
        build = _builder(kind, config, architecture.run)
        try:
            model, large = _built(build)
        except Exception as error:  # noqa: BLE001 -- this form cannot be built
            problems[in_words(error)] = None
            continue
        for inputs in transformers_inputs.candidates(model, architecture.inputs):
            given = moved(inputs) if large else inputs
            try:
                with torch.no_grad():
                    _ = measure(model, (), given) if large else model(**given)
            except Exception as error:  # noqa: BLE001 -- these inputs do not fit
                problems[in_words(error)] = None
                if large and "needs data" in str(error) and _parameters(model) < LARGEST:
                    # The model reads a value, so that it runs on data alone.
                    model, large = build().eval(), False
                    given = inputs
                    with suppress(Exception), torch.no_grad():
                        model(**given)
                        return _row(kind, model, given, build, form)
                continue
            return _row(kind, model, given, build, form)
        if missing := transformers_inputs.unknown_inputs(model):
            problems[f"no inputs are made for {', '.join(missing)}"] = None
    return {"model": kind.__name__, "skipped": list(problems) or ["no inputs are made for its arguments"]}


def _forms(name: str, architecture: Architecture) -> Iterator[tuple[str, Any]]:
    """Yield the configurations to try, the smallest one first. Each comes with a text that says how small it is."""
    largest = configurations.divisor(configurations.default(name))
    for factor, layers, filled in dict.fromkeys(
        [(largest, True, False), (largest, True, True), (1, True, False), (1, True, True), (1, False, False)]
    ):
        config = configurations.default(name)
        if filled and not configurations.fill(config):
            continue
        configurations.shrink(config, factor=factor, layers=layers)
        configurations.put(config, architecture.small)
        form = f"/{factor}{'' if layers else ', all layers'}"
        yield form, getattr(config, architecture.part) if architecture.part else config


def _builder(kind: Any, config: Any, run: Callable[..., Any] | None) -> Callable[[], Any]:
    def build() -> Any:
        return Run(plain(), run) if run else plain()

    def plain() -> Any:
        own = copy.deepcopy(config)
        try:
            return kind._from_config(own, attn_implementation="eager")  # noqa: SLF001 -- how tests choose attention
        except (ValueError, AttributeError, TypeError):
            return kind(copy.deepcopy(config))

    return build


def _row(kind: Any, model: Any, given: Any, build: Any, form: str) -> Row:
    return {
        "model": kind.__name__,
        "inputs": [f"{key}{list(value.shape) if hasattr(value, 'shape') else ''}" for key, value in given.items()],
        "form": f"{form}, on meta alone" if next(model.parameters()).is_meta else form,
        **check(model, (), given, build),
    }


def _parameters(model: Any) -> int:
    return sum(value.numel() for value in model.parameters())


def _built(build: Any) -> tuple[Any, bool]:
    """Return the model, and whether it is so large that it stays on the meta device."""
    with shape_only() if _reads(build) else torch.device("meta"):
        model = build().eval()
    if _parameters(model) > LARGE:
        return model, True
    torch.manual_seed(0)
    return build().eval(), False


def _reads(build: Any) -> bool:
    """Return whether the model cannot be built on the meta device, because its constructor reads values of tensors."""
    try:
        with torch.device("meta"):
            build()
    except Exception:  # noqa: BLE001 -- whatever fails there
        return True
    return False


def _kind(name: str, kind: str) -> Any:
    """Return the class of an architecture. Some classes are in no list of public names, only in their module."""
    import transformers
    from transformers.models.auto.configuration_auto import model_type_to_module_name

    if hasattr(transformers, kind):
        return getattr(transformers, kind)
    folder = model_type_to_module_name(name)
    return getattr(importlib.import_module(f"transformers.models.{folder}.modeling_{folder}"), kind)
