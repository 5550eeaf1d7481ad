"""Budgets on latency, in runs of pytest. The tests replace the clock."""

from __future__ import annotations

import json

import pytest
from conftest import NET_FLOPS

from pytest_flopsbudget.counting.latency import benchmark
from pytest_flopsbudget.counting.latency.benchmark import Blocks

MACHINE = '[tool.pytest-flopsbudget]\nmachine = "box"\n'


def measuring(marker="", call="flops_budget(Net(), IMAGE)"):
    return f"{marker}\ndef test_net(flops_budget):\n    {call}\n"


def marked(**limits):
    return measuring(f"@pytest.mark.flops_budget({', '.join(f'{key}={value!r}' for key, value in limits.items())})")


@pytest.fixture
def clock(monkeypatch):
    """Replace the timing by a function that returns the milliseconds that the test chooses."""

    class Script:
        asked = 0
        milliseconds = (10.0,)

        def __call__(self, run, *_):
            self.asked += 1
            run()
            return Blocks([each / 1_000 for each in self.milliseconds], 1)

        def says(self, *milliseconds):
            self.milliseconds = milliseconds

    script = Script()
    monkeypatch.setattr(benchmark, "run_in_blocks", script)
    return script


def measured(project):
    report = json.loads((project.path / "report.json").read_text(encoding="utf-8"))
    return report["tests"][0]["measurements"][0]


@pytest.fixture(autouse=True)
def _machine(project):
    project.settings(MACHINE)
    # Timing needs defined values, and the image in models.py comes from `torch.empty`.
    models = project.path / "models.py"
    models.write_text(models.read_text(encoding="utf-8").replace("torch.empty", "torch.zeros"), encoding="utf-8")


class TestOptIn:
    @pytest.mark.parametrize(
        ("settings", "marker"),
        [
            ("", {}),
            ("", {"flops": NET_FLOPS, "tolerance": "5%"}),
            ('tolerance = {latency = "20%"}', {"flops": NET_FLOPS}),
            ('tolerance = "1%"\n[tool.pytest-flopsbudget.limits]\nflops = "1G"', {}),
            ('[[tool.pytest-flopsbudget.budgets]]\nmatch = "other.py::*"\nlatency = "9 ms"', {}),
        ],
    )
    def test_nobody_asks(self, project, clock, settings, marker):
        """If no limit, no tolerance and no call asks for latency, nothing is timed."""
        project.settings(MACHINE + settings)
        project.write(marked(**marker))
        project.run("--flops-budget-json=report.json").assert_outcomes(passed=1)
        assert clock.asked == 0
        assert measured(project)["complexity"]["latency"] is None

    @pytest.mark.parametrize(
        ("settings", "marker"),
        [
            ("", {"latency": "10 ms"}),
            ("", {"tolerance": {"latency": "20%"}}),
            ('[tool.pytest-flopsbudget.limits]\nlatency = "10 ms"', {}),
            ('[[tool.pytest-flopsbudget.budgets]]\nmatch = "test_net.py::*"\nlatency = "10 ms"', {}),
            ('[[tool.pytest-flopsbudget.budgets]]\nmatch = "*"\ntolerance = {latency = "1 ms"}', {}),
        ],
    )
    def test_a_limit_or_a_tolerance_asks(self, project, clock, settings, marker):
        """If there is a limit or a tolerance on latency, each measurement is timed once."""
        project.settings(MACHINE + settings)
        project.write(marked(**marker))
        project.run("--flops-budget-json=report.json").assert_outcomes(passed=1)
        assert clock.asked == 1
        found = measured(project)["complexity"]
        assert found["metrics"]["latency[box]"] == found["latency"]["median_ns"] == 10_000_000

    def test_the_call_asks(self, project, clock):
        project.write(measuring(call="assert flops_budget(Net(), IMAGE, latency=True).latency == 10**7"))
        project.run().assert_outcomes(passed=1)
        assert clock.asked == 1

    def test_disabled(self, project, clock):
        project.write(marked(latency="1 ms"))
        project.run("--flops-budget-disable").assert_outcomes(passed=1)
        assert clock.asked == 0

    def test_only_what_counts_is_timed(self, project, clock):
        """If a measurement is not larger than an earlier one of the same name, it is not timed."""
        calls = "[flops_budget(Net(), image) for image in (IMAGE, IMAGE[:, :, :4], IMAGE, IMAGE.repeat(2, 1, 1, 1))]"
        project.write(measuring("@pytest.mark.flops_budget(latency='10 ms')", calls))
        project.run("--flops-budget-json=report.json").assert_outcomes(passed=1)
        assert clock.asked == 2
        found = measured(project)
        assert (found["times"], found["complexity"]["metrics"]["flops"]) == (4, 2 * NET_FLOPS)
        assert found["complexity"]["latency"]["median_ns"] == 10_000_000


