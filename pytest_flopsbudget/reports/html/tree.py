"""The module tree of a measurement as plain data, with the baseline's value of each module that changed."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from pytest_flopsbudget.quantities.metrics import base_of, devices_in, key_for, metric_of, sort_metrics
from pytest_flopsbudget.results.data import Module
from pytest_flopsbudget.results.folding import unfold
from pytest_flopsbudget.results.module_tree import build_module_tree, walk
from pytest_flopsbudget.safe_text import visible

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_flopsbudget.results.complexity import Complexity
    from pytest_flopsbudget.results.diff import Diff
    from pytest_flopsbudget.results.module_tree import ModuleGroup

_NO_MODULE = Module(type="", metrics={})


class Tree:
    """The groups of equal modules of a measurement, and how each metric of a group grew since the baseline."""

    def __init__(self, complexity: Complexity, diffs: Sequence[Diff] = ()) -> None:
        self.root = build_module_tree(complexity)
        self.groups = walk(self.root)
        #: The metrics that add up over modules, as reports sort them.
        self.keys = sort_metrics({*self.root.total_metrics, *_times(complexity)})
        #: `id` of a group → metric key → growth since the baseline.
        self.growth = self._growth(diffs)

    def before(self, group: ModuleGroup, metric: str) -> int | None:
        """Return the baseline's value of a metric, summed over the group; None if it did not change."""
        grown = self.growth.get(id(group), {}).get(metric)
        return None if grown is None else value(group, metric) - grown

    def plain(self) -> dict[str, Any]:
        """Return the tree as nested dicts, for JSON."""
        made: dict[int, dict[str, Any]] = {}
        for group in reversed(self.groups):
            grown = self.growth.get(id(group), {})
            made[id(group)] = {
                "path": visible(group.path),
                "name": visible(group.path.rpartition(".")[2] or group.module.type),
                "kind": visible(group.module.type),
                "shape": visible(group.module.shape),
                "now": {key: own for key in self.keys if (own := value(group, key))},
                "before": {key: value(group, key) - by for key, by in grown.items()},
                "below": [made.pop(id(child)) for child in group.children],
            }
        return made[id(self.root)]

    def _growth(self, diffs: Sequence[Diff]) -> Mapping[int, Mapping[str, int]]:
        above = {id(child): group for group in self.groups for child in group.children}
        group_of = {path: group for group in self.groups for path in unfold({group.path: _NO_MODULE})}
        growth: dict[int, dict[str, int]] = defaultdict(dict)
        for one in diffs:
            for change in one.modules:
                paths = [*unfold({change.path: _NO_MODULE})]
                if change.kind == "removed":
                    # Another module may have the path of the removed one now.
                    paths = [path.rpartition(".")[0] for path in paths]
                for number, path in enumerate(paths):
                    # The change of a folded row is a sum over its modules. The first module gets the remainder.
                    share, remainder = divmod(change.change, len(paths))
                    group: ModuleGroup | None = _nearest(group_of, path, self.root)
                    while group is not None:
                        own = growth[id(group)]
                        own[one.metric] = own.get(one.metric, 0) + share + (remainder if number == 0 else 0)
                        group = above.get(id(group))
        return growth


def value(group: ModuleGroup, metric: str) -> int:
    """Return the value of a metric, summed over the group. A time is the sum of its parts."""
    if base_of(metric) != "time":
        return group.total_metrics.get(metric, 0)
    device = metric.partition("[")[2].removesuffix("]")
    return sum(group.total_metrics.get(key_for(part, device), 0) for part in metric_of(metric).derived)


def _times(complexity: Complexity) -> list[str]:
    return [key_for("time", device) for device in devices_in(complexity.metrics)]


def _nearest(group_of: Mapping[str, ModuleGroup], path: str, root: ModuleGroup) -> ModuleGroup:
    while path:
        if path in group_of:
            return group_of[path]
        path = path.rpartition(".")[0]
    return root
