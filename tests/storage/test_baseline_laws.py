"""Laws in baseline files: their lines, what is refused, and merges."""

from __future__ import annotations

from pathlib import Path

import pytest
from build import laws, net, sizes_of
from msgspec.structs import replace

from pytest_flopsbudget.errors import BaselineError
from pytest_flopsbudget.results.law_data import LawPiece
from pytest_flopsbudget.storage.baseline import BaselineFile, dumps, load, loads, save, update_entries
from pytest_flopsbudget.storage.baseline_totals import read_totals

SIZES = {"batch": range(1, 65), "sequence": range(16, 4097, 16)}
TAIL = ', "test": "test_net", "name": "model"},'
LINES = """\
{"sizes": {"batch": {"first": 1, "last": 64}, "sequence": {"first": 16, "last": 4096, "step": 16}}@
{"law": "flops", "terms": {"batch*sequence^2": 36864, "sequence": "1/2"}@
{"law": "params", "terms": {"1": 20}@
{"law": "flops", "module": "h.{0-1}", "terms": {"batch*sequence^2": 18432}@
""".replace("@", TAIL)
LAWS = laws(
    SIZES,
    {"flops": {"batch*sequence^2": 36864, "sequence": "1/2"}, "params": {"1": 20}},
    {"h.{0-1}": {"flops": {"batch*sequence^2": 18432}}},
)


def file_of(entry, path="test_net.json"):
    return BaselineFile(Path(path), {"test_net": {"model": entry}})


def cliff(place, last=100):
    parts = range(1, place), range(place, last + 1)
    return tuple(
        LawPiece(sizes={"n": sizes_of(part)}, terms={"n": number}) for part, number in zip(parts, (2, 4), strict=True)
    )


def test_one_line_a_law():
    text = dumps(file_of(net(laws=LAWS)))
    assert LINES in text
    (entry,) = loads(text, Path("x")).tests["test_net"].values()
    assert entry == net(laws=LAWS)


def test_a_changed_coefficient_is_one_line():
    before = dumps(file_of(net(laws=LAWS))).splitlines()
    flops = {"batch*sequence^2": 73728, "sequence": "1/2"}
    doubled = replace(LAWS, metrics=laws(SIZES, {"flops": flops, "params": {"1": 20}}).metrics)
    after = dumps(file_of(net(laws=doubled))).splitlines()
    changed = [pair for pair in zip(before, after, strict=True) if pair[0] != pair[1]]
    assert [pair[1] for pair in changed] == [LINES.splitlines()[1].replace("36864", "73728")]


def test_pieces_are_lines():
    entry = net(laws=laws({"n": range(1, 101)}, {"flops": cliff(51)}))
    text = dumps(file_of(entry))
    assert f'{{"law": "flops", "sizes": {{"n": {{"first": 51, "last": 100}}}}, "terms": {{"n": 4}}{TAIL}' in text
    assert loads(text, Path("x")).tests["test_net"]["model"] == entry


def test_an_update_stores_held_laws_without_counts():
    held = LAWS.metrics["flops"]
    metrics = {
        "flops": replace(held, counts=(1, 2)),
        "launches": replace(held, held=False),
        "time[A100]": replace(held, pieces=(), reason="no law"),
    }
    measured = net(laws=replace(LAWS, metrics=metrics, counted=((1, 16), (64, 4096)), evidence="exact"))
    updated = update_entries(BaselineFile(Path("x"), {}), {"test_net": {"model": measured}})
    assert updated.tests["test_net"]["model"].laws == replace(LAWS, metrics={"flops": held})


