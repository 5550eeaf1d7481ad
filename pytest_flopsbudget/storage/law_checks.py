"""Strict checks of laws in files. A damaged law is refused with its place, and never read as another one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_flopsbudget.quantities.metrics import COMPARED, base_of, is_key
from pytest_flopsbudget.results.folding import unfold_path
from pytest_flopsbudget.results.law_data import check_sizes, check_term
from pytest_flopsbudget.storage.strict_json import FaultError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_flopsbudget.results.law_data import LawPiece, MeasuredLaws, Sizes, StoredLaw
    from pytest_flopsbudget.storage.strict_json import JsonPath


def check_symbols(sizes: Mapping[str, Sizes], place: JsonPath) -> None:
    """Check the sizes that laws were asked for.

    Raises:
        FaultError: a name is no identifier, or a range is empty.
    """
    strange = next((symbol for symbol in sizes if not symbol.isidentifier()), None)
    if strange is not None:
        raise FaultError("no name of a size; write one like sequence", (*place, strange))
    reason = check_sizes(sizes, list(sizes), sizes) if sizes else "no size"
    if reason:
        raise FaultError(reason, place)


def check_metric(metric: str, place: JsonPath) -> None:
    """Check the metric of a law.

    Raises:
        FaultError: there is no such metric.
    """
    if base_of(metric) not in COMPARED or not is_key(metric):
        raise FaultError(f"no such metric; there are {', '.join(COMPARED)}", place)


def check_path(path: str, place: JsonPath) -> None:
    """Check the folded path of the modules of a law.

    Raises:
        FaultError: a segment in braces is malformed.
    """
    try:
        unfold_path(path)
    except ValueError as error:
        raise FaultError(str(error), place) from error


def check_piece(piece: LawPiece, whole: Mapping[str, Sizes], place: JsonPath) -> None:
    """Check an expression, and the sizes for which it holds.

    Args:
        piece: the expression and its sizes.
        whole: the sizes that the law was asked for.
        place: the place of the piece.

    Raises:
        FaultError: the sizes are not among ``whole``, or a term cannot be read.
    """
    reason = check_sizes(piece.sizes, list(whole), whole) if piece.sizes else ""
    if reason:
        raise FaultError(reason, (*place, "sizes"))
    for text, coefficient in piece.terms.items():
        reason = check_term(text, coefficient, whole)
        if reason:
            raise FaultError(reason, (*place, "terms", text))


def check_measured(laws: MeasuredLaws, place: JsonPath) -> None:
    """Check the laws of a measurement in a report.

    Raises:
        FaultError: a law is damaged.
    """
    check_symbols(laws.sizes, (*place, "sizes"))
    parts: dict[JsonPath, Mapping[str, StoredLaw]] = {(*place, "totals"): laws.metrics}
    for path, of_module in laws.modules.items():
        parts[(*place, "modules", path)] = of_module
        check_path(path, (*place, "modules", path))
    for above, of_part in parts.items():
        for metric, law in of_part.items():
            check_metric(metric, (*above, metric))
            for number, piece in enumerate(law.pieces):
                check_piece(piece, laws.sizes, (*above, metric, "pieces", number))
            if law.counts and len(law.counts) != len(laws.counted):
                reason = f"{len(law.counts):,} counts at {len(laws.counted):,} counted sizes"
                raise FaultError(reason, (*above, metric, "counts"))
    for number, point in enumerate(laws.counted):
        if len(point) != len(laws.sizes):
            reason = f"{len(point):,} sizes; the laws are of {', '.join(laws.sizes)}"
            raise FaultError(reason, (*place, "counted", number))
