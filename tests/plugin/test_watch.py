"""Watched tests (by a marker or by the pyproject), and watched blocks in a test."""

from __future__ import annotations

import json

import pytest
from features import requires
from inner_runs import WITH

#: FLOPs of `net` in `NET` for each row of the input: 2·4·8 + 2·8·2.
ROW = 96

NET = """
import asyncio
import unittest

from hypothesis import given, settings, strategies


def net():
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))


"""


@pytest.fixture
def measured(project):
    """Return a function that runs a test file and returns {test: {name of the measurement: FLOPs}}."""

    def measured(body, *args, pyproject=None, **outcomes):
        project.write(NET + body)
        if pyproject is not None:
            project.settings(f"[tool.pytest-flopsbudget]\n{pyproject}\n")
        result = project.run(f"--flops-budget-json={project.path / 'report.json'}", *args)
        result.assert_outcomes(**outcomes)
        report = json.loads(project.path.joinpath("report.json").read_text(encoding="utf-8"))
        measured.result, measured.report = result, report
        return {
            test["nodeid"].partition("::")[2]: {
                one["name"]: one["complexity"]["metrics"]["flops"] for one in test["measurements"]
            }
            for test in report["tests"]
        }

    return measured


class TestMarker:
    def test_function(self, measured):
        """The work in the body of a marked test is counted. The work in its fixtures is not."""
        found = measured(
            "@pytest.fixture\n"
            "def model():\n"
            "    model = net()\n"
            "    model(torch.randn(100, 4))\n"
            "    yield model\n"
            "    model(torch.randn(100, 4))\n\n"
            "@pytest.mark.flops_budget(flops='192 FLOPs', params=58)\n"
            "def test_net(model):\n"
            "    assert model(torch.randn(2, 4)).shape == (2, 2)\n",
            passed=1,
        )
        assert found == {"test_net": {"model": 2 * ROW}}
        complexity = measured.report["tests"][0]["measurements"][0]["complexity"]
        assert (complexity["model"], complexity["execution"]) == ("Sequential", "watched")
        assert complexity["inputs"] == ["float32[2, 4]"]
        assert "real data" not in measured.result.stdout.str()

    def test_over_limit(self, measured):
        measured(
            "@pytest.mark.flops_budget(flops='191 FLOPs')\ndef test_net():\n    net()(torch.randn(2, 4))\n",
            failed=1,
        )
        measured.result.stdout.fnmatch_lines(["  flops   192 FLOPs *191 FLOPs  marker"])

    @pytest.mark.parametrize("call", ["model(x)", "model.forward(x)", "nn.Sequential.forward(model, x)"])
    def test_limit_of_a_part(self, measured, call):
        """A limit on a module applies, even if the module runs by a call of its method ``forward``."""
        measured(
            "class Direct(nn.Sequential):\n"
            "    def forward(self, x):\n"
            "        return self[1].forward(self[0].forward(x))\n\n"
            "@pytest.mark.flops_budget(modules={'0': {'flops': '127 FLOPs'}, '1': {'flops': '128 FLOPs'}})\n"
            "def test_net():\n"
            "    model, x = Direct(nn.Linear(4, 8), nn.Linear(8, 4)), torch.randn(2, 4)\n"
            f"    {call.replace('nn.Sequential', 'Direct')}\n",
            failed=1,
        )
        measured.result.stdout.fnmatch_lines(["  flops of 0  128 FLOPs *127 FLOPs  marker"])
        assert "flops of 1 over" not in measured.result.stdout.str()

    def test_limit_of_a_scripted_part(self, measured):
        """A limit on a part of a scripted module fails, because the work of the part is not known."""
        measured(
            "@pytest.mark.filterwarnings('ignore::DeprecationWarning')\n"
            "@pytest.mark.flops_budget(modules={'0': {'flops': '1 GFLOPs'}})\n"
            "def test_net():\n"
            "    torch.jit.script(net())(torch.randn(2, 4))\n",
            failed=1,
        )
        measured.result.stdout.fnmatch_lines(
            ["  modules: no module of * matches '0' *", "*the parts of a scripted module are not listed*"]
        )

    def test_phases(self, measured):
        """A marker may limit each phase separately."""
        measured(
            "@pytest.mark.flops_budget(phases={'forward': {'flops': 192}, 'backward': {'flops': 255}})\n"
            "def test_net():\n"
            "    net()(torch.randn(2, 4)).sum().backward()\n",
            "-v",
            failed=1,
        )
        # 256 = 2 · 192 - 2·2·4·8: the gradient of the input is not computed.
        measured.result.stdout.fnmatch_lines(
            [
                "  flops of the backward phase  256 FLOPs *255 FLOPs  marker",
                "*(forward) *192 FLOPs*",
                "*(backward) *256 FLOPs*",
                "*(optimizer) *0 FLOPs*",
            ]
        )
        assert "of the forward phase" not in measured.result.stdout.str()

    def test_phase_that_never_ran(self, measured):
        measured(
            "@pytest.mark.flops_budget(phases={'optimizer': {'other_flops': 1}})\n"
            "def test_net():\n"
            "    net()(torch.randn(2, 4))\n",
            failed=1,
        )
        measured.result.stdout.fnmatch_lines(["*other_flops of the optimizer phase has a limit, but was not measured"])

    def test_classes(self, measured):
        found = measured(
            "@pytest.mark.flops_budget\n"
            "class TestNet:\n"
            "    def setup_method(self): net()(torch.randn(100, 4))\n"
            "    @pytest.mark.parametrize('rows', [1, 2])\n"
            "    def test_net(self, rows): net()(torch.randn(rows, 4))\n",
            passed=2,
        )
        assert found == {"TestNet::test_net[1]": {"model": ROW}, "TestNet::test_net[2]": {"model": 2 * ROW}}

    def test_unittest(self, measured):
        """In a unittest class, the work of the test method is counted, and the work of `setUp` is not."""
        found = measured(
            "@pytest.mark.flops_budget\n"
            "class TestNet(unittest.TestCase):\n"
            "    def setUp(self): net()(torch.randn(100, 4))\n"
            "    def test_net(self): net()(torch.randn(3, 4))\n\n"
            "@pytest.mark.flops_budget\n"
            "class TestAsync(unittest.IsolatedAsyncioTestCase):\n"
            "    async def asyncSetUp(self): net()(torch.randn(100, 4))\n"
            "    async def test_net(self): net()(torch.randn(2, 4))\n",
            passed=2,
        )
        assert found == {"TestNet::test_net": {"model": 3 * ROW}, "TestAsync::test_net": {"model": 2 * ROW}}

    def test_async(self, measured):
        """In an async test, the work of all its tasks is counted."""
        found = measured(
            "async def once(rows):\n"
            "    await asyncio.sleep(0)\n"
            "    return net()(torch.randn(rows, 4))\n\n"
            "@pytest.mark.asyncio\n"
            "@pytest.mark.flops_budget\n"
            "async def test_asyncio(): await asyncio.gather(once(1), once(2))\n\n"
            "@pytest.mark.anyio\n"
            "@pytest.mark.parametrize('anyio_backend', ['asyncio'])\n"
            "@pytest.mark.flops_budget\n"
            "async def test_anyio(anyio_backend): await once(3)\n",
            *WITH["anyio"],
            passed=2,
        )
        assert found == {"test_asyncio": {"model": 3 * ROW}, "test_anyio[asyncio]": {"model": 3 * ROW}}

    def test_hypothesis(self, measured):
        found = measured(
            "@pytest.mark.flops_budget\n"
            "@given(rows=strategies.sampled_from([1, 2, 3]))\n"
            "@settings(max_examples=20)\n"
            "def test_net(rows): net()(torch.randn(rows, 4))\n\n"
            "@pytest.mark.asyncio\n"
            "@pytest.mark.flops_budget\n"
            "@given(rows=strategies.sampled_from([1, 2]))\n"
            "@settings(max_examples=20)\n"
            "async def test_async(rows): net()(torch.randn(rows, 4))\n",
            *WITH["hypothesispytest"],
            passed=2,
        )
        assert found == {"test_net": {"model": 3 * ROW}, "test_async": {"model": 2 * ROW}}
        assert [test["measurements"][0]["times"] for test in measured.report["tests"]] == [3, 2]

    @requires("subtests")
    def test_subtests(self, measured):
        found = measured(
            "@pytest.mark.flops_budget\n"
            "def test_net(subtests):\n"
            "    model = net()\n"
            "    for rows in (1, 2):\n"
            "        with subtests.test(rows=rows):\n"
            "            model(torch.randn(rows, 4))\n",
            passed=1,
        )
        assert found == {"test_net": {"model": 3 * ROW}}

    def test_rerun(self, measured):
        found = measured(
            "rows = iter([5, 2])\n\n"
            "@pytest.mark.flaky(reruns=1)\n"
            "@pytest.mark.flops_budget\n"
            "def test_net():\n"
            "    assert len(net()(torch.randn(next(rows), 4))) == 2\n",
            *WITH["rerunfailures"],
            passed=1,
        )
        assert found == {"test_net": {"model": 2 * ROW}}

    def test_own_ways_to_end(self, measured):
        found = measured(
            "pytestmark = pytest.mark.flops_budget(flops=1)\n\n"
            "def test_fails():\n"
            "    net()(torch.randn(1, 4))\n"
            "    raise ArithmeticError('of its own')\n\n"
            "def test_skips():\n"
            "    net()(torch.randn(1, 4))\n"
            "    pytest.skip('now')\n\n"
            "@pytest.mark.xfail(strict=True, raises=ArithmeticError)\n"
            "def test_fails_as_expected():\n"
            "    net()(torch.randn(1, 4))\n"
            "    raise ArithmeticError\n",
            failed=1,
            skipped=1,
            xfailed=1,
        )
        assert found == {"test_fails": {"model": ROW}}
        measured.result.stdout.fnmatch_lines(["E * ArithmeticError: of its own"])

    def test_nothing_computed(self, measured):
        measured("@pytest.mark.flops_budget\ndef test_net(): net()\n", failed=1)
        measured.result.stdout.fnmatch_lines(["marked with flops_budget, but computed nothing *"])

    def test_fixture_goes_before(self, measured):
        found = measured(
            "@pytest.mark.flops_budget\n"
            "def test_net(flops_budget):\n"
            "    net()(torch.randn(5, 4))\n"
            "    flops_budget(net(), torch.empty(1, 4))\n\n"
            "@pytest.mark.flops_budget\n"
            "def test_late(request):\n"
            "    net()(torch.randn(5, 4))\n"
            "    request.getfixturevalue('flops_budget')(net(), torch.empty(1, 4))\n",
            passed=2,
        )
        assert found == {"test_net": {"model": ROW}, "test_late": {"model": ROW}}

    def test_disabled(self, project):
        project.write("@pytest.mark.flops_budget\ndef test_net(): assert torch._C._len_torch_dispatch_stack() == 0\n")
        project.run("--flops-budget-disable").assert_outcomes(passed=1)


