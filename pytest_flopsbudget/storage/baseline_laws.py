"""The lines of laws in a baseline file: written, read, and checked strictly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from pytest_flopsbudget.results.law_data import (
    Coefficient,
    LawPiece,
    MeasuredLaws,
    Sizes,
    StoredLaw,
    to_domain,
)
from pytest_flopsbudget.storage.law_checks import check_metric, check_path, check_piece, check_symbols
from pytest_flopsbudget.storage.strict_json import FaultError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pytest_flopsbudget.laws.algebra.domains import Domain


class Title(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """The fields at the end of every line. A line with only these fields is the first line of an entry."""

    test: str
    name: str


class SizesLine(Title):
    """The line with the sizes for which the laws of an entry hold."""

    sizes: dict[str, Sizes]


class LawLine(Title):
    """A line with the law of one metric, or with a part of the law that holds for some sizes."""

    law: str
    terms: dict[str, Coefficient]
    #: The folded path of the modules; None for the law of the model.
    module: str | None = None
    sizes: dict[str, Sizes] = {}

    @property
    def piece(self) -> LawPiece:
        """The expression, and the sizes for which it holds."""
        return LawPiece(sizes=self.sizes, terms=self.terms)

    @property
    def subject(self) -> tuple[str, str | None]:
        """The metric and the modules."""
        return self.law, self.module

    @property
    def place(self) -> object:
        """The metric, the modules and the sizes. Two lines with equal places contradict each other."""
        return *self.subject, msgspec.json.encode(self.sizes)


def write_laws(laws: MeasuredLaws) -> Iterator[dict[str, Any]]:
    """Yield the lines of the laws of one entry, without the fields of `Title`."""
    yield {"sizes": msgspec.to_builtins(laws.sizes)}
    for metric, law in laws.metrics.items():
        yield from _lines({"law": metric}, law)
    for path, of_module in laws.modules.items():
        for metric, law in of_module.items():
            yield from _lines({"law": metric, "module": path}, law)


def _lines(head: Mapping[str, Any], law: StoredLaw) -> Iterator[dict[str, Any]]:
    for piece in law.pieces:
        yield {**head, **msgspec.to_builtins(piece)}


def read_laws(sizes: SizesLine | None, lines: Iterable[LawLine]) -> MeasuredLaws | None:
    """Return the laws of one entry, from checked lines."""
    if sizes is None:
        return None
    pieces: dict[tuple[str, str | None], list[LawPiece]] = {}
    for line in lines:
        pieces.setdefault(line.subject, []).append(line.piece)
    metrics: dict[str, StoredLaw] = {}
    modules: dict[str, dict[str, StoredLaw]] = {}
    for (metric, module), found in pieces.items():
        of_part = metrics if module is None else modules.setdefault(module, {})
        of_part[metric] = StoredLaw(pieces=tuple(found))
    return MeasuredLaws(sizes=sizes.sizes, metrics=metrics, modules=modules)


def check_laws(
    sizes: Sequence[tuple[int, SizesLine]], laws: Sequence[tuple[int, LawLine]], remedy: str
) -> Iterator[tuple[tuple[str, str], FaultError]]:
    """Check the lines of laws of a whole file.

    Args:
        sizes: (number of the line, line) for the lines with sizes.
        laws: (number of the line, line) for the lines with laws.
        remedy: what to do about a torn entry.

    Yields:
        The test and the name of a torn entry, in which two laws hold for the same size, and its fault.

    Raises:
        FaultError: a line has content that is not allowed.
    """
    asked: dict[tuple[str, str], dict[str, Sizes]] = {}
    for number, line in sizes:
        check_symbols(line.sizes, ("lines", number, "sizes"))
        asked[line.test, line.name] = line.sizes
    parts: dict[object, list[tuple[int, LawLine]]] = {}
    for number, law in laws:
        whole = asked.get((law.test, law.name))
        if whole is not None:
            check_metric(law.law, ("lines", number, "law"))
            check_path(law.module or "", ("lines", number, "module"))
            check_piece(law.piece, whole, ("lines", number))
            known = parts.setdefault((law.test, law.name, *law.subject), [])
            known.append((number, law))
    for lines in parts.values():
        yield from _overlapping(lines, asked, remedy)


def _overlapping(
    lines: Sequence[tuple[int, LawLine]], asked: Mapping[tuple[str, str], Mapping[str, Sizes]], remedy: str
) -> Iterator[tuple[tuple[str, str], FaultError]]:
    domains: list[tuple[int, Domain, LawLine]] = []
    for number, line in lines:
        key = line.test, line.name
        domain = to_domain(line.sizes or asked[key])
        for other, earlier, before in domains:
            if before != line and domain.common(earlier) is not None:
                reason = "another line has a law for the same sizes; a merge kept both sides"
                yield key, FaultError(reason, ("lines", number), other=("lines", other), remedy=remedy)
        domains.append((number, domain, line))
