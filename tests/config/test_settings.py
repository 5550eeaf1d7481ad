"""Settings in the pyproject, and limits in markers."""

from __future__ import annotations

import ast
import re
import textwrap
from fractions import Fraction

import pytest
from budgets import bounds, bounds_of_parts, budget
from hypothesis import given
from hypothesis import strategies as st

from pytest_flopsbudget.config.reading import load_settings, marker_budget
from pytest_flopsbudget.config.settings import LATENCY_TOLERANCE, Settings, describe
from pytest_flopsbudget.errors import UsageError
from pytest_flopsbudget.identifiers import matches_pattern
from pytest_flopsbudget.quantities.metrics import METRICS
from pytest_flopsbudget.quantities.tolerance import Tolerance

ONE_PERCENT = Tolerance(relative=Fraction(1, 100))


@pytest.fixture
def load(tmp_path):
    """Return a function that writes a pyproject and loads it."""

    def write_and_load(text):
        (tmp_path / "pyproject.toml").write_text(textwrap.dedent(text), encoding="utf-8")
        return load_settings(tmp_path)

    return write_and_load


@pytest.fixture
def problems(load):
    """Return a function that writes a pyproject with mistakes and returns the lines of the error."""

    def write_and_refuse(text):
        with pytest.raises(UsageError) as caught:
            load(text)
        return str(caught.value).splitlines()

    return write_and_refuse


