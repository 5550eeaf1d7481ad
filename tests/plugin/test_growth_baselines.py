"""Laws against the baseline, in whole runs of pytest."""

from __future__ import annotations

import json
import re

import pytest
from growing import BLOCKS

from pytest_flopsbudget.commands.main import main

QUADRATIC = f"""
{BLOCKS}

MODEL = nn.Sequential(Block(), Block())


def test_net(flops_budget):
    flops_budget.over(MODEL, lambda sequence: torch.empty(1, sequence, 8), sequence=range(4, 513))
"""
MODEL = QUADRATIC.replace("(q @ k.transpose(1, 2)).softmax(-1) @ v", "q @ (k.transpose(1, 2) @ v)")
#: Two products of 2·d²·S, or of 2·d·S², in two blocks, where d is 8: they are equal at S = 8.
LINEAR_LAW, SQUARE_LAW = 2 * 2 * 2 * 8**2, 2 * 2 * 2 * 8
#: Projections of 8·d²·S and a linear layer of 2·d²·S, in two blocks.
REST = 2 * (8 + 2) * 8**2


@pytest.fixture
def accepted(project):
    """Return a project whose baseline is of linear attention."""
    project.write(MODEL)
    project.run("--flops-budget-update").assert_outcomes(passed=1)
    return project


def baseline(project):
    return project.baseline.read_text(encoding="utf-8")


def test_an_unchanged_law_passes(accepted):
    before = baseline(accepted)
    assert f'{{"law": "flops", "terms": {{"sequence": {LINEAR_LAW + REST}}}' in before
    accepted.run("--flops-budget-update").assert_outcomes(passed=1)
    assert baseline(accepted) == before
    result = accepted.run()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["1 measurement: 1 ok*"])


def test_linear_attention_becomes_quadratic(accepted):
    accepted.write(QUADRATIC)
    result = accepted.run()
    result.assert_outcomes(failed=1)
    old, new = f"{LINEAR_LAW + REST:,}[*]S", f"{SQUARE_LAW}[*]S^2 + {REST:,}[*]S"
    less, more = (LINEAR_LAW + REST) * 9, SQUARE_LAW * 81 + REST * 9
    result.stdout.fnmatch_lines(
        [
            f"test_net: flops regressed: {SQUARE_LAW}[*]S^2 is new, {old} → {REST:,}[*]S (-28.6%) by {{0-1}}.attn (x2)",
            f"      {old} → {new}, compared exactly for S (sequence) = 4 ... 512",
            f"      the laws cross: less at S = 4, first more at S = 9: {less:,} → {more:,}",
            f"      in [*].attn (x2): {LINEAR_LAW // 2}[*]S → {SQUARE_LAW // 2}[*]S^2 each",
            "  other_flops regressed: *[*]S^2 is new; S: unchanged",
            "  at the largest sizes, sequence = 512:",
            "to accept: pytest --flops-budget-update *",
        ]
    )
    accepted.run("--flops-budget-update").assert_outcomes(passed=1)
    accepted.run().assert_outcomes(passed=1)


def test_growth_at_small_sizes_only_fails(accepted):
    accepted.write(
        MODEL.replace(
            "return self.mlp(self.attn(x))",
            "return self.mlp(self.attn(x) if x.shape[1] > 9 else self.attn(x) + self.mlp(x))",
        )
    )
    result = accepted.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["test_net: flops regressed: *", "      first more at S = 4: *"])
    assert "at the largest sizes" not in result.stdout.str()


@pytest.mark.parametrize("grown", [False, True])
def test_a_renamed_size(accepted, grown):
    """Laws of different sizes have no point in common, so the values are compared."""
    text = (QUADRATIC if grown else MODEL).replace("sequence", "length")
    accepted.write(text)
    result = accepted.run()
    result.assert_outcomes(passed=not grown, failed=grown)
    shown = " ".join(result.stdout.str().split())  # the terminal's width decides where lines break
    assert "sequence = 4 ... 512 → length = 4 ... 512; laws are compared only for sizes that both have" in shown
    if grown:
        result.stdout.fnmatch_lines(["  flops  *baseline"])
    assert "KeyError" not in result.stdout.str()


