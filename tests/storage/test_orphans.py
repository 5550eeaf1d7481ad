"""Finding baseline entries whose test is gone."""

from __future__ import annotations

import pytest

from pytest_flopsbudget.identifiers import baseline_path
from pytest_flopsbudget.results.complexity import Complexity
from pytest_flopsbudget.results.data import Module
from pytest_flopsbudget.results.renames import find_renames
from pytest_flopsbudget.storage.baseline import BaselineFile
from pytest_flopsbudget.storage.orphans import Orphan, find_files_without_test, find_orphans


def complexity(flops=100, **fields):
    metrics = {"flops": flops}
    fields = {"model": "Net", "inputs": ("float32[1]",), "backward": False} | fields
    return Complexity(execution="shapes", metrics=metrics, modules={"": Module(type="Net", metrics=metrics)}, **fields)


def entries(*flops, **fields):
    return {name: complexity(count, **fields) for name, count in zip("xyz", flops, strict=False)}


class TestOrphans:
    def test_those_that_were_not_collected(self, tmp_path):
        path = tmp_path / "__flops__" / "test_net.json"
        file = BaselineFile(path, {"test_b": entries(2), "test_a[1]": entries(1), "T::test_c": entries(3)})
        assert find_orphans(file, "tests/test_net.py", {"test_b", "test_new"}) == [
            Orphan("tests/test_net.py::T::test_c", path, entries(3)),
            Orphan("tests/test_net.py::test_a[1]", path, entries(1)),
        ]

    def test_none(self, tmp_path):
        assert find_orphans(BaselineFile(tmp_path, {"test_a": entries(1)}), "test_net.py", {"test_a"}) == []


class TestWithoutTestFile:
    @pytest.fixture
    def tree(self, tmp_path):
        """Make baselines in several folders. The baselines with the name "test_gone" have no test file."""
        for place in (
            "test_here",
            "a/test_gone",
            "a/b/test_here",
            "a/b/test_gone",
            "build/test_gone",
            ".git/test_gone",
        ):
            baseline = baseline_path(tmp_path / f"{place}.py")
            baseline.parent.mkdir(parents=True, exist_ok=True)
            baseline.write_text("{}", encoding="utf-8")
            if "here" in place:
                tmp_path.joinpath(f"{place}.py").touch()
        return tmp_path

    def found(self, tree, *folders, skipped=(".*", "build")):
        paths = find_files_without_test([tree / folder for folder in folders], skipped)
        return [path.relative_to(tree).as_posix() for path in paths]

    def test_below_a_folder(self, tree):
        assert self.found(tree, "") == ["a/__flops__/test_gone.json", "a/b/__flops__/test_gone.json"]

    def test_below_the_folders_that_were_asked_for(self, tree):
        """Each baseline is found once, even if one of the given folders contains another."""
        assert self.found(tree, "a/b") == ["a/b/__flops__/test_gone.json"]
        assert self.found(tree, "a/b", "a") == ["a/b/__flops__/test_gone.json", "a/__flops__/test_gone.json"]

    def test_skipped_by_their_whole_path(self, tree):
        assert self.found(tree, "", skipped=(".*", "build", str(tree / "a" / "b"))) == ["a/__flops__/test_gone.json"]
        assert self.found(tree, "", skipped=(".*", "build", "*/a")) == []

    def test_virtual_environments(self, tree):
        tree.joinpath("a", "b", "pyvenv.cfg").touch()
        assert self.found(tree, "") == ["a/__flops__/test_gone.json"]

    def test_tests_in_another_language(self, tree):
        tree.joinpath("a", "test_gone.yaml").touch()
        assert self.found(tree, "a") == ["a/b/__flops__/test_gone.json"]

    def test_a_folder_of_that_name(self, tree):
        tree.joinpath("a", "test_gone.py").mkdir()
        assert self.found(tree, "a") == ["a/__flops__/test_gone.json", "a/b/__flops__/test_gone.json"]

    def test_a_name_with_dots(self, tree):
        tree.joinpath("a", "test_gone.v1.py").touch()
        baseline_path(tree / "a" / "test_gone.v1.py").write_text("{}", encoding="utf-8")
        assert self.found(tree, "a") == ["a/__flops__/test_gone.json", "a/b/__flops__/test_gone.json"]


class TestLikelyRenames:
    def test_the_same_cost(self):
        gone = {"a.py::test_old": entries(1), "a.py::test_gone": entries(2)}
        assert find_renames(gone, {"a.py::test_new": entries(1), "a.py::test_other": entries(3)}) == {
            "a.py::test_old": "a.py::test_new"
        }

    @pytest.mark.parametrize(
        "other",
        [
            entries(2),
            entries(1, 1),
            {"y": complexity(1)},
            entries(1, model="Other"),
            entries(1, inputs=("float32[2]",)),
            entries(1, backward=True),
        ],
        ids=["metrics", "more measurements", "name", "model", "inputs", "backward"],
    )
    def test_what_tells_tests_apart(self, other):
        assert find_renames({"a.py::test_old": entries(1)}, {"a.py::test_new": other}) == {}

    def test_each_once(self):
        new = {"a.py::test_net_of_mine": entries(1), "a.py::test_other": entries(1)}
        assert find_renames({"a.py::test_net": entries(1)}, new) == {"a.py::test_net": "a.py::test_net_of_mine"}
        gone = {"a.py::test_xyz": entries(1), "a.py::test_othr": entries(1)}
        assert find_renames(gone, {"a.py::test_other": entries(1)}) == {"a.py::test_othr": "a.py::test_other"}

    def test_parameters_tell_apart(self):
        """If a function with parameters was renamed, ids with equal parameters are paired."""
        sizes = ["small", "medium", "large"]
        gone = {f"a.py::test_net[{size}]": entries(1) for size in sizes}
        new = {f"a.py::test_resnet[{size}]": entries(1) for size in reversed(sizes)}
        assert find_renames(gone, new) == {
            f"a.py::test_net[{size}]": f"a.py::test_resnet[{size}]" for size in sorted(sizes)
        }

    def test_a_file_that_was_renamed(self):
        gone = {f"tests/test_a.py::test_{letter}": entries(1) for letter in "abc"}
        new = {f"tests/unit/test_b.py::test_{letter}": entries(1) for letter in "abc"}
        assert find_renames(gone, new) == dict(zip(gone, new, strict=True))

    def test_thousands_of_one_cost(self):
        gone = {f"a.py::test[{number}]": entries(1) for number in range(2000)} | {"a.py::test_x": entries(1)}
        new = {f"b.py::test[{number}]": entries(1) for number in range(2000)} | {"b.py::test_y": entries(1)}
        renames = find_renames(gone, new)
        assert renames["a.py::test[1234]"] == "b.py::test[1234]"
        assert len(renames) == 2000
