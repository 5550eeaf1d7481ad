"""Counting needs torch but never pytest; results, reports and commands need neither."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("module", "without"),
    [
        ("pytest_flopsbudget", ["torch", "pytest", "msgspec", "rich"]),
        ("pytest_flopsbudget.counting.measure", ["pytest", "_pytest", "rich"]),
        ("pytest_flopsbudget.results.verdict", ["torch", "pytest", "_pytest"]),
        ("pytest_flopsbudget.storage.run_record", ["torch", "pytest", "_pytest"]),
        ("pytest_flopsbudget.reports.terminal.summary", ["torch", "pytest", "_pytest"]),
        ("pytest_flopsbudget.reports.terminal.explain", ["torch", "pytest", "_pytest"]),
        ("pytest_flopsbudget.reports.markdown.run", ["torch", "pytest", "_pytest", "rich"]),
        (
            "pytest_flopsbudget.reports.ci.github, pytest_flopsbudget.reports.ci.junit",
            ["torch", "pytest", "_pytest", "rich"],
        ),
        (
            "pytest_flopsbudget.reports.ci.csv, pytest_flopsbudget.reports.ci.gitlab",
            ["torch", "pytest", "_pytest", "rich"],
        ),
        ("pytest_flopsbudget.storage.report_file", ["torch", "pytest", "_pytest", "rich"]),
        ("pytest_flopsbudget.commands.main", ["torch", "pytest", "_pytest", "rich"]),
        ("pytest_flopsbudget.hardware.roofline", ["torch", "pytest", "_pytest", "msgspec", "rich"]),
        ("pytest_flopsbudget.hardware.catalog", ["torch", "pytest", "_pytest", "msgspec", "rich"]),
        ("pytest_flopsbudget.config.settings", ["torch", "pytest", "msgspec", "rich"]),
    ],
)
def test_what_a_storey_imports(module, without):
    code = f"import sys, {module}; print(*(set({without}) & sys.modules.keys()))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []
