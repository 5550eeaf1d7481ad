import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from timed import estimated, net

from pytest_flopsbudget.results.complexity import Complexity
from pytest_flopsbudget.results.data import Module, Operator
from pytest_flopsbudget.results.diff import ModuleChange, ModuleSnapshot, OperatorChange, diff, shape_change


def complexity(own, metric="flops", inputs=("float32[1]",), operators=None):
    """Build a model from {path of a module: its value without its children}."""
    own = {path: (value, {}) if isinstance(value, int) else value for path, value in ({"": 0} | own).items()}
    total = {
        path: sum(cost for other, (cost, _) in own.items() if not path or f"{other}.".startswith(f"{path}."))
        for path in own
    }
    modules = {
        path: Module(**({"type": "M", "calls": 1} | fields), metrics={metric: total[path]})
        for path, (_, fields) in own.items()
    }
    return Complexity(
        model="Net",
        inputs=inputs,
        execution="shapes",
        metrics={metric: total[""]},
        modules=modules,
        operators=operators or {},
    )


def side(value, type_="M", shape="", calls=1):
    return ModuleSnapshot(type_, shape, calls, value)


def changed(path, old, new, count=1):
    return ModuleChange(
        path=path, kind="changed", count=count, change=count * (new - old), old=side(old), new=side(new)
    )


def added(path, value, count=1):
    return ModuleChange(path=path, kind="added", count=count, change=count * value, old=None, new=side(value))


def removed(path, value, count=1):
    return ModuleChange(path=path, kind="removed", count=count, change=-count * value, old=side(value), new=None)


def renamed(old_path, path, value, count=1):
    return ModuleChange(
        path=path, kind="renamed", old_path=old_path, count=count, change=0, old=side(value), new=side(value)
    )


def module_changes(old, new):
    return list(diff(complexity(old), complexity(new)).modules)


class TestChanged:
    def test_nothing(self):
        same = complexity({"a": 1, "a.b": 2})
        result = diff(same, same)
        assert (result.old, result.new, result.modules, result.operators) == (3, 3, (), ())

    def test_only_the_module_itself_is_told(self):
        assert module_changes({"a": 1, "a.b": 2, "a.b.c": 3}, {"a": 1, "a.b": 2, "a.b.c": 8}) == [
            changed("a.b.c", 3, 8)
        ]

    def test_own_part(self):
        """If a module grew and its children did not, the module is listed."""
        assert module_changes({"a": 1, "a.b": 2}, {"a": 5, "a.b": 2}) == [changed("a", 1, 5)]

    def test_what_changed_comes_along(self):
        """A change has the type and the number of calls of the module before and after."""
        old = {"conv": (9, {"type": "Conv2d", "shape": "1->1, 3x3", "calls": 1})}
        new = {"conv": (50, {"type": "Conv", "shape": "1->1, 5x5", "calls": 2})}
        (change,) = module_changes(old, new)
        assert change.old == side(9, "Conv2d", "1->1, 3x3", 1)
        assert change.new == side(50, "Conv", "1->1, 5x5", 2)

    def test_order(self):
        """The largest change comes first, whether it is growth or not."""
        old = {"a": 10, "b10": 10, "b9": 10, "c": 100}
        new = {"a": 11, "b10": 12, "b9": 8, "c": 1}
        assert [change.path for change in module_changes(old, new)] == ["c", "b9", "b10", "a"]

    def test_parent_without_module(self):
        assert module_changes({"a": 1, "a.b.c": 2}, {"a": 1, "a.b.c": 5}) == [changed("a.b.c", 2, 5)]


class TestAddedAndRemoved:
    def test_topmost_only(self):
        """If a subtree was added, only its topmost module is listed."""
        assert module_changes({"a": 1}, {"a": 1, "head": 2, "head.fc": 3, "head.fc.x": 4}) == [added("head", 9)]

    def test_removed(self):
        assert module_changes({"a": 1, "head": 2, "head.fc": 3}, {"a": 1}) == [removed("head", 5)]

    def test_free_modules_are_not_told(self):
        assert module_changes({"a": 1, "drop": 0}, {"a": 1, "relu": 0}) == []