class TestPyproject:
    BODY = (
        "def test_net(): net()(torch.randn(1, 4))\n\n"
        "def test_other(): net()(torch.randn(2, 4))\n\n"
        "def test_without_a_model(): assert (torch.ones(3) + 1).sum() == 6\n"
    )

    def test_pattern(self, measured):
        assert measured(self.BODY, pyproject='watch = ["*::test_net", "*without*"]', passed=3) == {
            "test_net": {"model": ROW}
        }

    def test_one_pattern(self, measured):
        found = measured(self.BODY, pyproject='watch = "test_net.py::*"', passed=3)
        assert found == {"test_net": {"model": ROW}, "test_other": {"model": 2 * ROW}}

    def test_first_baseline(self, project, measured):
        watching = 'watch = ["*"]\nmissing-baseline = "fail"'
        measured(self.BODY, "--flops-budget-update", pyproject=watching, passed=3)
        assert '"test_other"' in project.baseline.read_text(encoding="utf-8")
        measured(self.BODY, passed=3)
        measured(self.BODY.replace("randn(1, 4)", "randn(3, 4)"), passed=2, failed=1)
        measured.result.stdout.fnmatch_lines(
            ["another input, *: flops +200.0% over its baseline in *", "  flops *96 FLOPs *288 FLOPs*"]
        )

    def test_limits(self, measured):
        """The pyproject's limit on a phase applies to watched tests that run this phase."""
        measured(
            self.BODY + "def test_trains(): net()(torch.randn(1, 4)).sum().backward()\n",
            pyproject='watch = "*"\n[tool.pytest-flopsbudget.limits.phases.backward]\nflops = 127',
            passed=3,
            failed=1,
        )
        measured.result.stdout.fnmatch_lines(["  flops of the backward phase  128 FLOPs *127 FLOPs  pyproject limits"])

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("watch = 3", "watch: 3 is not a pattern of node ids, nor a list of them; write*"),
            ("watch = ['']", "watch: [[]''] is not a pattern of node ids*"),
            ("wach = ['*']", "wach: no such key; did you mean watch?*"),
            (
                "[tool.pytest-flopsbudget.limits.phases.bakward]\nflops = 1",
                "phases.bakward: no such key; *backward?*",
            ),
            ("[tool.pytest-flopsbudget.limits.phases.forward]\nparams = 1", "phases.forward.params: measures no work*"),
            ("[tool.pytest-flopsbudget.limits.phases]\nforward = 1", "phases.forward: 1 is not a table of limits*"),
            ("[tool.pytest-flopsbudget.limits]\nphases = 1", "phases: 1 is not a table of limits by phase*"),
            ("[tool.pytest-flopsbudget.phases]", "phases: write limits for every test in*"),
        ],
    )
    def test_mistakes(self, project, text, message):
        project.settings(f"[tool.pytest-flopsbudget]\n{text}\n")
        project.write("def test_net(): pass\n")
        result = project.run()
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines([f"*{message}"])

    def test_plain_tests_import_nothing(self, project):
        project.settings('[tool.pytest-flopsbudget]\nwatch = ["test_else.py::*"]\n')
        project.pytester.makepyfile(test_net="import sys\n\ndef test_net(): assert 'torch' not in sys.modules\n")
        project.run_apart().assert_outcomes(passed=1)


