import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from samples import linear, report, reported_test

from pytest_flopsbudget.errors import ReportError
from pytest_flopsbudget.results.merge import failing, fails, merge_reports
from pytest_flopsbudget.storage.report_file import dumps

OK = reported_test("a.py::ok", linear(4), linear(4), line=1)
REGRESSED = reported_test("a.py::regressed", linear(5), linear(4), line=2)
BROKEN = reported_test("b.py::broken", linear(4), linear(4), own_failure=True, line=1)
NEW = reported_test("b.py::new", linear(6), line=7)


def chosen(numbers):
    return [(OK, REGRESSED, BROKEN, NEW)[number] for number in numbers]


def joined(*reports):
    return merge_reports({f"shard-{number}.json": one for number, one in enumerate(reports)})


class TestMerged:
    @given(st.sets(st.integers(0, 3)).map(chosen), st.data())
    def test_any_partition_of_a_run_merges_to_the_whole(self, tests, data):
        shards = data.draw(st.integers(1, 4))
        places = [data.draw(st.integers(0, shards - 1)) for _ in tests]
        parts = []
        for shard in range(shards):
            own = [test for test, place in zip(tests, places, strict=True) if place == shard]
            parts.append(report(*own) if own else report(exit_status=5))
        whole = report(*tests) if tests else report(exit_status=5)
        assert dumps(joined(*data.draw(st.permutations(parts)))) == dumps(whole)

    @given(st.sets(st.integers(0, 3)).map(chosen))
    def test_merging_a_report_with_itself_changes_nothing(self, tests):
        assert joined(report(*tests), report(*tests)) == report(*tests)

    @pytest.mark.parametrize("turned", [False, True])
    def test_a_test_that_failed_in_one_shard_failed(self, turned):
        passed = report(reported_test("a.py::t", linear(5), linear(5)))
        failed = report(reported_test("a.py::t", linear(5), linear(4)))
        assert joined(*((failed, passed) if turned else (passed, failed))) == failed

    @pytest.mark.parametrize("turned", [False, True])
    def test_a_failure_of_its_own_is_kept_too(self, turned):
        shards = [report(OK), report(replace(OK, outcome="failed", own_failure=True), exit_status=1)]
        (test,) = joined(*(shards[::-1] if turned else shards)).tests
        assert test.own_failure

    def test_a_test_that_measured_nothing_in_one_shard_measured_something(self):
        vanished = replace(OK, measurements=(), vanished=("model",))
        (test,) = joined(report(vanished), report(OK)).tests
        assert test == OK

    def test_different_measurements_of_one_test_are_refused(self):
        with pytest.raises(
            ReportError, match=r"a\.py::t was measured differently in shard-0\.json and in shard-1\.json"
        ):
            joined(report(reported_test("a.py::t", linear(4))), report(reported_test("a.py::t", linear(5))))

    @pytest.mark.parametrize(
        ("field", "told"),
        [
            ({"root": "sub"}, "root is . in one and sub in the other"),
            ({"torch": "2.7.0"}, "torch is 2.6.0 in one and 2.7.0 in the other"),
            ({"update": "new"}, "update is nothing in one and new in the other"),
            ({"show": "macs"}, "show is flops in one and macs in the other"),
        ],
    )
    def test_reports_of_different_runs_are_refused(self, field, told):
        with pytest.raises(ReportError, match=told):
            joined(report(OK), report(NEW, **field))

    @pytest.mark.parametrize(
        ("statuses", "whole"), [((0, 5), 0), ((5, 5), 5), ((0, 1), 1), ((1, 2), 2), ((4, 2), 4), ((3, 4), 3)]
    )
    def test_the_exit_status_that_says_most_is_kept(self, statuses, whole):
        assert joined(*(report(exit_status=status) for status in statuses)).run.exit_status == whole

    def test_what_was_written_and_what_went_wrong_is_gathered(self):
        one = report(written=("b.json", "a.json"), errors=("x",), stopped=True)
        other = report(written=("a.json",), errors=("y", "x"))
        run = joined(one, other).run
        assert (run.written, run.errors, run.stopped) == (("a.json", "b.json"), ("x", "y"), True)


class TestFails:
    def test_a_passing_run(self):
        assert not fails(report(OK, NEW))

    def test_a_run_without_tests(self):
        assert not fails(report(exit_status=5))

    def test_a_test_that_measured_nothing_failed(self):
        """If the exit status of a run is 1, the run failed, even if no test in its report failed."""
        assert fails(report(OK, exit_status=1))

    def test_which_tests_failed(self):
        assert failing(report(OK, REGRESSED, BROKEN, NEW)) == [REGRESSED, BROKEN]
