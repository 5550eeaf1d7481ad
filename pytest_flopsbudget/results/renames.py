"""Pair removed tests with new tests of the same cost."""

from __future__ import annotations

import difflib
import itertools
from collections import defaultdict
from typing import TYPE_CHECKING

from pytest_flopsbudget.identifiers import split_nodeid
from pytest_flopsbudget.quantities.metrics import identifying_metrics

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_flopsbudget.results.complexity import Complexity


#: The maximum number of pairs of node ids whose similarity is computed.
_MAX_PAIRS = 10_000


def find_renames(
    gone: Mapping[str, Mapping[str, Complexity]], new: Mapping[str, Mapping[str, Complexity]]
) -> dict[str, str]:
    """Return the removed tests that were likely renamed: a new test has an equal cost.

    Args:
        gone: Node id → name of the measurement → cost, for removed tests.
        new: Node id → name of the measurement → cost, for tests without a baseline.

    Returns:
        Old node id → new node id. Among tests of equal cost, the tests with the most similar node ids are paired.
    """
    old_by_cost, new_by_cost = _by_cost(gone), _by_cost(new)
    renames: dict[str, str] = {}
    for cost in old_by_cost.keys() & new_by_cost.keys():
        renames |= _paired(old_by_cost[cost], new_by_cost[cost])
    return dict(sorted(renames.items()))


def _paired(old: Sequence[str], new: Sequence[str]) -> dict[str, str]:
    if len(old) * len(new) > _MAX_PAIRS:
        # There are too many tests of equal cost. Pair only tests that moved to another file and kept their name.
        moved = {split_nodeid(nodeid)[1]: nodeid for nodeid in new}
        return {nodeid: moved[test] for nodeid in old if (test := split_nodeid(nodeid)[1]) in moved}
    pairs: dict[str, str] = {}
    likest = sorted(itertools.product(old, new), key=lambda pair: (-_likeness(*pair), *pair))
    for old_nodeid, new_nodeid in likest:
        if old_nodeid not in pairs and new_nodeid not in pairs.values():
            pairs[old_nodeid] = new_nodeid
    return pairs


def _by_cost(tests: Mapping[str, Mapping[str, Complexity]]) -> dict[frozenset[tuple[object, ...]], list[str]]:
    by_cost = defaultdict(list)
    for nodeid, entries in sorted(tests.items()):
        by_cost[_cost(entries)].append(nodeid)
    return by_cost


def _cost(entries: Mapping[str, Complexity]) -> frozenset[tuple[object, ...]]:
    """Return the cost in a form that does not change if a test is renamed."""
    return frozenset(
        (name, entry.model, entry.inputs, entry.backward, identifying_metrics(entry.metrics))
        for name, entry in entries.items()
    )


def _likeness(old: str, new: str) -> float:
    (old_file, old_test), (new_file, new_test) = split_nodeid(old), split_nodeid(new)
    # A rename gives a test a new name in its file, or moves it to another file under its old name.
    test = difflib.SequenceMatcher(None, old_test, new_test, autojunk=False).ratio()
    file = difflib.SequenceMatcher(None, old_file, new_file, autojunk=False).ratio()
    return test + file
