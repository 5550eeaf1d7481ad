"""Decide whether a baseline entry is of another model than the measurement that now has the entry's id.

The ids of parameter sets ("test_net[config1]") are often numbered. If a set is removed from the middle of the list, all
later ids move to other models, and a comparison by id would report changes although no model changed.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from pytest_flopsbudget.quantities.metrics import identifying_metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pytest_flopsbudget.results.complexity import Complexity

#: The name of a measurement if the test gives it no name.
DEFAULT_NAME = "model"


def find_neighbours(
    tests: Mapping[str, Mapping[str, Complexity]], test_id: str, name: str
) -> Callable[[], Mapping[str, Complexity]] | None:
    """Return a function that finds baseline entries with other ids. Such an entry may be of the measurement's model.

    Args:
        tests: test id → name → entry.
        test_id: the test's id.
        name: the measurement's name.

    Returns:
        A function that returns id → entry, for the test's other parameter sets and for its measurements of other names.
            None if the test has no parameters and the measurement has no name: its id then always belongs to one model.
    """
    function, is_parametrized, _ = test_id.partition("[")
    if not is_parametrized and name == DEFAULT_NAME:
        return None

    def find() -> dict[str, Complexity]:
        found = {f"{test_id}:{other}": entry for other, entry in tests.get(test_id, {}).items() if other != name}
        for other, entries in tests.items():
            if other != test_id and other.partition("[")[0] == function and name in entries:
                found[other] = entries[name]
        return found

    return find


def is_another_model(old: Complexity, new: Complexity) -> bool:
    """Return whether two measurements are of different models.

    The models differ if their classes differ, or if a module's class, settings (``shape``) or parameters differ. Names
    of modules and the order of modules make no difference.
    """
    if old.model != new.model:
        return True
    sizes = [key for key in ("params", "param_bytes") if key in old.metrics and key in new.metrics]
    return _modules(old, sizes) != _modules(new, sizes)


def _modules(complexity: Complexity, sizes: Iterable[str]) -> Counter[tuple[object, ...]]:
    return Counter(
        (module.type, module.shape, *(module.metrics.get(key) for key in sizes))
        for module in complexity.modules.values()
    )


def ids_of_equal_cost(new: Complexity, neighbours: Mapping[str, Complexity]) -> tuple[str, ...]:
    """Return the ids of the ``neighbours`` whose model, input and cost equal those of ``new``."""
    return tuple(
        name
        for name, other in neighbours.items()
        if identifying_metrics(other.metrics) == identifying_metrics(new.metrics)
        and other.inputs == new.inputs
        and not is_another_model(other, new)
    )
