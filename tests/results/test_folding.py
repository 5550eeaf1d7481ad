import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from pytest_flopsbudget.results.data import Module
from pytest_flopsbudget.results.folding import fold, identities, natural_key, unfold, without_peaks, write_segment


def module(flops=0, type_="Linear", shape="", calls=1):
    return Module(type=type_, shape=shape, calls=calls, metrics={"flops": flops, "params": 0})


def modules_at(*paths):
    return dict.fromkeys(paths, module())


def flattened(tree, path=""):
    """Return {path: module} for a tree. A tree is (module or None, {name: subtree})."""
    here, children = tree
    modules = {path: here} if here else {}
    for name, child in children.items():
        modules |= flattened(child, f"{path}.{name}" if path else name)
    return modules


numbers = st.integers(0, 12).map(str)
odd_names = st.sampled_from(["a", "b10", "b9", "01", "{0-1}", "{", "\\", "\\{0-1}", "é", "-1", "1" * 30])
any_names = st.text(st.characters(exclude_characters=".", exclude_categories=["Cs"]), min_size=1, max_size=3)
contents = st.none() | st.builds(
    module, st.integers(0, 1), st.sampled_from(["Linear", "ReLU"]), st.sampled_from(["", "3"])
)


def families(subtrees):
    """Draw children with any names, or equal children whose names are numbers, or both."""
    mixed = st.dictionaries(numbers | odd_names | any_names, subtrees, max_size=4)
    equal = st.builds(dict.fromkeys, st.sets(numbers, min_size=2, max_size=6), subtrees)
    return mixed | equal | st.builds(dict.__or__, equal, mixed)


trees = st.recursive(st.tuples(contents, st.just({})), lambda subtrees: st.tuples(contents, families(subtrees)))


class TestFold:
    def test_equal_siblings_share_an_entry(self):
        """Equal siblings whose names are numbers become one entry."""
        assert fold(modules_at("0", "1", "2")) == modules_at("{0-2}")

    def test_differing_sibling_stands_alone(self):
        modules = modules_at(*(f"layers.{i}" for i in range(8))) | {"layers.5": module(flops=7)}
        assert list(fold(modules).items()) == [("layers.{0-4,6-7}", module()), ("layers.5", module(flops=7))]

    def test_gaps(self):
        modules = {"0": module(1), "1": module(2), "2": module(1), "3": module(2)}
        assert fold(modules) == {"{0,2}": module(1), "{1,3}": module(2)}

    def test_single_sibling_stays_plain(self):
        """A number without equal siblings is written without braces."""
        assert fold({"0": module(1), "1": module(2)}) == {"0": module(1), "1": module(2)}

    @pytest.mark.parametrize(
        "other",
        [
            module(flops=2),
            module(flops=1, type_="ReLU"),
            module(flops=1, shape="3"),
            module(flops=1, calls=2),
            Module(type="Linear", calls=1, metrics={"flops": 1}),
            replace(module(flops=1), outputs=("float32[2]",)),
        ],
    )
    def test_every_field_counts(self, other):
        """If two modules differ in any field, they do not become one entry."""
        modules = {"0": module(flops=1), "1": other}
        assert fold(modules) == modules

    def test_whole_subtrees_are_compared(self):
        modules = modules_at("0.a.0", "0.a.1", "1.a.0", "1.a.1", "2.a.0", "2.a.1") | {"1.a.1": module(9)}
        expected = modules_at("{0,2}.a.{0-1}", "1.a.0") | {"1.a.1": module(9)}
        assert fold(modules) == expected

    def test_nested(self):
        modules = modules_at(*(f"stages.{i}.{j}.conv" for i in range(3) for j in range(2)))
        assert fold(modules) == modules_at("stages.{0-2}.{0-1}.conv")

    @pytest.mark.parametrize("names", [("a", "b"), ("01", "02"), ("-1", "-2"), ("²", "³"), ("٣", "٤")])
    def test_other_names_do_not_fold(self, names):
        """A name that is not a number in Python's notation has its own entry."""
        assert fold(modules_at(*names)) == modules_at(*names)

    def test_names_like_segments_are_escaped(self):
        assert fold(modules_at("{0-1}", "\\a", "a{0-1}")) == modules_at("\\{0-1}", "\\\\a", "a{0-1}")

    def test_natural_order_whatever_the_input_order(self):
        paths = ["", "a", "a.x", "b2", "b10", "b10.z", "c.2", "c.10"]
        modules = {path: module(flops=index) for index, path in enumerate(paths)}
        assert list(fold({path: modules[path] for path in reversed(paths)})) == paths
        assert list(fold({path: modules[path] for path in sorted(paths)})) == paths

    def test_nothing(self):
        assert fold({}) == {}

    def test_large_model(self):
        """If all modules differ, folding changes nothing."""
        modules = {f"layers.{i}.block.{j}.fc": module(i * 20 + j) for i in range(1000) for j in range(20)}
        assert fold(modules) == modules