class TestRenamed:
    def test_moved_subtree(self):
        """If a subtree moved without a change, it is listed once, as renamed."""
        assert module_changes({"a": 1, "a.b": 2}, {"z": 1, "z.b": 2}) == [renamed("a", "z", 3)]

    def test_renamed_with_outputs(self):
        """A moved subtree is found, although the baseline has no output shapes."""
        old = complexity({"a": 1, "a.b": 2})
        new = complexity({"z": 1, "z.b": 2})
        new = replace(new, modules={path: replace(one, outputs=("float32[2]",)) for path, one in new.modules.items()})
        assert diff(old, new).modules == (renamed("a", "z", 3),)

    def test_changed_on_the_way(self):
        """If a subtree moved and also changed, it is listed as removed and as added."""
        assert module_changes({"a": 1, "a.b": 2}, {"z": 1, "z.b": 4}) == [added("z", 5), removed("a", 3)]

    def test_into_a_wrapper(self):
        """If modules got a wrapper, they are listed as renamed."""
        old = {"conv": 4, "fc": 2}
        new = {"net": 1, "net.conv": 4, "net.fc": 2}
        assert module_changes(old, new) == [added("net", 1), renamed("conv", "net.conv", 4), renamed("fc", "net.fc", 2)]

    def test_out_of_a_wrapper(self):
        assert module_changes({"net": 1, "net.conv": 4}, {"conv": 4}) == [
            removed("net", 1),
            renamed("net.conv", "conv", 4),
        ]

    def test_largest_first(self):
        """Renamed blocks are found before smaller renamed modules."""
        old = {"a": 2, "b": 1, "b.fc": 2}
        new = {"c": 1, "c.fc": 2}
        assert module_changes(old, new) == [removed("a", 2), renamed("b", "c", 3)]

    def test_beside_its_old_place_first(self):
        """If a new module may come from several old modules, an old module with the same parent is preferred."""
        old = {"x.0": 0, "x.0.attn": 5, "x.1": 0, "x.1.attn": 5, "y": 0, "y.fc": 5}
        new = {"x.0": 0, "x.1": 0, "x.1.self_attn": 5, "y": 0, "z": 0, "z.fc": 5}
        assert module_changes(old, new) == [
            removed("x.0.attn", 5),
            renamed("x.1.attn", "x.1.self_attn", 5),
            renamed("y.fc", "z.fc", 5),
        ]

    def test_all_layers(self):
        """If all layers were renamed in the same way, the renaming is listed once."""
        old = {f"l.{i}.attn": 5 for i in range(12)}
        new = {f"l.{i}.self_attn": 5 for i in range(12)}
        assert module_changes(old, new) == [renamed("l.{0-11}.attn", "l.{0-11}.self_attn", 5, count=12)]


class TestFolding:
    def test_all_layers_are_told_once(self):
        old = {f"layers.{i}.{part}": 4 for i in range(32) for part in ("attn", "mlp")}
        new = {path: 7 if path.endswith("mlp") else 4 for path in old}
        assert module_changes(old, new) == [changed("layers.{0-31}.mlp", 4, 7, count=32)]

    def test_other_changes_do_not_part_them(self):
        old = {f"layers.{i}.{part}": 4 for i in range(4) for part in ("attn", "mlp")}
        new = {path: 7 if path.endswith("mlp") else 4 for path in old} | {"layers.2.attn": 5}
        assert module_changes(old, new) == [changed("layers.{0-3}.mlp", 4, 7, count=4), changed("layers.2.attn", 4, 5)]

    def test_differing_change_stands_alone(self):
        old = {f"l.{i}": 4 for i in range(5)}
        new = {f"l.{i}": 5 for i in range(5)} | {"l.2": 9}
        assert module_changes(old, new) == [changed("l.2", 4, 9), changed("l.{0-1,3-4}", 4, 5, count=4)]

    def test_nested(self):
        old = {f"s.{i}.{j}.x": 1 for i in range(2) for j in range(3)} | {"fc": 1}
        new = dict.fromkeys(old, 2) | {"fc": 6}
        assert module_changes(old, new) == [changed("s.{0-1}.{0-2}.x", 1, 2, count=6), changed("fc", 1, 6)]

    def test_added_layers(self):
        old = {"l": 0} | {f"l.{i}": 4 for i in range(2)}
        new = {"l": 0} | {f"l.{i}": 4 for i in range(12)}
        assert module_changes(old, new) == [added("l.{2-11}", 4, count=10)]

    def test_names_like_segments(self):
        assert module_changes({"{0-1}": 1}, {"{0-1}": 2}) == [changed("\\{0-1}", 1, 2)]