class TestLoadSettings:
    def test_has_defaults_without_a_file(self, tmp_path):
        assert load_settings(tmp_path) == Settings(
            path=None,
            limits=None,
            budgets=(),
            tolerance={**dict.fromkeys(METRICS, Tolerance()), "latency": LATENCY_TOLERANCE},
            missing_baseline="warn",
            unknown_operators="warn",
            improved_baseline="pass",
            show="flops",
        )

    @pytest.mark.parametrize(
        "text", ["", "[project]\nname = 'x'", "tool = 'flops'", "[tool.other]\nflopsbudget = 1", "not TOML at all"]
    )
    def test_has_defaults_without_a_table(self, load, text):
        assert load(text) == Settings()

    def test_an_empty_table_has_defaults(self, load, tmp_path):
        assert load("[tool.pytest-flopsbudget]") == Settings(path=tmp_path / "pyproject.toml")

    def test_reads_every_key(self, load, tmp_path):
        settings = load("""
            [tool.pytest-flopsbudget]
            tolerance = "1%"
            hold = ["macs", "peak_memory"]
            missing-baseline = "fail"
            unknown-operators = "ignore"
            improved-baseline = "fail"
            show = "macs"

            [tool.pytest-flopsbudget.limits]
            params = "100M"
            modules = {"head*" = {flops = "1 GMACs"}}

            [[tool.pytest-flopsbudget.budgets]]
            match = "tests/test_a.py::*"
            flops = "8.2 GFLOPs"

            [[tool.pytest-flopsbudget.budgets]]
            match = ["tests/test_b.py::*", "*::test_c"]
            tolerance = {params = 5}
            modules.layer4.params = 10
        """)
        assert settings == Settings(
            path=tmp_path / "pyproject.toml",
            limits=budget(
                "pyproject.toml, [tool.pytest-flopsbudget.limits]",
                limits={"params": 100_000_000},
                modules={"head*": {"flops": 2_000_000_000}},
            ),
            budgets=(
                budget(
                    "pyproject.toml, [[tool.pytest-flopsbudget.budgets]] 1",
                    limits={"flops": 8_200_000_000},
                    match=("tests/test_a.py::*",),
                ),
                budget(
                    "pyproject.toml, [[tool.pytest-flopsbudget.budgets]] 2",
                    modules={"layer4": {"params": 10}},
                    tolerance={"params": Tolerance(absolute=5)},
                    tolerated=("params",),
                    match=("tests/test_b.py::*", "*::test_c"),
                ),
            ),
            tolerance={**dict.fromkeys(METRICS, ONE_PERCENT), "latency": LATENCY_TOLERANCE},
            hold=("flops", "peak_memory"),
            missing_baseline="fail",
            unknown_operators="ignore",
            improved_baseline="fail",
            show="macs",
        )

    @pytest.mark.parametrize("value", ["0", '"0%"', "{}"])
    def test_no_tolerance_is_exact(self, load, value):
        assert load(f"[tool.pytest-flopsbudget]\ntolerance = {value}").tolerance == Settings().tolerance

    def test_tolerance_by_metric_leaves_the_others_exact(self, load):
        tolerance = load('[tool.pytest-flopsbudget]\ntolerance = {macs = 6, params = "1%"}').tolerance
        assert tolerance["macs"] == Tolerance(absolute=6)
        assert tolerance["flops"] == Tolerance(absolute=12)
        assert tolerance["params"] == ONE_PERCENT
        assert tolerance["param_bytes"] == Tolerance()

    def test_tolerance_of_flops_holds_for_macs(self, load):
        tolerance = load('[tool.pytest-flopsbudget]\ntolerance = {flops = {relative = "1%", absolute = 5}}').tolerance
        assert tolerance["macs"] == Tolerance(relative=Fraction(1, 100), absolute=2)

    def test_tolerance_of_other_flops_is_its_own(self, load):
        tolerance = load("[tool.pytest-flopsbudget]\ntolerance = {other_flops = 5}").tolerance
        assert tolerance["other_flops"] == Tolerance(absolute=5)
        assert {key for key in METRICS if tolerance[key] != Tolerance()} == {"other_flops", "latency"}

    @pytest.mark.parametrize("metric", ["other_flops", "total_flops"])
    def test_limits_on_other_work(self, load, metric):
        settings = load(f"""
            [tool.pytest-flopsbudget.limits]
            {metric} = "1.5 MFLOPs"
            modules = {{head = {{{metric} = 10}}}}
        """)
        assert settings.limits.limits == bounds({metric: 1_500_000})
        assert settings.limits.modules == bounds_of_parts({"head": {metric: 10}})

    def test_a_sum_has_no_tolerance_anywhere(self, problems):
        (line,) = problems("""
            [[tool.pytest-flopsbudget.budgets]]
            match = "*"
            tolerance = {total_flops = 1}
        """)
        assert line.endswith("tolerance.total_flops: is the sum of flops and other_flops; give these a tolerance")

    def test_tells_every_mistake_at_once(self, problems):
        lines = problems("""
            [tool.pytest-flopsbudget]
            tolerance = 0.01
            missing_baseline = "fail"
            show = "FLOPS"

            [tool.pytest-flopsbudget.limits]
            params = "8.2 GFLOPs"
            parms = 1

            [[tool.pytest-flopsbudget.budgets]]
            flops = "8.2 GFLOPS"
        """)
        assert sorted(": ".join(line.split(": ")[:2]) for line in lines) == [
            "pyproject.toml: [[tool.pytest-flopsbudget.budgets]] 1 flops",
            "pyproject.toml: [[tool.pytest-flopsbudget.budgets]] 1 match",
            "pyproject.toml: [tool.pytest-flopsbudget.limits] params",
            "pyproject.toml: [tool.pytest-flopsbudget.limits] parms",
            "pyproject.toml: [tool.pytest-flopsbudget] missing_baseline",
            "pyproject.toml: [tool.pytest-flopsbudget] show",
            "pyproject.toml: [tool.pytest-flopsbudget] tolerance",
        ]

    @pytest.mark.parametrize(
        ("text", "where", "hint"),
        [
            ('missing_baseline = "fail"', "] missing_baseline", "did you mean missing-baseline?"),
            ("tolerence = 0", "] tolerence", "did you mean tolerance?"),
            ("limit = 0", "] limit", "did you mean limits?"),
            ("zzzz = 0", "] zzzz", "there are tolerance, hold, missing-baseline, "),
            ("flops = 1", "] flops", "write limits for every test in [tool.pytest-flopsbudget.limits]"),
            ('tolerance = "-1%"', "] tolerance", 'write it like "1%"'),
            ("tolerance = 0.01", "] tolerance", 'write "1%", or {flops = "1%", params = 0}'),
            ("tolerance = false", "] tolerance", "False does not fit every metric"),
            ("tolerance = {parms = 0}", "] tolerance.parms", "did you mean params?"),
            ("tolerance = {params = 0.5}", "] tolerance.params", "0.5 has no unit"),
            ("tolerance = {flops = 2, macs = 1}", "] tolerance.macs", "give one of the two"),
            (
                'tolerance = {total_flops = "1%"}',
                "] tolerance.total_flops",
                "is the sum of flops and other_flops; give these a tolerance",
            ),
            ('missing-baseline = "Fail"', "] missing-baseline", 'did you mean "fail"?'),
            ("show = 1", "] show", '1 is none of "flops", "macs"'),
            ("limits = 1", "] limits", "must be a table, not 1"),
            ("budgets = {}", "] budgets", "write [[tool.pytest-flopsbudget.budgets]]"),
            ("limits.trainable-params = 1", ".limits] trainable-params", "did you mean trainable_params?"),
            ("limits.params = -1", ".limits] params", "-1 is negative"),
            ("limits.params = 2020-01-01", ".limits] params", "is not an amount"),
            ("limits.tolerance = 0", ".limits] tolerance", "in [tool.pytest-flopsbudget]"),
            ("limits.modules = 1", ".limits] modules", "1 is not a table of limits by module"),
            ("limits.modules.a = 1", ".limits] modules.a", 'write {flops = "1.7G"}'),
            ("limits.modules.a = {}", ".limits] modules.a", "{} is not a table of limits"),
            ('limits.modules."a.*".flop = 1', '.limits] modules."a.*".flop', "did you mean flops?"),
            ("limits.modules.a.0.flops = 1", ".limits] modules.a.0", 'needs quotes, like "a.0"'),
        ],
    )
    def test_says_what_is_wrong_and_what_to_write(self, problems, text, where, hint):
        (line,) = problems(f"[tool.pytest-flopsbudget]\n{text}")
        assert line.startswith(f"pyproject.toml: [tool.pytest-flopsbudget{where}: ")
        assert hint in line

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("flops = 1", "match: is missing; write match = ["),
            ("match = []\nflops = 1", "match: [] is not a pattern of node ids, nor a list of them"),
            ("match = ''\nflops = 1", "match: '' is not a pattern"),
            ("match = ['a', 1]\nflops = 1", "match: ['a', 1] is not a pattern"),
            ("matches = 'a'\nmatch = 'a'", "matches: no such key; did you mean match?"),
        ],
    )
    def test_a_budget_says_what_it_is_for(self, problems, text, expected):
        (line,) = problems(f"[[tool.pytest-flopsbudget.budgets]]\n{text}")
        assert line.startswith("pyproject.toml: [[tool.pytest-flopsbudget.budgets]] 1 ")
        assert expected in line

    def test_a_budget_limits_something(self, problems):
        lines = problems("""
            [[tool.pytest-flopsbudget.budgets]]
            match = "*"
            flops = 1
            [[tool.pytest-flopsbudget.budgets]]
            match = "*"
        """)
        place, _, problem = lines[0].rpartition(": ")
        assert place == "pyproject.toml: [[tool.pytest-flopsbudget.budgets]] 2"
        assert problem == "sets no limit, no tolerance and no hold; add one, or remove it"
        assert len(lines) == 1

    @pytest.mark.parametrize(
        "name",
        [
            *("flopsbudget", "flops-budget", "pytest_flopsbudget", "pytest-flops-budget", "Pytest-FlopsBudget"),
            *("pytest-flopsbudgets", "pytest-flopbudget", "pytest-flopsbuget", "flops-budgets"),
        ],
    )
    def test_finds_a_misspelled_table(self, problems, name):
        assert problems(f"[tool.{name}]\nshow = 'macs'") == [
            f"pyproject.toml: [tool.{name}]: nothing reads this table; rename it to [tool.pytest-flopsbudget]"
        ]

    def test_finds_a_table_outside_of_tool(self, problems):
        assert problems("[pytest-flopsbudget]\nshow = 'macs'") == [
            "pyproject.toml: [pytest-flopsbudget]: nothing reads this table; rename it to [tool.pytest-flopsbudget]"
        ]

    @pytest.mark.parametrize("name", ["pytest", "pytest-flops", "budget", "flopscope"])
    def test_leaves_tables_of_others_alone(self, load, name):
        assert load(f"[tool.{name}]\nflops = 1") == Settings()

    def test_refuses_a_value_in_place_of_the_table(self, problems):
        (line,) = problems("[tool]\npytest-flopsbudget = 1")
        assert (
            line == "pyproject.toml: tool.pytest-flopsbudget: must be a table, not 1; write [tool.pytest-flopsbudget]"
        )

    def test_says_where_the_file_is_no_toml(self, problems):
        (line,) = problems("""
            [tool.pytest-flopsbudget]
            show = macs
        """)
        assert line.startswith("pyproject.toml: is not valid TOML: ")
        assert "line 3, column 8" in line

    def test_refuses_other_encodings(self, tmp_path):
        (tmp_path / "pyproject.toml").write_bytes(b'[tool.pytest-flopsbudget]\nshow = "\xff"')
        with pytest.raises(UsageError, match=r"pyproject\.toml: is not valid TOML: 'utf-8' codec"):
            load_settings(tmp_path)

    @pytest.mark.parametrize("text", ["\ufeff[tool.pytest-flopsbudget]", "tool.pytest-flopsbudget]"])
    def test_refuses_a_broken_head_of_the_table(self, tmp_path, text):
        (tmp_path / "pyproject.toml").write_text(f"{text}\ntolerance = 0\n", encoding="utf-8")
        with pytest.raises(UsageError, match=r"pyproject\.toml: is not valid TOML: "):
            load_settings(tmp_path)

    def test_tells_a_file_that_cannot_be_read(self, tmp_path):
        (tmp_path / "pyproject.toml").mkdir()
        with pytest.raises(UsageError, match=r"pyproject\.toml: cannot be read"):
            load_settings(tmp_path)


