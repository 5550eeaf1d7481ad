"""Reports for tests. Some are fixed, and some are drawn by Hypothesis."""

from __future__ import annotations

from budgets import budget
from build import laws
from hypothesis import strategies as st

from pytest_flopsbudget.config.settings import Settings
from pytest_flopsbudget.quantities.metrics import STORED, key_for
from pytest_flopsbudget.results.complexity import Complexity
from pytest_flopsbudget.results.data import Latency, MemoryAtPeak, Module, Operator, UnknownOperator
from pytest_flopsbudget.results.report import ReportedTest, Run, make_report
from pytest_flopsbudget.results.verdict import Measurement, judge

RUN = Run(plugin="0.1.0", pytest="9.2.0", torch="2.13.0", python="3.11.7")


def complexity(flops=2000, params=20, **fields):
    """Build the measurement of a model with one layer, which has all FLOPs and parameters."""
    metrics = {"flops": flops, "params": params}
    modules = {
        "": Module(type="Net", calls=1, metrics=metrics),
        "stem": Module(type="Conv2d", shape=f"3->{params}, 3x3", calls=1, metrics=metrics),
    }
    operators = {"aten.convolution": Operator(calls=1, metrics={"flops": flops})}
    fields = {"inputs": ("float32[1]",), "execution": "shapes", "modules": modules, "operators": operators} | fields
    return Complexity(model="Net", metrics=metrics, **fields)


def measurement(new=None, old=None, *budgets, name="model", accepts=False, **settings):
    one = Measurement(name=name, complexity=new or complexity())
    return judge(one, budgets, Settings(**settings), old, accepts=accepts)


def a_test(*measurements, nodeid="tests/test_net.py::test_a", line=3, **fields):
    """Build a test with these measurements. It has failed if one of the measurements fails."""
    failed = any(one.fails for one in measurements)
    fields = {"outcome": "failed" if failed else "passed", "file": nodeid.partition("::")[0]} | fields
    return ReportedTest(nodeid=nodeid, line=line, measurements=measurements, **fields)


def report(*tests, run=RUN):
    return make_report(run, tests)


def over(limit=1000, **fields):
    return measurement(complexity(3000), complexity(), budget("here", {"flops": limit}), **fields)


# Strategies that generate reports

_texts = st.text(max_size=12)
_paths = st.lists(st.sampled_from(["layers", "0", "1", "2", "{x", "mlp"]), max_size=3).map(".".join)
_amounts = st.integers(min_value=0, max_value=2**80)
#: Keys of all three parts of the time on one device, of one part on another device, and of a latency.
_NAMED = (
    *(key_for(part, "A100") for part in ("compute_time", "memory_time", "launch_time")),
    key_for("memory_time", 'T4, "16 [GB"'),
    key_for("latency", "box"),
)
_metrics = st.fixed_dictionaries(
    {"flops": _amounts, "params": _amounts},
    optional={key: _amounts for key in (*STORED, *_NAMED) if key not in {"flops", "params"}},
)
_peaks = st.builds(MemoryAtPeak, total=_amounts, operator=_texts, module=_paths, gradients=_amounts)
_latencies = st.builds(
    Latency, machine=st.just("box"), median_ns=_amounts, q1_ns=st.integers(0, 9), q3_ns=_amounts, runs=_amounts,
    threads=_amounts, mfu=st.none() | st.floats(0, 1),
)  # fmt: skip


_terms = st.dictionaries(st.sampled_from(["n^2", "n", "ceil(n/7)", "1"]), _amounts.filter(bool), max_size=3)
_laws = st.builds(
    lambda last, flops, params, of_module: laws(
        {"n": range(1, last)},
        {"flops": flops, "params": params},
        {"layers.{0-1}": {"flops": of_module}},
        counted=((1,), (last - 1,)),
        evidence="exact",
    ),
    st.integers(2, 99),
    _terms,
    _terms,
    _terms,
)


@st.composite
def complexities(draw):
    metrics = draw(_metrics)
    values = st.fixed_dictionaries(dict.fromkeys(metrics, _amounts))
    outputs = st.sampled_from([(), ("float32[2, 3]",), ("float32[2, 3]", "int64[]")])
    modules = st.builds(Module, type=_texts, shape=_texts, calls=st.integers(0, 9), metrics=values, outputs=outputs)
    return draw(
        st.builds(
            Complexity,
            model=_texts,
            inputs=st.lists(_texts, max_size=2).map(tuple),
            execution=st.sampled_from(["shapes", "real"]),
            backward=st.booleans(),
            metrics=st.just(metrics),
            modules=st.dictionaries(_paths, modules, max_size=6).map(lambda found: dict(sorted(found.items()))),
            operators=st.dictionaries(
                _texts, st.builds(Operator, calls=st.integers(0, 9), metrics=st.just({"flops": 1})), max_size=2
            ),
            unknown_operators=st.dictionaries(
                _texts, st.builds(UnknownOperator, calls=st.integers(1, 9), modules=st.just(("",))), max_size=2
            ),
            memory_at_peak=st.none() | _peaks,
            timing=st.none() | _latencies,
            laws=st.none() | _laws,
            notes=st.lists(_texts, max_size=1).map(tuple),
        )
    )


@st.composite
def verdicts(draw):
    limits = draw(st.dictionaries(st.sampled_from((*STORED, *_NAMED, "time[A100]", "latency")), _amounts, max_size=2))
    limits |= draw(st.dictionaries(st.just("arithmetic_intensity"), st.fractions(min_value=0, max_value=9), max_size=1))
    modules = draw(st.dictionaries(_texts, st.just({"flops": 5}), max_size=1))
    settings = Settings(
        missing_baseline=draw(st.sampled_from(["fail", "warn"])),
        unknown_operators=draw(st.sampled_from(["fail", "warn"])),
    )
    one = Measurement(name=draw(_texts), complexity=draw(complexities()), times=draw(st.integers(1, 3)))
    baseline = draw(st.none() | complexities())
    return judge(one, [budget(draw(_texts), limits, modules)], settings, baseline, accepts=draw(st.booleans()))


reported_tests = st.builds(
    ReportedTest,
    nodeid=_texts,
    file=_texts,
    line=st.integers(0, 99),
    outcome=st.sampled_from(["passed", "failed"]),
    own_failure=st.booleans(),
    measurements=st.lists(verdicts(), max_size=2).map(tuple),
    vanished=st.lists(_texts, max_size=1).map(tuple),
)

reports = st.builds(make_report, st.just(RUN), st.lists(reported_tests, max_size=3))
