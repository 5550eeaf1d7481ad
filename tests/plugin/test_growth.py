"""Limits on growth, formulas, and limits for every size of a range, in whole runs of pytest."""

from __future__ import annotations

import pytest
from growing import BLOCKS

MODELS = f"""
import pytest
{BLOCKS}

MODEL = nn.Sequential(Block(), Block())
SIZES = range(16, 4097)


def make(sequence):
    return torch.empty(1, sequence, 8)


"""
# Each block has projections of 8·d²·S, products of 4·d·S² and a linear layer of 2·d²·S; d is 8.
SQUARE, LINE = 2 * 4 * 8, 2 * (8 + 2) * 8**2

BODY = "def test_net(flops_budget):\n    flops_budget.over(MODEL, make, sequence=SIZES)\n"


def run(project, text, pyproject="", *args):
    project.write(MODELS + text)
    project.settings(pyproject)
    return project.run(*args)


@pytest.mark.parametrize(
    "marker",
    [
        'growth={"sequence": "n^2"}',
        'growth={"S": "O(n^2)"}',
        'growth={"flops": {"sequence": "n^2"}, "params": {"sequence": "1"}}',
        'modules={"*.mlp": {"growth": {"sequence": "n"}}}',
        'flops="S*L*(10*d^2 + 4*S*d)", where={"L": 2, "d": 8}',
        'flops="<= 100*S^2 + 64*S^2", params={"max": "2k"}',
        'flops="1.2 GFLOPs"',
        'measurements={"model": {"growth": {"sequence": "n^2"}}}',
    ],
)
def test_within_the_limits(project, marker):
    run(project, f"@pytest.mark.flops_budget({marker})\n{BODY}").assert_outcomes(passed=1)


def test_too_fast(project):
    result = run(project, f'@pytest.mark.flops_budget(growth={{"sequence": "n"}})\n{BODY}')
    result.assert_outcomes(failed=1)
    # 64 S² is more than 1280 S from S = 21 on.
    assert SQUARE * 21 > LINE >= SQUARE * 20
    result.stdout.fnmatch_lines(
        [
            "*test_net: flops grows with sequence^2; allowed: sequence*",
            "  set by marker",
            f"*{SQUARE}[*]S^2 + {LINE:,}[*]S, exact for S (sequence) = 16 ... 4,096",
            "*where: [*].attn: 32[*]S^2 each",
            f"*{SQUARE}[*]S^2 overtakes {LINE:,}[*]S at sequence = 21",
        ]
    )


def test_of_modules_of_the_pyproject(project):
    pyproject = """
    [[tool.pytest-flopsbudget.budgets]]
    match = "*"
    modules = {"*attn" = {growth = {sequence = "n log n", peak_memory = {sequence = "n^2"}}}}
    """
    result = run(project, BODY, pyproject)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*flops of [*].attn (2 modules) grows with sequence^2; allowed: sequence log sequence",
            "  set by pyproject budgets 1",
            "*32[*]S^2 + 512[*]S, exact for S (sequence) = 16 ... 4,096",
            "*32[*]S^2 overtakes 512[*]S at sequence = 17",
        ]
    )


def test_a_limit_holds_for_every_size(project):
    # 64 S² + 1280 S is more than 100,000 from S = 31 on: 64·900 + 38,400 = 96,000, and 61,504 + 39,680 = 101,184.
    result = run(project, f'@pytest.mark.flops_budget(flops="100k")\n{BODY}')
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*flops over its limit, first at S = 31: 101,184 > 100,000*"])


def test_a_limit_over_two_sizes(project):
    # A convolution with a stride of 2 costs 216 FLOPs at each of ⌈h/2⌉·⌈w/2⌉ positions; 216·32·32 is 221,184.
    text = """
def test_net(flops_budget):
    make = lambda h, w: torch.empty(1, 3, h, w)
    flops_budget.over(nn.Conv2d(3, 4, 3, 2, 1), make, h=range(8, 65), w=range(8, 65))
"""
    run(project, f"@pytest.mark.flops_budget(flops=221184)\n{text}").assert_outcomes(passed=1)
    result = run(project, f"@pytest.mark.flops_budget(flops=221183)\n{text}")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*flops over its limit, at h = 63, w = 63: 221,184 > 221,183 (set by marker)"])


def test_a_constant_is_required(project):
    result = run(project, f'@pytest.mark.flops_budget(modules={{"*.mlp": {{"growth": {{"S": "1"}}}}}})\n{BODY}')
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*flops of [*].mlp (2 modules) grows with S; allowed: no growth with S"])