class TestLatency:
    def test_the_machine_and_how_long_to_run(self, load):
        settings = load('[tool.pytest-flopsbudget]\nmachine = "CI runner 2"\nlatency-run-time = "250 ms"')
        assert (settings.machine, settings.latency_run_time) == ("CI runner 2", 250_000_000)
        assert (Settings().machine, Settings().latency_run_time) == (None, 10**9)

    @pytest.mark.parametrize("value", ['""', '" box"', '"box [2]"', '"a\\nb"', "5"])
    def test_refuses_other_names(self, problems, value):
        """If the name of a machine has brackets, a line break or a blank at its beginning, it is refused."""
        (line,) = problems(f"[tool.pytest-flopsbudget]\nmachine = {value}")
        assert "machine: " in line
        assert line.endswith('is not the name of a machine; write a name without brackets, like "ci-runner"')

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            ('"0 s"', "'0 s' is not a time above zero; write one like \"1 s\""),
            ('"1 m"', "latency-run-time: '1 m'"),
            ("1", "1"),
        ],
    )
    def test_refuses_other_times(self, problems, value, message):
        (line,) = problems(f"[tool.pytest-flopsbudget]\nlatency-run-time = {value}")
        assert line.startswith("pyproject.toml: [tool.pytest-flopsbudget] latency-run-time: ")
        assert message in line

    @pytest.mark.parametrize("tolerance", ['"5%"', '{flops = "5%"}', '{latency = "10%"}', "0"])
    def test_a_tolerance_of_its_own(self, load, tolerance):
        """Only `tolerance.latency` changes the tolerance of the latency."""
        settings = load(f"[tool.pytest-flopsbudget]\ntolerance = {tolerance}")
        assert settings.tolerance["latency"] == LATENCY_TOLERANCE

    def test_a_tolerance_for_all_says_nothing_about_it(self):
        assert "latency" not in marker_budget((), {"tolerance": "5%"}, "marker").tolerance
        assert "latency" not in marker_budget((), {"tolerance": 0}, "marker").tolerance


