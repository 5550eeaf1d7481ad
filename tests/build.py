"""Build measurements without running a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_flopsbudget.results.complexity import Complexity
from pytest_flopsbudget.results.data import Module
from pytest_flopsbudget.results.law_data import LawPiece, MeasuredLaws, Sizes, StoredLaw

if TYPE_CHECKING:
    from collections.abc import Mapping


def complexity(metrics: dict[str, int], modules: Mapping[str, Module] | None = None, **fields: Any) -> Complexity:
    """Build a measurement whose totals are ``metrics``. By default, it has only the root module."""
    root = Module(type="Net", calls=1, metrics=metrics)
    simplest: dict[str, Any] = {"model": "Net", "inputs": ("float32[1]",), "execution": "shapes"}
    return Complexity(**(simplest | {"metrics": metrics, "modules": {"": root} | dict(modules or {})} | fields))


def net(flops: int = 2000, params: int = 20, modules: Mapping[str, Module] | None = None, **fields: Any) -> Complexity:
    return complexity({"flops": flops, "params": params}, modules, **fields)


def small(flops: int = 1, metrics: dict[str, int] | None = None, **fields: Any) -> Complexity:
    """Build a measurement whose root module has only FLOPs. Its totals are ``metrics``, if given."""
    root = {"": Module(type="Net", calls=1, metrics={"flops": flops})}
    return complexity(metrics or {"flops": flops}, fields.pop("modules", root), **fields)


def cumulated(values: Mapping[str, int]) -> dict[str, int]:
    """Return {path of a module: sum of the values of the module and of all modules below it}."""
    return {
        path: sum(value for other, value in values.items() if not path or f"{other}.".startswith(f"{path}."))
        for path in values
    }


def laws(
    sizes: Mapping[str, range],
    metrics: Mapping[str, Mapping[str, int | str] | tuple[LawPiece, ...]],
    modules: Mapping[str, Mapping[str, Mapping[str, int | str]]] | None = None,
    **fields: Any,
) -> MeasuredLaws:
    """Build laws: ``laws({"n": range(1, 9)}, {"flops": {"n^2": 4}})``. The terms of a law may be a tuple of pieces."""

    def law(terms: Mapping[str, int | str] | tuple[LawPiece, ...]) -> StoredLaw:
        return StoredLaw(pieces=terms if isinstance(terms, tuple) else (LawPiece(terms=dict(terms)),))

    return MeasuredLaws(
        sizes={symbol: sizes_of(one) for symbol, one in sizes.items()},
        metrics={metric: law(terms) for metric, terms in metrics.items()},
        modules={path: {key: law(one) for key, one in own.items()} for path, own in (modules or {}).items()},
        **fields,
    )


def sizes_of(one: range) -> Sizes:
    return Sizes(first=one[0], last=one[-1], step=one.step)
