"""Write the JSON Schema of reports: ``cd docs && python -m report_schema``."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

import msgspec

from pytest_flopsbudget.quantities.metrics import METRICS, STORED, STORED_BY_NAME
from pytest_flopsbudget.results import report

if TYPE_CHECKING:
    from collections.abc import Iterable

PATH = Path(report.__file__).with_name("report.schema.json")

_FIELD = re.compile(r"((?:^ +#: .*\n)+) +(\w+):", re.MULTILINE)


def text() -> str:
    """Return the schema as the text of its file."""
    schema = msgspec.json.schema(report.Report)
    for struct in _structs(report.Report):
        definition = schema["$defs"][struct.__name__]
        definition["description"] = inspect.cleandoc(struct.__doc__ or "")
        encoded = {field.name: field.encode_name for field in msgspec.structs.fields(struct)}
        for name, words in _descriptions(struct).items():
            # Next to a $ref too: since draft 2019-09, keywords next to a $ref apply.
            definition["properties"][encoded[name]]["description"] = words
    # msgspec 0.23 adds the names of the phases, and earlier versions do not.
    schema["$defs"]["Complexity"]["properties"]["phases"].pop("propertyNames", None)
    schema["$defs"]["Report"]["required"].insert(0, "format")
    _name_metrics(schema)
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Report of pytest-flopsbudget",
        "description": "What --flops-budget-json writes, and what accept, merge and diff read.",
    }
    return json.dumps(head | schema, indent=2, ensure_ascii=False) + "\n"


def _structs(kind: Any) -> list[type[msgspec.Struct]]:
    """Return all structs that a type contains, each struct once."""
    found: dict[type[msgspec.Struct], None] = {}
    waiting = [kind]
    while waiting:
        one = waiting.pop()
        if isinstance(one, type) and issubclass(one, msgspec.Struct):
            if one not in found:
                found[one] = None
                waiting += get_type_hints(one, include_extras=True).values()
        else:
            waiting += get_args(one)
    return list(found)


def _descriptions(struct: type[msgspec.Struct]) -> dict[str, str]:
    """Return {field: the comment above it} for a struct and its base classes."""
    found = {}
    for one in reversed(struct.__mro__):
        if issubclass(one, msgspec.Struct) and one is not msgspec.Struct:
            for comment, name in _FIELD.findall(inspect.getsource(one)):
                found[name] = " ".join(line.strip().removeprefix("#: ") for line in comment.splitlines())
    return found


def _keys(plain: Iterable[str], by_name: Iterable[str]) -> dict[str, Any]:
    """Return a schema for the keys of metrics. The key of a metric in ``by_name`` ends with a name in brackets."""
    return {"anyOf": [{"enum": list(plain)}, {"pattern": rf"^({'|'.join(by_name)})\[[^\]]+\]$"}]}


_ANY = _keys(
    (key for key, metric in METRICS.items() if metric.per != "device"),
    (key for key, metric in METRICS.items() if metric.per is not None),
)


def _name_metrics(schema: dict[str, Any]) -> None:
    """Restrict the names of metrics in the schema to existing metrics."""
    for definition in schema["$defs"].values():
        properties = definition.get("properties", {})
        if "metrics" in properties:
            properties["metrics"]["propertyNames"] = _keys(STORED, STORED_BY_NAME)
        if "limits" in properties:
            properties["limits"]["propertyNames"] = _ANY
            properties["module_limits"]["additionalProperties"]["propertyNames"] = _ANY
            properties["phase_limits"]["additionalProperties"]["propertyNames"] = _ANY
            properties["operator_limits"]["additionalProperties"]["propertyNames"] = _ANY
        if "metric" in properties:
            properties["metric"] |= _ANY
        if "show" in properties:
            properties["show"] |= _ANY


if __name__ == "__main__":
    PATH.write_text(text(), encoding="utf-8")
