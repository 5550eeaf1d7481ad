"""Read JSON strictly: no duplicate key, no unknown key, no value of another type. Errors name the place."""

from __future__ import annotations

import difflib
import json
import re
import types
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


_T = TypeVar("_T")

#: Matches an integer of more than 100 digits, which is refused. Python reads up to 4,300 digits; floats end at 10^308.
LONG_INTEGER = re.compile(r"\d{101}")

#: A place in JSON: keys of objects and positions in arrays. The outermost one is first.
JsonPath = tuple[str | int, ...]


class FaultError(Exception):
    """A fault in a text. It has a JSON path, or the number of a line if the text is not JSON."""

    def __init__(
        self, reason: str, place: JsonPath = (), *, line: int | None = None, other: JsonPath = (), remedy: str = ""
    ) -> None:
        super().__init__(reason)
        # A message is one line, but the text that it quotes may contain line breaks.
        self.reason = reason if reason.isprintable() else reason.encode("unicode_escape").decode()
        self.place = place
        self.line = line
        #: A second place, which contradicts the first place.
        self.other = other
        #: What the user should do. It is empty if the usual advice applies.
        self.remedy = remedy


def parse(text: str) -> object:
    """Return the value of the JSON ``text``.

    Raises:
        FaultError: the text is no JSON, an object has a key twice, or an integer has more than 100 digits.
    """
    try:
        found = LONG_INTEGER.search(text)
        return json.loads(text, object_pairs_hook=_unique, parse_int=partial(_amount, text) if found else None)
    except json.JSONDecodeError as error:
        raise FaultError(f"no JSON from column {error.colno} on: {error.msg}", line=error.lineno) from error
    except _DuplicateKeyError as error:
        raise FaultError("the key is there twice; a merge may have kept both sides", _first_duplicate(text)) from error
    except (RecursionError, ValueError) as error:
        # The text has thousands of nested brackets, or an integer of thousands of digits.
        raise FaultError(f"no JSON: {error}", line=1) from error


def _amount(text: str, digits: str) -> int:
    if not LONG_INTEGER.search(digits):
        return int(digits)
    found = re.search(rf"[\s:\[,]{digits[:101]}", text)
    raise FaultError(f"{digits[:20]}... is no amount", line=line_at(text, found.end()) if found else 1)


class _DuplicateKeyError(Exception):
    pass


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise _DuplicateKeyError
    return table


#: One step of a path in msgspec's messages: a key, an index, or "[...]" for a key that msgspec does not name.
_STEP = re.compile(r"\.(?P<key>\w+)|\[(?P<number>\d+)\]|\[\.\.\.\]")


