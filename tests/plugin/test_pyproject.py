"""In a run without measurements, the plugin still reads its table in the pyproject."""

from __future__ import annotations

import pytest

NOTHING = "def test_nothing(): pass\n"


@pytest.mark.parametrize(
    "text",
    [
        "[tool.pytest-flopsbudget]\ntolerence = 1",
        "[ tool . pytest-flopsbudget ]\ntolerence = 1",
        '[tool."pytest-flopsbudget"]\ntolerence = 1',
        "[tool.FlopsBudget]\ntolerence = 1",
        "[tool]\npytest-flopsbudget = {tolerence = 1}",
        'tool.pytest-flopsbudget.tolerence = "1"',
        "[[tool.pytest-flopsbudget.budgets]]\nflop = 1",
        "[tool.pytest-flopbudget]\nshow = 'macs'",
        "[pytest-flopsbudget]\nshow = 'macs'",
        "tool = {pytest-flopsbudget = {tolerence = 1}}",
    ],
)
def test_a_mistake_is_told_though_nothing_is_measured(project, text):
    project.settings(text + "\n")
    project.write(NOTHING)
    result = project.run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: pyproject.toml: *"])


@pytest.mark.parametrize(
    "text",
    [
        '[project]\ndependencies = ["pytest-flopsbudget"]',
        '[project]\ndependencies = [\n    "pytest-flopsbudget>=0.1",\n    "pytest-flopsbudget==0.1",\n]',
        "# [tool.pytest-flopsbudget]\n",
        "[tool.other]\nkey = 1",
    ],
)
def test_a_requirement_is_no_table(pytester, text):
    """If a pyproject lists the plugin as a dependency, but has no table for it, `plugin.session` is not imported."""
    pytester.makepyprojecttoml(text)
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    pytester.makepyfile(
        "import sys\n\ndef test_nothing():\n    assert 'pytest_flopsbudget.plugin.session' not in sys.modules\n"
    )
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)
