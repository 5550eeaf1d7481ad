"""Build measurements by hand, without running a model and without PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_flopsbudget.results.complexity import Complexity, Module

if TYPE_CHECKING:
    from collections.abc import Mapping


def complexity(metrics: dict[str, int], modules: Mapping[str, Module] | None = None, **fields: Any) -> Complexity:
    """Build a measurement with these totals.

    If ``modules`` does not contain the root module "", the root gets the totals. ``fields`` sets other fields of the
    measurement; a field that is not given gets a simple default.
    """
    root = Module(type="Net", calls=1, metrics=metrics)
    simplest: dict[str, Any] = {"model": "Net", "inputs": ("float32[1]",), "execution": "shapes"}
    return Complexity(**(simplest | {"metrics": metrics, "modules": {"": root} | dict(modules or {})} | fields))


def net(flops: int = 2000, params: int = 20, modules: Mapping[str, Module] | None = None, **fields: Any) -> Complexity:
    """Build a measurement from its FLOPs and parameters."""
    return complexity({"flops": flops, "params": params}, modules, **fields)


def small(flops: int = 1, metrics: dict[str, int] | None = None, **fields: Any) -> Complexity:
    """Build a measurement whose root module has only FLOPs.

    ``metrics`` are the totals, if they differ from the root's.
    """
    root = {"": Module(type="Net", calls=1, metrics={"flops": flops})}
    return complexity(metrics or {"flops": flops}, fields.pop("modules", root), **fields)


def cumulated(values: Mapping[str, int]) -> dict[str, int]:
    """Return, for each path of a module, the sum of its own value and the values of all modules below it."""
    return {
        path: sum(value for other, value in values.items() if not path or f"{other}.".startswith(f"{path}."))
        for path in values
    }
