from fractions import Fraction

import pytest
from build import small

from pytest_flopsbudget.config.settings import exact_tolerances
from pytest_flopsbudget.quantities.tolerance import Tolerance
from pytest_flopsbudget.results.anchor import anchor_limits, with_anchor
from pytest_flopsbudget.results.limits import EffectiveLimits, Limit

TENTH = {**exact_tolerances(), "flops": Tolerance(Fraction(1, 10)), "params": Tolerance(absolute=3)}
HELD = {"flops", "params", "peak_memory"}


def test_only_held_metrics_of_the_model_are_limited():
    earlier = small(metrics={"flops": 109, "params": 7, "activations": 5, "peak_memory": 50})
    assert anchor_limits(earlier, earlier, HELD, TENTH, "v1") == {
        "flops": Limit(109 + 10, "anchor v1"),
        "params": Limit(7 + 3, "anchor v1"),
    }


@pytest.mark.parametrize(("param_bytes", "limited"), [(400, {"params"}), (401, {"params", "param_bytes"})])
def test_a_metric_that_follows_another_one(param_bytes, limited):
    """A change of the dtype alone changes the bytes, and not the number of parameters."""
    earlier, measured = (
        small(metrics={"params": 7, "param_bytes": 28}),
        small(metrics={"params": 100, "param_bytes": param_bytes}),
    )
    assert anchor_limits(earlier, measured, {"params", "param_bytes"}, TENTH, "v1").keys() == limited


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        (Limit(118, "marker"), Limit(118, "marker")),
        (Limit(119, "marker"), Limit(119, "marker")),
        (Limit(120, "marker"), Limit(119, "anchor v1")),
        (Limit(None, "marker", minimum=50), Limit(119, "anchor v1", minimum=50)),
        (Limit(1, "marker", share_of="teacher"), Limit(1, "marker", share_of="teacher")),
    ],
)
def test_the_smaller_limit_applies(known, expected):
    merged = with_anchor(EffectiveLimits({"flops": known}), {"flops": Limit(119, "anchor v1")})
    assert merged.limits == {"flops": expected}
