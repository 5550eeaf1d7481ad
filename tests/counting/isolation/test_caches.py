"""A measurement does not change caches outside of the model."""

import functools
import gc
import importlib
import subprocess
import sys
import threading
import types
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from pytest_flopsbudget import UsageError, measure
from pytest_flopsbudget.counting.isolation.referrers import NewObjects


def table(size: int) -> Tensor:
    """Return the cosines of 0, 1, ..., ``size`` - 1. Each cosine costs 1 FLOP."""
    return torch.arange(float(size)).cos()


DICT: dict[object, Tensor] = {}
ORDERED: "OrderedDict[int, Tensor]" = OrderedDict()
DEFAULT: "defaultdict[str, dict[int, Tensor]]" = defaultdict(dict)
WITH_DEFAULTS: dict[str, Tensor | None] = {"table": None}
NESTED: dict[str, dict[int, tuple[Tensor, Tensor]]] = {"tables": {}}
LIST: list[Tensor] = []
DEQUE: "deque[Tensor]" = deque(maxlen=2)
GLOBAL: Tensor | None = None
GLOBAL_SIZE = 0
LOCAL = threading.local()


@functools.lru_cache
def bounded(size: int) -> Tensor:
    return table(size)


@functools.cache
def unbounded(size: int) -> tuple[Tensor, Tensor]:
    return table(size), table(size)


class Holder:
    """An object that is no module and holds a table in an attribute."""

    shared: Tensor | None = None

    def __init__(self) -> None:
        self.table: Tensor | None = None
        self.built_for = 0

    def get(self, size: int) -> Tensor:
        if self.table is None or self.built_for != size:
            self.table, self.built_for = table(size), size
        return self.table


HOLDER = Holder()


def in_dict(x: Tensor) -> Tensor:
    key = (x.shape[0], x.device)
    if key not in DICT:
        DICT[key] = table(x.shape[0])
    return DICT[key]


def in_ordered_dict(x: Tensor) -> Tensor:
    if x.shape[0] not in ORDERED:
        ORDERED[x.shape[0]] = table(x.shape[0])
    return ORDERED[x.shape[0]]


def in_default_dict(x: Tensor) -> Tensor:
    tables = DEFAULT["a"]
    if x.shape[0] not in tables:
        tables[x.shape[0]] = table(x.shape[0])
    return tables[x.shape[0]]


def in_dict_with_default(x: Tensor) -> Tensor:
    if WITH_DEFAULTS["table"] is None:
        WITH_DEFAULTS["table"] = table(x.shape[0])
    return WITH_DEFAULTS["table"]


def in_nested_dict(x: Tensor) -> Tensor:
    tables = NESTED["tables"]
    if x.shape[0] not in tables:
        tables[x.shape[0]] = (table(x.shape[0]), table(x.shape[0]))
    return tables[x.shape[0]][0]


def in_list(x: Tensor) -> Tensor:
    if not LIST:
        LIST.append(table(x.shape[0]))
    return LIST[0]


def in_deque(x: Tensor) -> Tensor:
    if not DEQUE:
        DEQUE.append(table(x.shape[0]))
    return DEQUE[-1]


def in_global(x: Tensor) -> Tensor:
    global GLOBAL, GLOBAL_SIZE
    if x.shape[0] != GLOBAL_SIZE:
        GLOBAL, GLOBAL_SIZE = table(x.shape[0]), x.shape[0]
    assert GLOBAL is not None
    return GLOBAL


def in_lru_cache(x: Tensor) -> Tensor:
    return bounded(x.shape[0])


def in_unbounded_cache(x: Tensor) -> Tensor:
    return unbounded(x.shape[0])[1]


def in_object(x: Tensor) -> Tensor:
    return HOLDER.get(x.shape[0])


def in_class(x: Tensor) -> Tensor:
    if Holder.shared is None:
        Holder.shared = table(x.shape[0])
    return Holder.shared


def in_new_class_attribute(x: Tensor) -> Tensor:
    if not hasattr(Model, "late"):
        Model.late = table(x.shape[0])  # type: ignore[attr-defined]
    return Model.late  # type: ignore[attr-defined,no-any-return]


def in_function_attribute(x: Tensor) -> Tensor:
    if in_function_attribute.table is None:  # type: ignore[attr-defined]
        in_function_attribute.table = table(x.shape[0])  # type: ignore[attr-defined]
    return in_function_attribute.table  # type: ignore[attr-defined,no-any-return]


