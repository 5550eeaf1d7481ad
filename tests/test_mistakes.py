"""Where something wrong stands."""

from __future__ import annotations

from pytest_flopsbudget.config.problems import Place


def test_a_mistake_names_its_path():
    """Keys that TOML quotes are quoted."""
    mistakes = []
    Place("file: [table]", mistakes).inside("modules").inside("layer4.0").wrong("flops", "is too much")
    assert mistakes == ['file: [table] modules."layer4.0".flops: is too much']


def test_an_unknown_key_has_a_suggestion():
    """And all that there are; they gather in one list."""
    mistakes = []
    place = Place("file:", mistakes)
    place.unknown("Tolerence", ["tolerance", "show"])
    place.inside("a").unknown("zzz", ["b"])
    assert mistakes == [
        "file: Tolerence: no such key; did you mean tolerance? There are tolerance, show",
        "file: a.zzz: no such key. There are b",
    ]
