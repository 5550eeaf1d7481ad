"""Build models of transformers and timm from their configurations, without weights."""

from __future__ import annotations

import importlib
import json
import os
from typing import TYPE_CHECKING, Any

import torch

from pytest_flopsbudget.counting.shape_only import shape_only
from pytest_flopsbudget.errors import UsageError
from pytest_flopsbudget.quantities.parsing import nearest_spelling
from pytest_flopsbudget.targets.errors import described
from pytest_flopsbudget.targets.inputs import Arguments

if TYPE_CHECKING:
    from pathlib import Path

#: A model, a note on where its configuration comes from, and an example input; None if the model holds its example.
Built = tuple[Any, str, Arguments | None]


def build_transformers(name: str, folder: Path) -> Built:
    """Build a model of transformers under `shape_only`.

    Args:
        name: a configuration file, a folder with config.json, a class of models, a model type, or a model on the hub.
            The first kind that exists is taken. Only the last kind may use the network.
        folder: the path of a file is relative to this folder.

    Raises:
        UsageError: transformers is missing, there is no such model, or building the model raises an error.
    """
    transformers = _library("transformers")
    config, model_class, source = _configuration(transformers, name, folder)
    if model_class is None:
        model_class = _class_for(transformers, config)
    build = getattr(model_class, "_from_config", None) or model_class.from_config
    try:
        with shape_only():
            model = build(config)
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(f"building {model_class.__name__} raised {described(error)}") from error
    note = f"model: {type(model).__name__}, from {source}, without weights"
    return model, note, _image_for(model)


def _configuration(transformers: Any, name: str, folder: Path) -> tuple[Any, Any, str]:
    """Return the configuration, the class of the model (None if it is not known yet), and a text on the source."""
    path = folder / name
    # Path.is_dir and Path.is_file raise an error for a name that is too long.
    file = path / "config.json" if os.path.isdir(path) else path  # noqa: PTH112
    if os.path.isfile(file):  # noqa: PTH113
        return _read_configuration(transformers, file), None, name
    version = f"transformers {transformers.__version__}"
    if path.suffix == ".json":
        raise UsageError(f"{name}: there is no such file")
    found = getattr(transformers, name, None) if name.isidentifier() else None
    config_class = getattr(found, "config_class", None)
    if isinstance(found, type) and config_class is not None:
        return config_class(), found, f"the defaults of {config_class.__name__} in {version}"
    types = transformers.CONFIG_MAPPING
    if name in types:
        return transformers.AutoConfig.for_model(name), None, f"the defaults of model type {name} in {version}"
    try:
        # With False, transformers neither runs code from the hub nor asks the user for permission to run it.
        config = transformers.AutoConfig.from_pretrained(name, trust_remote_code=False)
    except Exception as error:
        near = nearest_spelling(name, [*types.keys()])
        hint = f"; did you mean the model type {near}?" if near else ""
        raise UsageError(
            f"{name} is neither a file, nor a class or a model type of {version}, and the hub gave no configuration "
            f"({_first_line(error)}){hint}"
        ) from error
    return config, None, f"the configuration of {name} on the hub"


def _read_configuration(transformers: Any, file: Path) -> Any:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise UsageError(f"{file} is no JSON: {_first_line(error)}") from error
    kind = data.get("model_type") if isinstance(data, dict) else None
    if not isinstance(kind, str):
        raise UsageError(f'{file} is no configuration of transformers: it has no "model_type"')
    types = transformers.CONFIG_MAPPING
    if kind not in types:
        near = nearest_spelling(kind, [*types.keys()])
        hint = f"; did you mean {near}?" if near else ""
        raise UsageError(f"{file}: transformers {transformers.__version__} has no model type {kind!r}{hint}")
    try:
        return types[kind].from_dict(data)
    except Exception as error:
        raise UsageError(f"{file}: reading the configuration raised {described(error)}") from error


def _class_for(transformers: Any, config: Any) -> Any:
    """Return the class that the configuration names, or else transformers' class for pretraining.

    If there is none, return the class for language models, or else the class without a head.
    """
    for name in getattr(config, "architectures", None) or ():
        found = getattr(transformers, name, None)
        if isinstance(found, type):
            return found
    if type(config) in transformers.MODEL_FOR_PRETRAINING_MAPPING:
        return transformers.AutoModelForPreTraining
    # The causal language model of an encoder with a decoder would be the decoder alone.
    if getattr(config, "is_encoder_decoder", False):
        if type(config) in transformers.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING:
            return transformers.AutoModelForSeq2SeqLM
    elif type(config) in transformers.MODEL_FOR_CAUSAL_LM_MAPPING:
        return transformers.AutoModelForCausalLM
    return transformers.AutoModel


def _image_for(model: Any) -> Arguments | None:
    """Return an image of the size in the configuration; None if the model takes something else."""
    if getattr(model, "main_input_name", "") != "pixel_values":
        return None
    config = model.config
    size = getattr(config, "image_size", None)
    if size is None:
        return None
    height, width = size if isinstance(size, (list, tuple)) else (size, size)
    image = torch.zeros(1, getattr(config, "num_channels", 3), height, width)
    return Arguments((), {"pixel_values": image}, "inputs: one image of the size in the configuration")


def build_timm(name: str) -> Built:
    """Build a model of timm under `shape_only`.

    Raises:
        UsageError: timm is missing, there is no such model, or building the model raises an error.
    """
    timm = _library("timm")
    if not timm.is_model(name):
        near = nearest_spelling(name, timm.list_models())
        raise UsageError(f"timm {timm.__version__} has no model {name!r}{f'; did you mean {near}?' if near else ''}")
    try:
        with shape_only():
            model = timm.create_model(name, pretrained=False)
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(f"building {name} raised {described(error)}") from error
    config = getattr(model, "pretrained_cfg", None) or getattr(model, "default_cfg", {})
    size = config.get("input_size")
    image = None if size is None else torch.zeros(1, *size)
    example = (
        None if image is None else Arguments((image,), {}, "inputs: one image of the size in timm's configuration")
    )
    return model, f"model: {type(model).__name__}, from timm {timm.__version__}, without weights", example


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise UsageError(f"importing {name} raised {described(error)}") from error
        raise UsageError(f"{name} is not installed: pip install {name}") from error


def _first_line(error: BaseException) -> str:
    lines = str(error).splitlines()
    return lines[0].strip() if lines else type(error).__name__