class TestLimit:
    def test_just_kept(self, project, clock):
        clock.says(12)
        project.write(marked(latency="12 ms"))
        project.run().assert_outcomes(passed=1)

    def test_broken_by_a_nanosecond(self, project, clock):
        clock.says(12.000001)
        project.write(marked(latency="12 ms"))
        result = project.run()
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(
            [
                "latency?box? <0.01% over its limit in test_net",
                "  latency?box?  12,000,001 ns  <0.01%  12,000,000 ns  marker",
            ]
        )

    @pytest.mark.parametrize("tolerance", [{}, {"tolerance": {"latency": "39%"}}])
    def test_too_uneven(self, project, clock, tolerance):
        """If the spread of the times is wider than the tolerance, the limit on latency is not checked."""
        clock.says(8, 8, 10, 12, 12)
        project.write(marked(latency="9 ms", **tolerance))
        result = project.run()
        result.assert_outcomes(passed=1)
        allowed = "39.0" if tolerance else "10.0"
        result.stdout.fnmatch_lines(
            [f"*latency not judged: its spread, 40.0%, is wider than its tolerance, {allowed}%: *"]
        )

    def test_even_enough(self, project, clock):
        clock.says(8, 8, 10, 12, 12)
        project.write(marked(latency="9 ms", tolerance={"latency": "40%"}))
        result = project.run()
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["  latency?box?  10 ms  +11.1%     9 ms  marker"])


class TestBaseline:
    def test_a_slower_model(self, project, clock):
        """A latency may be 10% above the baseline, but not 11%."""
        project.write(marked(latency="1 s", hold=["latency"]))
        project.run("--flops-budget-update").assert_outcomes(passed=1)
        clock.says(11)
        project.run().assert_outcomes(passed=1)
        clock.says(11.1)
        result = project.run()
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["  latency?box?   10 ms  11.1 ms  +11.0%   +10.0%  baseline"])

    def test_another_machine(self, project, clock):
        project.write(marked(latency="1 s"))
        project.run("--flops-budget-update")
        project.settings(MACHINE.replace("box", "bigger box"))
        clock.says(99)
        project.run("--flops-budget-update").assert_outcomes(passed=1)
        assert '"latency": {"bigger box": 99000000, "box": 10000000}' in project.baseline.read_text(encoding="utf-8")

    def test_not_measured_any_more(self, project):
        """If the baseline has a latency and the run measures none, there is no message."""
        project.write(marked(latency="1 s"))
        project.run("--flops-budget-update")
        project.write(marked(flops="1G"))
        result = project.run()
        result.assert_outcomes(passed=1)
        assert "no longer" not in result.stdout.str()


