"""How messages name the place of a mistake."""

from __future__ import annotations

from pytest_flopsbudget.config.problems import Problems


def test_a_mistake_names_its_path():
    """A message shows the path of the mistake, in which a key has quotes if TOML requires them."""
    messages = []
    Problems("file: [table]", messages).inside("modules").inside("layer4.0").add("flops", "is too much")
    assert messages == ['file: [table] modules."layer4.0".flops: is too much']


def test_an_unknown_key_has_a_suggestion():
    """The message for an unknown key suggests a similar key and lists all known keys."""
    messages = []
    problems = Problems("file:", messages)
    problems.add_unknown_key("Tolerence", ["tolerance", "show"])
    problems.inside("a").add_unknown_key("zzz", ["b"])
    assert messages == [
        "file: Tolerence: no such key; did you mean tolerance? There are tolerance, show",
        "file: a.zzz: no such key. There are b",
    ]
