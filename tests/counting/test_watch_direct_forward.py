"""If a watched test calls ``forward`` of a module directly, the calls and the work are credited to the module."""

from __future__ import annotations

import asyncio
import copy
import functools
import gc
import inspect
import pickle
import sys
import threading
import weakref

import pytest
import torch
from squares import SQUARE, Calls, X, calls_of, flops_of, square
from torch import nn
from torch.utils.checkpoint import checkpoint

from pytest_flopsbudget import watch


class Alias(nn.Linear):
    """A layer whose ``forward`` is a method that was defined under another name."""

    def _forward_impl(self, x):
        return nn.Linear.forward(self, x)

    forward = _forward_impl


class Extended(nn.Linear):
    def forward(self, x):
        return super().forward(x).relu()


def decorated(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


class Decorated(nn.Linear):
    @decorated
    def forward(self, x):
        return super().forward(x) + 1


class Product(torch.autograd.Function):
    """An autograd function. Its ``forward`` is no method of a module."""

    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(weight)
        return x @ weight

    @staticmethod
    def backward(ctx, gradient):
        return gradient @ ctx.saved_tensors[0], None


def forward(model, x):
    """Call the model. This function is named ``forward``, but it is no method of a module."""
    return model(x)


BOTH = {"": 2, "first": 1, "second": 1, "second.0": 1}
DIRECT = {
    "both": (lambda self, x: self.second.forward(self.first.forward(x)), BOTH),
    "keyword": (lambda self, x: self.second.forward(input=self.first.forward(input=x)), BOTH),
    "kept method": (lambda self, x: [self.second(x), method := self.first.forward, method(x)][-1], BOTH),
    "partial": (lambda self, x: functools.partial(self.first.forward, self.second(x))(), BOTH),
    "class": (lambda self, x: nn.Sequential.forward(self.second, nn.Linear.forward(self.first, x)), BOTH),
    "within": (lambda self, x: self.first(self.second.forward(x)), BOTH),
    "loop": (
        lambda self, x: functools.reduce(lambda x, _: self.first.forward(x), range(3), x),
        {"": 3, "first": 3, "second": 0, "second.0": 0},
    ),
    "mixed": (
        lambda self, x: self.first(self.first.forward(self.first(x))),
        {"": 3, "first": 3, "second": 0, "second.0": 0},
    ),
}


@pytest.mark.parametrize("top", [lambda model: model(X), lambda model: model.forward(X)], ids=["called", "forward"])
@pytest.mark.parametrize("name", DIRECT)
def test_credited(name, top):
    function, expected = DIRECT[name]
    with watch() as watched:
        top(Calls(function))
    counted = watched.complexity
    assert (counted.model, counted.inputs) == ("Calls", ("float32[3, 4]",))
    assert flops_of(counted) == {path: times * SQUARE for path, times in expected.items()}
    assert calls_of(counted) == {**expected, "": 1}


@pytest.mark.parametrize("top", [lambda model: model(X), lambda model: model.forward(X)], ids=["called", "forward"])
def test_as_called(top):
    """If the ``forward`` of modules is called, their metrics are the same as if the modules are called."""

    def values(function, run):
        with watch() as watched:
            run(Calls(function)).sum().backward()
        return {path: module.metrics for path, module in watched.complexity.modules.items()}

    ordinary = values(lambda self, x: self.second(self.first(x).relu().view(-1, 4)).relu(), lambda model: model(X))
    direct = values(lambda self, x: self.second.forward(self.first.forward(x).relu().view(-1, 4)).relu(), top)
    assert direct == ordinary
    assert direct["first"]["flops"] == 2 * SQUARE
    assert direct["second"]["flops"] == 3 * SQUARE


@pytest.mark.parametrize("kind", [Alias, Extended, Decorated])
def test_kinds(kind):
    """If ``forward`` has another name or a decorator, or calls its superclass, each call counts once."""
    model = Calls(lambda self, x: self.first.forward(self.first.forward(x)))
    model.first = kind(4, 4, bias=False)
    with watch() as watched:
        model.forward(X)
    assert calls_of(watched.complexity) == {"": 1, "first": 2, "second": 0, "second.0": 0}
    assert watched.complexity["first"].flops == 2 * SQUARE


def test_without_a_call():
    class Again(nn.Linear):
        def __call__(self, x):
            return self.forward(x)

    with watch() as watched:
        nn.Sequential(Again(4, 4, bias=False), square())(X)
    assert calls_of(watched.complexity) == {"": 1, "0": 1, "1": 1}
    assert flops_of(watched.complexity) == {"": 2 * SQUARE, "0": SQUARE, "1": SQUARE}


def test_other_functions_with_the_name():
    """If a function is named ``forward`` but is no method of a module, it is not counted as a call."""
    model = Calls(lambda self, x: Product.apply(self.first.forward(x), self.first.weight))
    with watch() as watched:
        forward(model, X)
    assert flops_of(watched.complexity) == {"": 2 * SQUARE, "first": SQUARE, "second": 0, "second.0": 0}
    assert calls_of(watched.complexity) == {"": 1, "first": 1, "second": 0, "second.0": 0}


class Multiplies:
    """A class that is no module, with a method that modules use too."""

    def __init__(self):
        self.weight = torch.ones(4, 4)

    def forward(self, x):
        return x @ self.weight


class ModuleThatMultiplies(Multiplies, nn.Module):
    def __init__(self):
        nn.Module.__init__(self)
        self.weight = nn.Parameter(torch.ones(4, 4))


def made(base):
    """Return a subclass of ``base``. All these subclasses share one code object for ``forward``."""

    class Made(base):
        def __init__(self):
            super().__init__()
            self.weight = torch.ones(4, 4)

        def forward(this, x):  # noqa: N805 -- a name that only the class shows to be a method's
            return x @ this.weight

    return Made


def closure(owner):
    """Return a function that is used as a method if its first argument is ``owner``, and as a function otherwise."""

    def forward(self, x):
        return x @ owner.weight if self is owner else self @ x

    return forward


SAME_CODE = {
    "method": (Multiplies, ModuleThatMultiplies, lambda owner, x: owner.forward(x)),
    "factory": (made(object), made(nn.Module), lambda owner, x: owner.forward(x)),
    "closure": (Multiplies, ModuleThatMultiplies, lambda owner, x: closure(owner)(owner, x)),
}


@pytest.mark.parametrize("name", SAME_CODE)
def test_functions_with_one_code(name):
    """If a method of a module and another function share their code, only calls with the module are credited to it."""
    plain, module, call = SAME_CODE[name]
    model = Calls(lambda self, x: call(self.plain[0], call(self.module, call(self.plain[0], x))))
    model.plain, model.module = [plain()], module()
    with watch() as watched:
        model(X)
    assert watched.complexity["module"].calls == 1
    assert watched.complexity["module"].flops == SQUARE
    assert watched.complexity.flops == 3 * SQUARE


class Keywords(nn.Module):
    def forward(self, x, *more, scale=None, **others):
        return sum((x, *more, *others.values())) * (1 if scale is None else scale)


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda model: model.forward(X), ("float32[3, 4]",)),
        (lambda model: model.forward(X, scale=X[0]), ("float32[3, 4]", "scale=float32[4]")),
        (lambda model: model.forward(X, X[1], bias=X[2]), ("float32[3, 4]", "float32[4]", "bias=float32[4]")),
        (
            lambda model: model.forward(X, scale=X[0], left=X[1], right=X[2]),
            ("float32[3, 4]", "scale=float32[4]", "left=float32[4]", "right=float32[4]"),
        ),
        (lambda model: model.forward(x=X), ("float32[3, 4]",)),
    ],
)
def test_inputs(call, expected):
    """The inputs of a direct call include keyword arguments."""
    with watch() as watched:
        call(Keywords())
    assert watched.complexity.inputs == expected


