"""The result of a measurement, `Complexity`: its data, and the ways to print and convert them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

import msgspec

from pytest_flopsbudget.results.call_arguments import WIDTH, check_whole_number
from pytest_flopsbudget.results.data import ComplexityData
from pytest_flopsbudget.results.module_table import MAX_ROWS, module_table, one_line
from pytest_flopsbudget.results.table_html import to_html
from pytest_flopsbudget.results.table_text import can_print_signs, lay_out, printed_width, shorten
from pytest_flopsbudget.safe_text import visible

if TYPE_CHECKING:
    from collections.abc import Sequence

#: The maximum width of the model's name in a ``repr``.
_MAX_NAME = 60


class Complexity(ComplexityData, frozen=True, kw_only=True):
    """The costs of one run of a model. Plain data: needs neither torch nor pytest. ``print`` shows it as a table."""

    def table(self, *, depth: int | None = None, metrics: Sequence[str] | None = None, width: int | None = None) -> str:
        """Return the modules as a table: a row for each module, and one row for equal siblings together.

        A row of several modules ("{0-11}", "Block x12") has their sums. Below the table are the totals, the operators
        that could not be counted, the modules that were never called, and the notes.

        Args:
            depth: the number of levels below the model; None for all levels.
            metrics: the keys of the metrics to show, such as "macs" or "time[A100]"; None for FLOPs, params and
                memory traffic.
            width: the maximum number of characters in a line; None for no maximum. In a narrow table, names are
                shortened in the middle, and columns are left out.

        Raises:
            UsageError: there is no such metric, it was not measured, or an argument has a type or value that is not
                allowed.
        """
        check_whole_number("width", width, WIDTH, least=1)
        return "\n".join(lay_out(module_table(self, metrics, depth), width, signs=can_print_signs()))

    def to_dict(self) -> dict[str, Any]:
        """Return the data as dicts, lists, texts and numbers, with the keys that reports use."""
        # A tuple becomes a list, as in the JSON of a report.
        return cast("dict[str, Any]", json.loads(self.to_json()))

    def to_json(self, *, indent: int | None = None) -> str:
        """Return the data of `to_dict` as JSON.

        Args:
            indent: the number of blanks for each level; None for one line.

        Raises:
            UsageError: ``indent`` is neither None nor a whole number of at least 0.
        """
        check_whole_number("indent", indent, "the number of blanks for each level")
        return json.dumps(msgspec.to_builtins(self), indent=indent)

    def to_pandas(self) -> Any:
        """Return a ``pandas.DataFrame`` with one row for each module; the index is the path.

        The columns are "type", "shape", "outputs", "calls", and the stored metrics. Metrics of a module include all
        modules below it.

        Raises:
            ImportError: pandas is not installed.
        """
        try:
            import pandas as pd  # noqa: PLC0415 -- only this method needs it
        except ImportError as error:
            raise ImportError("to_pandas() needs pandas, which is not installed: pip install pandas") from error
        rows = [
            {
                "type": module.type,
                "shape": module.shape,
                "outputs": ", ".join(module.outputs),
                "calls": module.calls,
                **module.metrics,
            }
            for module in self.modules.values()
        ]
        return pd.DataFrame(rows, index=pd.Index(list(self.modules), name="module"))

    def __str__(self) -> str:
        table = module_table(self, None, None, MAX_ROWS)
        return "\n".join(lay_out(table, printed_width(), signs=can_print_signs()))

    def __repr__(self) -> str:
        name = shorten(visible(self.model), _MAX_NAME, signs=False)
        return f"<Complexity of {name}: {one_line(self)}>"

    def _repr_html_(self) -> str:
        return to_html(module_table(self, None, None, MAX_ROWS))