class TestBlocks:
    def test_blocks(self, measured):
        """Work in an inner block is also counted in the outer block."""
        found = measured(
            "def test_net(flops_budget):\n"
            "    model = net()\n"
            "    with flops_budget.watch('outer') as outer:\n"
            "        model(torch.randn(1, 4))\n"
            "        for rows in (1, 3, 2):\n"
            "            with flops_budget.watch('inner') as inner:\n"
            "                model(torch.randn(rows, 4))\n"
            "        flops_budget(model, torch.empty(100, 4))\n"
            "    with flops_budget.watch():\n"
            "        model(torch.randn(200, 4))\n"
            "    assert outer.complexity.flops == 7 * 96\n"
            "    assert inner.complexity.flops == 2 * 96\n",
            passed=1,
        )
        assert found == {"test_net": {"outer": 7 * ROW, "inner": 3 * ROW, "model": 200 * ROW}}

    def test_nothing_computed(self, measured):
        measured("def test_net(flops_budget):\n    with flops_budget.watch('x'): pass\n", failed=1)
        measured.result.stdout.fnmatch_lines(["*flops_budget.watch('x'): nothing was computed in the block*"])

    def test_two_models(self, measured):
        measured(
            "def test_net(flops_budget):\n"
            "    for model in (net(), nn.Linear(4, 4)):\n"
            "        with flops_budget.watch('x'): model(torch.randn(1, 4))\n",
            failed=1,
        )
        measured.result.stdout.fnmatch_lines(["*two different models were measured as 'x': *"])

    def test_wrong_name(self, measured):
        measured("def test_net(flops_budget):\n    with flops_budget.watch(''): pass\n", failed=1)
        measured.result.stdout.fnmatch_lines(["*flops_budget.watch(''): a name is a text that is not empty"])

    def test_training_step(self, measured):
        """A phase of a watched block can have a limit."""
        measured(
            "@pytest.mark.flops_budget(phases={'optimizer': {'other_flops': '116 FLOPs'}})\n"
            "def test_net(flops_budget):\n"
            "    model = net()\n"
            "    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)\n"
            "    with flops_budget.watch('step') as step:\n"
            "        model(torch.randn(2, 4)).sum().backward()\n"
            "        optimizer.step()\n"
            "    phases = step.complexity.phases\n"
            "    assert [phase.flops for phase in phases.values()] == [192, 256, 0]\n",
            passed=1,
        )
