"""Where the work of a measurement is done: the tree of modules, equal siblings together, and what each does itself."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING

from pytest_flopsbudget.quantities.metrics import count_of, key_for, metric_of
from pytest_flopsbudget.results.complexity import Module
from pytest_flopsbudget.results.folding import fold, unfold, without_peaks

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_flopsbudget.results.complexity import Complexity


@dataclass(slots=True)
class ModuleGroup:
    """A module, or equal siblings that are told of as one."""

    #: As `fold` writes it: "layers.{0-11}.mlp"; "" is the model itself.
    path: str
    #: Each of them; its metrics hold everything below it too.
    module: Module
    #: How many they are.
    count: int
    #: Metric key → what all of them do, with what is below them; of parameters, what they hold.
    total_metrics: Mapping[str, int]
    #: The same without what is below them.
    self_metrics: Mapping[str, int] = field(default_factory=dict)
    #: What is directly below.
    children: list[ModuleGroup] = field(default_factory=list)

    @property
    def calls(self) -> int:
        """How often any of them was called."""
        return self.count * self.module.calls


def build_module_tree(complexity: Complexity) -> ModuleGroup:
    """The model, with what is below it.

    What is kept is what adds up: sums of work, and what modules hold. Of a parameter that several modules hold each has
    it in its own share.
    """
    modules = {"": Module(type=complexity.model, metrics=complexity.metrics), **without_peaks(complexity.modules)}
    keys = [key for key in complexity.metrics if metric_of(key).aggregation in {"sum", "distinct"}]
    groups: dict[str, ModuleGroup] = {}
    for path, module in fold(modules).items():
        count = len(unfold({path: module}))
        total_metrics = {key: count * module.metrics.get(key, 0) for key in keys}
        group = groups[path] = ModuleGroup(path, module, count, total_metrics)
        if path:
            groups[_above(path, groups)].children.append(group)
    for group in groups.values():
        below: Counter[str] = Counter()
        for child in group.children:
            below.update(child.total_metrics)
        # A parameter that two modules share is below what is above them once.
        group.self_metrics = {key: max(0, value - below[key]) for key, value in group.total_metrics.items()}
    return groups[""]


def walk(root: ModuleGroup) -> list[ModuleGroup]:
    """All places of a tree, a module before what is below it."""
    found, waiting = [], [root]
    while waiting:
        group = waiting.pop()
        found.append(group)
        waiting += reversed(group.children)
    return found


def share_of_total(part: Mapping[str, int], total: Mapping[str, int], key: str) -> Fraction | None:
    """How much of the ``total`` of metric ``key`` a part has; None where that is unknown, or there is none of it."""
    of_part, of_total = count_of(part, key), count_of(total, key)
    return None if of_part is None or not of_total else Fraction(of_part, of_total)


def weight(part: Mapping[str, int], total: Mapping[str, int], device: str | None) -> Fraction:
    """How much a part matters: its share of the least time on ``device``.

    Without one it is the larger of its shares of FLOPs and of bytes, since either may be what bounds the model.
    """
    of_time = None if device is None else share_of_total(part, total, key_for("time", device))
    if of_time is not None:
        return of_time
    work = "total_flops" if count_of(total, "total_flops") is not None else "flops"
    shares = [share_of_total(part, total, key) for key in (work, "memory_traffic")]
    return max((one for one in shares if one is not None), default=Fraction(0))


def rank_groups(root: ModuleGroup, total: Mapping[str, int], device: str | None, maximum: int) -> list[ModuleGroup]:
    """The places that matter most by what they do themselves, at most so many of them; of equals, the first."""
    weighed = [(weight(group.self_metrics, total, device), group) for group in walk(root)]
    weighed.sort(key=lambda one: -one[0])
    return [group for matters, group in weighed[:maximum] if matters]


def _above(path: str, groups: Mapping[str, ModuleGroup]) -> str:
    """The nearest place above ``path`` that is there."""
    above = path
    while above:
        above = above.rpartition(".")[0]
        if above in groups:
            break
    return above