def convert(value: object, kind: type[_T], *place: str | int) -> _T:
    """Convert ``value`` to ``kind``, a struct or any other type that msgspec converts to.

    Raises:
        FaultError: the value does not fit the type; the fault's place begins with ``place``.
    """
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `$")
        inner: Any = value
        inner_kind: Any = kind
        for step in _STEP.finditer(path):
            if not step["key"] and not step["number"]:
                # Convert the values one by one, because msgspec does not report under which key of a dict the fault is.
                for name, one in inner.items():
                    convert(one, _inside(inner_kind, name), *place, name)
            own = step["key"] or int(step["number"])
            inner, inner_kind, place = inner[own], _inside(inner_kind, own), (*place, own)
        raise _fault(reason, inner_kind, place) from error
    except UnicodeEncodeError as error:
        raise FaultError("a key holds half of a surrogate pair, which is not valid text", place) from error


def _fault(reason: str, kind: object, place: JsonPath) -> FaultError:
    """Return the fault of a value that is not of type ``kind``."""
    unknown = re.fullmatch(r"Object contains unknown field `(.*)`", reason, re.DOTALL)
    if unknown:
        known = [name for one in _options(kind) if _is_struct(one) for name in get_type_hints(one)]
        return FaultError(f"unknown key ({_nearest(unknown[1], known)})", (*place, unknown[1]))
    if reason.startswith("Invalid enum value"):
        allowed = [value for one in _options(kind) for value in get_args(one)]
        reason += f"; allowed: {', '.join(map(json.dumps, allowed))}"
    return FaultError(reason, place)


def _inside(kind: object, step: str | int) -> Any:
    """Return the type of the item at the key or index ``step`` in a value of type ``kind``; Any if it is unknown."""
    for one in _options(kind):
        if _is_struct(one) and isinstance(step, str):
            hints = get_type_hints(one, include_extras=True)
            if step in hints:
                return hints[step]
        elif get_origin(one) is dict:
            return get_args(one)[1]
        elif get_origin(one) in {tuple, list} and isinstance(step, int):
            members = get_args(one)
            return members[step] if get_origin(one) is tuple and members[-1] is not Ellipsis else members[0]
    return Any


def _options(kind: Any) -> list[Any]:
    """Return the members of a union, without their annotations. Other types have one member: the type itself."""
    if get_origin(kind) is Annotated:
        return _options(get_args(kind)[0])
    if get_origin(kind) in {Union, types.UnionType}:
        return [one for option in get_args(kind) for one in _options(option)]
    return [kind]


def _is_struct(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _nearest(key: str, allowed: Iterable[str]) -> str:
    near = difflib.get_close_matches(key, allowed, n=1)
    return f"did you mean {json.dumps(near[0])}?" if near else f"allowed: {', '.join(map(json.dumps, allowed))}"


def in_words(place: JsonPath) -> str:
    """Return a place as a path: ``tests[0].measurements[0].name``."""
    steps = (
        f"[{step}]" if isinstance(step, int) else f".{step}" if re.fullmatch(r"\w+", step) else f"[{json.dumps(step)}]"
        for step in place
    )
    return "".join(steps).removeprefix(".")


def line_of(text: str, place: JsonPath) -> int:
    """Return the line of ``place`` in valid JSON. For a missing place, return the line of the value around it."""
    return lines_of(text, [place])[place]


def lines_of(text: str, places: Iterable[JsonPath]) -> dict[JsonPath, int]:
    """Return the lines of many places in one pass, like :func:`line_of`. A large file may have thousands of places."""
    places = list(places)
    wanted = {place[:depth] for place in places for depth in range(len(place) + 1)}
    # If a key occurs twice, the second occurrence is the fault.
    offsets: dict[JsonPath, int] = {(): 0, **{place: offset for place, offset in _places(text) if place in wanted}}
    lines: dict[JsonPath, int] = {}
    line, counted = 1, 0
    for place, offset in sorted(offsets.items(), key=lambda item: item[1]):
        line += text.count("\n", counted, offset)
        lines[place], counted = line, offset

    def nearest(place: JsonPath) -> int:
        return next(lines[place[:depth]] for depth in range(len(place), -1, -1) if place[:depth] in lines)

    return {place: nearest(place) for place in places}


def line_at(text: str, offset: int) -> int:
    """Return the number of the line at ``offset``; the first line is 1."""
    return text.count("\n", 0, offset) + 1


_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')


def _places(text: str) -> Iterator[tuple[JsonPath, int]]:
    """Yield (path, offset in the text) of each key and of each member of an array in the JSON.

    The path ends with the key or the index. If the JSON has a fault, the paths end at the fault or before it.
    """
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
        elif sign in {"}", "]", ",", ":"} and not opened:
            return
        elif sign in {"}", "]"}:
            opened.pop()
            above.pop()
        elif sign == ",":
            member = opened[-1] == "["
            if member:
                above[-1] = cast("int", above[-1]) + 1
        elif sign == ":":
            if opened[-1] == "[" or not last.startswith('"'):
                return
            above[-1] = json.loads(last, strict=False)
            yield tuple(above), start
        else:
            last, start = sign, token.start()


def _first_duplicate(text: str) -> JsonPath:
    seen = set()
    for place, _ in _places(text):
        if place in seen:
            return place
        seen.add(place)
    return ()
