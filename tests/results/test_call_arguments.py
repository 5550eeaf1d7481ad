"""Wrong arguments of methods of results: one sentence that names the parameter, the value and what is allowed."""

from __future__ import annotations

import pytest
from build import net

from pytest_flopsbudget import UsageError
from pytest_flopsbudget.results.complexity_diff import compare

ONE = net()
DIFF = compare(ONE, ONE)
METRICS = [
    (3, "metrics=3: is neither None nor a list of metrics; write metrics=['flops', 'params']"),
    (True, "metrics=True: is neither None nor a list of metrics; write metrics=['flops', 'params']"),
    ([3], "metrics: 3 is a value of type int; a metric is a text, such as 'flops'"),
    ([None], "metrics: None is a value of type NoneType; a metric is a text, such as 'flops'"),
    (b"flops", "metrics: b'flops' is a value of type bytes; a metric is a text, such as 'flops'"),
    ("flop", "metrics: there is no metric 'flop'; did you mean flops?"),
    (["parameters"], "metrics: there is no metric 'parameters'; did you mean params?"),
    (["qqq"], "metrics: there is no metric 'qqq'; there are flops, "),
    ({"latency"}, "metrics: the metric 'latency' was not measured; there are flops, "),
    (["time"], "metrics: 'time' has a value for each device; name one, as in 'time[A100]'; there are flops, "),
]
DEPTH = "the number of levels below the model is None or a whole number of at least 0"
WIDTH = "the maximum number of characters in a line is None or a whole number of at least 1"
INDENT = "the number of blanks for each level is None or a whole number of at least 0"


@pytest.mark.parametrize("method", [ONE.table, DIFF.table], ids=["table", "compare"])
@pytest.mark.parametrize(("metrics", "message"), METRICS)
def test_metrics(method, metrics, message):
    with pytest.raises(UsageError) as caught:
        method(metrics=metrics)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("method", "name", "values", "words"),
    [
        (ONE.table, "depth", ["1", 1.5, True, -1, [1]], DEPTH),
        (ONE.table, "width", ["80", 2.5, False, 0, -5], WIDTH),
        (DIFF.table, "width", ["80", 2.5, False, 0, -5], WIDTH),
        (ONE.to_json, "indent", ["x", 1.5, True, -1, []], INDENT),
    ],
    ids=["depth", "width", "compare", "indent"],
)
def test_numbers(method, name, values, words):
    for value in values:
        with pytest.raises(UsageError) as caught:
            method(**{name: value})
        assert str(caught.value) == f"{name}={value!r}: {words}"


@pytest.mark.parametrize("key", [3, None, ("flops",), ["flops"]])
def test_a_key_that_is_no_text(key):
    with pytest.raises(KeyError, match="a metric is a text, such as 'flops'"):
        ONE.value(key)


@pytest.mark.parametrize(("key", "words"), [("flop", "did you mean flops"), ("qqq", "there are flops, macs")])
def test_an_unknown_key(key, words):
    with pytest.raises(KeyError, match=words):
        ONE.value(key)
