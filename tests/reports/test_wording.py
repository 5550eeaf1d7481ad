import pytest

from pytest_flopsbudget import safe_text
from pytest_flopsbudget.identifiers import update_command
from pytest_flopsbudget.reports import wording


def test_with_signs():
    """``->`` becomes an arrow, and an x between digits becomes a multiplication sign."""
    assert safe_text.use_signs("Conv2d 3->4, 3x3x1 of 0x, x3 and xx") == "Conv2d 3→4, 3×3×1 of 0x, x3 and xx"  # noqa: RUF001


@pytest.mark.parametrize(
    ("value", "metric", "shown"),
    [
        (8_178_368_512, "flops", "8.178 GFLOPs"),
        (25_557_032, "params", "25.56 M params"),
        (4096, "param_bytes", "4 KiB"),
    ],
)
def test_amount(value, metric, shown):
    assert wording.format_amount(value, metric) == shown


def test_from_to():
    assert wording.format_change(1000, 1500, "flops") == "1 kFLOPs -> 1.5 kFLOPs, +500 FLOPs (+50.0%)"


def test_update_command():
    """If a node id has a blank, the command quotes it for a shell."""
    assert update_command() == "pytest --flops-budget-update"
    assert update_command("t.py::test[a b]") == "pytest --flops-budget-update 't.py::test[a b]'"


def test_counted():
    assert [safe_text.pluralize(number, "test") for number in (0, 1, 1234)] == ["0 tests", "1 test", "1,234 tests"]


@pytest.mark.parametrize(
    "command",
    ["pytest --flops-budget-update 't.py::a[1x3->2]'", "flopsbudget accept r.json 't.py::a[1x3]'"],
)
def test_commands_can_be_typed(command):
    shown = safe_text.use_signs(f"3x3 -> 5; to accept: {command}\n3x3")
    assert shown == f"3\u00d73 \u2192 5; to accept: {command}\n3\u00d73"
