"""Find the models of a project in its source files, without importing them."""

from __future__ import annotations

import ast
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: Base classes that make a class a model, by the last part of their names.
_BASES = frozenset({"Module", "LightningModule", "PreTrainedModel"})
#: Containers are bases of models too, but only if they are PyTorch's: these names may mean something else.
_TORCH_BASES = frozenset({"Sequential", "ModuleList", "ModuleDict"})
_SKIPPED = frozenset(
    {"tests", "test", "docs", "examples", "build", "dist", "node_modules", "site-packages", "__pycache__", "__flops__"}
)


@dataclass
class FoundModel:
    """A class of models, or a function that builds a model."""

    #: The dotted name of the module.
    module: str
    name: str
    #: The source file, relative to the project.
    file: Path
    line: int
    #: Arguments without a default, which somebody has to choose.
    required: tuple[str, ...] = ()
    #: Code for an input: "torch.empty(1, 3, 224, 224)"; empty if the model holds an example or nothing is known.
    input_code: str = ""
    #: Where the input comes from, in words.
    input_source: str = ""


@dataclass
class FoundProject:
    """What the source files of a project define."""

    models: list[FoundModel]
    #: Files that Python cannot parse.
    unreadable: list[Path] = field(default_factory=list)


@dataclass
class _Class:
    node: ast.ClassDef
    module: str
    file: Path
    bases: tuple[str, ...]


def find_models(folder: Path) -> FoundProject:
    """Return the models that a test can build: classes that are no part of another model, and builders.

    A builder is a function of a module whose result is annotated as a model, or that returns a call of a class of
    models. A builder stands for the class that it builds.
    """
    classes: dict[str, _Class] = {}
    trees: list[tuple[str, Path, ast.Module]] = []
    unreadable = []
    for file in _source_files(folder):
        module = _module_name(file.relative_to(folder))
        if not module:
            continue
        try:
            tree = ast.parse(file.read_bytes())
        except (SyntaxError, ValueError, RecursionError, MemoryError, OSError):
            unreadable.append(file.relative_to(folder))
            continue
        trees.append((module, file.relative_to(folder), tree))
        for node in tree.body:
            if isinstance(node, ast.ClassDef):
                bases = tuple(map(_dotted, node.bases))
                classes.setdefault(node.name, _Class(node, module, file.relative_to(folder), bases))
    models = _classes_of_models(classes)
    builders = [found for module, file, tree in trees for found in _builders(module, file, tree, models)]
    parts = _parts(models)
    built = {name for _, name in builders}
    alone = [
        _from_class(one) for name, one in models.items() if name not in parts and name not in built and name[0] != "_"
    ]
    found = [*alone, *(one for one, _ in builders)]
    found.sort(key=lambda one: (one.module, one.line))
    return FoundProject(found, unreadable)


def _source_files(folder: Path) -> Iterator[Path]:
    for here, below, names in os.walk(folder):
        below[:] = sorted(
            name
            for name in below
            if name not in _SKIPPED
            and not name.startswith(".")
            and not os.path.exists(os.path.join(here, name, "pyvenv.cfg"))  # noqa: PTH110, PTH118 -- many folders
        )
        for name in sorted(names):
            if name.endswith(".py") and not name.startswith("test_") and name not in {"conftest.py", "setup.py"}:
                yield Path(here, name)


def _module_name(path: Path) -> str:
    """Return the dotted name from which the file is imported; "" if it cannot be imported."""
    parts = path.with_suffix("").parts
    if parts[0] == "src":
        parts = parts[1:]
    if parts and parts[-1] == "__init__":
        parts = parts[:-1]
    return ".".join(parts) if parts and all(part.isidentifier() for part in parts) else ""


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        above = _dotted(node.value)
        return f"{above}.{node.attr}" if above else ""
    if isinstance(node, ast.Subscript):  # Base[int]
        return _dotted(node.value)
    return node.id if isinstance(node, ast.Name) else ""


