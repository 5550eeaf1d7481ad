"""Parse the text that names a model and its inputs: ``mypkg.net:build?input=1x3x224x224&backward``."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pytest_flopsbudget.errors import UsageError
from pytest_flopsbudget.quantities.parsing import nearest_spelling

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DTYPES = (
    "float32",
    "float16",
    "bfloat16",
    "float64",
    "int64",
    "int32",
    "int16",
    "int8",
    "uint8",
    "bool",
    "complex64",
    "complex128",
)

#: The maximum number of elements of an input: 2 to the power 62, so that bytes fit into PyTorch's numbers.
_MAX_ELEMENTS = 2**62

_OPTIONS = ("input", "kwargs", "batch", "backward")
_NEXT_OPTION = re.compile(rf"&(?=(?:{'|'.join(_OPTIONS)})(?:=|&|$))")
_INPUT = re.compile(r"(?:(?P<name>[^\W\d]\w*)=)?(?P<sizes>\d+(?:x\d+)*)(?::(?P<dtype>\w+))?")


@dataclass(frozen=True)
class InputSpec:
    """The shape and dtype of one argument."""

    sizes: tuple[int, ...]
    #: The name of the dtype in PyTorch, one of `DTYPES`.
    dtype: str = "float32"
    #: The argument's name; empty for a positional argument.
    name: str = ""


@dataclass(frozen=True)
class CallOptions:
    """How a model is called."""

    inputs: tuple[InputSpec, ...] = ()
    #: Keyword arguments besides the inputs.
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    #: The first size of each input; None for the size that each input has.
    batch: int | None = None
    #: Whether the backward pass is counted too.
    backward: bool = False


@dataclass(frozen=True)
class Target:
    """A model that a command or an option of pytest names, and how to call it."""

    #: The whole text, as the user typed it, with "x" between sizes.
    text: str
    #: The text before "?", which names the model.
    model: str
    options: CallOptions = CallOptions()

    def with_defaults(self, defaults: CallOptions) -> Target:
        """Return the target with the options of ``defaults`` for which the target's text has none."""
        own = self.options
        return replace(
            self,
            options=CallOptions(
                inputs=own.inputs or defaults.inputs,
                kwargs=own.kwargs or defaults.kwargs,
                batch=own.batch if own.batch is not None else defaults.batch,
                backward=own.backward or defaults.backward,
            ),
        )


def parse_target(text: str) -> Target:
    """Parse ``MODEL`` or ``MODEL?OPTION&OPTION``.

    MODEL is ``module:attribute``, ``module:attribute(arguments)``, ``hf:NAME``, ``timm:NAME`` or the path of a .pt2
    file. Each OPTION is ``input=SPEC``, ``kwargs=JSON``, ``batch=N`` or ``backward``.

    Raises:
        UsageError: the text has another form.
    """
    text = with_plain_signs(text)
    model, question, query = text.partition("?")
    if not model:
        raise UsageError(f"{text!r} names no model; {FORMS}")
    if not (model.startswith(("hf:", "timm:")) or model.endswith(".pt2")):
        _check_project_model(model)
    elif model in {"hf:", "timm:"}:
        raise UsageError(f"{text!r} names no model; {FORMS}")
    options = CallOptions()
    for option in _NEXT_OPTION.split(query) if question else ():
        key, equals, value = option.partition("=")
        try:
            options = _with_option(options, key, value, has_value=bool(equals))
        except UsageError as error:
            raise UsageError(f"{text}: {error}") from error
    return Target(text, model, options)


def with_plain_signs(text: str) -> str:
    """Return ``text`` with "x" between sizes. Messages write a multiplication sign, and users copy from messages."""
    return re.sub("(?<=\\d)\u00d7(?=\\d)", "x", text)


FORMS = "write module:attribute, hf:NAME, timm:NAME or FILE.pt2"


