"""Changed laws in words."""

from __future__ import annotations

from fractions import Fraction

import pytest
from build import laws, net
from msgspec.structs import replace

from pytest_flopsbudget.quantities.tolerance import Tolerance
from pytest_flopsbudget.reports.cells import change
from pytest_flopsbudget.reports.law_changes import law_lines, law_sentence
from pytest_flopsbudget.reports.law_facts import law_facts
from pytest_flopsbudget.results.comparison import compare
from pytest_flopsbudget.results.law_data import StoredLaw

SIZES = {"sequence": range(16, 1025)}


def compared(old, new, tolerance=None, sizes=SIZES, modules=({}, {})):
    before, now = (
        net(laws=laws(sizes, {"flops": terms}, {path: {"flops": one} for path, one in of.items()}))
        for terms, of in zip((old, new), modules, strict=True)
    )
    return compare(before, now, {"flops": tolerance} if tolerance else {}, hold=("flops",))


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        (
            {"sequence^2": 36864, "sequence": 9},
            {"sequence^2": 73728, "sequence": 9},
            "flops regressed: 36,864*S^2 -> 73,728*S^2 (+100.0%); S: unchanged",
        ),
        (
            {"sequence": 9, "1": 4},
            {"sequence^2": 2, "1": 4},
            "flops regressed: 2*S^2 is new, 9*S is gone; constant: unchanged",
        ),
        ({"sequence": 9}, {"sequence": 6}, "flops shrank: 9*S -> 6*S (-33.3%)"),
        ({"sequence": 9, "1": -4}, {"sequence": 9, "1": 4}, "flops regressed: -4 -> 4; S: unchanged"),
        ({"sequence": "1/2"}, {"sequence": "3/4"}, "flops regressed: 1/2*S -> 3/4*S (+50.0%)"),
    ],
)  # fmt: skip
def test_sentence(old, new, sentence):
    (found,) = compared(old, new).laws
    assert law_sentence(found) == sentence


def test_within_the_tolerance():
    comparison = compared({"sequence": 100}, {"sequence": 101}, Tolerance(relative=Fraction(1, 100)))
    assert comparison.status == "within"
    assert law_sentence(comparison.laws[0]) == "flops grew within its tolerance: 100*S -> 101*S (+1.0%)"


@pytest.mark.parametrize(
    ("old", "new", "status"),
    [
        ({"sequence": 9}, {"sequence": 9}, "unchanged"),
        ({"sequence": 9}, {"sequence": 8}, "improved"),
        ({"sequence": 9}, {"sequence": 10}, "regressed"),
        # Less at S = 1,024, and more at S = 16.
        ({"sequence^2": 1}, {"sequence": 100}, "regressed"),
    ],
)
def test_status(old, new, status):
    # The totals of both sides are equal.
    comparison = compared(old, new)
    assert comparison.status == status
    assert not comparison.changes
    assert (change(comparison) == "=") == (status == "unchanged")


def lines(comparison, **options):
    options = {"in_headline": False, "in_table": (), "verbose": False} | options
    return list(law_lines(comparison.laws, **options))


def test_all_lines():
    comparison = compared(
        {"sequence": 1000},
        {"sequence^2": 10},
        Tolerance(relative=Fraction(1, 10)),
        modules=({"h.{0-1}": {"sequence": 500}}, {"h.{0-1}": {"sequence^2": 5}}),
    )
    # 10·S² is more than 1,000·S from 101 on, and more than 1,100·S from 111 on.
    assert lines(comparison) == [
        "  flops regressed: 10*S^2 is new, 1,000*S is gone",
        "      1,000*S -> 10*S^2, compared exactly for S (sequence) = 16 ... 1,024",
        "      the laws cross: less at S = 16, first more at S = 101: 101,000 -> 102,010",
        "      first beyond the tolerance at S = 111: 111,000 -> 123,210",
        "      at S = 1,024: 1.024 MFLOPs -> 10.49 MFLOPs, +9.462 MFLOPs (+924.0%)",
        "      in h.* (x2): 500*S -> 5*S^2 each",
    ]  # fmt: skip
    assert lines(comparison, in_headline=True, in_table=("flops",)) == [
        line for line in lines(comparison)[1:] if "at S = 1,024" not in line
    ]


def test_two_sizes():
    sizes = {"batch": range(1, 9), "sequence": range(16, 1025)}
    comparison = compared({"batch*sequence": 8}, {"batch*sequence": 12}, sizes=sizes)
    assert "      more at B = 1, S = 16: 128 -> 192" in lines(comparison)


def test_no_law_any_more():
    before = net(laws=laws(SIZES, {"flops": {"sequence": 9}}))
    law = StoredLaw(reason="no law of degree <= 4 on this range", counts=(144, 9999))
    now = net(laws=replace(laws(SIZES, {}), metrics={"flops": law}, counted=((16,), (1024,))))
    comparison = compare(before, now, {}, hold=("flops",))
    assert comparison.vanished == ("the law of flops",)
    assert lines(comparison) == [
        "  flops regressed: 9*S -> no law",
        "      9*S before, compared at the counted sizes of S (sequence) = 16 ... 1,024",
        "      no law of degree <= 4 on this range",
        "      first more at S = 1,024: 9,216 -> 9,999",
        "      at S = 1,024: 9.216 kFLOPs -> 9.999 kFLOPs, +783 FLOPs (+8.5%)",
    ]


def test_facts():
    found = laws(
        {"sequence": range(16, 1025)},
        {"flops": {"sequence^2": 4, "sequence": 256}, "params": {"1": 20}, "time[A100]": ()},
        {"": {"flops": {"sequence": 16}}, "attn": {"flops": {"sequence^2": 4}}},
        evidence="exact for S = 16 ... 1,024",
    )
    found = replace(found, metrics={**found.metrics, "time[A100]": StoredLaw(reason="rounded to nanoseconds")})
    # 4·16² + 256·16 is 5,120, and 4·32² + 256·32 is 12,288, 2.4 times as much.
    factor = Fraction(4 * 1024**2 + 256 * 1024, 4 * 512**2 + 256 * 512)
    assert [f"{'  ' * depth}{line}" for depth, line in law_facts(found, signs=False)] == [
        "exact for S = 16 ... 1,024",
        "flops = 4*S^2 + 256*S",
        f"  doubling S costs x2.40 from 16 to 32, x{float(factor):.2f} from 512 to 1,024",
        "  4*S^2 overtakes 256*S at S = 65",
        "  in attn: 4*S^2",
        "time[A100]: rounded to nanoseconds",
        "equal for every size: params",
    ]
    assert "flops = 4·S² + 256·S" in [line for _, line in law_facts(found, signs=True)]


def test_facts_of_two_sizes():
    found = laws({"batch": range(1, 9), "n": range(8, 65)}, {"flops": {"batch*n": 4}, "params": {"n": 3}})
    assert [f"{'  ' * depth}{line}" for depth, line in law_facts(found, signs=False)] == [
        "flops = 4*B*n",
        "  doubling B costs x2",
        "  doubling n costs x2",
        "params = 3*n",
        "  does not grow with B",
        "  doubling n costs x2",
    ]
