"""Search the law of one value: a polynomial, pieces, steps, or n log n. Each answer is exact, or there is none."""

from __future__ import annotations

from math import lcm
from typing import TYPE_CHECKING

from pytest_flopsbudget.laws.algebra.domains import Domain
from pytest_flopsbudget.laws.algebra.metric_law import Piece, merged
from pytest_flopsbudget.laws.algebra.terms import Atom, Expression, atom_expression, constant, quotient
from pytest_flopsbudget.laws.counts import CALLS, Key, TooManyCountsError
from pytest_flopsbudget.laws.fits import Fit, Fitter, NoValueError, powers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from pytest_flopsbudget.laws.algebra.domains import Point
    from pytest_flopsbudget.laws.counts import Counts
    from pytest_flopsbudget.laws.fits import Refutation

_MOST_PIECES = 6
_MOST_PROGRAMS = 3
_SEVERAL = 2
#: A piece between two others has more sizes than this.
_FEWEST_INNER = 3
#: If two pieces in a row are equally long, and this many more of them would fit, the law has steps.
_REPEATS = 4
_MOST_PERIODS = 24
_MOST_RESIDUES = 64
#: With so few remainders, a polynomial for each of them may be shorter than one expression with rounded quotients.
_FEW_RESIDUES = 4
_MOST_FEATURES = 40
#: Neighbouring sizes that are counted to find a period that no setting of the model explains.
_SIZES_OF_PERIODS = 144
_FLOPS = Key("module", "", "flops")
#: A range needs at least this many sizes for each unknown coefficient, so that a long sum does not fit by chance.
_SIZES_OF_A_FEATURE = 3
#: Each remainder needs at least this many sizes: two determine a line, and the others check it.
_SIZES_OF_A_RESIDUE = 4