def _classes_of_models(classes: Mapping[str, _Class]) -> dict[str, _Class]:
    """Return the classes that derive, directly or not, from a model class of PyTorch, Lightning or transformers."""
    models: dict[str, _Class] = {}
    while True:
        more = {
            name: one
            for name, one in classes.items()
            if name not in models
            and any(
                (last := base.rpartition(".")[2]) in _BASES
                or last in models
                or (last in _TORCH_BASES and base.rpartition(".")[0] in {"nn", "torch.nn"})
                for base in one.bases
            )
        }
        if not more:
            return {name: one for name, one in classes.items() if name in models}
        models |= more


def _parts(models: Mapping[str, _Class]) -> set[str]:
    """Return the names of classes that other classes use or derive from, so that they are parts of these."""
    parts: set[str] = set()
    for name, one in models.items():
        for node in ast.walk(one.node):
            used = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
            if used in models and used != name:
                parts.add(used)
    return parts


def _builders(
    module: str, file: Path, tree: ast.Module, models: Mapping[str, _Class]
) -> Iterator[tuple[FoundModel, str]]:
    """Yield the functions that build a model, each with the name of the class; "" if the class is not known."""
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef) or node.name.startswith("_"):
            continue
        returned = [
            name.rpartition(".")[2]
            for inner in ast.walk(node)
            if isinstance(inner, ast.Return)
            and isinstance(inner.value, ast.Call)
            and (name := _dotted(inner.value.func)).rpartition(".")[2] in models
        ]
        annotated = _dotted(node.returns).rpartition(".")[2] if node.returns is not None else ""
        if not (returned or annotated in models or annotated in _BASES):
            continue
        name = returned[0] if returned else annotated if annotated in models else ""
        found = FoundModel(module, node.name, file, node.lineno, _required(node.args))
        if name:
            found.input_code, found.input_source = _guess_input(models[name].node)
        yield found, name


def _from_class(one: _Class) -> FoundModel:
    init = _method(one.node, "__init__")
    required = () if init is None else _required(init.args)[1:]
    code, source = _guess_input(one.node)
    return FoundModel(one.module, one.node.name, one.file, one.node.lineno, required, code, source)


def _method(node: ast.ClassDef, name: str) -> ast.FunctionDef | None:
    return next((one for one in node.body if isinstance(one, ast.FunctionDef) and one.name == name), None)


def _required(arguments: ast.arguments) -> tuple[str, ...]:
    positional = [*arguments.posonlyargs, *arguments.args]
    first = positional[: len(positional) - len(arguments.defaults)]
    named = [one for one, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if default is None]
    return tuple(one.arg for one in (*first, *named))


#: Layer → code for an input with the layer's first size.
_INPUTS = {
    "Conv1d": "torch.empty(1, {}, 1024)",
    "Conv2d": "torch.empty(1, {}, 224, 224)",
    "Conv3d": "torch.empty(1, {}, 16, 112, 112)",
    "Linear": "torch.empty(1, {})",
    "LSTM": "torch.empty(128, 1, {})",
    "GRU": "torch.empty(128, 1, {})",
    "Embedding": "torch.zeros(1, 128, dtype=torch.int64)",
}


def _guess_input(node: ast.ClassDef) -> tuple[str, str]:
    """Return code for an input, and where it comes from, by the first layer whose size is a plain number."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name | ast.Attribute):
            name = inner.id if isinstance(inner, ast.Name) else inner.attr
            if name == "example_input_array":
                return "", "the model's example_input_array"
    init = _method(node, "__init__")
    if init is None:
        return "", ""
    defaults = _defaults(init.args)
    calls = [inner for inner in ast.walk(init) if isinstance(inner, ast.Call)]
    calls.sort(key=lambda call: (call.lineno, call.col_offset))
    for call in calls:
        layer = _dotted(call.func).rpartition(".")[2]
        if layer not in _INPUTS or not call.args:
            continue
        size = call.args[0]
        number = size.value if isinstance(size, ast.Constant) else defaults.get(_dotted(size))
        if type(number) is int:
            return _INPUTS[layer].format(number), f"the first layer, {layer}({number}, ...)"
        return "", ""
    return "", ""


def _defaults(arguments: ast.arguments) -> dict[str, object]:
    positional = [*arguments.posonlyargs, *arguments.args]
    pairs = [
        *zip(positional[len(positional) - len(arguments.defaults) :], arguments.defaults, strict=True),
        *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
    ]
    return {one.arg: default.value for one, default in pairs if isinstance(default, ast.Constant)}
