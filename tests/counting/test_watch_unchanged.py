"""A watch does not disturb tracers, compilers, warnings and tensor subclasses."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
import threading
import traceback
import warnings
from contextlib import nullcontext
from typing import ClassVar

import pytest
import torch
from features import requires
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode

from pytest_flopsbudget.counting.watch import watch

pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:`isinstance:FutureWarning"),
]


def both(function):
    """Return the result without a watch, the result with a watch, and what the watch counted."""
    torch._dynamo.reset()
    plain = function()
    torch._dynamo.reset()
    with watch() as seen:
        watched = function()
    return plain, watched, seen.complexity


def mlp():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)).requires_grad_(False)


#: FLOPs of two products, for one row.
MLP_FLOPS = 2 * (4 * 6 + 6 * 2)
X, Y = torch.ones(3, 4), torch.arange(8.0).reshape(2, 4)


def rows_dependent(value):
    """Return the product of a view of ``value`` and a matrix. The view has twice as many rows as ``value``."""
    # A trace has to record that the size was read.
    return value.view(value.shape[0] * 2, -1) @ torch.ones(2, 3)


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = mlp()

    def forward(self, value):
        return self.inner(value) if value.shape[0] > 1 else value


def text(graph):
    """Return the text of a graph without the numbers that PyTorch gives to values and classes."""
    return re.sub(r"%[\w.]+|___torch_mangle_\d+\.|forward at 0x\w+", "", str(graph))


def trace_module():
    traced = torch.jit.trace(mlp(), X)
    return traced(Y), text(traced.inlined_graph), traced.code


def trace_nested_module():
    traced = torch.jit.trace(nested(mlp(), 2), X)
    return traced(Y), text(traced.inlined_graph)


def trace_method():
    traced = torch.jit.trace_module(mlp(), {"forward": X})
    return traced(Y), text(traced.inlined_graph)


def trace_unchecked():
    traced = torch.jit.trace(mlp(), X, check_trace=False)
    return traced(Y), text(traced.inlined_graph)


def trace_example_kwargs():
    traced = torch.jit.trace(mlp(), example_kwarg_inputs={"input": X})
    return (traced(input=Y),)


def symbolic_trace():
    traced = torch.fx.symbolic_trace(mlp())
    return traced(Y), traced.code


def symbolic_trace_nested():
    class Leaves(torch.fx.Tracer):
        def is_leaf_module(self, module, qualified_name):
            return False

    model = mlp()
    graph = Leaves().trace(model)
    return torch.fx.GraphModule(model, graph)(Y), str(graph)


def made_by_make_fx():
    traced = make_fx(mlp())(X)
    return traced(Y[:1].expand(3, 4)), traced.code


def exported(*, strict):
    def export():
        program = torch.export.export(mlp(), (X,), strict=strict)
        return program.module()(X * 2), str(program.graph)

    return export


def explained():
    found = torch._dynamo.explain(Branching())(X)
    return found.graph_count, found.graph_break_count, found.op_count


def explained_function():
    found = torch._dynamo.explain(lambda value: rows_dependent(value).relu())(X)
    return found.graph_count, found.graph_break_count, found.op_count


class InParts(nn.Module):
    def __init__(self):
        super().__init__()
        self.mlp = mlp()

    def forward(self, x):
        y = self.mlp(x)
        torch._dynamo.graph_break()
        return self.mlp(y.sum() + x)


def explained_in_parts():
    found = torch._dynamo.explain(InParts())(X)
    return found.graph_count, found.graph_break_count, found.op_count


def explained_keywords():
    found = torch._dynamo.explain(lambda value, scale: mlp()(value) * scale)(value=X, scale=2.0)
    return found.graph_count, found.op_count


def explained_and_run():
    model = mlp()
    return torch._dynamo.explain(model)(X).graph_count, model(X)


def compiled(model, **options):
    def run():
        graphs = []

        def backend(graph, _inputs):
            graphs.append(graph.code)
            return graph.forward

        return torch.compile(model(), backend=backend, **options)(Y), graphs

    return run


def compiled_in_place():
    model = Branching()
    model.compile(backend="eager", fullgraph=True)
    return (model(Y),)


#: Name → (function, FLOPs of running the model that it made). Tracing itself counts nothing.
MAKERS = {
    "jit.trace": (trace_module, 2 * MLP_FLOPS),
    "jit.trace, nested": (trace_nested_module, 2 * MLP_FLOPS),
    "jit.trace_module": (trace_method, 2 * MLP_FLOPS),
    "jit.trace, unchecked": (trace_unchecked, 2 * MLP_FLOPS),
    "jit.trace, keywords": (trace_example_kwargs, 2 * MLP_FLOPS),
    "fx.symbolic_trace": (symbolic_trace, 2 * MLP_FLOPS),
    "fx.Tracer": (symbolic_trace_nested, 2 * MLP_FLOPS),
    "make_fx": (made_by_make_fx, 3 * MLP_FLOPS),
    "export, strict": (exported(strict=True), 3 * MLP_FLOPS),
    "export": (exported(strict=False), 3 * MLP_FLOPS),
    # `explain` runs the model too, and makes none.
    "explain": (explained, 0),
    "explain, function": (explained_function, 0),
    "explain, graph break": (explained_in_parts, 0),
    "explain, keywords": (explained_keywords, 0),
    "explain, and run": (explained_and_run, 3 * MLP_FLOPS),
    "compile, module": (compiled(mlp), 2 * MLP_FLOPS),
    "compile, whole graph": (compiled(Branching, fullgraph=True), 2 * MLP_FLOPS),
    "compile, function": (compiled(lambda: rows_dependent, fullgraph=True), 2 * 4 * 2 * 3),
    "compile, method": (compiled(lambda: mlp().forward, fullgraph=True), 2 * MLP_FLOPS),
    "Module.compile": (compiled_in_place, 2 * MLP_FLOPS),
}

COMPILES = requires("functions compiled under a watch")
#: The names of those that compile a function. Where PyTorch does not compile under a watch, the function runs eagerly.
COMPILED = ("compile, function", "compile, method")


def same(left, right):
    return torch.equal(left, right) if isinstance(left, torch.Tensor) else left == right


class TestTracers:
    @pytest.mark.parametrize(
        "name",
        [pytest.param(name, marks=COMPILES if name in COMPILED else ()) for name in MAKERS],
    )
    def test_makes_what_it_makes(self, name):
        """A tracer or compiler makes the same model with and without a watch."""
        function, flops = MAKERS[name]
        plain, watched, counted = both(function)
        assert len(plain) == len(watched)
        assert all(map(same, plain, watched))
        assert counted.flops == flops
        assert isinstance(counted.flops, int)

    def test_compiler_imported_in_nested_watches(self):
        code = """
            import sys, torch
            from pytest_flopsbudget.counting.watch import watch

            net, x = torch.nn.Linear(2, 3), torch.ones(1, 2)
            with watch() as outer, watch() as inner:
                assert "torch._dynamo" not in sys.modules
                torch._dynamo.explain(net)(x)
                net(x)
            print(outer.complexity.flops, inner.complexity.flops)
        """
        done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
        assert done.stdout == "12 12\n"

    def test_traced_sizes_are_recorded(self):
        """A function that was traced in a watched block works for another number of rows."""
        with watch() as seen:
            traced = torch.jit.trace(rows_dependent, X)
            assert traced(Y).shape == (4, 3)
            assert "aten::size" in str(traced.graph)
        assert seen.complexity.flops == 2 * 4 * 2 * 3

    def test_within_another_mode(self):
        """During tracing, a watch counts nothing."""
        from torch.utils.flop_counter import FlopCounterMode

        def run():
            with FlopCounterMode(display=False) as counter:
                torch.jit.trace(mlp(), X, check_trace=False)
            return counter.get_total_flops()

        plain, watched, counted = both(run)
        assert plain == watched == 3 * MLP_FLOPS
        assert counted.flops == 0

    def test_error_within_a_trace(self):
        """If tracing fails, the watch counts the work after the failure."""

        def failing(value):
            raise ArithmeticError

        with watch() as seen:
            with pytest.raises(ArithmeticError):
                torch.jit.trace(failing, X)
            mlp()(X)
        assert seen.complexity.flops == 3 * MLP_FLOPS

    def test_on_another_thread(self):
        made = []
        with watch() as seen:
            thread = threading.Thread(target=lambda: made.append(torch.jit.trace(rows_dependent, X)(Y)))
            thread.start()
            thread.join()
        assert torch.equal(made[0], rows_dependent(Y))
        assert "threading.Thread" in seen.complexity.unknown_operators

    def test_method_that_was_kept(self):
        """If code in a watched block keeps `nn.Module.__call__`, the kept method works after the block."""
        with watch() as seen:
            kept = nn.Module.__call__
        model = mlp()
        assert torch.equal(kept(model, X), model(X))
        assert seen.complexity.flops == 0


class TestCompiledFunctions:
    def test_compiled_once(self):
        graphs = []

        def backend(graph, _inputs):
            graphs.append(graph)
            return graph.forward

        layer = nn.Linear(4, 2)
        function = torch.compile(lambda value: layer(value).sum(), backend=backend, fullgraph=True)
        function(X)
        for _ in range(2):
            with watch() as seen:
                function(X)
            assert seen.complexity.flops == 2 * 3 * 4 * 2
        function(X)
        assert len(graphs) == 1

    def test_graph_break(self):
        layer = nn.Linear(4, 4).requires_grad_(False)

        def broken(value):
            value = layer(value)
            torch._dynamo.graph_break()
            return layer(value)

        with watch() as seen:
            torch.compile(broken, backend="eager")(X)
        assert seen.complexity.flops == 2 * (2 * 3 * 4 * 4)

    @pytest.mark.parametrize("backend", ["eager", "aot_eager"])
    def test_training(self, backend):
        layer = nn.Linear(4, 2)
        function = torch.compile(lambda value: layer(value).sum(), backend=backend)
        with watch() as seen:
            function(X).backward()
        product = 2 * 3 * 4 * 2
        assert seen.complexity.phases["forward"].flops == product
        assert seen.complexity.phases["backward"].flops == product
        assert layer.weight.grad is not None

    @COMPILES
    @pytest.mark.filterwarnings("ignore::UserWarning")
    def test_optimizer(self):
        def step():
            torch.manual_seed(0)
            layer = nn.Linear(4, 2)
            layer(X).sum().backward()
            optimizer = torch.optim.AdamW(layer.parameters())
            torch.compile(optimizer.step, backend="eager")()
            return layer.weight.detach()

        plain, watched, _ = both(step)
        assert torch.equal(plain, watched)


class Warns(nn.Module):
    def __init__(self, level):
        super().__init__()
        self.level = level

    def forward(self, value):
        warnings.warn("here", stacklevel=self.level)
        return value


def nested(inner, depth):
    for _ in range(depth):
        inner = nn.Sequential(inner)
    return inner


def hooked(level):
    module = Warns(level)
    module.register_forward_pre_hook(lambda _module, _args: None)
    return module


#: Modules that warn: one that the test calls, one and three levels deep in other modules, and one with a hook.
WARNING = {
    "direct": Warns,
    "nested": lambda level: nested(Warns(level), 1),
    "deep": lambda level: nested(Warns(level), 3),
    "hooked": hooked,
}


class TestFrames:
    @pytest.mark.parametrize("level", range(1, 10))
    @pytest.mark.parametrize("name", WARNING)
    @pytest.mark.parametrize("watches", [1, 2])
    def test_stacklevel(self, name, level, watches):
        """A warning names the same file and line with and without a watch."""
        module, places = WARNING[name](level), []
        for number in (0, watches):
            with (
                warnings.catch_warnings(record=True) as caught,
                watch() if number else nullcontext(),
                watch() if number == 2 else nullcontext(),
            ):
                warnings.simplefilter("always")
                module(X)
            places.append([(warning.filename, warning.lineno) for warning in caught])
        assert places[0] == places[1]
        assert len(places[0]) == 1

    def test_filter_by_module(self):
        """A warning filter that names PyTorch's file `module.py` also applies in a watched block."""
        with watch(), warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", module=r"torch\.nn\.modules\.module")
            Warns(3)(X)

    def test_traceback(self):
        """The traceback of an exception in a model has the same lines with and without a watch."""

        class Failing(nn.Module):
            def forward(self, value):
                raise ArithmeticError

        traces = []
        for watched in (False, True):
            with watch() if watched else nullcontext(), pytest.raises(ArithmeticError) as raised:
                nested(Failing(), 2)(X)
            traces.append([(frame.filename, frame.lineno, frame.name) for frame in traceback.extract_tb(raised.tb)])
        assert traces[0] == traces[1]

    @pytest.mark.parametrize("watches", [1, 2, 3])
    @pytest.mark.parametrize("kind", [nn.Linear, nn.GRU, lambda *sizes: nn.LazyLinear(sizes[1])])
    def test_depth(self, kind, watches):
        """The deepest model that runs without a watch also runs within several watches."""

        def runs(depth):
            model = nested(nn.Sequential(), depth)
            try:
                model(X)
            except RecursionError:
                return False
            return True

        depth, too_deep = 100, 200
        while runs(too_deep):
            depth, too_deep = too_deep, 2 * too_deep
        while too_deep - depth > 1:
            middle = (depth + too_deep) // 2
            depth, too_deep = (middle, too_deep) if runs(middle) else (depth, middle)
        limit = sys.getrecursionlimit()
        # A module takes three frames; the layer and PyTorch's functions below it take some more.
        model = nested(kind(4, 4), depth - 12)
        model(X)
        with watch(), watch() if watches > 1 else nullcontext(), watch() if watches > 2 else nullcontext():
            model(X)
        assert sys.getrecursionlimit() == limit

    def test_endless_recursion(self):
        class Endless(nn.Module):
            def forward(self, value):
                return self(value)

        with watch(), pytest.raises(RecursionError):
            Endless()(X)


