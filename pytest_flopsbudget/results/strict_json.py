"""JSON read strictly: no key twice, nothing that was not asked for, and every fault told with its place and line."""

from __future__ import annotations

import difflib
import json
import re
import types
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

_T = TypeVar("_T")

#: Where a value stands: the keys of the objects and the numbers of the items around it, the outermost first.
Place = tuple["str | int", ...]

_TOKEN = re.compile(
    r'(?P<key>"(?:[^"\\]|\\.)*")\s*:|"(?:[^"\\]|\\.)*"|(?P<opening>[{[])|(?P<closing>[}\]])|(?P<comma>,)'
)
#: A step in msgspec's messages: a key, an item's number, or "[...]" for a key that it does not tell.
_STEP = re.compile(r"\.(?P<key>\w+)|\[(?P<number>\d+)\]|\[\.\.\.\]")


class FaultError(Exception):
    """What is wrong with a text and where: at a place or, where there are none yet, on a line."""

    def __init__(self, reason: str, place: Place = (), *, line: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.place = place
        self.line = line


def parse(text: str) -> object:
    """What JSON ``text`` holds.

    Raises:
        FaultError: it is no JSON, or an object in it has a key twice.
    """
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        raise FaultError(f"no JSON from column {error.colno} on: {error.msg}", line=error.lineno) from error
    except _DuplicateKeyError as error:
        raise FaultError("the key is there twice", _first_duplicate(text)) from error
    except (RecursionError, ValueError) as error:
        # Brackets nested by the thousand, an integer of thousands of digits.
        raise FaultError(f"cannot be read: {error}", line=1) from error


def convert(value: object, kind: type[_T], place: Place = ()) -> _T:
    """``value``, which `parse` returned and which stands at ``place``, as a ``kind``.

    Raises:
        FaultError: it is none.
    """
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `$")
        inner: Any = value
        inner_kind: Any = kind
        for step in _STEP.finditer(path):
            if not step["key"] and not step["number"]:
                for name, one in inner.items():
                    convert(one, _inside(inner_kind, name), (*place, name))
            own = step["key"] or int(step["number"])
            inner, inner_kind, place = inner[own], _inside(inner_kind, own), (*place, own)
        raise _fault(reason, place, inner_kind) from error


def line_of(text: str, place: Place) -> int:
    """The line of a place in valid JSON or, where it is missing, of the nearest one around it."""
    offsets: dict[Place, int] = {(): 0, **dict(_places(text))}
    known = next(place[:depth] for depth in range(len(place), -1, -1) if place[:depth] in offsets)
    return text.count("\n", 0, offsets[known]) + 1


def in_words(place: Place) -> str:
    """A place as a message names it: ``tests[0].measurements[0].name``."""
    steps = (
        f"[{step}]" if isinstance(step, int) else f".{step}" if re.fullmatch(r"\w+", step) else f"[{json.dumps(step)}]"
        for step in place
    )
    return "".join(steps).removeprefix(".")


class _DuplicateKeyError(Exception):
    pass


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise _DuplicateKeyError
    return table


def _first_duplicate(text: str) -> Place:
    seen = set()
    for place, _ in _places(text):
        if place in seen:
            return place
        seen.add(place)
    return ()


def _places(text: str) -> Iterator[tuple[Place, int]]:
    """The keys of all objects in valid JSON, and the objects and arrays in its arrays, each with its offset."""
    steps: list[str | int] = []
    for token in _TOKEN.finditer(text):
        if token["key"]:
            steps[-1] = json.loads(token["key"])
            yield tuple(steps), token.start()
        elif token["opening"]:
            if steps and isinstance(steps[-1], int):
                yield tuple(steps), token.start()
            steps.append(0 if token["opening"] == "[" else "")
        elif token["closing"]:
            steps.pop()
        elif token["comma"] and isinstance(steps[-1], int):
            steps[-1] += 1


def _fault(reason: str, place: Place, kind: object) -> FaultError:
    """The reason that msgspec gives, in this package's words."""
    unknown = re.fullmatch(r"Object contains unknown field `(.*)`", reason, re.DOTALL)
    if unknown:
        known = [name for one in _options(kind) if _is_struct(one) for name in get_type_hints(one)]
        near = difflib.get_close_matches(unknown[1], known, n=1)
        hint = f"did you mean {json.dumps(near[0])}?" if near else f"there are {', '.join(known)}"
        return FaultError(f"no such key; {hint}", (*place, unknown[1]))
    missing = re.fullmatch(r"Object missing required field `(.*)`", reason, re.DOTALL)
    if missing:
        return FaultError(f"the key {json.dumps(missing[1])} is missing", place)
    if reason.startswith("Invalid enum value"):
        allowed = [value for one in _options(kind) for value in get_args(one)]
        reason += f"; allowed: {', '.join(map(json.dumps, allowed))}"
    return FaultError(reason[0].lower() + reason[1:], place)


def _inside(kind: object, step: str | int) -> Any:
    """The type of what stands at ``step`` in a value of this type; Any where that is not known."""
    for one in _options(kind):
        if _is_struct(one) and isinstance(step, str):
            hints = get_type_hints(one, include_extras=True)
            if step in hints:
                return hints[step]
        elif get_origin(one) is dict:
            return get_args(one)[1]
        elif get_origin(one) is tuple and isinstance(step, int):
            items = get_args(one)
            return items[0] if items[-1] is Ellipsis else items[step]
    return Any


def _options(kind: Any) -> list[Any]:
    """The types that a union may stand for, and each without its annotations."""
    if get_origin(kind) is Annotated:
        return _options(get_args(kind)[0])
    if get_origin(kind) in {Union, types.UnionType}:
        return [one for option in get_args(kind) for one in _options(option)]
    return [kind]


def _is_struct(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)