class TestBudgetsFor:
    LIMITS = budget("limits", limits={"params": 1})
    A = budget("a", limits={"params": 2}, match=("tests/test_a.py::*",))
    EVERY = budget("every", limits={"params": 3}, match=("*",))
    RESNET = budget("resnet", limits={"params": 4}, match=("*::test_b[resnet*]",))

    def test_is_farthest_first(self):
        """The limits for all tests come before the budgets with patterns."""
        settings = Settings(limits=self.LIMITS, budgets=(self.EVERY, self.A, self.RESNET))
        assert settings.budgets_for("tests/test_a.py::test_x") == (self.LIMITS, self.EVERY, self.A)

    def test_brackets_are_themselves(self):
        settings = Settings(budgets=(self.RESNET,))
        assert settings.budgets_for("tests/test_a.py::test_b[resnet50]") == (self.RESNET,)
        assert settings.budgets_for("tests/test_a.py::test_br") == ()

    def test_is_empty_without_settings(self):
        assert Settings().budgets_for("tests/test_a.py::test_x") == ()


class TestMatchesPattern:
    @pytest.mark.parametrize(
        ("text", "pattern", "expected"),
        [
            ("layer4", "layer4*", True),
            ("layer4.0", "layer4*", True),
            ("layer4.0", "layer?.0", True),
            ("layer4.0", "layer4", False),
            ("a.layer4", "layer4", False),
            ("Layer4", "layer4", False),
            ("test_x[a-1]", "test_x[*-1]", True),
            ("test_xa", "test_x[a]", False),
            ("[", "[", True),
            ("]", "[]]", False),
            ("", "*", True),
        ],
    )
    def test_knows_two_wildcards(self, text, pattern, expected):
        assert matches_pattern(text, pattern) is expected

    @given(text=st.text(st.characters(exclude_characters="*?")))
    def test_every_text_matches_itself(self, text):
        assert matches_pattern(text, text)