def test_exceptions():
    class Fails(nn.Linear):
        def forward(self, x):
            super().forward(x)
            raise ValueError

    def catches(self, x):
        try:
            self.first.forward(x)
        except ValueError:
            return x @ self.first.weight

    model = Calls(catches)
    model.first = Fails(4, 4, bias=False)
    with watch() as watched:
        model(X)
    assert flops_of(watched.complexity) == {"": 2 * SQUARE, "first": SQUARE, "second": 0, "second.0": 0}


def test_recomputed():
    model = Calls(lambda self, x: self.second(checkpoint(self.first.forward, x, use_reentrant=True)))
    with watch() as watched:
        model(X.clone().requires_grad_()).sum().backward()
    assert flops_of(watched.complexity) == {
        "": 7 * SQUARE,
        "first": 4 * SQUARE,
        "second": 3 * SQUARE,
        "second.0": 3 * SQUARE,
    }
    assert watched.complexity["first"].metrics["recomputed_flops"] == SQUARE


def test_nested_watches():
    model = Calls(lambda self, x: self.second.forward(self.first.forward(x)))
    with watch() as outer, watch() as inner:
        model.forward(X)
    assert calls_of(outer.complexity) == calls_of(inner.complexity) == {"": 1, "first": 1, "second": 1, "second.0": 1}
    assert flops_of(outer.complexity) == flops_of(inner.complexity)


