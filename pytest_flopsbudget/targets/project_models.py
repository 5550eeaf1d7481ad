"""Load ``module:attribute``: a model, a class of models, a function that builds a model, or a function of sizes."""

from __future__ import annotations

import ast
import contextlib
import importlib
import importlib.util
import inspect
import pkgutil
import sys
from typing import TYPE_CHECKING, Any

from torch import nn

from pytest_flopsbudget.counting.cloning.wrapped import is_exported_program
from pytest_flopsbudget.errors import UsageError
from pytest_flopsbudget.quantities.parsing import nearest_spelling
from pytest_flopsbudget.targets.errors import described

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import ModuleType


@contextlib.contextmanager
def importable(folder: Path) -> Iterator[None]:
    """Import modules from ``folder`` first while the context lasts."""
    path = str(folder)
    sys.path.insert(0, path)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(path)


def load_project_model(text: str) -> Any:
    """Return the model that ``module:attribute`` or ``module:attribute(arguments)`` names.

    Raises:
        UsageError: there is no such module or attribute, importing or building raises an error, or the result is no
            model.
    """
    module_name, _, rest = text.partition(":")
    name, parenthesis, _ = rest.partition("(")
    found: Any = _named(module_name, name)
    if isinstance(found, nn.Module) or is_exported_program(found):
        if parenthesis:
            raise UsageError(f"{name} is a model; write {module_name}:{name} without arguments")
        return found
    if not callable(found):
        raise UsageError(f"{name} is a value of type {type(found).__name__}, and no model, class or function")
    args, kwargs = _arguments(rest) if parenthesis else ((), {})
    if not parenthesis:
        _refuse_required(found, name, module_name)
    try:
        model = found(*args, **kwargs)
    except (Exception, SystemExit) as error:
        raise UsageError(f"{name}({', '.join(map(repr, args))}) raised {described(error)}") from error
    if not (isinstance(model, nn.Module) or is_exported_program(model)):
        raise UsageError(
            f"{name} returned a value of type {type(model).__name__}, and no torch.nn.Module; name a model, a class or "
            "a function that returns a model"
        )
    return model


def load_project_function(text: str) -> Callable[..., Any]:
    """Return the function that ``module:attribute`` names, without a call of it.

    Raises:
        UsageError: there is no such module or attribute, or it is no function.
    """
    module_name, colon, name = text.partition(":")
    if not colon or not all(part.isidentifier() for part in (*module_name.split("."), *name.split("."))):
        raise UsageError(f"{text!r} names no function; write module:function, as in mypkg.costs:flops_per_token")
    found = _named(module_name, name)
    if not callable(found) or isinstance(found, (type, nn.Module)):
        raise UsageError(f"{text}: {name} is a value of type {type(found).__name__}, and no function of sizes")
    function: Callable[..., Any] = found
    return function


def _named(module_name: str, name: str) -> Any:
    found: Any = _import(module_name)
    for part in name.split("."):
        found = _attribute(found, part, module_name)
    return found


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (error.name == name or name.startswith(f"{error.name}.")):
            raise UsageError(f"no module {error.name!r}{_near_modules(error.name)}") from error
        raise UsageError(f"importing {name} raised {described(error)}") from error
    except (Exception, SystemExit) as error:
        raise UsageError(f"importing {name} raised {described(error)}") from error


def _near_modules(name: str) -> str:
    above, _, last = name.rpartition(".")
    folders = getattr(sys.modules.get(above), "__path__", None) if above else sys.path[:1]
    names = [module.name for module in pkgutil.iter_modules(folders or [])]
    near = nearest_spelling(last, names)
    return f"; did you mean {f'{above}.' if above else ''}{near}?" if near else " in the current folder or installed"


def _attribute(found: Any, name: str, module: str) -> Any:
    try:
        return getattr(found, name)
    except AttributeError as error:
        near = nearest_spelling(name, [one for one in dir(found) if not one.startswith("_")])
        hint = f"; did you mean {near}?" if near else ""
        raise UsageError(f"{module} has no {name!r}{hint}") from error


def _arguments(text: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of a call such as ``build(18, width=64)``."""
    with contextlib.suppress(ValueError, SyntaxError, RecursionError, MemoryError):
        call = ast.parse(text, mode="eval").body
        if isinstance(call, ast.Call) and not isinstance(call.func, ast.Call):
            args = tuple(map(ast.literal_eval, call.args))
            kwargs = {one.arg: ast.literal_eval(one.value) for one in call.keywords if one.arg is not None}
            if len(kwargs) == len(call.keywords):  # a call with **dictionary is refused
                return args, kwargs
    raise UsageError(f"{text!r} is no call with plain values; write build(18, width=64)")


def _refuse_required(function: Any, name: str, module: str) -> None:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    required = [one.name for one in parameters if one.default is one.empty and one.kind not in variable]
    if required:
        raise UsageError(
            f"{name} takes {', '.join(required)}; write the values, as in "
            f"{module}:{name}({', '.join('...' for _ in required)}), or name a function without arguments"
        )