class TestMarkerBudget:
    def test_reads_keywords(self):
        kwargs = {
            "flops": "8.2 GFLOPs",
            "params": 25_600_000,
            "modules": {"layer4": {"flops": "1.7G"}},
            "tolerance": {"params": "1%"},
        }
        assert marker_budget((), kwargs, "marker on test_x") == budget(
            "marker on test_x",
            limits={"flops": 8_200_000_000, "params": 25_600_000},
            modules={"layer4": {"flops": 1_700_000_000}},
            tolerance={"params": ONE_PERCENT},
            tolerated=("params",),
        )

    def test_may_be_bare(self):
        assert marker_budget((), {}, "marker on test_x") == budget("marker on test_x")

    def test_refuses_positions(self):
        with pytest.raises(
            UsageError, match=r"marker on test_x: limits are keywords, not '8 G', 5; .*\(flops=\"8\.2 GFLOPs\"\)"
        ):
            marker_budget(("8 G", 5), {}, "marker on test_x")

    def test_tells_every_mistake_at_once(self):
        kwargs = {"flop": 1, "match": "*", "modules": {1: {}, "a": 2}, "tolerance": None}
        with pytest.raises(UsageError) as caught:
            marker_budget((1,), kwargs, "marker on test_x")
        assert [": ".join(line.split(": ")[:2]) for line in str(caught.value).splitlines()] == [
            'marker on test_x: limits are keywords, not 1; write @pytest.mark.flops_budget(flops="8.2 GFLOPs")',
            "marker on test_x: flop",
            "marker on test_x: match",
            "marker on test_x: modules.1",
            "marker on test_x: modules.a",
            "marker on test_x: tolerance",
        ]


class TestAdvice:
    """The value that a message proposes is a dict in a marker, and an inline table in the pyproject."""

    @pytest.mark.parametrize(
        "marker",
        [
            '{"time": VALUE}',
            '{"growth": VALUE}',
            '{"flops": "8*L*d", "where": VALUE}',
            '{"modules": VALUE}',
            '{"modules": {"layer4": VALUE}}',
            '{"phases": VALUE}',
            '{"phases": {"backward": VALUE}}',
            '{"operators": VALUE}',
            '{"operators": {"aten.mm": VALUE}}',
            '{"tolerance": VALUE}',
        ],
    )
    def test_for_a_marker(self, marker):
        with pytest.raises(UsageError) as caught:
            marker_budget((), ast.literal_eval(marker.replace("VALUE", "5")), "marker on test_x")
        (advice,) = re.findall(r"(?:write |or )(\{.*\})", str(caught.value))
        marker_budget((), ast.literal_eval(marker.replace("VALUE", advice)), "marker on test_x")

    def test_for_a_share_in_a_marker(self):
        with pytest.raises(UsageError, match=r'write \{"at_most": 0\.5, "of": "teacher"\} with'):
            marker_budget((), {"flops": {"at_most": 0.5, "of": 3}}, "marker on test_x")

    def test_for_the_pyproject(self, problems):
        (line,) = problems('[tool.pytest-flopsbudget.limits]\ntime = "3 ms"')
        assert line.endswith('; write {A100 = "3 ms"}')


class TestDescribe:
    ONE = budget("one", limits={"flops": 1}, match=("*",))

    @pytest.mark.parametrize(
        ("settings", "expected"),
        [
            (Settings(), "pyproject.toml: settings, no limits"),
            (Settings(budgets=(ONE,)), "pyproject.toml: 1 budget"),
            (
                Settings(budgets=(ONE, ONE, ONE), limits=budget("all", limits={"params": 1})),
                "pyproject.toml: 3 budgets, limits on params",
            ),
            (
                Settings(limits=budget("all", limits={"params": 1, "flops": 2}, modules={"head*": {"flops": 1}})),
                "pyproject.toml: limits on params, flops, modules head*",
            ),
        ],
    )
    def test_says_what_there_is(self, settings, expected):
        """The header of a run describes the settings in one line."""
        assert describe(settings) == expected


def test_needs_neither_torch_nor_msgspec():
    import subprocess
    import sys

    modules = "{'torch', 'msgspec', 'rich', 'tomllib'}"
    code = f"import sys, pytest_flopsbudget.config.reading; print({modules} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
