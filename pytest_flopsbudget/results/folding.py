"""Fold equal siblings into one line, ``layers.{0-125}.mlp`` instead of 126 paths, and unfold them again.

Siblings share one segment in braces if their names are numbers, as in a ``Sequential``, and their whole subtrees are
equal: ``{0-125}``, ``{0-4,6-125}``, ``{1,3}``. If a name itself begins with a brace or a
backslash, a backslash is put before it, so no path is ambiguous.
"""

from __future__ import annotations

import functools
import itertools
import math
import re
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from msgspec.structs import replace

from pytest_flopsbudget.quantities.metrics import METRICS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence

    from pytest_flopsbudget.results.data import Module

_T = TypeVar("_T")

#: A number as Python writes it: "01" is not the number 1. No list is so long that it needs more than 18 digits.
_NUMBER = re.compile(r"0|[1-9][0-9]{0,17}")
_DIGITS = re.compile(r"([0-9]+)")
#: The maximum number of paths. A typing error in a range must not fill the memory. The largest models have about ten
#: thousand modules.
_MAX_MODULES = 1_000_000


class _Node:
    """A node of the tree: a module (or its value), or a path that has children but no module."""

    __slots__ = ("children", "identity", "module", "rows")

    def __init__(self) -> None:
        self.module: Any = None
        self.children: dict[str, _Node] = {}
        #: The children as they are written: (segment, one of the equal children).
        self.rows: Sequence[tuple[str, _Node]] = ()
        #: A number that is equal for equal subtrees.
        self.identity = -1


def fold(modules: Mapping[str, Module]) -> dict[str, Module]:
    """Write equal siblings that are named by numbers as one entry.

    Args:
        modules: Path → module, in any order.

    Returns:
        Folded path → one of the equal modules at these paths, in natural order of the paths.
    """
    return _fold(modules, _content)


def fold_equal(values: Mapping[str, _T]) -> dict[str, _T]:
    """Write equal siblings that are named by numbers as one entry, like `fold`, for any values that JSON can hold."""
    return _fold(values, msgspec.json.encode)


def _fold(modules: Mapping[str, _T], content: Callable[[_T], object]) -> dict[str, _T]:
    nodes, _ = _tree(modules)
    _identify(nodes, {}, content)
    folded: dict[str, _T] = {}
    root = nodes[0]
    stack = [("", root)]
    while stack:
        path, node = stack.pop()
        if node.module is not None:
            folded[path] = node.module
        # The path of a node below the root may be empty too: ".x" is a module "x" below a module without a name.
        stack.extend(
            (segment if node is root else f"{path}.{segment}", child) for segment, child in reversed(node.rows)
        )
    return folded


_OF_A_RUN = frozenset(key for key, metric in METRICS.items() if metric.aggregation in {"peak", "whole"})
_NOT_IN_BASELINES = _OF_A_RUN | {key for key, metric in METRICS.items() if not metric.in_baselines}


def without_peaks(modules: dict[str, Module]) -> dict[str, Module]:
    """Return the modules without the metrics that depend on the rest of the run, and without their output shapes.

    A peak depends on the rest of the run: in a training step, each layer adds the tensors that it keeps for the
    backward pass. So equal siblings have different peaks. Metrics that only the root module has are left out as well.
    Output shapes are left out because baselines do not store them.
    """
    return _without(_OF_A_RUN, modules)


def for_baselines(modules: dict[str, Module]) -> dict[str, Module]:
    """Return the modules as a baseline stores them: like `without_peaks`, and without metrics that baselines leave out.

    See `Metric.in_baselines`.
    """
    return _without(_NOT_IN_BASELINES, modules)


def _without(keys: frozenset[str], modules: dict[str, Module]) -> dict[str, Module]:
    """Return the modules without these metrics, and without their output shapes."""
    if not any(module.outputs or keys & module.metrics.keys() for module in modules.values()):
        return modules
    return {
        path: replace(
            module,
            metrics={key: value for key, value in module.metrics.items() if key not in keys},
            outputs=(),
        )
        for path, module in modules.items()
    }


def unfold(folded: Mapping[str, Module]) -> dict[str, Module]:
    """Undo :func:`fold`.

    Returns:
        Path → module, in natural order of the paths.

    Raises:
        ValueError: a segment in braces is malformed, two entries name the same path, or there are more than a million
            paths.
    """
    modules: dict[str, Module] = {}
    count = 0
    for pattern, module in folded.items():
        choices = [_read_segment(segment) for segment in pattern.split(".")]
        count += math.prod(map(len, choices))
        if count > _MAX_MODULES:
            raise ValueError(f"{pattern!r} brings the modules to more than {_MAX_MODULES:,}")
        for names in itertools.product(*choices):
            path = ".".join(names)
            if path in modules:
                raise ValueError(f"{pattern!r} names {path!r}, which another entry names too")
            modules[path] = module
    return {path: modules[path] for path in sorted(modules, key=natural_key)}