def test_sizes_in_another_order(accepted):
    sizes = "sequence=range(4, 513)", "batch=range(1, 9)"
    text = MODEL.replace("lambda sequence: torch.empty(1,", "lambda batch, sequence: torch.empty(batch,")
    accepted.write(text.replace(sizes[0], ", ".join(sizes)))
    accepted.run("--flops-budget-update").assert_outcomes(passed=1)
    text = text.replace(sizes[0], ", ".join(sizes[::-1]))
    accepted.write(text)
    accepted.run().assert_outcomes(passed=1)
    accepted.write(text.replace("self.mlp(self.attn(x))", "self.mlp(self.attn(x)) + x"))
    result = accepted.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*other_flops regressed: *B*S → *B*S (*"])


def test_another_range(accepted):
    accepted.write(MODEL.replace("range(4, 513)", "range(16, 1025)"))
    result = accepted.run()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["*the range of sizes changed: sequence = 4 ... 512 → sequence = 16 ... 1,024; laws are compared *"]
    )
    assert "not held to the baseline: flops" not in result.stdout.str()
    accepted.write(QUADRATIC.replace("range(4, 513)", "range(16, 1025)"))
    result = accepted.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "test_net: another range: flops regressed: *",
            "  another range: sequence = 4 ... 512 → sequence = 16 ... 1,024; *",
            "*compared exactly for S (sequence) = 16 ... 512",
            "      at S = 512: *",
        ]
    )


@pytest.mark.parametrize(("percent", "passed"), [(1799, 0), (1800, 1)])
def test_tolerance_at_every_size(accepted, percent, passed):
    # The growth is largest at S = 512: 64·512 + 1,280 FLOPs a token in place of 1,792, which is 18 times as much more.
    assert SQUARE_LAW * 512 + REST == 19 * (LINEAR_LAW + REST)
    accepted.write(QUADRATIC)
    accepted.settings(
        "[tool.pytest-flopsbudget]\n"
        f'tolerance = {{flops = "{percent}%", other_flops = "9999%", activations = "9999%"}}\n'
    )
    result = accepted.run()
    result.assert_outcomes(passed=passed, failed=1 - passed)
    if not passed:
        result.stdout.fnmatch_lines(["*first beyond the tolerance at S = 512: *"])


def test_a_plain_call_no_longer_measures_the_law(accepted):
    accepted.write(MODEL.partition("    flops_budget.over")[0] + "    flops_budget(MODEL, torch.empty(1, 512, 8))\n")
    result = accepted.run()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*test_net: in the baseline, but no longer measured: the growth law"])


def test_an_entry_without_laws_is_compared_by_its_totals(accepted):
    path = accepted.baseline
    text = re.sub(r'^\{"(law|sizes)".*\n', "", baseline(accepted), flags=re.MULTILINE)
    path.write_text(text, encoding="utf-8")
    accepted.run().assert_outcomes(passed=1)
    accepted.write(QUADRATIC)
    result = accepted.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["other_flops x65 its baseline by {0-1}.attn (x2) in test_net"])


def test_the_report_has_laws_and_accepts(accepted):
    accepted.write(QUADRATIC)
    accepted.run("--flops-budget-json=report.json").assert_outcomes(failed=1)
    report = json.loads((accepted.path / "report.json").read_text(encoding="utf-8"))
    (measurement,) = report["tests"][0]["measurements"]
    laws = measurement["complexity"]["laws"]
    assert laws["sizes"] == {"sequence": {"first": 4, "last": 512}}
    flops = laws["totals"]["flops"]
    assert flops["pieces"] == [{"terms": {"sequence^2": SQUARE_LAW, "sequence": REST}}]
    assert flops["counts"] == [SQUARE_LAW * size**2 + REST * size for (size,) in laws["counted"]]
    assert [512] in laws["counted"]
    assert laws["totals"]["peak_memory"]["held"] is False
    change = measurement["comparison"]["laws"][0]
    assert (change["metric"], change["allowed"], change["beyond"]["sizes"]) == ("flops", False, "S = 9")
    assert main(["accept", "report.json"]) == 0
    assert baseline(accepted).count('{"law": "flops", "terms": {"sequence^2": 64, "sequence": 1280}') == 1
    accepted.run().assert_outcomes(passed=1)
