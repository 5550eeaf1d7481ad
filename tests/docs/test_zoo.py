"""docs/zoo.md shows the results of counting the models of the libraries."""

from __future__ import annotations

import json
import sys

import pytest
import torch
from paths import DOCS
from torch.nn import functional

sys.path.append(str(DOCS))

from model_zoo import check, page, results
from peers.table import between_markers

COUNTED = {"library": "timm", "name": "a", "flops": 2, "execution": "shapes", "meta": "equal", "counter": "equal"}


def test_the_page_shows_the_results():
    """The page shows the stored results. `python -m model_zoo --page` writes it."""
    shown = page.PAGE.read_text(encoding="utf-8")
    assert shown == between_markers(shown, page.text(results.load()))


def test_each_model_is_there_once():
    assert len(results.done()) == len(results.load())


def test_nothing_fails_and_no_operator_is_unknown():
    assert [row["name"] for row in results.load() if "error" in row or row.get("unknown")] == []


def test_each_exception_has_a_reason():
    for row in results.load():
        if not results.is_counted(row):
            assert all(row["skipped"]), row
        elif row["execution"] != "shapes":
            assert row["notes"], row


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"execution": "real", "notes": ["ran on data"]}, "- `timm a`: ran on data"),
        ({"meta": "needs data: a\nsize"}, "- `timm a`: needs data: a size"),
        ({"counter": "no formula for aten.mv"}, "- `timm a`: no formula for aten.mv"),
        ({"unknown": ["aten.x"]}, "- `timm a`: aten.x"),
        ({"notes": ["an upper bound"]}, "- `timm a`: an upper bound"),
    ],
)
def test_an_exception_is_listed(changed, line):
    other = {**COUNTED, "name": "b"}
    assert line not in page.text([COUNTED, other])
    assert line in page.text([COUNTED | changed, other])


def test_a_model_that_was_not_counted():
    text = page.text([{"library": "timm", "name": "a", "skipped": ["<no> file"]}, COUNTED | {"name": "b"}])
    assert "- `timm a`: &lt;no> file" in text
    assert "| timm | 2 | 1 | 1 | 0 | 0 | 0 | 1 | 1 | 0 | 1 |" in text


def test_models_of_one_reason_are_in_one_line():
    rows = [COUNTED | {"name": name, "counter": "no formula for aten.mv"} for name in "ba"]
    assert "- `timm b`, `timm a`: no formula for aten.mv" in page.text(rows)


def test_forgetting(tmp_path, monkeypatch):
    """`forget` removes only the rows that match."""
    monkeypatch.setattr(results, "FILE", tmp_path / "results.jsonl")
    assert results.load() == []
    assert results.size() == 0
    results.append({"library": "timm", "name": "b", "skipped": ["no"]})
    results.append({**COUNTED, "name": "a"})
    assert results.done() == {("timm", "a"), ("timm", "b")}
    results.forget(lambda row: not results.is_counted(row))
    assert [json.loads(line)["name"] for line in results.FILE.read_text().splitlines()] == ["a"]


def test_a_tensor_that_occurs_twice_is_one_tensor_on_meta():
    shared, other = torch.ones(2), torch.ones(2)
    first, (second, third), fourth = check.moved([shared, (shared, other), {"a": [other]}])
    assert first.is_meta
    assert second is first
    assert third is not first
    assert fourth["a"][0] is third


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("no rule for <object at 0x7f0e29a6d350>\nmore", "ValueError: no rule for <object>"),
        ("a at 0x1 and b at 0xff", "ValueError: a and b"),
        ("", "ValueError: "),
    ],
)
def test_an_error_is_shown_by_its_first_line_without_addresses(message, shown):
    assert check.in_words(ValueError(message)) == shown


class Attention(torch.nn.Module):
    def forward(self, x):
        return functional.scaled_dot_product_attention(x, x, x)


def test_fused_attention_is_compared_with_eager_attention():
    found = check.check(Attention().eval(), (torch.rand(1, 2, 8, 4),), {}, Attention)
    assert found["flops"] == 2 * (2 * 2 * 8 * 8 * 4)
    assert (found["meta"], found["counter"]) == ("equal", "equal")
