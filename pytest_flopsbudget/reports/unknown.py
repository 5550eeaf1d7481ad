"""Describe operators that no formula covers, and how to register a formula."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_flopsbudget.results.module_table import unknown_operator_lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pytest_flopsbudget.results.complexity import Complexity


#: Names among the unknown operators that are no operators. No formula can be registered for them.
_NO_OPERATORS = ("higher_order.", "threading.")


def unknown_operators(complexity: Complexity) -> Iterator[str]:
    """Yield one line for each operator that no formula covers."""
    for line in unknown_operator_lines(complexity):
        yield f"    {line}"


def formula_hint(complexities: Iterable[Complexity]) -> Iterator[str]:
    """Yield lines on how to register a formula for the first unknown operator that can have a formula."""
    names = (name for complexity in complexities for name in complexity.unknown_operators)
    name = next((name for name in names if not name.startswith(_NO_OPERATORS)), None)
    if name is None:
        return
    namespace, _, own = name.partition(".")
    yield "to count it, or to declare it free with 0, in conftest.py:"
    yield "    from pytest_flopsbudget import flops_formula"
    yield ""
    yield f'    @flops_formula("{namespace}::{own}")'
    yield f"    def {own}(call):"
    yield "        return 2 * call.first_output.numel()  # FLOPs, 2 per multiply-accumulate"
