"""Tables as text and as HTML: widths, shortened names, and names with any characters."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_flopsbudget.results.table_html import to_html
from pytest_flopsbudget.results.table_text import Branch, Column, TreeTable, lay_out, shorten, text_width


def table(names=("(model)", "a"), lasts=((), (True,)), title="Net", **fields):
    columns = [
        Column("class", ["Net"] * len(names), is_text=True),
        Column("FLOPs", ["8.178 G"] * len(names)),
        Column("params", ["25.56 M"] * len(names), drop_order=1),
        Column("traffic", ["407.8 MiB"] * len(names), drop_order=2),
    ]
    branches = [Branch(name, last) for name, last in zip(names, lasts, strict=True)]
    return TreeTable(title, "module", branches, columns, **fields)


class TestText:
    def test_no_maximum(self):
        long = "x" * 300
        assert any(long in line for line in lay_out(table(("(model)", long)), None, signs=True))

    @pytest.mark.parametrize("width", [40, 60, 80, 120])
    @pytest.mark.parametrize("signs", [True, False])
    def test_no_line_is_wider(self, width, signs):
        wide = table(
            ("(model)", "layer" * 60), title="Net of " + "float32[1, 2], " * 20 + "y" * 4000,
            remarks=["word " * 90, "z" * 500], totals=[("a" * 18, "1" * 18)] * 3,
        )  # fmt: skip
        lines = lay_out(wide, width, signs=signs)
        assert max(map(len, lines)) <= width

    def test_middle(self):
        """A long name keeps both of its ends."""
        lines = lay_out(table(("(model)", "encoder" + "x" * 100 + "attention")), 60, signs=True)
        (row,) = (line for line in lines if "\u2026" in line)
        assert row.startswith("\u2514\u2500 encoder")
        assert "attention  Net" in row

    def test_columns_are_left_out(self):
        """The column with the highest number goes first; a column without a number stays."""
        names = ("(model)", "n" * 30)
        heads = [lay_out(table(names), width, signs=False)[1].split()[1:] for width in (80, 50, 42, 20)]
        assert heads == [
            ["class", "FLOPs", "params", "traffic"],
            ["class", "FLOPs", "params"],
            ["class", "FLOPs"],
            ["class", "FLOPs"],
        ]

    def test_ascii(self):
        lines = lay_out(table(("(model)", "a" * 90)), 50, signs=False)
        assert all(line.isascii() for line in lines)
        assert lines[4].startswith("  aaa")
        assert "..." in lines[4]

    def test_class_names_are_not_changed(self):
        columns = [Column("class", ["Conv3x3->"] * 2, is_text=True), Column("output", ["3x3"] * 2, has_signs=True)]
        lines = lay_out(TreeTable("Net", "module", table().branches, columns), None, signs=True)
        assert lines[3].split() == ["(model)", "Conv3x3->", "3\u00d73"]

    def test_wide_characters(self):
        """A Chinese character takes two columns, so the columns beside it stay aligned."""
        lines = lay_out(table(("(model)", "\u6f22\u5b57")), None, signs=True)
        assert text_width(lines[3].partition("Net")[0]) == text_width(lines[4].partition("Net")[0])

    def test_a_very_deep_tree(self):
        names = ["(model)", *("m" for _ in range(200))]
        lines = lay_out(table(names, [(True,) * depth for depth in range(201)]), 60, signs=True)
        assert max(map(len, lines)) <= 60
        assert "\u2500 m " in lines[-1]

    @pytest.mark.parametrize(
        ("text", "room", "short"),
        [("abcdef", 6, "abcdef"), ("abcdef", 5, "ab\u2026ef"), ("abcdef", 4, "a\u2026ef"), ("abcdef", 1, "\u2026")],
    )
    def test_shorten(self, text, room, short):
        assert shorten(text, room, signs=True) == short

    @given(st.text(), st.integers(3, 30), st.booleans())
    def test_shorten_anything(self, text, room, signs):
        assert text_width(shorten(text, room, signs=signs)) <= room


class Reader(HTMLParser):
    """Collects the tags, attributes and texts of HTML, and checks that each tag is closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.texts = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


class TestHtml:
    def test_a_table_with_a_caption(self):
        found = Reader(to_html(table(remarks=["a remark"], totals=[("FLOPs", "8")])))
        assert found.tags.count("table") == found.tags.count("caption") == 1
        assert found.tags.count("tr") == 3
        assert [value for name, value in found.attributes if name == "scope"] == ["col"] * 5 + ["row", "row"]
        assert {"Net", "(model)", "8.178 G", "a remark", "FLOPs 8"} <= set(found.texts)

    def test_no_colours_and_no_rules_for_the_page(self):
        """The colours are those of the page, light or dark."""
        written = to_html(table())
        assert "#" not in written
        assert set(re.findall('color:([^;"]*)', written)) == {"inherit"}
        assert "<style" not in written

    @pytest.mark.parametrize(
        "name",
        [
            "</table><script>alert(1)</script>",
            '"><img src=x onerror=alert(1)>',
            "<!--",
            "&lt;b&gt;",
            "a\u202eb\0",
            "x" * 4000,
        ],
    )
    def test_hostile_names(self, name):
        plain = Reader(to_html(table(remarks=["r"], totals=[("a", "b")])))
        hostile = table(("(model)", name), title=name, remarks=[name], totals=[(name, name)])
        columns = [column._replace(head=name, cells=[name] * 2) for column in hostile.columns]
        found = Reader(to_html(TreeTable(name, name, hostile.branches, columns, hostile.totals, hostile.remarks)))
        assert found.tags == plain.tags
        assert {key for key, _ in found.attributes} == {"style", "scope"}
        assert "\u202e" not in "".join(found.texts)
