"""Strict JSON: errors name the place of a fault."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_flopsbudget.storage.strict_json import FaultError, convert, line_of, lines_of, parse

TEXT = """{
  "a": [
    1,
    {"b": "x, \\"c\\": [1",
     "c": []},
    []
  ],
  "d": {"e": {}, "f":
    true}
}"""


class TestLineOf:
    @pytest.mark.parametrize(
        ("place", "line"),
        [
            ((), 1),
            (("a",), 2),
            (("a", 0), 3),
            (("a", 1), 4),
            (("a", 1, "b"), 4),
            (("a", 1, "c"), 5),
            (("a", 2), 6),
            (("d",), 8),
            (("d", "e"), 8),
            (("d", "f"), 8),
        ],
    )
    def test_places(self, place, line):
        assert line_of(TEXT, place) == line

    @pytest.mark.parametrize(("place", "line"), [(("a", 1, "missing"), 4), (("a", 7), 2), (("missing", "b"), 1)])
    def test_what_is_missing(self, place, line):
        assert line_of(TEXT, place) == line

    def test_many_in_one_pass(self):
        """`lines_of` returns the same lines for many places as `line_of` for each place alone."""
        places = [("d", "f"), ("a", 1, "c"), ("a", 7), (), ("a", 1, "missing"), ("missing", "b")]
        assert lines_of(TEXT, places) == dict(zip(places, [8, 5, 2, 1, 4, 1], strict=True))

    @given(st.recursive(st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
    def test_a_line_a_token(self, value):
        text = json.dumps(value, indent=1)

        def places(value, above):
            pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
            for key, inner in pairs:
                yield (*above, key), inner
                yield from places(inner, (*above, key))

        for place, inner in places(value, ()):
            row = text.splitlines()[line_of(text, place) - 1].strip()
            key = f"{json.dumps(place[-1])}: " if isinstance(place[-1], str) else ""
            begin = "[" if isinstance(inner, list) else "{" if isinstance(inner, dict) else json.dumps(inner)
            assert row.startswith(key + begin)


class TestParse:
    @pytest.mark.parametrize(
        ("text", "place", "line"),
        [
            ('{"a": 1,\n"a": 1}', ("a",), 2),
            ('[1,\n{"b": {"c": 1,\n"d": 1,\n"c": 1}}]', (1, "b", "c"), 4),
            ('{"a": {"b": 1,\n"b": 2}} ] : {', ("a", "b"), 2),
            ('[{"b": 1,\n"b": 2}, : 3', (0, "b"), 2),
        ],
        ids=["key", "deep", "broken behind it", "broken in it"],
    )
    def test_a_key_that_is_there_twice(self, text, place, line):
        with pytest.raises(FaultError, match="the key is there twice") as caught:
            parse(text)
        assert (caught.value.place, line_of(text, caught.value.place)) == (place, line)

    @pytest.mark.parametrize("text", ["", "{", "[1,]", '{"a" 1}', "[" * 100_000, '"\x00"', "nope"])
    def test_no_json(self, text):
        with pytest.raises(FaultError, match="no JSON") as caught:
            parse(text)
        assert caught.value.line == 1

    @pytest.mark.parametrize("digits", [101, 309, 4300, 5000])
    def test_no_amount(self, digits):
        """If an integer has more than 100 digits, it is refused, and the error has the line of the integer."""
        with pytest.raises(FaultError, match=r"^99999999999999999999\.\.\. is no amount$") as caught:
            parse('{"a": 1,\n"b": %s}' % ("9" * digits))
        assert caught.value.line == 2
        assert parse(f'["{"9" * digits}"]') == ["9" * digits]
        assert parse("9" * 100) == 10**100 - 1


class Inner(msgspec.Struct, forbid_unknown_fields=True):
    flops: int


class Outer(msgspec.Struct, forbid_unknown_fields=True):
    one: Inner
    many: list[Inner] = []


class TestConvert:
    @pytest.mark.parametrize(
        ("value", "reason", "place"),
        [
            ({"one": {"flops": 1.5}}, "Expected `int`, got `float`", ("here", "one", "flops")),
            ({"one": {"flop": 1}}, 'unknown key (did you mean "flops"?)', ("here", "one", "flop")),
            ({"one": {"flops": 1}, "many": [{"flops": 1}, 3]}, "Expected `object`, got `int`", ("here", "many", 1)),
            ({"two": 1}, 'unknown key (allowed: "one", "many")', ("here", "two")),
            ({"one": {"\ud800": 1}}, "a key holds half of a surrogate pair, which is not valid text", ("here",)),
        ],
    )
    def test_faults(self, value, reason, place):
        with pytest.raises(FaultError) as caught:
            convert(value, Outer, "here")
        assert (caught.value.reason, caught.value.place) == (reason, place)

    def test_messages_are_one_line(self):
        assert FaultError("no 'a\nb\u202e'").reason == "no 'a\\nb\\u202e'"