def _check_project_model(model: str) -> None:
    module, colon, attribute = model.partition(":")
    if module.endswith(".py"):
        dotted = module.removesuffix(".py").replace("\\", "/").strip("./").replace("/", ".")
        raise UsageError(f"{model!r} names a file; write the module: {dotted}:{attribute.lstrip(':') or 'build'}")
    if not colon:
        raise UsageError(f"{model!r} names no model; {FORMS}")
    if not all(part.isidentifier() for part in module.split(".")):
        raise UsageError(f"{model!r}: {module!r} is not the name of a module; {FORMS}")
    name = attribute.partition("(")[0]
    if not all(part.isidentifier() for part in name.split(".")):
        raise UsageError(f"{model!r}: {name!r} is not the name of an attribute; write module:attribute")


def _with_option(options: CallOptions, key: str, value: str, *, has_value: bool) -> CallOptions:
    if key == "input":
        return replace(options, inputs=(*options.inputs, parse_input(value)))
    if key == "kwargs":
        return replace(options, kwargs=parse_kwargs(value))
    if key == "batch":
        return replace(options, batch=parse_batch(value))
    if key == "backward" and not has_value:
        return replace(options, backward=True)
    if key == "backward":
        raise UsageError("backward takes no value; write &backward")
    near = nearest_spelling(key, _OPTIONS)
    hint = f"did you mean {near}?" if near else f"there are {', '.join(_OPTIONS)}"
    raise UsageError(f"no option {key!r} after the question mark; {hint}")


def parse_input(text: str) -> InputSpec:
    """Parse ``1x3x224x224``, ``1x128:int64`` or ``tokens=1x128:int64``.

    Raises:
        UsageError: the text has another form, or there is no such dtype.
    """
    found = _INPUT.fullmatch(with_plain_signs(text.strip()))
    if found is None:
        raise UsageError(f"{text!r} is no input; write sizes, as in 1x3x224x224, 1x128:int64 or tokens=1x128:int64")
    dtype = found["dtype"] or "float32"
    if dtype not in DTYPES:
        near = nearest_spelling(dtype, DTYPES)
        hint = f"did you mean {near}?" if near else f"there are {', '.join(DTYPES)}"
        raise UsageError(f"input {text!r}: no dtype {dtype!r}; {hint}")
    sizes = tuple(_whole(size) for size in found["sizes"].split("x"))
    if math.prod(sizes) >= _MAX_ELEMENTS:
        raise UsageError(f"input {text!r}: it has too many elements for a tensor")
    return InputSpec(sizes, dtype, found["name"] or "")


def _whole(digits: str) -> int:
    # Python refuses to convert thousands of digits; any number that long is too large.
    return int(digits) if len(digits) < len(str(_MAX_ELEMENTS)) else _MAX_ELEMENTS


def parse_inputs(texts: Sequence[str]) -> tuple[InputSpec, ...]:
    """Parse several inputs.

    Raises:
        UsageError: a text has another form, or two inputs have the same name.
    """
    inputs = tuple(map(parse_input, texts))
    check_names(inputs)
    return inputs


def check_names(inputs: Sequence[InputSpec]) -> None:
    """Refuse two inputs of one name.

    Raises:
        UsageError: two inputs have the same name.
    """
    names = [one.name for one in inputs if one.name]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"two inputs have the name {twice!r}")


def parse_kwargs(text: str) -> dict[str, Any]:
    """Parse arguments by name from JSON: ``{"use_cache": false}``.

    Raises:
        UsageError: the text is no JSON object.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"kwargs {text!r} is no JSON: {error}; write {_KWARGS_EXAMPLE}") from error
    if not isinstance(found, dict):
        raise UsageError(f"kwargs {text!r} is no JSON object; write {_KWARGS_EXAMPLE}")
    return found


_KWARGS_EXAMPLE = """'{"use_cache": false}'"""


def parse_batch(text: str) -> int:
    """Parse the first size of the inputs.

    Raises:
        UsageError: the text is no whole number of at least 1.
    """
    if not (text.isascii() and text.isdigit()) or len(text) > len("1000000000") or int(text) < 1:
        raise UsageError(f"batch {text!r} is no whole number from 1 on; write batch 8")
    return int(text)