@pytest.mark.usefixtures("clock")
class TestRefused:
    def test_a_model_without_data(self, project):
        """If the weights of a model have no data, it is not timed, and the message names the line of the test."""
        project.write(measuring("@pytest.mark.flops_budget(latency='1 s')", "flops_budget(Net().to('meta'), IMAGE)"))
        result = project.run()
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(
            ["*test_net.py:6: Net cannot be timed: stem.weight (on the meta device) has no data, which latency needs*"]
        )
        assert "Traceback" not in result.stdout.str()

    def test_names_of_machines(self, project):
        project.settings('[tool.pytest-flopsbudget]\nmachine = "[box]"\nlatency-run-tme = "1 s"\n')
        project.write(marked())
        result = project.run()
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(
            [
                "*latency-run-tme: no such key; did you mean latency-run-time[?]",
                "*machine: '?box?' is not the name of a machine; write a name without brackets, like \"ci-runner\"",
            ]
        )


class TestWatched:
    WATCHED = "def test_net():\n    Net()(IMAGE)\n"

    def test_its_own_limit(self, project, clock):
        """If a watched test has its own limit on latency, it fails, because watched tests are not timed."""
        project.write("@pytest.mark.flops_budget(latency='1 s')\n" + self.WATCHED)
        result = project.run()
        result.assert_outcomes(failed=1)
        assert clock.asked == 0
        result.stdout.fnmatch_lines(["  latency has a limit, but was not timed: only flops_budget(model, inputs) *"])

    def test_a_limit_for_all(self, project, clock):
        project.settings(f'{MACHINE}watch = "*"\n[tool.pytest-flopsbudget.limits]\nlatency = "1 s"\n')
        project.write(self.WATCHED)
        result = project.run()
        result.assert_outcomes(passed=1)
        assert clock.asked == 0
        result.stdout.fnmatch_lines(["test_net.py::test_net: a watched model is not timed, so its latency limit*"])

    def test_a_part_of_a_test(self, project, clock):
        """If a test with a limit on latency measures only with a watched block, it fails."""
        project.write(
            "@pytest.mark.flops_budget(latency='1 s')\n"
            "def test_net(flops_budget):\n"
            "    with flops_budget.watch():\n        Net()(IMAGE)\n"
        )
        result = project.run()
        result.assert_outcomes(failed=1)
        assert clock.asked == 0
        result.stdout.fnmatch_lines(["* latency has a limit, but was not timed: *"])


def test_within_a_watched_block(project, clock):
    """If the fixture times a model inside of a watched block, the block does not count the timed runs."""
    project.write(
        measuring(
            call="with flops_budget.watch('all') as watch:\n"
            "        Net()(IMAGE)\n"
            "        flops_budget(Net(), IMAGE, latency=True)\n"
            f"    assert watch.complexity.flops == {NET_FLOPS}"
        )
    )
    project.run().assert_outcomes(passed=1)
    assert clock.asked == 1


def test_workers(project):
    """With two workers, a note says that another process ran at the same time."""
    project.write(marked(latency="10 ms"))
    project.run_apart("-n2", "--flops-budget-json=report.json").assert_outcomes(passed=1)
    note = "the latency was measured beside 1 other process of pytest-xdist, so that they shared the machine"
    found = measured(project)["complexity"]
    assert (found["notes"], found["metrics"]["latency[box]"]) == ([note], 10_000_000)
    project.run_apart("-n1", "--flops-budget-json=report.json").assert_outcomes(passed=1)
    assert measured(project)["complexity"]["notes"] == []


def test_own_profiles(project, clock):
    """If the project has a profile of the machine, the summary compares the latency with this profile."""
    project.settings(
        f'{MACHINE}[tool.pytest-flopsbudget.devices.box]\nfloat32 = "1 GFLOP/s"\nvector-float32 = "1000 TFLOP/s"\n'
        'bandwidth = "1000 TB/s"\n'
    )
    # On this profile, a FLOP of a product takes a nanosecond, so all FLOPs take half of the measured time.
    clock.says(2 * NET_FLOPS / 10**6)
    project.write(marked(latency="10 ms"))
    result = project.run("-v")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        [
            "  latency on box: 27.81 us, the median of 1 run on *",
            "      *; 50% of the roofline, 50% of peak FLOP/s (MFU)",
        ]
    )