def unfold_path(folded: str) -> list[str]:
    """Return the paths that a folded path covers: "layers.{0-1}.mlp" gives "layers.0.mlp" and "layers.1.mlp".

    Raises:
        ValueError: a segment in braces is malformed, or there are more than a million paths.
    """
    choices = [_read_segment(segment) for segment in folded.split(".")]
    if math.prod(map(len, choices)) > _MAX_MODULES:
        raise ValueError(f"{folded!r} stands for more than {_MAX_MODULES:,} modules")
    return [".".join(names) for names in itertools.product(*choices)]


def first_path(folded: str) -> str:
    """Return the first path that a folded path covers: "layers.{0-1}.mlp" gives "layers.0.mlp".

    Raises:
        ValueError: a segment in braces is malformed.
    """
    return ".".join(_read_segment(segment)[0] for segment in folded.split("."))


def natural_key(path: str) -> tuple[object, ...]:
    """Return a sort key that puts ``layers.2`` before ``layers.10``, and a module before the modules below it."""
    return tuple(map(_segment_key, path.split(".")))


def is_number(name: str) -> bool:
    """Return whether the name is a number. Siblings whose names are numbers may share a segment."""
    return _NUMBER.fullmatch(name) is not None


def write_segment(names: Sequence[str]) -> str:
    """Write one name, or several ascending numbers, as a segment of a folded path: "conv1", "7", "{0-4,6}"."""
    if len(names) == 1:
        return f"\\{names[0]}" if names[0].startswith(("{", "\\")) else names[0]
    return f"{{{','.join(_runs(map(int, names)))}}}"


def identities(modules: Mapping[str, Module], known: MutableMapping[object, int]) -> dict[str, int]:
    """Give each subtree a number. Equal subtrees get equal numbers.

    Args:
        modules: Path → module.
        known: The numbers given so far. Trees that are numbered with the same mapping can be compared.

    Returns:
        Path → the number of the subtree at this path.
    """
    nodes, places = _tree(modules)
    _identify(nodes, known, _content)
    return {path: node.identity for path, node in places.items()}


def _tree(modules: Mapping[str, Any]) -> tuple[list[_Node], dict[str, _Node]]:
    """Return all nodes, parents before children, and path → node for the paths of ``modules``."""
    root = _Node()
    nodes = [root]
    places = {}
    for path, module in modules.items():
        node = root
        for name in path.split(".") if path else ():
            child = node.children.get(name)
            if child is None:
                child = node.children[name] = _Node()
                nodes.append(child)
            node = child
        node.module = module
        places[path] = node
    return nodes, places


def _identify(nodes: Sequence[_Node], known: MutableMapping[object, int], content: Callable[[Any], object]) -> None:
    """Set ``rows`` and ``identity`` of all nodes. ``known`` has the numbers that subtrees have so far."""
    for node in reversed(nodes):
        below: tuple[object, ...] = ()
        if node.children:
            node.rows = _rows(node.children)
            below = tuple((segment, child.identity) for segment, child in node.rows)
        node.identity = known.setdefault((node.module and content(node.module), below), len(known))


def _rows(children: Mapping[str, _Node]) -> list[tuple[str, _Node]]:
    groups: dict[int | str, list[str]] = {}
    for name in sorted(children, key=_segment_key):
        groups.setdefault(children[name].identity if is_number(name) else name, []).append(name)
    return [(write_segment(names), children[names[0]]) for names in groups.values()]


def _content(module: Module) -> object:
    return module.type, module.shape, module.calls, module.outputs, tuple(sorted(module.metrics.items()))


@functools.lru_cache(maxsize=4096)
def _segment_key(name: str) -> tuple[object, str]:
    parts: list[object] = list(_DIGITS.split(name))
    # Digits are compared by length first, because int() refuses thousands of digits.
    parts[1::2] = [(len(digits), digits) for digits in (str(part).lstrip("0") for part in parts[1::2])]
    return tuple(parts), name


def _runs(numbers: Iterable[int]) -> list[str]:
    """Write ascending numbers as ranges: 0, 1, 2, 5 → "0-2", "5"."""
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return [f"{first}-{last}" if last > first else f"{first}" for first, last in runs]


def _read_segment(written: str) -> Sequence[str]:
    """Return the names that one segment of a folded path covers."""
    if written.startswith("\\"):
        return (written[1:],)
    if not written.startswith("{"):
        return (written,)
    ranges = [_range(part) for part in written[1:-1].split(",")] if written.endswith("}") else []
    rising = all(left and right and left[-1] < right[0] for left, right in itertools.pairwise(ranges))
    if not ranges or not all(ranges) or not rising:
        raise ValueError(f"{written!r} is no list of rising numbers such as {{0-4,6}}")
    if sum(map(len, ranges)) > _MAX_MODULES:
        raise ValueError(f"{written!r} stands for more than {_MAX_MODULES:,} modules")
    return [str(number) for numbers in ranges for number in numbers]


def _range(written: str) -> range:
    """Read a range such as "3" or "0-4". For any other text, return an empty range."""
    first, dash, last = written.partition("-")
    if not is_number(first) or (dash and not is_number(last)):
        return range(0)
    return range(int(first), int(last if dash else first) + 1)
