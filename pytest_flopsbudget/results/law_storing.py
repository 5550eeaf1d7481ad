"""The laws of a measurement → the data that the measurement, its report and its baseline hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_flopsbudget.laws.algebra.comparing import self_laws
from pytest_flopsbudget.laws.algebra.terms import term_text
from pytest_flopsbudget.quantities.metrics import COMPARED, METRICS, base_of, measured_value
from pytest_flopsbudget.results.folding import fold_equal
from pytest_flopsbudget.results.law_data import LawPiece, MeasuredLaws, Sizes, StoredLaw

if TYPE_CHECKING:
    from collections.abc import Collection
    from fractions import Fraction

    from pytest_flopsbudget.laws.algebra.domains import Domain
    from pytest_flopsbudget.laws.algebra.metric_law import MetricLaw
    from pytest_flopsbudget.results.growth import Laws


def store(laws: Laws, held: Collection[str]) -> MeasuredLaws:
    """Return the laws of a measurement as data.

    Args:
        laws: the laws.
        held: the metrics that the baseline holds, without names of devices or machines.
    """
    sizes = _sizes(laws.domain)
    of_model = {metric: law for metric, law in laws.modules[""].items() if base_of(metric) in COMPARED}
    modules: dict[str, dict[str, StoredLaw]] = {}
    for metric, law in of_model.items():
        if base_of(metric) in held and law.found and METRICS[base_of(metric)].aggregation in {"sum", "distinct"}:
            for path, own in self_laws(laws.modules, metric, laws.domain).items():
                if not _is_constant(own):
                    modules.setdefault(path, {})[metric] = _stored(own, laws.domain)
    return MeasuredLaws(
        sizes=sizes,
        metrics={
            metric: _stored(
                law,
                laws.domain,
                held=base_of(metric) in held,
                counts=() if _is_constant(law) else _counts(laws, metric),
            )
            for metric, law in of_model.items()
        },
        modules=fold_equal(modules),
        counted=tuple(laws.counted),
        evidence=laws.evidence,
    )


def _stored(law: MetricLaw, domain: Domain, *, held: bool = True, counts: tuple[int | None, ...] = ()) -> StoredLaw:
    pieces = tuple(
        LawPiece(
            sizes={} if piece.domain == domain else _sizes(piece.domain),
            terms={term_text(monomial): _coefficient(value) for monomial, value in piece.expression.sorted_terms()},
        )
        for piece in law.pieces
    )
    return StoredLaw(pieces=pieces, reason=law.reason, held=held, counts=counts)


def _is_constant(law: MetricLaw) -> bool:
    return len(law.pieces) == 1 and not law.pieces[0].expression.symbols()


def _counts(laws: Laws, metric: str) -> tuple[int | None, ...]:
    values = (measured_value(one.metrics, metric) for one in laws.counted.values())
    return tuple(value if isinstance(value, int) else None for value in values)


def _coefficient(value: Fraction) -> int | str:
    return value.numerator if value.denominator == 1 else str(value)


def _sizes(domain: Domain) -> dict[str, Sizes]:
    return {
        symbol: Sizes(
            first=sizes[0],
            last=sizes[-1],
            step=sizes.step if len(sizes) > 1 else 1,
            powers_of_two=symbol in domain.powers_of_two,
        )
        for symbol, sizes in domain.ranges
    }