class TestUnfold:
    @given(trees)
    def test_inverse(self, tree):
        """`unfold` returns exactly the modules that `fold` got."""
        modules = flattened(tree)
        assert unfold(fold(modules)) == modules

    @given(trees)
    def test_order_and_form_are_one(self, tree):
        """The folded entries do not depend on the order of the input."""
        modules = flattened(tree)
        reordered = {path: modules[path] for path in reversed(modules)}
        assert list(fold(reordered).items()) == list(fold(modules).items())
        assert fold(unfold(fold(modules))) == fold(modules)

    def test_ranges(self):
        assert list(unfold(modules_at("l.{0-2,9-10}.x", "l.3.x"))) == [f"l.{i}.x" for i in (0, 1, 2, 3, 9, 10)]

    @pytest.mark.parametrize(
        "segment",
        ["{", "{}", "{a}", "{0-}", "{-3}", "{3-1}", "{0-4,4}", "{2,1}", "{01-3}", "{0--3}", "{0-1", "{0-1}x", "{1, 2}"],
    )
    def test_malformed(self, segment):
        """If a folded name is not a list of rising numbers, `unfold` raises an error."""
        with pytest.raises(ValueError, match="no list of rising numbers"):
            unfold(modules_at(f"a.{segment}.b"))

    def test_overlap(self):
        """If two entries contain the same path, an error names this path."""
        with pytest.raises(ValueError, match=r"'l\.3' names 'l\.3', which another entry names too"):
            unfold(modules_at("l.{0-4}", "l.3"))

    @pytest.mark.parametrize("path", ["{0-99999999999}", "{0-999}.{0-999}.{0-999}"])
    def test_slip_does_not_eat_the_memory(self, path):
        """If a range has too many modules, `unfold` raises an error before it creates a module."""
        with pytest.raises(ValueError, match="more than 1,000,000"):
            unfold(modules_at(path))


class TestNaturalKey:
    def test_numbers_compare_as_numbers(self):
        names = ["", "01", "1", "2", "10", "9" * 5000, "a", "a.b", "a1", "a1b", "a2", "a10", "b"]
        backwards = names[::-1]
        assert sorted(backwards, key=natural_key) == names

    @given(st.lists(any_names | odd_names | numbers, unique=True))
    def test_total(self, names):
        """Different names have different values of `natural_key`."""
        assert len({natural_key(name) for name in names}) == len(names)
        backwards = names[::-1]
        assert sorted(names, key=natural_key) == sorted(backwards, key=natural_key)


class TestWriteSegment:
    @pytest.mark.parametrize(
        ("names", "written"),
        [
            (["conv1"], "conv1"),
            (["7"], "7"),
            (["{x"], "\\{x"),
            (["0", "1"], "{0-1}"),
            (["0", "1", "2", "3", "4", "6"], "{0-4,6}"),
            (["1", "3"], "{1,3}"),
        ],
    )
    def test_forms(self, names, written):
        """Consecutive numbers become a range, and all other numbers become a list."""
        assert write_segment(names) == written


class TestIdentities:
    def test_equal_subtrees_share_a_number(self):
        known = {}
        first = identities(modules_at("a", "a.x", "b", "b.y"), known)
        second = identities(modules_at("c", "c.x"), known)
        assert first["a"] == second["c"]
        assert first["a.x"] == first["b.y"]
        assert first["a"] != first["b"]


class TestWithoutPeaks:
    def test_all_else_stays(self):
        """`without_peaks` removes only the peaks and the output shapes."""
        plain = modules_at("0", "1")
        assert without_peaks(plain) is plain
        peaks = {"0": Module(type="L", shape="3", calls=2, metrics={"flops": 1, "peak_memory": 5})}
        kept = {"0": Module(type="L", shape="3", calls=2, metrics={"flops": 1})}
        assert without_peaks(peaks) == kept
        assert without_peaks({"0": replace(kept["0"], outputs=("float32[2]",))}) == kept


@pytest.mark.parametrize(
    "paths",
    [(".",), ("..",), (".x",), ("x.",), ("x..y",), (".x", "x"), (".", "x."), (".0", ".1"), (".", "..x", "x y", "é")],
)
def test_empty_names(paths):
    modules = modules_at("", *paths)
    assert unfold(fold(modules)) == modules