def test_a_wrong_formula(project):
    text = 'flops="S*L*(10*d^2 + 2*S*d)", where={"L": 2, "d": 8}'
    result = run(project, f"@pytest.mark.flops_budget({text})\n{BODY}")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*flops is not S[*]L[*](10[*]d^2 + 2[*]S[*]d), where L = 2, d = 8*",
            "*counted: *64*S* + 1,280*S*",
            "*formula: *32*S* + 1,280*S*",
            "*difference: 32*S*",
            "*in *.attn: 32*S* each*",
        ]
    )


@pytest.mark.parametrize(
    ("marker", "line"),
    [
        ('growth={"length": "n"}', "*cannot be checked: the law has no size 'length'; there are sequence*"),
        (
            'modules={"head": {"growth": {"sequence": "n"}}}',
            "*flops of head: the limit * cannot be checked: no module matches 'head'*",
        ),
        ('flops="4*Q"', "*formula, character 3: unknown name 'Q'; there are sequence, S*"),
    ],
)
def test_limits_that_cannot_be_checked(project, marker, line):
    result = run(project, f"@pytest.mark.flops_budget({marker})\n{BODY}")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([line])


ONE = "def test_one(flops_budget):\n    flops_budget(MODEL, make(16))\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            "torch.empty(1, 4, 8), sequence=range(4, 99)",
            "flops_budget.over(...): make_inputs is a value of type Tensor*",
        ),
        (
            "lambda s: torch.empty(1, s, 8), sequence=range(4, 99)",
            "flops_budget.over(...): make_inputs is called with sequence=..., but: *",
        ),
        ("make", "*write flops_budget.over(model, make_inputs, sequence=range(128, 8193))"),
        ("make, sequence=(4, 99)", "flops_budget.over(..., sequence=(4, 99)): not a range; write sequence=range(*"),
    ],
)
def test_a_mistake_names_the_call_of_the_test(project, arguments, message):
    result = run(project, f"def test_net(flops_budget):\n    flops_budget.over(MODEL, {arguments})\n")
    result.stdout.fnmatch_lines([f"test_net.py:*: {message}"])


def test_growth_without_a_law(project):
    result = run(project, f'@pytest.mark.flops_budget(growth={{"sequence": "n"}})\n{ONE}')
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*flops: the limit on its growth with sequence cannot be checked: no law was*"])


def test_growth_of_all_tests_is_for_those_with_laws(project):
    pyproject = '[tool.pytest-flopsbudget.limits]\ngrowth = {sequence = "n^2"}\n'
    run(project, ONE + BODY, pyproject).assert_outcomes(passed=2)
    run(project, ONE + BODY, pyproject.replace("n^2", "n")).assert_outcomes(passed=1, failed=1)


@pytest.mark.parametrize(("formula", "passed"), [("10*L*d^2*S + 4*L*S^2*d", True), ("10*L*d^2*S", False)])
def test_a_formula_of_one_size(project, formula, passed):
    marker = f'@pytest.mark.flops_budget(flops="{formula}", where={{"L": 2, "d": 8, "S": 16}})\n'
    run(project, marker + ONE).assert_outcomes(passed=int(passed), failed=int(not passed))


def test_a_formula_with_a_name_that_only_a_law_knows(project):
    result = run(project, f'@pytest.mark.flops_budget(flops="4*S")\n{ONE}')
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*S have no value: give them in where, or measure a law with flops_budget.over*"])


def test_a_name_is_used_once(project):
    twice = BODY + "    flops_budget(MODEL, make(16))\n"
    result = run(project, twice)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*'model' was measured before in this test, by flops_budget.over(...)*"])


def test_the_largest_sizes_are_the_baseline(project):
    run(project, BODY, "", "--flops-budget-update").assert_outcomes(passed=1)
    text = (project.path / "__flops__" / "test_net.json").read_text(encoding="utf-8")
    assert f"{SQUARE * 4096**2 + LINE * 4096}" in text.replace(",", "").replace("_", "")
    run(project, BODY).assert_outcomes(passed=1)


def test_a_limit_on_a_metric_without_a_law_is_noted(project):
    text = """
@pytest.mark.flops_budget(launches=14)
def test_net(flops_budget):
    def model(x):
        for _ in range(x.shape[1].bit_count()):
            x = x * 2
        return x
    flops_budget.over(model, make, sequence=range(16, 300))
"""
    result = run(project, text)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*the limit on launches was checked at sequence = 299 only: no law of degree <= 4*"])


def test_reports_show_the_failure(project):
    result = run(
        project,
        f'@pytest.mark.flops_budget(growth={{"S": "n"}})\n{BODY}',
        "",
        "--flops-budget-markdown=r.md",
        "--flops-budget-json=r.json",
    )
    result.assert_outcomes(failed=1)
    assert "grows with S^2; allowed: S" in (project.path / "r.md").read_text(encoding="utf-8").replace("\\", "")
    assert '"allowed": "n"' in (project.path / "r.json").read_text(encoding="utf-8").replace('":"', '": "')