def test_entries_without_laws_are_as_before():
    text = dumps(file_of(net()))
    assert '"law"' not in text
    assert '"sizes"' not in text
    assert loads(text, Path("x")).tests["test_net"]["model"].laws is None


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"sequence": "1/2"', '"sequense": "1/2"', '"terms": "sequense": character 1: unknown name \'sequense\''),
        ('"sequence": "1/2"', '"sequence": "2/4"', '"terms": "sequence": write 1/2'),
        ('"sequence": "1/2"', '"sequence": 0', '"terms": "sequence": a coefficient of 0; leave the term out'),
        ('"sequence": "1/2"', '"sequence": 0.5', '"terms": "sequence": Expected `int | str`, got `float`'),
        ('"sequence": "1/2"', '"sequence": "half"', '"terms": "sequence": Expected `str` matching regex'),
        ('"sequence": "1/2"', '"2*sequence": 3', '"terms": "2*sequence": no single term; write one like batch^2'),
        ('"law": "params"', '"law": "parms"', '"law": no such metric; there are flops, '),
        ('"law": "params"', '"law": "time"', '"law": no such metric; there are flops, '),
        ('"h.{0-1}"', '"h.{1-0}"', "\"module\": '{1-0}' is no list of rising numbers"),
        ('"step": 16', '"step": 0', '"step": Expected `int` >= 1'),
        ('"step": 16', '"step": 7', "sequence: no range from 16 to 4096 in steps of 7"),
        ('"step": 16', '"stop": 16', 'unknown key (did you mean "step"?)'),
        ('"last": 64', '"last": 0', "batch: no range from 1 to 0 in steps of 1"),
        ('"batch": {"first"', '"a b": {"first"', '"a b": no name of a size'),
        ('"terms": {"1": 20}', '"terms": {"1": 20}, "degree": 0', '"degree": unknown key (allowed: '),
        (
            '"params", "terms"',
            '"params", "sizes": {"batch": {"first": 1, "last": 2}}, "terms"',
            "sizes of batch; the law",
        ),
    ],
)
def test_damaged_laws(tmp_path, old, new, message):
    path = tmp_path / "test_net.json"
    text = dumps(file_of(net(laws=LAWS)))
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(BaselineError) as error:
        load(path)
    line = next(number for number, one in enumerate(path.read_text(encoding="utf-8").splitlines(), 1) if new in one)
    assert f"{path}, line {line}: " in str(error.value)
    assert message in str(error.value)
    assert path.read_text(encoding="utf-8") == text.replace(old, new)


def torn(path, text):
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BaselineError) as error:
        load(path)
    assert load(path, torn=True).tests == {}
    return str(error.value)


def test_torn_laws(tmp_path):
    path = tmp_path / "test_net.json"
    text = dumps(file_of(net(laws=LAWS)))
    sizes, flops, *_ = LINES.splitlines(keepends=True)
    assert "line of sizes is missing" in torn(path, text.replace(sizes, ""))
    assert "another line says otherwise" in torn(path, text.replace(flops, flops + flops.replace("36864", "4")))
    # Both branches moved the place where the law changes.
    pieces = {
        place: dumps(file_of(net(laws=laws({"n": range(1, 101)}, {"flops": cliff(place)})))) for place in (20, 30)
    }
    merged = [line for line in pieces[20].splitlines(keepends=True) if line not in pieces[30].splitlines(keepends=True)]
    assert len(merged) == 2
    found = torn(path, pieces[30].replace('{"module"', f'{"".join(merged)}{{"module"', 1))
    assert "another line has a law for the same sizes; a merge kept both sides" in found


def test_lines_in_another_order_are_the_same_entry(tmp_path):
    path = tmp_path / "test_net.json"
    entry = net(laws=LAWS)
    save(file_of(entry, path))
    first, *rest = LINES.splitlines(keepends=True)
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace(LINES, "".join([*rest, first, rest[0]])), encoding="utf-8")
    assert load(path).tests["test_net"]["model"] == entry


def test_totals_have_the_laws_of_the_model():
    data = dumps(file_of(net(laws=LAWS))).encode()
    totals = read_totals(data, Path("x"))["test_net"]["model"]
    assert totals.laws == replace(LAWS, modules={})


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"sequence": "1/2"', '"sequense": "1/2"'),
        (LINES.splitlines(keepends=True)[0], ""),
        (LINES.splitlines()[0], LINES.splitlines()[0] + "\n" + LINES.splitlines()[0].replace("64", "65")),
    ],
)
def test_totals_of_damaged_laws(old, new):
    text = dumps(file_of(net(laws=LAWS)))
    with pytest.raises(BaselineError):
        read_totals(text.replace(old, new, 1).encode(), Path("x"))