in_function_attribute.table = None  # type: ignore[attr-defined]


def in_default_argument(x: Tensor, tables: dict[int, Tensor] = {}) -> Tensor:  # noqa: B006 -- the subject of the test
    if x.shape[0] not in tables:
        tables[x.shape[0]] = table(x.shape[0])
    return tables[x.shape[0]]


def make_closure() -> Callable[[Tensor], Tensor]:
    kept: Tensor | None = None

    def in_closure(x: Tensor) -> Tensor:
        nonlocal kept
        if kept is None:
            kept = table(x.shape[0])
        return kept

    return in_closure


in_closure = make_closure()


def in_thread_local(x: Tensor) -> Tensor:
    if not hasattr(LOCAL, "table"):
        LOCAL.table = table(x.shape[0])
    return LOCAL.table  # type: ignore[no-any-return]


WAYS = [
    in_dict,
    in_ordered_dict,
    in_default_dict,
    in_dict_with_default,
    in_nested_dict,
    in_list,
    in_deque,
    in_global,
    in_lru_cache,
    in_unbounded_cache,
    in_object,
    in_class,
    in_new_class_attribute,
    in_function_attribute,
    in_default_argument,
    in_closure,
    in_thread_local,
]


class Model(nn.Module):
    """A model that multiplies the output of its layer by a table from a cache."""

    def __init__(self, way: str, *, reads_data: bool = False) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 8)
        self.way = way
        self.reads_data = reads_data

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x) * CACHES[self.way](x)[:, None]
        return y[y.sum(1) > -1e9] if self.reads_data else y


CACHES = {way.__name__: way for way in WAYS}


@pytest.fixture(autouse=True)
def _empty() -> Iterator[None]:
    yield
    if hasattr(Model, "late"):
        del Model.late
    for cache in (DICT, ORDERED, DEFAULT, LIST, DEQUE, NESTED["tables"]):
        cache.clear()


#: Each of 3 rows needs 2·4·8 FLOPs in the layer, 8 in the product with the table, and 1 cosine in the table.
LAYER, PRODUCT, TABLE = 3 * 2 * 4 * 8, 3 * 8, 3


@pytest.mark.parametrize("way", CACHES)
@pytest.mark.parametrize("reads_data", [False, True], ids=["shapes", "data"])
def test_the_second_measurement_counts_what_the_first_counts(way: str, reads_data: bool) -> None:
    model, x = Model(way, reads_data=reads_data), torch.ones(3, 4)
    tables = 2 if way in {"in_unbounded_cache", "in_nested_dict"} else 1
    first, second = measure(model, x), measure(model, x)
    assert first.execution == ("real" if reads_data else "shapes")
    assert first == second
    assert first.flops == LAYER
    assert first.operators["aten.cos"].calls == tables
    assert first.operators["aten.cos"].metrics["other_flops"] == tables * TABLE


@pytest.mark.parametrize("way", CACHES)
def test_the_model_computes_after_a_measurement_as_before(way: str) -> None:
    model, x = Model(way).requires_grad_(False), torch.ones(3, 4)
    measure(model, x)
    assert torch.equal(model(x), model.layer(x) * torch.arange(3.0).cos()[:, None])


@pytest.mark.parametrize("way", CACHES)
def test_a_filled_cache_stays_filled(way: str) -> None:
    model, x = Model(way), torch.ones(3, 4)
    model(x)
    if way == "in_dict":
        DICT[3, torch.device("meta")] = DICT[3, torch.device("cpu")]
    kept = CACHES[way](x)
    measure(model, x)
    assert CACHES[way](x) is kept


def test_a_cache_that_replaces_its_table_gets_the_old_one_back() -> None:
    model = Model("in_global").requires_grad_(False)
    model(torch.ones(5, 4))
    before = GLOBAL
    measure(model, torch.ones(3, 4))
    assert GLOBAL is before
    assert GLOBAL_SIZE == 5
    HOLDER.get(5)
    kept = HOLDER.table
    measure(Model("in_object"), torch.ones(3, 4))
    assert HOLDER.table is kept
    assert HOLDER.built_for == 5