class Recording(torch.Tensor):
    calls: ClassVar[list] = []

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        cls.calls.append(func)
        return super().__torch_function__(func, types, args, kwargs or {})


class RecordingMode(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        Recording.calls.append(func)
        return func(*args, **(kwargs or {}))


def pass_subclass():
    mlp()(X.as_subclass(Recording)).sum()


def pass_subclass_by_name():
    mlp()(input=X.as_subclass(Recording))


def pass_subclasses_in_lists():
    class Sum(nn.Module):
        def forward(self, values):
            return values[0] @ values[1]["key"].mT

    Sum()([X.as_subclass(Recording), {"key": X.as_subclass(Recording)}])


def train_subclass():
    layer = nn.Linear(4, 2)
    layer(X.as_subclass(Recording)).square().sum().backward()


def mode_around_training():
    layer = nn.Linear(4, 2)
    optimizer = torch.optim.AdamW(layer.parameters())
    with RecordingMode():
        torch.autograd.backward(layer(X).sum())
        optimizer.step()
        optimizer.zero_grad()


HIDDEN = pytest.param(mode_around_training, marks=requires("dispatch modes that hide operators from function modes"))


class TestTorchFunction:
    @pytest.mark.parametrize(
        "run", [pass_subclass, pass_subclass_by_name, pass_subclasses_in_lists, train_subclass, HIDDEN]
    )
    def test_calls(self, run):
        """Tensor subclasses and modes with `__torch_function__` receive the same calls with and without a watch."""
        seen = []
        for watched in (False, True):
            Recording.calls.clear()
            with watch() if watched else nullcontext():
                run()
            seen.append(list(map(str, Recording.calls)))
        assert seen[0] == seen[1]
        assert seen[0]


class TestLazyModules:
    @pytest.mark.parametrize(
        "make",
        [lambda: nn.LazyLinear(4), lambda: nn.LazyConv1d(4, 1), nn.LazyBatchNorm1d],
        ids=["linear", "conv", "norm"],
    )
    def test_state(self, make):
        """In a watched block, the state of a lazy module can be saved and loaded."""
        with watch():
            first, second = make(), make()
            second.load_state_dict(first.state_dict())
            second.to(torch.float64).double().float()
            second(torch.ones(2, 4, 4) if isinstance(first, nn.LazyConv1d) else X)
            first.load_state_dict(second.state_dict())
        for name, value in second.state_dict().items():
            assert torch.equal(first.state_dict()[name], value)


@torch.library.custom_op("flopsbudget_watch::thrice", mutates_args=())
def thrice(value: torch.Tensor) -> torch.Tensor:
    return 3 * value


@thrice.register_fake
def _(value):
    return torch.empty_like(value)


thrice.register_autograd(lambda _context, gradient: 3 * gradient)


@torch.library.custom_op("flopsbudget_watch::double_in_place", mutates_args={"value"})
def double_in_place(value: torch.Tensor) -> None:
    value.mul_(2)


class TestOperators:
    @pytest.mark.parametrize(
        ("operator", "args"),
        [
            (thrice, (torch.ones(2, requires_grad=True),)),
            (double_in_place, (torch.ones(2),)),
            (torch.ops.aten.mm.default, (torch.ones(2, 2), torch.ones(2, 2))),
        ],
        ids=["functional", "in place", "aten"],
    )
    # PyTorch 2.14 and newer read `.grad` of a tensor that is no leaf, in their own check.
    @pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
    def test_opcheck(self, operator, args):
        plain, watched, _ = both(lambda: torch.library.opcheck(operator, args))
        assert plain == watched
        assert set(plain.values()) == {"SUCCESS"}

    @pytest.mark.parametrize(
        "create",
        [
            lambda out: torch.eye(4, out=out),
            lambda out: torch.eye(2, 3, out=out),
            lambda out: torch.zeros(3, out=out),
            lambda out: torch.arange(4.0, out=out),
            lambda out: torch.linspace(0, 1, 5, out=out),
            lambda out: torch.full((2,), 7.0, out=out),
        ],
        ids=["eye", "eye, wide", "zeros", "arange", "linspace", "full"],
    )
    def test_created_in_a_given_tensor(self, create):
        plain, watched, counted = both(lambda: create(torch.empty(0)).clone())
        assert torch.equal(plain, watched)
        assert (counted.total_flops, counted.unknown_operators) == (0, {})
        # The operator writes the tensor once. The copy reads and writes it.
        assert counted.memory_traffic == 3 * plain.nbytes


class TestSettings:
    @pytest.mark.parametrize(
        ("change", "read", "restore"),
        [
            (lambda: torch.set_num_threads(3), torch.get_num_threads, torch.set_num_threads),
            (
                lambda: torch.use_deterministic_algorithms(mode=True),
                torch.are_deterministic_algorithms_enabled,
                torch.use_deterministic_algorithms,
            ),
            (
                lambda: torch.set_float32_matmul_precision("medium"),
                torch.get_float32_matmul_precision,
                torch.set_float32_matmul_precision,
            ),
        ],
        ids=["threads", "deterministic", "precision"],
    )
    def test_stays(self, change, read, restore):
        """If a watched block changes a setting of PyTorch, the setting stays changed after the block."""
        before = read()
        try:
            with watch():
                change()
                during = read()
            assert read() == during != before
        finally:
            restore(before)
