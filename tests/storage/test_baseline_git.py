"""Two branches change one baseline, and git merges them with its default settings."""

from __future__ import annotations

import os
import subprocess

import pytest
from entries import net, width_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from long_runs import examples

from pytest_flopsbudget.errors import BaselineError
from pytest_flopsbudget.storage.baseline import change, dumps, load, update_entries

GIT = {
    **{key: value for key, value in os.environ.items() if not key.startswith("GIT_")},
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "A",
    "GIT_AUTHOR_EMAIL": "a@example.invalid",
    "GIT_COMMITTER_NAME": "A",
    "GIT_COMMITTER_EMAIL": "a@example.invalid",
}


class Repository:
    def __init__(self, folder, **settings):
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.git("init", "-q", "-b", "main")
        for key, value in settings.items():
            self.git("config", key.replace("_", "."), value)
        self.baseline = folder / "__flops__" / "test_net.json"
        folder.joinpath("test_net.py").touch()
        self.commit()

    def git(self, *args, code=0):
        run = subprocess.run(["git", *args], cwd=self.folder, env=GIT, capture_output=True, text=True, check=False)
        assert run.returncode == code, run.stdout + run.stderr
        return run.stdout

    def commit(self):
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", "x")

    def write(self, widths):
        """Commit a change of the baseline. ``widths`` is {test id: width}; None removes the test."""
        gone = {test_id for test_id, width in widths.items() if width is None}
        measured = {test_id: {"model": net(width)} for test_id, width in widths.items() if width is not None}

        def function(file):
            new = update_entries(file, measured | {test_id: {} for test_id in gone})
            assert gone.isdisjoint(new.tests)
            return new

        change(self.baseline, function)
        self.commit()

    def merge(self, base, ours, theirs, how=("merge", "-q", "topic")):
        """Commit ``ours`` to main and ``theirs`` to topic. Merge topic with the git arguments ``how``."""
        if base:
            self.write(base)
        self.git("checkout", "-q", "-b", "topic")
        self.write(theirs)
        self.git("checkout", "-q", "main")
        self.write(ours)
        self.git(*how)

    @property
    def widths(self):
        return {test_id: width_of(entries) for test_id, entries in load(self.baseline).tests.items()}


@pytest.fixture
def repository(tmp_path):
    return Repository(tmp_path)


BASE = dict.fromkeys(["test_a", "test_e", "test_m", "test_z"], 1)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"test_b": 2}, {"test_n": 3}),
        ({"test_b": 2}, {"test_c": 3}),
        ({"test_0": 2}, {"test_00": 3}),
        ({"test_zz": 2}, {"test_zzz": 3}),
        ({"test_a": 2}, {"test_b": 3}),
        ({"test_b": 2}, {"test_a": 3}),
        ({"test_e": 2}, {"test_b": 3}),
        ({"test_z": 2}, {"test_zz": 3}),
        ({"test_a": 2}, {"test_e": 3}),
        ({"test_a": 2, "test_b": 2}, {"test_c": 3, "test_e": 3}),
        ({"test_b": 2, "test_f": 2, "test_g": 2}, {"test_c": 3, "test_d": 3, "test_ff": 3}),
        ({"test_b": 2}, {"test_b": 2}),
        ({"test_a": 2}, {"test_a": 2, "test_b": 3}),
        ({"test_e": None}, {"test_n": 3}),
    ],
    ids=lambda widths: " ".join(f"{test_id}={width}" for test_id, width in widths.items()),
)
def test_both_sides_are_kept(repository, ours, theirs):
    repository.merge(BASE, ours, theirs)
    expected = {test_id: width for test_id, width in (BASE | ours | theirs).items() if width is not None}
    assert repository.widths == expected
    # The next update sorts the lines.
    change(repository.baseline, lambda file: file)
    entries = {test_id: {"model": net(width)} for test_id, width in expected.items()}
    assert repository.baseline.read_text() == dumps(type(load(repository.baseline))(repository.baseline, entries))


@pytest.mark.parametrize("how", [("merge", "-q", "topic"), ("rebase", "-q", "topic"), ("cherry-pick", "topic")])
def test_however_git_brings_them_together(repository, how):
    repository.merge(BASE, {"test_b": 2}, {"test_c": 3}, how)
    assert repository.widths == BASE | {"test_b": 2, "test_c": 3}


def test_both_write_the_first_baseline(repository):
    repository.merge({}, {"test_b": 2}, {"test_c": 3})
    assert repository.widths == {"test_b": 2, "test_c": 3}