def test_a_helper_module_keeps_no_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    """If a model fills a global variable of a Python module, the measurement restores the variable."""
    helper = types.ModuleType("rotary_helper")
    source = """
import torch
TABLE = None
class Table:
    cos = None
def table(size):
    global TABLE
    if TABLE is None:
        TABLE = torch.arange(float(size)).cos()
        Table.cos = TABLE
    return TABLE
"""
    monkeypatch.setitem(sys.modules, "rotary_helper", helper)
    exec(source, vars(helper))  # noqa: S102 -- the source is written above
    monkeypatch.setitem(CACHES, "helper", lambda x: helper.table(x.shape[0]))
    monkeypatch.setattr(sys.modules[__name__], "rotary_helper", helper, raising=False)
    model, x = Model("helper"), torch.ones(3, 4)
    first, second = measure(model, x), measure(model, x)
    assert first == second
    assert helper.TABLE is None
    assert helper.Table.cos is None
    model(x)


def test_a_hook_gathers_no_tensor_of_the_measurement() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU())
    seen: list[Tensor] = [torch.ones(1)]
    keep = seen.append
    model[0].register_forward_hook(lambda _module, _args, output: keep(output))
    model(torch.ones(3, 4))
    before = list(seen)
    measure(model, torch.ones(3, 4))
    assert len(seen) == len(before) == 2
    assert all(map(lambda left, right: left is right, seen, before))


def test_a_run_that_needs_data_does_not_find_what_the_run_on_shapes_made() -> None:
    model = Model("in_lru_cache", reads_data=True)
    assert measure(model, torch.ones(3, 4)).execution == "real"


def test_a_failing_measurement_leaves_no_tensor() -> None:
    class Fails(Model):
        def forward(self, x: Tensor) -> Tensor:
            super().forward(x)
            raise ValueError("after the table")

    with pytest.raises(ValueError, match="after the table"):
        measure(Fails("in_dict"), torch.ones(3, 4))
    assert not DICT


class Slotted:
    """An object with ``__slots__``, which holds a `Holder` deep inside of a tuple, a dict and lists."""

    __slots__ = ("holders",)

    def __init__(self) -> None:
        self.holders = ({"deep": [[[Holder()]]]},)


SLOTTED = Slotted()