class TestMetrics:
    def test_derived(self):
        """MACs are half of the FLOPs, in the model and in each module."""
        result = diff(complexity({"a": 4}), complexity({"a": 10}), "macs")
        assert (result.metric, result.old, result.new) == ("macs", 2, 5)
        assert result.modules == (changed("a", 2, 5),)

    def test_shared_parameters(self):
        """If a parameter that two children share grew, the parent is not listed."""

        def tied(size):
            values = {"": size, "a": size, "b": size}
            modules = {path: Module(type="M", calls=1, metrics={"params": value}) for path, value in values.items()}
            return Complexity(model="Net", inputs=(), execution="shapes", metrics={"params": size}, modules=modules)

        result = diff(tied(3), tied(5), "params")
        assert (result.old, result.new) == (3, 5)
        assert result.modules == (changed("a", 3, 5), changed("b", 3, 5))

    def test_peak(self):
        """If the peak grew, only the module that reaches the peak is listed."""

        def peaks(a, b):
            values = {"": 10, "a": a, "b": b, "c": 10}
            values[""] = max(values.values())
            modules = {path: Module(type="M", calls=1, metrics={"peak_memory": n}) for path, n in values.items()}
            total = {"peak_memory": values[""]}
            return Complexity(model="Net", inputs=(), execution="shapes", metrics=total, modules=modules)

        assert diff(peaks(10, 10), peaks(10, 15), "peak_memory").modules == (changed("b", 10, 15),)

    def test_time_of_a_device(self):
        result = diff(estimated(), estimated(memory=500), "time[A100]")
        assert (result.old, result.new) == (1400, 1600)
        (found,) = result.modules
        # The memory part of the head grows from 300 to 500 ns.
        assert (found.path, found.change, found.old.value, found.new.value) == ("head", 200, 400, 600)
        assert [(one.operator, one.old, one.new) for one in result.operators] == [("aten.mm", 400, 600)]

    @pytest.mark.parametrize("metric", ["depth", "peak_memory", "latency[box]"])
    def test_what_the_modules_of_one_side_lack(self, metric):
        old, new = (replace(net({"flops": 1}), metrics={metric: value}) for value in (2, 3))
        modules = {"": replace(new[""], metrics={metric: 3})}
        assert diff(old, replace(new, modules=modules), metric).modules == ()

    def test_ratios_are_no_sums(self):
        one = net({"flops": 1, "other_flops": 1, "memory_traffic": 1})
        with pytest.raises(KeyError, match="ratio"):
            diff(one, one, "arithmetic_intensity")

    def test_moved_modules_whose_baseline_lacks_a_metric(self):
        old = net({"flops": 7, "params": 3})
        new = net({"flops": 7, "params": 3, "activations": 5})
        stem = new.modules["stem"]
        moved = {path: module for path, module in new.modules.items() if path != "stem"} | {"trunk": stem}
        (found,) = diff(old, replace(new, modules=moved)).modules
        assert (found.kind, found.path, found.old_path, found.change) == ("renamed", "trunk", "stem", 0)

    @pytest.mark.parametrize("metric", ["params", "flop"])
    def test_not_measured(self, metric):
        with pytest.raises(KeyError, match=metric):
            diff(complexity({}), complexity({}), metric)