def test_turned_line_ends(tmp_path):
    """If git changes line ends, as on Windows, a merge still works."""
    repository = Repository(tmp_path, core_autocrlf="true")
    repository.merge(BASE, {"test_b": 2}, {"test_c": 3})
    assert repository.widths == BASE | {"test_b": 2, "test_c": 3}
    assert repository.git("status", "--porcelain") == ""


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [({"test_e": 2}, {"test_e": 3}), ({"test_b": 2}, {"test_b": 3})],
    ids=["both change", "both add"],
)
class TestContradiction:
    def test_is_refused(self, repository, ours, theirs):
        """If both branches changed one entry differently, the merged file is refused."""
        repository.merge(BASE, ours, theirs)
        (test_id,) = ours
        with pytest.raises(BaselineError, match=rf'test_net\.json, line \d+.* of "{test_id}": .*; a merge '):
            load(repository.baseline)

    def test_a_measurement_mends_it(self, repository, ours, theirs):
        """If an update measures the test of a contradictory entry, it replaces the entry."""
        repository.merge(BASE, ours, theirs)
        (test_id,) = ours
        assert change(repository.baseline, lambda file: update_entries(file, {test_id: {"model": net(4)}}))
        assert repository.widths == BASE | {test_id: 4}

    def test_another_update_keeps_it(self, repository, ours, theirs):
        """If an update does not measure the test of a contradictory entry, the update is refused."""
        repository.merge(BASE, ours, theirs)
        before = repository.baseline.read_bytes()
        with pytest.raises(BaselineError, match="a merge "):
            change(repository.baseline, lambda file: update_entries(file, {"test_z": {"model": net(4)}}))
        assert repository.baseline.read_bytes() == before


@pytest.mark.parametrize(("ours", "theirs"), [({"test_e": None}, {"test_e": 3}), ({"test_e": 3}, {"test_e": None})])
def test_one_removes_what_the_other_changes(repository, ours, theirs):
    repository.merge(BASE, ours, theirs)
    assert repository.widths == BASE | {"test_e": 3}


class TestWithoutTheAttribute:
    """If git ignores `.gitattributes`, a merge has a conflict."""

    @pytest.fixture
    def conflict(self, repository):
        repository.write(BASE)
        repository.git("rm", "-q", "__flops__/.gitattributes")
        repository.folder.joinpath("__flops__", ".gitattributes").write_text("# of my own\n", encoding="utf-8")
        repository.commit()
        repository.git("checkout", "-q", "-b", "topic")
        repository.write({"test_c": 3})
        repository.git("checkout", "-q", "main")
        repository.write({"test_b": 2})
        repository.git("merge", "-q", "topic", code=1)
        return repository

    def test_conflict(self, conflict):
        with pytest.raises(BaselineError, match=r"conflict marker, line \d+: delete the lines with markers"):
            load(conflict.baseline)

    def test_the_way_out(self, conflict):
        """If the user removes the conflict markers, the baseline has the changes of both branches."""
        lines = conflict.baseline.read_text().splitlines(keepends=True)
        markers = ("<<<<<<<", "=======", ">>>>>>>")
        conflict.baseline.write_text("".join(line for line in lines if not line.startswith(markers)))
        assert conflict.widths == BASE | {"test_b": 2, "test_c": 3}


class TestAttributes:
    def test_own_ones_are_left_alone(self, repository):
        folder = repository.folder / "__flops__"
        folder.mkdir()
        attributes = folder / ".gitattributes"
        attributes.write_text("*.json -diff\n", encoding="utf-8")
        repository.write(BASE)
        assert attributes.read_text(encoding="utf-8") == "*.json -diff\n"

    def test_none_outside_of_a_repository(self, tmp_path):
        path = tmp_path / "__flops__" / "test_net.json"
        change(path, lambda file: update_entries(file, {"test_a": {"model": net()}}))
        assert [*path.parent.iterdir()] == [path]

    def test_nothing_else_is_left(self, repository):
        repository.write(BASE)
        folder = repository.baseline.parent
        assert sorted(folder.iterdir()) == [folder / ".gitattributes", repository.baseline]


tests = st.sampled_from([f"test_{letter}" for letter in "abcdefgh"])
bases = st.dictionaries(tests, st.just(1))
changes = st.dictionaries(tests, st.none() | st.integers(2, 4), max_size=4)


@settings(max_examples=examples(10, of_many=500), suppress_health_check=[HealthCheck.too_slow])
@given(bases, changes, changes)
def test_any_two_branches(tmp_path_factory, base, ours, theirs):
    repository = Repository(tmp_path_factory.mktemp("repository") / "r")
    base = base | {"test_always": 1}
    ours = {test_id: width for test_id, width in ours.items() if width or test_id in base}
    theirs = {test_id: width for test_id, width in theirs.items() if width or test_id in base}
    repository.merge(base, ours, theirs)
    both = {test_id for test_id in ours.keys() & theirs.keys() if ours[test_id] != theirs[test_id]}
    contradictions = {test_id for test_id in both if ours[test_id] and theirs[test_id]}
    if contradictions:
        with pytest.raises(BaselineError, match=rf'of "({"|".join(both)})": .*; a merge '):
            load(repository.baseline)
    # An update that measures the contradictory tests leaves no contradiction.
    change(
        repository.baseline,
        lambda file: update_entries(file, {test_id: {"model": net(9)} for test_id in contradictions}),
    )
    widths = repository.widths
    for test_id in base | ours | theirs:
        told = {side[test_id] for side in (ours, theirs) if test_id in side} or {base[test_id]}
        if test_id in contradictions:
            assert widths[test_id] == 9
        elif told == {None}:
            # git restores a removed entry if the other branch added or changed the entry beside it.
            assert widths.get(test_id, 1) == 1
        else:
            assert widths[test_id] == max(told - {None})
    assert widths.keys() <= base.keys() | ours.keys() | theirs.keys()
