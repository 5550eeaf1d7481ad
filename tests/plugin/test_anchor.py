"""The setting ``anchor`` limits the growth over the baselines of an earlier revision."""

from __future__ import annotations

import pytest
from samples import GitProject

SETTINGS = '[tool.pytest-flopsbudget]\nanchor = {{revision = "{}", tolerance = "{}"}}\n'
TEST = "def test_net(flops_budget):\n    flops_budget(Net(width={}), {})\n"
#: 2·8·8·4·3·3·3 + 2·4·10 FLOPs with 4 channels, and 2·8·8·5·3·3·3 + 2·5·10 with 5 channels.
FOUR, FIVE = 13_904, 17_380


@pytest.fixture
def repository(project, monkeypatch):
    """Return a project whose tag v1 has the baseline of a net with 4 channels. Now the baseline has 5 channels."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(project.path.parent))
    git = GitProject(project.path)
    project.git = git.git
    project.write(TEST.format(4, "IMAGE"))
    project.run("--flops-budget-update")
    git.commit("Four channels")
    project.git("tag", "v1")
    project.write(TEST.format(5, "IMAGE"))
    project.run("--flops-budget-update")
    return project


@pytest.mark.parametrize(("tolerance", "passed"), [("20%", 0), ("25%", 1)])
@pytest.mark.parametrize("workers", ["", "-n1"])
def test_growth_since_the_anchor(repository, tolerance, passed, workers):
    repository.settings(SETTINGS.format("v1", tolerance))
    result = repository.run_apart(*workers.split())
    result.assert_outcomes(passed=passed, failed=1 - passed)
    if not passed:
        limit = FOUR * 120 // 100
        lines = result.stdout.str().splitlines()
        assert f"flops +{100 * (FIVE - limit) / limit:.1f}% over its limit in test_net" in lines
        assert [line.split()[0] for line in lines if line.endswith("anchor v1")] == [
            *("flops", "other_flops", "params", "activations")
        ]


def test_another_input(repository):
    repository.settings(SETTINGS.format("v1", "1%"))
    repository.write(TEST.format(5, "torch.empty(1, 3, 4, 4)"))
    result = repository.run("--flops-budget-update", "-v")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*not held to the anchor v1, which measured another input: float32[[]1, 3, 8, 8]*"])


def test_the_note_names_the_measurement(repository):
    repository.settings(SETTINGS.format("v1", "1%"))
    call = "    flops_budget(Net(), torch.empty(1, 3, {0}, {0}), name='{1}')\n"
    repository.write("def test_net(flops_budget):\n" + call.format(8, "image") + call.format(9, "photo"))
    repository.run("--flops-budget-update")
    repository.git("commit", "-qam", "Two inputs")
    repository.git("tag", "v2")
    repository.settings(SETTINGS.format("v2", "1%"))
    repository.write("def test_net(flops_budget):\n" + call.format(8, "image") + call.format(7, "photo"))
    result = repository.run("--flops-budget-update")
    notes = [line for line in result.stdout.lines if "not held to the anchor" in line]
    assert notes == [
        "test_net.py::test_net photo: not held to the anchor v2, which measured another input: float32[1, 3, 9, 9]"
    ]


def test_a_test_that_the_anchor_lacks(repository):
    repository.settings(SETTINGS.format("v1", "1%"))
    repository.write(TEST.format(8, "IMAGE"), "test_other")
    repository.run("test_other.py").assert_outcomes(passed=1)


def test_a_damaged_baseline_at_the_revision(repository):
    good = repository.baseline.read_text(encoding="utf-8")
    repository.baseline.write_text("damaged", encoding="utf-8")
    repository.git("commit", "-qam", "Damaged")
    repository.git("tag", "v2")
    repository.baseline.write_text(good, encoding="utf-8")
    repository.settings(SETTINGS.format("v2", "1%"))
    lines = repository.run().stdout.str().splitlines()
    error = "v2:__flops__/test_net.json, line 1: no JSON from column 1 on: Expecting value"
    assert f"{error}; name another revision in the setting anchor" in lines


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (SETTINGS.format("v9", "1%"), "anchor: git knows no revision 'v9' here; fetch it first: git fetch --tags"),
        (SETTINGS.format("v1", "much"), "anchor.tolerance: 'much' does not fit every metric*"),
        ('[tool.pytest-flopsbudget]\nanchor = "v1"\n', "anchor: 'v1' does not name both a revision and a tolerance; *"),
        (SETTINGS.format("-v1", "1%"), "anchor.revision: '-v1' is no tag, branch or commit; write one like*"),
        (SETTINGS.format("v1", '1%", since = "'), "anchor.since: no such key; there are revision, tolerance"),
    ],
)
def test_mistakes(repository, settings, message):
    repository.settings(settings)
    result = repository.run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*pyproject.toml: *{message}"])
