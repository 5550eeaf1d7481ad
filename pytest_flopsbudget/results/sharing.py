"""Let equal parts of many measurements be one object, to save memory.

The tests of one file often measure similar models. Most of their modules, operators and phases are then equal, and a
thousand measurements have a few thousand different ones.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TypeVar

from msgspec.structs import replace

if TYPE_CHECKING:
    from collections.abc import Hashable

    from pytest_flopsbudget.results.complexity import Complexity
    from pytest_flopsbudget.results.data import Module, Operator, Phase

_Part = TypeVar("_Part", "Module", "Operator", "Phase")


class SharedParts:
    """The modules, operators and phases of all measurements that were passed to `share`.

    Measurements that share parts may be read and compared, but their dicts of metrics must not be changed.
    """

    def __init__(self) -> None:
        self._modules: dict[Hashable, Module] = {}
        self._operators: dict[Hashable, Operator] = {}
        self._phases: dict[Hashable, Phase] = {}

    def share(self, complexity: Complexity) -> Complexity:
        """Return an equal measurement. A part that equals a part of an earlier measurement is the same object."""
        return replace(
            complexity,
            modules={
                sys.intern(path): _shared(
                    self._modules, module, module.type, module.shape, module.calls, module.outputs
                )
                for path, module in complexity.modules.items()
            },
            operators={
                sys.intern(name): _shared(self._operators, operator, operator.calls)
                for name, operator in complexity.operators.items()
            },
            phases={name: _shared(self._phases, phase) for name, phase in complexity.phases.items()},
        )


def _shared(known: dict[Hashable, _Part], part: _Part, *fields: object) -> _Part:
    """Return the part in ``known`` that equals ``part``. If there is none, add ``part``.

    ``fields`` are the fields of ``part`` besides its metrics. The order of metrics is compared too.
    """
    return known.setdefault((*fields, *part.metrics, *part.metrics.values()), part)