class TestOperators:
    def test_changes(self):
        """The operator with the largest change is listed first."""
        old = {"aten.mm": (3, 30), "aten.bmm": (1, 100), "aten.dot": (1, 1), "aten.mv": (1, 7)}
        new = {"aten.mm": (4, 40), "aten.convolution": (1, 60), "aten.dot": (1, 1), "aten.mv": (2, 7)}

        def with_operators(rows):
            operators = {name: Operator(calls=calls, metrics={"flops": value}) for name, (calls, value) in rows.items()}
            return complexity({}, operators=operators)

        assert diff(with_operators(old), with_operators(new)).operators == (
            OperatorChange(operator="aten.bmm", old_calls=1, new_calls=0, old=100, new=0),
            OperatorChange(operator="aten.convolution", old_calls=0, new_calls=1, old=0, new=60),
            OperatorChange(operator="aten.mm", old_calls=3, new_calls=4, old=30, new=40),
            OperatorChange(operator="aten.mv", old_calls=1, new_calls=2, old=7, new=7),
        )

    def test_other_metric(self):
        """Operators have no parameters, so no operator is listed for params."""
        old = complexity({"a": 1}, "params", operators={"aten.mm": Operator(calls=1, metrics={"flops": 1})})
        assert diff(old, complexity({"a": 2}, "params"), "params").operators == ()


class TestInputs:
    def test_changed(self):
        """`inputs_changed` has the old and the new inputs, or is None if they are equal."""
        old, new = complexity({}, inputs=("a",)), complexity({}, inputs=("a", "b"))
        assert diff(old, new).inputs_changed == (("a",), ("a", "b"))
        assert diff(old, old).inputs_changed is None


class TestShapeChange:
    @pytest.mark.parametrize(
        ("old", "new", "expected"),
        [
            ("512->512, 3x3", "512->512, 5x5", ("3x3", "5x5")),
            ("3->64, 7x7, stride 2x2", "3->32, 7x7, stride 1x1", ("3->64, stride 2x2", "3->32, stride 1x1")),
            ("512->512, 3x3", "512->512, 3x3, groups 2", ("512->512, 3x3", "512->512, 3x3, groups 2")),
            ("8->8", "8->8", ("", "")),
            ("", "8->8", ("", "8->8")),
        ],
    )
    def test_parts(self, old, new, expected):
        """If two shapes have equally many parts between commas, `shape_change` returns only the parts that differ."""
        assert shape_change(old, new) == expected


names = st.sampled_from(["0", "1", "2", "a", "b"])


@st.composite
def models(draw, names=names):
    """Draw a model that has all ancestors of its modules."""
    leaves = draw(st.lists(st.lists(names, min_size=1, max_size=3), max_size=6))
    paths = {".".join(leaf[:depth]) for leaf in leaves for depth in range(1, len(leaf) + 1)}
    return complexity({path: draw(st.integers(0, 3)) for path in sorted(paths)})


class TestProperties:
    @given(models(), models())
    def test_changes_add_up(self, old, new):
        result = diff(old, new)
        assert sum(change.change for change in result.modules) == result.new - result.old

    @given(models(), models())
    def test_reversed_sum(self, old, new):
        there, back = diff(old, new).modules, diff(new, old).modules
        assert sum(change.change for change in there) == -sum(change.change for change in back)

    # Without numbers, because a changed module of a list whose numbers shifted has another path in each direction.
    @given(models(st.sampled_from("abc")), models(st.sampled_from("abc")))
    def test_reversed(self, old, new):
        there, back = diff(old, new).modules, diff(new, old).modules
        changes_there = {(change.path, change.change) for change in there if change.kind == "changed"}
        changes_back = {(change.path, -change.change) for change in back if change.kind == "changed"}
        assert changes_there == changes_back

    @given(models())
    def test_equal_models(self, model):
        assert diff(model, model).modules == ()


def test_large_model():
    """If 10,000 of 20,000 modules were renamed and the others grew, each module is counted once."""

    def large(name, growth):
        moved = {f"layers.{i}.{name}.{j}": 5 for i in range(500) for j in range(20)}
        changed = {f"layers.{i}.mlp.{j}": i + growth for i in range(500) for j in range(20)}
        modules = {
            path: Module(type="M", calls=1, metrics={"flops": flops}) for path, flops in (moved | changed).items()
        }
        return Complexity(model="Net", inputs=(), execution="shapes", metrics={"flops": 1}, modules=modules)

    old, new = large("attn", 1), large("self_attn", 2)
    result = diff(old, new)
    assert sum(change.count for change in result.modules if change.kind == "renamed") == 10_000
    assert sum(change.change for change in result.modules) == 10_000
