"""Budgets on metrics other than FLOPs, in runs of pytest."""

from __future__ import annotations

import json

import pytest
from conftest import NET_FLOPS

#: On this device, one FLOP of a product takes a nanosecond. All other work takes less than one nanosecond in sum.
BOARD = """
[tool.pytest-flopsbudget.devices.board]
float32 = "1 GFLOP/s"
vector-float32 = "1000 TFLOP/s"
bandwidth = "1000 TB/s"
"""


def measuring(marker=""):
    return f"{marker}\ndef test_net(flops_budget):\n    flops_budget(Net(), IMAGE)\n"


class TestTime:
    def test_over_by_a_nanosecond(self, project):
        project.settings(BOARD)
        project.write(measuring(f'@pytest.mark.flops_budget(time={{"board": "{NET_FLOPS - 1} ns"}})'))
        result = project.run()
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(
            [
                "time?board? at least <0.01% over its limit in test_net",
                "  time?board?  >=13.904 us  <0.01%  13.903 us  marker",
                "board: at least 13.90 us (estimate), compute-bound (compute 13.90 us, memory 0 ns, launches 0 ns)",
            ]
        )

    def test_within(self, project):
        """With -v, the summary shows the estimated time on the device."""
        project.settings(BOARD)
        project.write(measuring(f'@pytest.mark.flops_budget(time={{"BOARD": "{NET_FLOPS} ns"}})'))
        result = project.run("-v")
        result.assert_outcomes(passed=1)
        result.stdout.fnmatch_lines(["  board: at least 13.90 us (estimate), compute-bound (*"])

    def test_of_a_module(self, project):
        project.settings(BOARD)
        project.write(
            measuring('@pytest.mark.flops_budget(modules={"head": {"time": {"board": "79 ns"}}})'),
        )
        result = project.run()
        result.stdout.fnmatch_lines(
            [
                "time?board? of head at least +1.3% over its limit in test_net",
                "  time?board? of head  >=80 ns *79 ns  marker",
            ]
        )

    def test_an_unknown_device(self, project):
        """If a marker names an unknown device, the run stops before the first test and suggests the right name."""
        project.settings(BOARD)
        project.write(measuring('@pytest.mark.flops_budget(time={"bord": "1 ms"})'))
        result = project.run()
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(["*time.bord: no device is named 'bord'; did you mean board?*"])

    def test_a_baseline_outlives_a_device(self, project):
        """If the settings no longer name a device, the baseline's time on this device is not reported as missing."""
        project.settings(f'[tool.pytest-flopsbudget]\ntime-on = "board"\n{BOARD}')
        project.write(measuring())
        project.run("--flops-budget-update").assert_outcomes(passed=1)
        project.settings('[tool.pytest-flopsbudget]\nmissing-baseline = "fail"\n')
        result = project.run("--flops-budget-json=run.json")
        result.assert_outcomes(passed=1)
        result.stdout.no_fnmatch_line("*no longer measured*")
        (measured,) = json.loads((project.path / "run.json").read_text())["tests"][0]["measurements"]
        assert (measured["comparison"]["status"], measured["comparison"]["vanished"]) == ("unchanged", [])


class TestRatio:
    def test_too_small(self, project):
        """If a ratio is below its limit, the test fails."""
        project.write(measuring('@pytest.mark.flops_budget(arithmetic_intensity="1G FLOPs/byte")'))
        result = project.run()
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(
            ["arithmetic_intensity 100.0% under its minimum in test_net", "* FLOPs/byte *min 1 GFLOPs/byte *"]
        )


class TestPeak:
    def test_what_filled_the_memory(self, project):
        project.write(measuring('@pytest.mark.flops_budget(peak_memory="1 B")'))
        result = project.run()
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["peak_memory x* its limit in test_net", "peak * in * (aten.*): * parameters*"])