def test_several_models():
    first, second = nn.Sequential(square()), nn.Sequential(square(), square())
    with watch() as watched:
        second.forward(first.forward(X))
    assert flops_of(watched.complexity) == {
        "": 3 * SQUARE,
        "Sequential": SQUARE,
        "Sequential.0": SQUARE,
        "Sequential_2": 2 * SQUARE,
        "Sequential_2.0": SQUARE,
        "Sequential_2.1": SQUARE,
    }


#: What `look` saw: with a watch, and without.
SEEN = []


def look(self, x):
    """Append to ``SEEN`` what a model can see of its frames and methods, and call two copies of a submodule."""
    frame, depth = sys._getframe(), 0
    while frame is not None:
        frame, depth = frame.f_back, depth + 1
    method = self.first.forward
    copied, restored = copy.deepcopy(self.first), pickle.loads(pickle.dumps(self.first))  # noqa: S301
    SEEN.append(
        (
            depth,
            str(inspect.signature(method)),
            method.__func__ is nn.Linear.forward,
            sorted(vars(self.first)) == sorted(vars(copied)) == sorted(vars(restored)),
            "forward" in vars(self.first),
            inspect.getsource(type(self.first).forward),
            sorted(locals()),
        )
    )
    return self.second.forward(copied.forward(restored.forward(x)))


def test_what_a_test_sees():
    """A model sees the same frames, methods, attributes and variables with and without a watch."""
    SEEN.clear()
    model, function = Calls(look), nn.Linear.forward

    def run():
        return model.forward(X)

    plain = run()
    with watch():
        watched = run()
    assert torch.equal(plain, watched)
    assert SEEN[0] == SEEN[1]
    assert nn.Linear.forward is function


class Variables(nn.Linear):
    """A layer that returns the names of its variables."""

    def forward(self, x):
        y = super().forward(x)
        z = y + 1
        return z, sorted(locals())


def test_variables():
    model = Variables(4, 4, bias=False)
    with watch():
        watched = model.forward(X)[1]
    assert watched == model.forward(X)[1] == ["__class__", "self", "x", "y", "z"]


class Replaces(nn.Module):
    """A module that replaces a tensor in a variable, and notes whether the old tensor was freed."""

    def __init__(self):
        super().__init__()
        self.ended = []

    def forward(self, x):
        y = x @ x.T
        first = weakref.ref(y)
        y = y @ x
        self.ended.append(first() is None)
        return y


def test_tensors_end():
    """If ``forward`` replaces a tensor, a watch does not keep the old tensor alive."""
    model = Replaces()
    with watch():
        model.forward(X)
    assert model.ended == [True]


def test_nothing_is_left():
    """A watch neither keeps the model alive nor changes the events of a debugger's trace function."""
    events = []

    def trace(frame, event, _argument):
        if frame.f_code is Replaces.forward.__code__:
            events.append(event)
            return trace
        return None

    def run():
        events.clear()
        model = Replaces()
        before = sys.gettrace()
        sys.settrace(trace)
        try:
            model.forward(X)
        finally:
            sys.settrace(before)
        return weakref.ref(model), list(events)

    _, plain = run()
    with watch() as watched:
        model, seen = run()
    assert seen == plain
    assert calls_of(watched.complexity) == {"": 1}
    gc.collect()
    assert model() is None


def test_compiled_graphs():
    def backend(graph, _inputs):
        return graph.forward

    model = square()
    compiled = torch.compile(lambda x: model.forward(x), backend=backend, fullgraph=True)  # noqa: PLW0108
    compiled(X)
    with watch() as watched:
        compiled(X)
    assert watched.complexity.flops == SQUARE
    assert not [module for module in watched.complexity.modules.values() if "Graph" in module.type]


def test_other_threads():
    """If ``forward`` runs on another thread, a watch lists an unknown operator `threading.Thread`."""
    model = Calls(lambda self, x: self.second.forward(x))

    def on_a_thread():
        thread = threading.Thread(target=model.first.forward, args=(X,))
        thread.start()
        thread.join()

    with watch() as watched:
        model(X)
        on_a_thread()
    assert "threading.Thread" in watched.complexity.unknown_operators
    assert watched.complexity.flops == SQUARE


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("way", ["trace", "script", "export"])
def test_tracers(way):
    """A model that calls ``forward`` of a submodule can be traced, scripted and exported within two watches."""

    class Direct(nn.Module):
        def __init__(self):
            super().__init__()
            self.part = square()

        def forward(self, x):
            return self.part.forward(x)

    model = Direct()
    make = {
        "trace": lambda: torch.jit.trace(model, X),
        "script": lambda: torch.jit.script(model),
        "export": lambda: torch.export.export(model, (X,)).module(),
    }[way]
    with watch() as outer, watch() as inner:
        made = make()
        output = made(2 * X)
    assert torch.equal(output, model(2 * X))
    assert outer.complexity.flops == inner.complexity.flops == SQUARE


def evaluates_tensors(frame, event, argument):
    """A trace function that computes with each tensor in a frame, like a debugger that shows tensors."""
    for value in list(frame.f_locals.values()):
        if isinstance(value, torch.Tensor):
            value.detach().sum()
    return evaluates_tensors


class Looks(nn.Module):
    """A module that reads its own variables from its frame while it runs."""

    def __init__(self):
        super().__init__()
        self.layer = square()

    def forward(self, x):
        variables = inspect.currentframe().f_locals
        y = self.layer(x)
        assert variables["x"] is x
        return y + x


@pytest.mark.parametrize("kind", [Looks, Extended])
def test_trace_functions(kind):
    """If a trace function reads the variables of a direct call, they keep their values."""
    part = kind() if kind is Looks else kind(4, 4)
    before = sys.gettrace()
    with watch() as watched:
        sys.settrace(lambda frame, event, argument: evaluates_tensors if frame.f_code.co_name == "forward" else None)
        try:
            output = part.forward(X)
        finally:
            sys.settrace(before)
    assert torch.equal(output, part(X))
    assert watched.complexity.flops == SQUARE


class InSteps(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = square()

    def forward(self, x):
        for _ in range(3):
            x = self.layer(x)
            yield x


class Waits(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = square()

    async def forward(self, x):
        y = self.layer(x)
        await asyncio.sleep(0)
        return y @ y.t()


@pytest.mark.parametrize("direct", [False, True])
def test_generators(direct):
    """If ``forward`` is a generator, each call of the module counts once."""
    model = InSteps()
    with watch() as watched:
        for _ in range(2):
            list(model.forward(X) if direct else model(X))
    assert calls_of(watched.complexity) == {"": 2, "layer": 6}
    assert watched.complexity.flops == 6 * SQUARE


@pytest.mark.parametrize("direct", [False, True])
def test_coroutines(direct):
    """If ``forward`` is a coroutine, each call of the module counts once, also if two calls take turns."""
    model = Waits()

    async def both_at_once():
        call = model.forward if direct else model
        await asyncio.gather(call(X), call(X))

    with watch() as watched:
        asyncio.run(both_at_once())
    assert calls_of(watched.complexity) == {"": 2, "layer": 2}
