"""The module tree of a measurement, with equal siblings grouped, and the self and total costs of each group."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING

from pytest_flopsbudget.quantities.metrics import count_of, key_for, metric_of, value_to_add
from pytest_flopsbudget.results.data import Module
from pytest_flopsbudget.results.folding import fold, unfold, without_peaks

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from pytest_flopsbudget.results.data import ComplexityData

#: The aggregations of metrics whose values add up over the modules of a group.
ADDING = frozenset({"sum", "distinct"})


@dataclass(slots=True)
class ModuleGroup:
    """A module, or a group of equal siblings."""

    #: The folded path: "layers.{0-11}.mlp"; "" is the model itself.
    path: str
    #: One module of the group. Its metrics include the modules below it.
    module: Module
    #: The number of modules in the group.
    count: int
    #: Metric key → the sum over the group, including the modules below it.
    total_metrics: Mapping[str, int]
    #: Metric key → the sum over the group, without the modules below it.
    self_metrics: Mapping[str, int] = field(default_factory=dict)
    #: The groups directly below this group.
    children: list[ModuleGroup] = field(default_factory=list)
    #: The paths of the modules in the group.
    members: Sequence[str] = ()

    @property
    def calls(self) -> int:
        """The number of calls of all modules in the group."""
        return self.count * self.module.calls


def build_module_tree(complexity: ComplexityData) -> ModuleGroup:
    """Return the tree of a measurement. The root is the model.

    Only metrics that add up are kept. A parameter that several modules share counts in each of these modules.
    """
    modules = {"": Module(type=complexity.model, metrics=complexity.metrics), **without_peaks(complexity.modules)}
    return group_modules(modules, [key for key in complexity.metrics if metric_of(key).aggregation in ADDING])


def group_modules(modules: Mapping[str, Module], keys: Sequence[str]) -> ModuleGroup:
    """Return the root of the tree of ``modules``, which must contain the path "".

    Equal siblings are one group, which has the sums of the metrics ``keys``.
    """
    groups: dict[str, ModuleGroup] = {}
    for path, module in fold(modules).items():
        members = list(unfold({path: module}))
        total_metrics = {key: len(members) * value_to_add(module.metrics, key) for key in keys}
        group = groups[path] = ModuleGroup(path, module, len(members), total_metrics, members=members)
        if path:
            groups[path_above(path, groups)].children.append(group)
    for group in groups.values():
        below: Counter[str] = Counter()
        for child in group.children:
            below.update(child.total_metrics)
        # A parameter that two children share counts once in the parent.
        group.self_metrics = {key: max(0, value - below[key]) for key, value in group.total_metrics.items()}
    return groups[""]


def walk(root: ModuleGroup) -> list[ModuleGroup]:
    """Return all groups of a tree, parents before their children."""
    found, waiting = [], [root]
    while waiting:
        group = waiting.pop()
        found.append(group)
        waiting += reversed(group.children)
    return found


def share_of_total(part: Mapping[str, int], total: Mapping[str, int], key: str) -> Fraction | None:
    """Return the share of a part in the total of a metric; None if the share is unknown or the total is 0."""
    of_part, of_total = count_of(part, key), count_of(total, key)
    return None if of_part is None or not of_total else Fraction(of_part, of_total)


def weight(part: Mapping[str, int], total: Mapping[str, int], device: str | None) -> Fraction:
    """Return the weight of a part: its share of the estimated time on ``device``.

    Without a device, the weight is the share of FLOPs or the share of memory traffic, whichever is larger.
    """
    of_time = None if device is None else share_of_total(part, total, key_for("time", device))
    if of_time is not None:
        return of_time
    work = "total_flops" if count_of(total, "total_flops") is not None else "flops"
    shares = [share_of_total(part, total, key) for key in (work, "memory_traffic")]
    return max((one for one in shares if one is not None), default=Fraction(0))


def rank_groups(root: ModuleGroup, total: Mapping[str, int], device: str | None, maximum: int) -> list[ModuleGroup]:
    """Return the ``maximum`` groups whose self costs have the largest `weight`. Groups of weight 0 are left out."""
    weighed = [(weight(group.self_metrics, total, device), group) for group in walk(root)]
    weighed.sort(key=lambda one: -one[0])
    return [group for matters, group in weighed[:maximum] if matters]


def path_above(path: str, known: Collection[str]) -> str:
    """Return the nearest path above ``path`` that is in ``known``; "" if there is none."""
    above = path
    while above:
        above = above.rpartition(".")[0]
        if above in known:
            break
    return above