def test_a_place_that_cannot_be_restored_is_named() -> None:
    class Keeps(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            holder = sys.modules[__name__].SLOTTED.holders[0]["deep"][0][0][0]
            holder.table = x + 1
            return holder.table  # type: ignore[no-any-return]

    with pytest.raises(UsageError, match="Holder, attribute 'table'"):
        measure(Keeps(), torch.ones(3, 4))


def test_objects_of_a_program_that_froze_its_own_stay_frozen() -> None:
    gc.freeze()
    try:
        frozen = gc.get_freeze_count()
        with NewObjects() as new_objects:
            assert not new_objects.known
        measure(Model("in_dict"), torch.ones(3, 4))
        assert gc.get_freeze_count() >= frozen - 100  # a few objects were freed
        assert not DICT
    finally:
        gc.unfreeze()


SUITE = """
    import functools, torch, pytest
    from torch import nn

    MASKS = {}

    @functools.lru_cache
    def rotary(size):
        return torch.arange(float(size)).cos()

    class Net(nn.Module):
        cached = None

        def __init__(self, way):
            super().__init__()
            self.way, self.layer = way, nn.Linear(4, 8)

        def forward(self, x):
            if self.way == "device":
                key = (x.shape[0], x.device)
                if key not in MASKS:
                    MASKS[key] = torch.ones(x.shape[0]).cumsum(0).sigmoid()
                kept = MASKS[key]
            elif self.way == "class":
                if Net.cached is None:
                    Net.cached = torch.ones(x.shape[0]).exp()
                kept = Net.cached
            else:
                kept = rotary(x.shape[0])
            return self.layer(x) * kept[:, None]

    @pytest.mark.flops_budget
    @pytest.mark.parametrize("again", range(3))
    @pytest.mark.parametrize("way", ["device", "class", "lru"])
    def test_net(flops_budget, way, again):
        model = Net(way)
        flops_budget(model, torch.ones(3, 4))
        model(torch.ones(3, 4))
        MASKS.clear(), rotary.cache_clear()
        Net.cached = None
"""


SHUFFLED = """
    import random

    def pytest_collection_modifyitems(items):
        random.Random(14).shuffle(items)
"""


@pytest.mark.parametrize("arguments", ["", "-n2", "-k class-1"])
def test_a_suite_counts_the_same_in_any_order_and_process(pytester: pytest.Pytester, arguments: str) -> None:
    pytester.makepyprojecttoml("[tool.pytest-flopsbudget]\n")
    pytester.makepyfile(SUITE)
    pytester.runpytest("-q", "-p", "no:asyncio", "--flops-budget-update").assert_outcomes(passed=9)
    pytester.makeconftest(SHUFFLED)
    done = pytester.runpytest("-q", "-p", "no:asyncio", *arguments.split())
    assert done.ret == 0
    assert done.parseoutcomes()["passed"] == (1 if "class-1" in arguments else 9)


def test_pytorch_keeps_its_own_tensors() -> None:
    # PyTorch does so for the first nested tensor.
    lines = """
import torch
from pytest_flopsbudget import measure

def forward(x):
    parts = torch.nested.nested_tensor([x, x[:1]], layout=torch.jagged)
    return (parts @ torch.ones(4, 2)).values()

print([measure(forward, torch.ones(3, 4)).flops for _ in range(2)])
print(forward(torch.ones(3, 4)).shape)
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", lines], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == [str([2 * 4 * 4 * 2] * 2), "torch.Size([4, 2])"], done.stderr


@pytest.mark.parametrize("registers", [True, False])
def test_a_module_that_the_run_imports(registers: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that the run imports, and that keeps a tensor, is imported again after the measurement."""
    monkeypatch.syspath_prepend(tmp_path)
    lines = "import torch\nfrom typing import overload\nTABLE = torch.arange(4.0)\n"
    # `typing.overload` keeps the function in a registry that has a dict for each module.
    lines += "@overload\ndef double(x: int) -> int: ...\ndef double(x): return 2 * x\n" * registers
    (tmp_path / "imported_late.py").write_text(lines, encoding="utf-8")

    def forward(x: Tensor) -> Tensor:
        table: Tensor = importlib.import_module("imported_late").TABLE
        return x @ table

    try:
        assert [measure(forward, torch.ones(3, 4)).flops for _ in range(2)] == [2 * 3 * 4] * 2
        assert forward(torch.ones(3, 4)).tolist() == [6.0] * 3
    finally:
        sys.modules.pop("imported_late", None)


class TestOrdinaryModels:
    """A measurement of an ordinary model does not search for references to its tensors."""

    @pytest.fixture(autouse=True)
    def _no_search(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def search(*_args: object) -> list[str]:
            raise AssertionError("a tensor of the measurement is thought to be alive")

        monkeypatch.setattr(NewObjects, "remove_references", search)

    @pytest.mark.parametrize("train", [False, True])
    @pytest.mark.parametrize("backward", [False, True])
    @pytest.mark.parametrize("reads_data", [False, True])
    def test_batch_norm(self, train: bool, backward: bool, reads_data: bool) -> None:
        class Net(nn.Sequential):
            def forward(self, x: Tensor) -> Tensor:
                y: Tensor = super().forward(x)
                return y[y.sum((1, 2, 3)) > -1e9] if reads_data else y

        model = Net(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).train(train)
        measure(model, torch.ones(2, 3, 8, 8), backward=backward)

    def test_a_training_step(self) -> None:
        model = nn.Linear(4, 2)
        optimizer = torch.optim.AdamW(model.parameters())

        def step(x: Tensor) -> None:
            optimizer.zero_grad()
            model(x).sum().backward()
            optimizer.step()

        step(torch.ones(3, 4))
        measure(step, torch.ones(3, 4))

    def test_recurrent_and_attention(self) -> None:
        measure(nn.LSTM(4, 4, 2), torch.ones(5, 2, 4), backward=True)
        measure(nn.TransformerEncoderLayer(8, 2, 16), torch.ones(5, 2, 8), backward=True)


class Makes(OrderedDict[str, Tensor]):
    """A dict whose ``__getitem__`` must not be called."""

    def __getitem__(self, key: str) -> Tensor:
        raise AssertionError(f"{key} was read")


MAKES = Makes(a=torch.ones(1))


def test_no_code_of_the_user_runs_to_note_the_places() -> None:
    measure(Model("in_list"), torch.ones(3, 4))
    assert list(MAKES) == ["a"]