class Search:
    """Searches the law of one value of the counts. The counts are shared by all searches."""

    def __init__(self, counts: Counts, key: Key, domain: Domain, degree: int) -> None:
        self._fitter = Fitter(counts, key, degree)
        self._counts, self._key, self._domain = counts, key, domain
        #: Distances between places where the law changes, which may be periods.
        self._distances: list[int] = []
        self._refuted: tuple[Refutation, ...] = ()
        #: How often the domain was split where the program changes.
        self._depth = 0
        self._degree = degree

    def run(self) -> tuple[tuple[Piece, ...], str]:
        """Return the pieces of the law and "", or no pieces and the reason why no law was found."""
        try:
            pieces = self._any(self._domain)
        except TooManyCountsError:
            return (), f"{self._no_law()}; more than {self._counts.largest:,} counts would be needed"
        except NoValueError:
            return (), "no law: the module does not exist at every size"
        return (merged(pieces, self._domain.symbols), "") if pieces else ((), self._no_law())

    def _no_law(self) -> str:
        text = f"no law of degree <= {self._degree} on this range"
        if self._refuted and (self._key == CALLS or all(one.other_program for one in self._refuted)):
            places = " and at ".join(map(self._at, self._refuted))
            return f"{text}: other modules or operators run at {places} than the smallest sizes predict"
        parts = [
            f"at {self._at(one)}, the polynomial of the smallest sizes gives {_shown(one)}, counted {one.counted:,}"
            for one in self._refuted
        ]
        return ": ".join([text, *([", and ".join(parts)] if parts else [])]) + self._too_short()

    def _too_short(self) -> str:
        for symbol, sizes in self._domain.ranges:
            if len(sizes) < self._degree + 2:
                return (
                    f"; {symbol} has only {len(sizes)} sizes, and a polynomial of degree {self._degree} needs "
                    f"{self._degree + 2}: choose a longer range"
                )
        return ""

    def _at(self, one: Refutation) -> str:
        return ", ".join(f"{symbol} = {size:,}" for symbol, size in self._domain.named(one.point).items())

    def _any(self, domain: Domain) -> list[Piece]:
        fit = self._fitter.polynomial(domain)
        if fit.expression is not None and fit.holds:
            return [Piece(domain, fit.expression)]
        if domain == self._domain:
            self._refuted = fit.refuted
        cut = self._break(domain, fit)
        doubles = cut is not None and _is_at_power_of_two(domain[cut[0]], cut[1])
        if cut is not None and doubles:
            found = self._logs(domain, cut[0])
            if found:
                return found
        return (
            (self._pieces(domain) if cut is not None else [])
            or self._by_program(domain)
            or self._by_axes(domain)
            or self._first(self._steps, domain)
            or ([] if doubles else self._first(self._logs, domain))
        )

    def _first(self, method: Callable[[Domain, str], list[Piece]], domain: Domain) -> list[Piece]:
        for symbol in domain.symbols:
            found = method(domain, symbol)
            if found:
                return found
        return []

    # Pieces

    def _pieces(self, domain: Domain) -> list[Piece]:
        """Return a polynomial for each of a few parts of the domain; nothing if there are many parts."""
        done: list[Piece] = []
        todo = [domain]
        before: tuple[str, int, int] | None = None
        while todo:
            part = todo.pop(0)
            fit = self._fitter.polynomial(part)
            if fit.expression is not None and fit.holds:
                done.append(Piece(part, fit.expression))
                continue
            cut = self._break(part, fit)
            if cut is None or len(done) + len(todo) + 2 > _MOST_PIECES:
                return []
            symbol, place = cut
            distance = place * part[symbol].step
            self._distances.append(distance)
            repeats = before == (symbol, part[symbol][0], distance) and place > 1
            if repeats and len(part[symbol]) > _REPEATS * place:
                return []
            before = symbol, part[symbol][place], distance
            # The first sizes may be special: one row needs no sum over rows, two rows have another peak.
            start = domain[symbol].index(part[symbol][0])
            inner = start > _FEWEST_INNER or (start == 0 and done)
            if inner and place <= _FEWEST_INNER and part[symbol][-1] != part[symbol][place - 1]:
                return []  # such sizes are exceptions that come again, like multiples of a window
            todo[:0] = part.split(symbol, place)
        return done

    def _break(self, domain: Domain, fit: Fit) -> tuple[str, int] | None:
        """Return a symbol and the index of one of its sizes where the law changes; None if no place is found."""
        if fit.expression is None:
            return self._near_break(domain, fit.bad_symbol or domain.symbols[0])
        base = domain.lowest
        before = base
        for place, symbol in enumerate(domain.symbols):
            after = (*before[:place], fit.refuted[0].point[place], *before[place + 1 :])
            if self._fitter.agrees(fit.expression, after, base):
                before = after
                continue
            sizes = domain[symbol]
            low, high = 0, sizes.index(after[place])
            while high - low > 1:
                middle = (low + high) // 2
                point = (*before[:place], sizes[middle], *before[place + 1 :])
                if self._fitter.agrees(fit.expression, point, base):
                    low = middle
                else:
                    high = middle
            return (symbol, high) if high else None
        return None

    def _near_break(self, domain: Domain, symbol: str) -> tuple[str, int] | None:
        """Return a place among the first sizes of a symbol where the program or the polynomial changes."""
        points = self._fitter.axis(domain, symbol, self._degree + 2)
        for place, point in enumerate(points[1:], start=1):
            if not self._fitter.same_program(point, points[0]):
                return symbol, place
        for place in range(1, len(points)):
            right = domain.split(symbol, place)[1]
            if len(right[symbol]) > _SIZES_OF_A_RESIDUE and self._fitter.degree_along(right, symbol) is not None:
                return symbol, place
        return None

    # Programs

    def _by_program(self, domain: Domain) -> list[Piece]:
        """Return laws for the sizes before and after a size at which other modules or operators begin to run."""
        base = before = domain.lowest
        far = next(
            (point for point in self._fitter.check_points(domain) if not self._fitter.same_program(point, base)), None
        )
        if far is None or self._depth >= _MOST_PROGRAMS:
            return []
        for place, symbol in enumerate(domain.symbols):
            after = (*before[:place], far[place], *before[place + 1 :])
            if self._fitter.same_program(after, base):
                before = after
                continue
            sizes = domain[symbol]
            low, high = 0, sizes.index(far[place])
            while high - low > 1:
                middle = (low + high) // 2
                same = self._fitter.same_program((*before[:place], sizes[middle], *before[place + 1 :]), base)
                low, high = (middle, high) if same else (low, middle)
            if min(high, len(sizes) - high) <= _FEWEST_INNER:
                return []
            around = [(*before[:place], size, *before[place + 1 :]) for size in sizes[high - 3 : high + 3]]
            if [self._fitter.same_program(point, base) for point in around] != [True] * 3 + [False] * 3:
                return []  # the programs alternate
            self._depth += 1
            parts = [self._any(part) for part in domain.split(symbol, high)]
            self._depth -= 1
            return [piece for part in parts for piece in part] if all(parts) else []
        return []

    # Several symbols

    def _by_axes(self, domain: Domain) -> list[Piece]:
        """Find the law of each symbol at the smallest sizes of the others; return a law of products of their terms."""
        if sum(len(sizes) > 1 for _, sizes in domain.ranges) < _SEVERAL:
            return []
        features: dict[str, list[Expression]] = {}
        for symbol in domain.symbols:
            line = domain
            for other in domain.symbols:
                if other != symbol:
                    line = line.with_range(other, domain[other][:1])
            found = self._any(line) if len(line[symbol]) > 1 else [Piece(line, constant(1))]
            if len(found) > 1 and all(piece.domain[symbol].step == domain[symbol].step for piece in found):
                parts = [self._any(domain.with_range(symbol, piece.domain[symbol])) for piece in found]
                return [piece for part in parts for piece in part] if all(parts) else []
            if len(found) != 1 or found[0].domain != line:
                return []
            features[symbol] = _features_of(found[0].expression, symbol)
        fit = self._fitter.fit(domain, features)
        return [Piece(domain, fit.expression)] if fit.expression is not None and fit.holds else []

    # Steps

    def _steps(self, domain: Domain, symbol: str) -> list[Piece]:
        """Return a law with a period in one symbol: patches, strides, windows, padding to multiples."""
        sizes = domain[symbol]
        for divisor in self._periods(domain, symbol):
            period = lcm(divisor, sizes.step)
            count = period // sizes.step
            if not 1 < count <= len(sizes) // _SIZES_OF_A_RESIDUE:
                continue
            residue = domain.residues(symbol, count)[0]
            fit = self._fitter.polynomial(residue)
            if fit.expression is None or not fit.holds:
                continue
            if domain[symbol].step == self._counts.step(symbol):
                self._counts.periods.add((symbol, count))
            found = self._rounded(domain, symbol, divisor, fit.expression) or self._several_rounded(
                domain, symbol, divisor, fit
            )
            if found is not None and (count > _FEW_RESIDUES or len(found.terms) <= count):
                return [Piece(domain, found)]
            pieces = self._residues(domain, symbol, count, fit)
            if found is not None and sum(len(piece.expression.terms) for piece in pieces) not in range(
                1, len(found.terms)
            ):
                return [Piece(domain, found)]
            if pieces:
                return pieces
        return []

    def _periods(self, domain: Domain, symbol: str) -> Iterator[int]:
        """Yield periods to try: distances between changes, the model's settings and products of them, and a last one.

        The last one is seen in the values of many neighbouring sizes.
        """
        largest = len(domain[symbol]) * domain[symbol].step // _SIZES_OF_A_RESIDUE
        settings = sorted(self._counts.settings)
        products = {a * b for a in settings for b in settings} if len(settings) < _MOST_PERIODS else set()
        powers_of_two = {2**power for power in range(1, 7)}
        # The first part of a range need not be a whole period, so later distances are better guesses.
        of_other_laws = [count * self._counts.step(name) for name, count in self._counts.periods if name == symbol]
        guesses = sorted({*settings, *products, *powers_of_two})
        found = [*reversed(self._distances), *sorted(of_other_laws), *guesses]
        known = [period for period in dict.fromkeys(found) if 1 < period <= largest][:_MOST_PERIODS]
        yield from known
        found_last = self._last_period(domain, symbol)
        if found_last is not None and found_last <= largest and found_last not in known:
            yield found_last

    def _last_period(self, domain: Domain, symbol: str) -> int | None:
        """Return the period that the values of many neighbouring sizes have; None if there is none.

        It needs many counts, so only the laws on which others depend are searched with it.
        """
        points = self._fitter.axis(domain, symbol, _SIZES_OF_PERIODS)
        missing = sum(point not in self._counts.made for point in points)
        if self._key not in {CALLS, _FLOPS} or len(self._counts.made) + missing > self._counts.largest:
            return None
        values = [self._fitter.value(point) for point in points]
        for count in range(2, len(points) // 2):
            # Differences between sizes with equal remainders, again and again, are 0 for a polynomial.
            rest = values
            for _ in range(self._degree + 1):
                rest = [after - before for before, after in zip(rest, rest[count:], strict=False)]
                if len(rest) < count:
                    break
                if not any(rest):
                    return count * domain[symbol].step
        return None

    def _rounded(self, domain: Domain, symbol: str, divisor: int, of_residue: Expression) -> Expression | None:
        """Return ``of_residue`` as an expression of one rounded quotient, if the value depends on this quotient alone.

        Args:
            domain: the domain.
            symbol: the symbol.
            divisor: the divisor of the quotient.
            of_residue: the polynomial for the smallest size, and every ``divisor``-th size after it.
        """
        sizes, place, base = domain[symbol], domain.symbols.index(symbol), domain.lowest
        period = lcm(divisor, sizes.step)
        if period != divisor:
            return None

        def value(index: int) -> int:
            return self._fitter.value((*base[:place], sizes[index], *base[place + 1 :]))

        low, high = 0, period // sizes.step
        if value(high) == value(0):
            return None
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if value(middle) == value(0) else (low, middle)
        # The quotient grows by 1 at a size after sizes[low], at sizes[high] at the latest.
        thresholds = range(sizes[low] + 1, sizes[high] + 1)
        threshold = next((size for size in thresholds if size % divisor in (1, 0)), sizes[high])
        shift = -threshold % divisor
        rounded = quotient(symbol, divisor, shift)
        first = (sizes[0] + shift) // divisor
        size = constant(sizes[0]) + (rounded - constant(first)).scaled(divisor)
        expression = of_residue.substitute(Atom(symbol), size)
        near = self._fitter.axis(domain, symbol, _SIZES_OF_A_RESIDUE)
        return expression if self._is_right(expression, domain, near) else None

    def _several_rounded(self, domain: Domain, symbol: str, divisor: int, fit: Fit) -> Expression | None:
        """Return a sum of products of the size and its rounded quotients: see `_quotient_features`."""
        counted = sorted({point[domain.symbols.index(symbol)] for point in self._counts.made})
        others = {name: powers(name, fit.degrees[name]) for name in domain.symbols if name != symbol}
        for features in _quotient_features(symbol, divisor, max(1, fit.degrees[symbol])):
            if len(domain[symbol]) < _SIZES_OF_A_FEATURE * len(features):
                continue
            found = self._fitter.fit(domain, {**others, symbol: features}, counted)
            if found.holds:
                return found.expression
        return None

    def _residues(self, domain: Domain, symbol: str, count: int, fit: Fit) -> list[Piece]:
        """Return a polynomial for each remainder of the sizes; nothing if one of them fits none."""
        needed = count * (fit.degrees[symbol] + 2)
        if count > _MOST_RESIDUES or needed > self._counts.largest:
            return []
        pieces = []
        for residue in domain.residues(symbol, count):
            one = self._fitter.polynomial(residue)
            if one.expression is None or not one.holds:
                return []
            pieces.append(Piece(residue, one.expression))
        return pieces

    def _is_right(self, expression: Expression, domain: Domain, near: Iterable[Point]) -> bool:
        points = [*near, *self._fitter.check_points(domain, _SIZES_OF_A_RESIDUE)]
        return not self._fitter.refutations(expression, domain, points)

    # Logarithms

    def _logs(self, domain: Domain, symbol: str) -> list[Piece]:
        """Return a law with logarithms of one symbol: for all sizes if possible, else for powers of two."""
        others: dict[str, Sequence[Expression]] = {}
        for name in domain.symbols:
            degree = self._fitter.degree_along(domain, name) if name != symbol else 0
            if degree is None:
                return []
            others[name] = powers(name, degree)
        counted = sorted({point[domain.symbols.index(symbol)] for point in self._counts.made})
        if domain[symbol][0] > 0:
            for features in _log_features(symbol, "ceil_log"):
                found = self._fitter.fit(domain, {**others, symbol: features}, counted)
                if found.expression is not None and found.holds:
                    return [Piece(domain, found.expression)]
        special = Domain(domain.ranges, frozenset({symbol}))
        sizes = special.sizes(symbol)
        for features in _log_features(symbol, "log"):
            if len(sizes) < len(features) + 2:
                break
            found = self._fitter.fit(special, {**others, symbol: features})
            every = self._fitter.axis(special, symbol, len(sizes))
            if (
                found.expression is not None
                and found.holds
                # Powers of two are special to logarithms only. They are whole windows too, for example.
                and any(atom.is_log for atom in found.expression.atoms())
                and not self._fitter.refutations(found.expression, special, every)
            ):
                return [Piece(special, found.expression)]
        return []


def _features_of(expression: Expression, symbol: str) -> list[Expression]:
    """Return 1, the products that occur in the expression, and all lower powers of their factors."""
    found = {constant(1): None}
    for monomial in expression.terms:
        for atom, exponent in monomial:
            if atom.symbol == symbol:
                found |= dict.fromkeys(atom_expression(atom) ** power for power in range(1, exponent + 1))
    for monomial in expression.terms:
        factors = tuple(factor for factor in monomial if factor[0].symbol == symbol)
        found[Expression({factors: 1})] = None
    return list(found)


def _quotient_features(symbol: str, divisor: int, degree: int) -> Iterator[list[Expression]]:
    """Yield lists of expressions of the size and of its quotients, rounded up or down.

    The first lists have products of the size and one quotient, for models whose last part is not whole. The next list
    has powers of the quotients by all divisors of the period, for models with several strides.
    """
    size = atom_expression(Atom(symbol))
    for up in (1, 0):
        part, largest = quotient(symbol, divisor, up * (divisor - 1)), degree + 1
        yield [size**i * part**j for i in range(largest + 1) for j in range(largest + 1 - i)]
    # The difference of the two quotients is 1, and 0 for multiples of the divisor, where padding does not run.
    both = [quotient(symbol, divisor, divisor - 1), quotient(symbol, divisor)]
    yield [
        *powers(symbol, degree),
        *(part**power for part in both for power in range(1, degree + 1)),
        both[0] * both[1],
    ]
    divisors = [number for number in range(2, divisor + 1) if divisor % number == 0]
    for up in (1, 0):
        quotients = [quotient(symbol, number, up * (number - 1)) for number in divisors]
        parts = [rounded**power for rounded in quotients for power in range(1, degree + 1)]
        if len(parts) <= _MOST_FEATURES:
            yield [*powers(symbol, degree), *parts]


def _log_features(symbol: str, kind: object) -> Iterator[list[Expression]]:
    n = atom_expression(Atom(symbol))
    log = atom_expression(Atom(symbol, kind))  # type: ignore[arg-type]
    one = constant(1)
    yield [one, n, log, n * log]
    yield [one, n, log, n * log, n**2, n**2 * log]
    yield [one, n, log, n * log, log**2, n * log**2]


def _is_at_power_of_two(sizes: range, place: int) -> bool:
    """Return whether there is a power of two from the size before ``place`` up to the size at ``place``, exclusive."""
    return any(not size & (size - 1) for size in range(sizes[place - 1], sizes[place]) if size > 1)


def _shown(one: Refutation) -> str:
    return f"{one.expected.numerator:,}" if one.expected.denominator == 1 else f"{float(one.expected):,.2f}"
