"""Build measurements without running a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_flopsbudget.results.complexity import Complexity
from pytest_flopsbudget.results.data import Module

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
