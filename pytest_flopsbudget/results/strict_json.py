"""JSON read strictly: no key twice, no unknown key, no value of another type; what is wrong is told with its place."""

from __future__ import annotations

import difflib
import json
import re
from typing import TYPE_CHECKING, Any, TypeVar, cast, get_args

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_T = TypeVar("_T")

#: Keys of objects and positions in arrays, from the outermost in.
Place = tuple[str | int, ...]


class FaultError(Exception):
    """What is wrong in a text, and where: at a place or, where there are no places yet, in a line."""

    def __init__(
        self, reason: str, place: Place = (), *, line: int | None = None, other: Place = (), remedy: str = ""
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.place = place
        self.line = line
        #: A second place, which contradicts the first.
        self.other = other
        #: What to do, where that is not the usual.
        self.remedy = remedy


def parse(text: str) -> object:
    """The JSON value that ``text`` is.

    Raises:
        FaultError: it is no JSON, or an object has a key twice.
    """
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        raise FaultError(f"no JSON from column {error.colno} on: {error.msg}", line=error.lineno) from error
    except _DuplicateKeyError as error:
        raise FaultError("the key is there twice; a merge may have kept both sides", _first_duplicate(text)) from error
    except (RecursionError, ValueError) as error:
        # Brackets nested by the thousand, an integer of thousands of digits.
        raise FaultError(f"no JSON: {error}", line=1) from error


class _DuplicateKeyError(Exception):
    pass


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise _DuplicateKeyError
    return table


def convert(value: object, kind: type[_T], *place: str | int) -> _T:
    """``value`` as a ``kind``, a struct or whatever else msgspec converts to.

    Raises:
        FaultError: it is none; the place is ``place`` and what is below it.
    """
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        reason, _, below = str(error).partition(" - at `$")
        found = re.findall(r"\[(\d+)\]|\.(\w+)", below)
        below_place: Place = tuple(int(number) if number else key for number, key in found)
        unknown = re.fullmatch(r"Object contains unknown field `(.*)`", reason, re.DOTALL)
        if unknown:
            below_place += (unknown[1],)
            reason = f"unknown key ({_nearest(unknown[1], _fields(kind, below_place[:-1]))})"
        elif reason.startswith("Invalid enum value"):
            allowed = get_args(_fields(kind, below_place[:-1])[str(below_place[-1])])
            reason += f"; allowed: {', '.join(map(json.dumps, allowed))}"
        raise FaultError(reason, (*place, *below_place)) from error


def _fields(kind: Any, place: Place) -> dict[str, Any]:
    """The fields of the struct that is at ``place`` in a ``kind``, and their types."""
    for part in place:
        kind = get_args(kind)[-1] if isinstance(part, int) else _fields(kind, ())[part]
    return {field.encode_name: field.type for field in msgspec.structs.fields(kind)}


def _nearest(key: str, allowed: Iterable[str]) -> str:
    near = difflib.get_close_matches(key, allowed, n=1)
    return f"did you mean {json.dumps(near[0])}?" if near else f"allowed: {', '.join(map(json.dumps, allowed))}"


def line_of(text: str, place: Place) -> int:
    """The line of ``place`` in valid JSON or, where it is missing, of the nearest one above it."""
    # Of a key that is there twice, the second is the fault.
    offsets: dict[Place, int] = {(): 0, **dict(_places(text))}
    known = next(place[:depth] for depth in range(len(place), -1, -1) if place[:depth] in offsets)
    return line_at(text, offsets[known])


def line_at(text: str, offset: int) -> int:
    """The number of the line at ``offset``, the first being 1."""
    return text.count("\n", 0, offset) + 1


_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')


def _places(text: str) -> Iterator[tuple[Place, int]]:
    """All keys and all members of arrays in valid JSON, each with those above it, and their offsets."""
    above: list[str | int] = []
    opened: list[str] = []
    # Whether a member of an array begins at the next token.
    member = False
    last, start = "", 0
    for token in _TOKEN.finditer(text):
        sign = token[0]
        if member and sign != "]":
            yield tuple(above), token.start()
        member = False
        if sign in {"{", "["}:
            opened.append(sign)
            above.append("" if sign == "{" else 0)
            member = sign == "["
        elif sign in {"}", "]"}:
            opened.pop()
            above.pop()
        elif sign == ",":
            member = opened[-1] == "["
            if member:
                above[-1] = cast("int", above[-1]) + 1
        elif sign == ":":
            above[-1] = json.loads(last)
            yield tuple(above), start
        else:
            last, start = sign, token.start()


def _first_duplicate(text: str) -> Place:
    seen = set()
    for place, _ in _places(text):
        if place in seen:
            return place
        seen.add(place)
    return ()
