"""Formulas as people write them: "24*B*S*L*d^2 + 4*B*S^2*L*d". They are parsed here; no Python code is run."""

from __future__ import annotations

import difflib
import math
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Literal, NamedTuple, NoReturn

from pytest_flopsbudget.errors import UsageError
from pytest_flopsbudget.laws.algebra.terms import Atom, Expression, atom_expression, constant, quotient, term_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pytest_flopsbudget.laws.algebra.terms import Monomial

#: Name of a function → its smallest and largest number of arguments.
_FUNCTIONS = {"ceil": (1, 1), "floor": (1, 1), "log2": (1, 1), "min": (2, 99), "max": (2, 99)}
#: Signs that law texts use → the signs of formulas. Each is one character, so that places in the text stay right.
_SAME_SIGNS = str.maketrans({"\u00b7": "*", "\u00d7": "*", "\u2212": "-"})
_POWERS = "\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079"
_TOKEN = re.compile(
    r"\s*(?:(?P<number>[0-9][0-9_]*(?:\.[0-9]+)?(?:[eE][0-9]{1,2}(?![\w.]))?)|"
    rf"(?P<name>(?![{_POWERS}])[^\W\d](?:(?![{_POWERS}])\w)*)|(?P<sign>\*\*|[-+*/^(),])|(?P<power>[{_POWERS}]+))"
)
#: The largest exponent. A larger one is a mistake, and its value would need much memory.
_LARGEST_EXPONENT = 64
_MOST_BITS = 10_000
_DEEPEST = 100

Relation = Literal["==", "<="]


class FormulaError(UsageError):
    """A mistake in a formula. The message shows the formula, and marks the character of the mistake."""

    def __init__(self, message: str, place: int = 0) -> None:
        super().__init__(message)
        #: The index of the wrong character in the formula.
        self.place = place


def _fail(text: str, place: int, why: str) -> NoReturn:
    raise FormulaError(f"formula, character {place + 1}: {why}\n    {text}\n    {' ' * place}^", place)


class _Token(NamedTuple):
    #: "number", "name", "sign", "power" (digits above the line) or "end".
    kind: str
    text: str
    place: int


@dataclass(frozen=True, slots=True)
class _Node:
    """A part of a formula: a number, a name, an operation or a call of a function."""

    what: str
    place: int
    value: Fraction | None = None
    #: The name, if this part of the formula is a name; otherwise empty.
    name: str = ""
    parts: tuple[_Node, ...] = ()


class Formula:
    """A parsed formula, with the values of some of its names.

    Args:
        text: the formula: numbers, names, ``+ - * / ^``, parentheses, and the functions ceil, floor, log2, min and max.
            It may begin with ``==`` (the value of the metric, also without the sign) or with ``<=`` (its maximum).
        where: name → value, for names that are no symbols of the law.

    Raises:
        FormulaError: the text is no formula. The message marks the character.
    """

    def __init__(self, text: str, where: Mapping[str, int | Fraction] | None = None) -> None:
        self.text = text
        self.where = {name: Fraction(value) for name, value in (where or {}).items()}
        head = re.match(r"\s*(<=|==|\u2264)", text)
        self.relation: Relation = "<=" if head and head[1] != "==" else "=="
        self._root = _Parser(text, head.end() if head else 0).parse()

    def names(self) -> dict[str, int]:
        """Return name → place of its first use, for the names without a value."""
        found: dict[str, int] = {}
        for node in _nodes(self._root):
            if node.what == "name" and node.name not in self.where:
                found.setdefault(node.name, node.place)
        return found

    def check_names(self, known: Iterable[str]) -> None:
        """Check that each name has a value or is among ``known``.

        Raises:
            FormulaError: the message marks the first unknown name, and lists similar names.
        """
        known = list(known)
        for name, place in self.names().items():
            if name not in known:
                choices = [*known, *self.where]
                near = difflib.get_close_matches(name, choices, n=2, cutoff=0.5)
                hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(choices) or 'none'}"
                self._fail(place, f"unknown name {name!r}; {hint}")

    def at(self, sizes: Mapping[str, int | Fraction]) -> Fraction:
        """Return the exact value for these values of the names.

        Raises:
            FormulaError: a name has no value, a divisor is 0, or log2 of a number is not a whole number.
        """
        return self._evaluate(self._root, {**sizes, **self.where})

    def whole_at(self, sizes: Mapping[str, int | Fraction]) -> int:
        """Return the value like `at`, for a formula that has to be a whole number.

        Raises:
            FormulaError: the value is no whole number. The message marks the division that leaves a remainder.
        """
        value = self.at(sizes)
        if value.denominator == 1:
            return value.numerator
        values = {**sizes, **self.where}
        for node in _nodes(self._root):
            if node.what == "/" and self._evaluate(node, values).denominator != 1:
                over, under = (self._evaluate(part, values) for part in node.parts)
                self._fail(node.place, f"{over} / {under} leaves a remainder, and a count is a whole number")
        return self._fail(0, f"the value {value} is no whole number, and a count is one")

    def expression(self, symbols: Mapping[str, str]) -> Expression | None:
        """Return the formula as an expression of a law's symbols; None if it cannot be written as one.

        Args:
            symbols: name in the formula → symbol of the law.

        Raises:
            FormulaError: a divisor is 0, or log2 of a number is not a whole number.
        """
        return self._symbolic(self._root, symbols)

    def _fail(self, place: int, why: str) -> NoReturn:
        _fail(self.text, place, why)

    def _evaluate(self, node: _Node, values: Mapping[str, int | Fraction]) -> Fraction:
        if node.value is not None:
            return node.value
        if node.what == "name":
            if node.name not in values:
                self._fail(node.place, f"the name {node.name!r} has no value; there are {', '.join(values) or 'none'}")
            return Fraction(values[node.name])
        if node.what in {"ceil", "floor"} and node.parts[0].what == "log2":
            return self._rounded_log(node, values)
        return self._apply(node, [self._evaluate(part, values) for part in node.parts])

    def _apply(self, node: _Node, parts: list[Fraction]) -> Fraction:  # noqa: C901 -- a table of operations
        first = parts[0]
        match node.what:
            case "negative":
                return -first
            case "+":
                return first + parts[1]
            case "-":
                return first - parts[1]
            case "*":
                return first * parts[1]
            case "/":
                if not parts[1]:
                    self._fail(node.place, "the divisor is 0")
                return first / parts[1]
            case "^":
                return self._power(node, first, self._exponent(node, parts[1]))
            case "ceil":
                return Fraction(math.ceil(first))
            case "floor":
                return Fraction(math.floor(first))
            case "log2":
                return self._log(node, first)
            case _:
                return min(parts) if node.what == "min" else max(parts)

    def _log(self, node: _Node, number: Fraction) -> Fraction:
        top, bottom = number.numerator, number.denominator
        if top < 1 or top & (top - 1) or bottom & (bottom - 1):
            self._fail(node.place, f"log2 of {number} is not a whole number; write ceil(log2(...)) or floor(log2(...))")
        return Fraction(top.bit_length() - bottom.bit_length())

    def _power(self, node: _Node, base: Fraction, exponent: int) -> Fraction:
        if exponent * max(base.numerator.bit_length(), base.denominator.bit_length()) > _MOST_BITS:
            self._fail(node.place, "this power is too large to compute")
        return Fraction(base**exponent)

    def _exponent(self, node: _Node, value: Fraction) -> int:
        if value.denominator != 1 or not 0 <= value <= _LARGEST_EXPONENT:
            self._fail(node.parts[1].place, f"an exponent is a whole number from 0 to {_LARGEST_EXPONENT}, not {value}")
        return value.numerator

    def _rounded_log(self, node: _Node, values: Mapping[str, int | Fraction]) -> Fraction:
        number = self._evaluate(node.parts[0].parts[0], values)
        if number < 1:
            self._fail(node.place, f"log2 of {number}, which is less than 1")
        whole = math.floor(number).bit_length() - 1
        exact = number == 2**whole
        return Fraction(whole if exact or node.what == "floor" else whole + 1)

    def _symbolic(self, node: _Node, symbols: Mapping[str, str]) -> Expression | None:  # noqa: C901, PLR0912
        if node.value is not None:
            return constant(node.value)
        if node.what == "name":
            if node.name in self.where:
                return constant(self.where[node.name])
            return None if node.name not in symbols else atom_expression(Atom(symbols[node.name]))
        rounded = node.what in {"ceil", "floor"}
        if rounded and node.parts[0].what == "log2":
            inner = self._symbolic(node.parts[0].parts[0], symbols)
            symbol = None if inner is None else _single(inner)
            if symbol is not None:
                return atom_expression(Atom(symbol, "ceil_log" if node.what == "ceil" else "floor_log"))
            return constant(self._rounded_log(node, self.where)) if inner is not None and _is_number(inner) else None
        parts = [self._symbolic(part, symbols) for part in node.parts]
        known = [part for part in parts if part is not None]
        if len(known) < len(parts):
            return None
        if all(map(_is_number, known)):
            return constant(self._apply(node, [part.at({}) for part in known]))
        first, last = known[0], known[-1]
        match node.what:
            case "negative":
                return first.scaled(-1)
            case "+":
                return first + last
            case "-":
                return first - last
            case "*":
                return first * last
            case "/":
                if not _is_number(last):
                    return None
                if not last:
                    self._fail(node.place, "the divisor is 0")
                return first.scaled(1 / last.at({}))
            case "^":
                return first ** self._exponent(node, last.at({})) if _is_number(last) else None
            case "ceil" | "floor":
                return _rounded(first, up=node.what == "ceil")
            case "log2" if _single(first) is not None:
                return atom_expression(Atom(str(_single(first)), "log"))
            case _:
                return None


def parse_term(text: str, symbols: Iterable[str]) -> Monomial:
    """Parse a product of factors: "batch*sequence^2", "ceil(n/16)", "1".

    Args:
        text: the text as `term_text` writes it.
        symbols: the names that may occur.

    Raises:
        ValueError: ``text`` is no such product. The message does not say where ``text`` was written.
    """
    known = list(symbols)
    try:
        formula = Formula(text)
        formula.check_names(known)
        expression = formula.expression({symbol: symbol for symbol in known})
    except FormulaError as error:
        raise ValueError(str(error).partition("\n")[0].removeprefix("formula, ")) from None
    terms = {} if expression is None else expression.terms
    if formula.relation == "==" and list(terms.values()) == [1]:
        (monomial,) = terms
        if term_text(monomial) == text:
            return monomial
        raise ValueError(f"another spelling of {term_text(monomial)!r}")
    raise ValueError(
        f"no single term; write one like {known[0]}^2, or 1 for the constant" if known else "no single term"
    )


def _is_number(expression: Expression) -> bool:
    return not expression.terms or set(expression.terms) == {()}


def _single(expression: Expression) -> str | None:
    """Return the symbol if the expression is one symbol alone."""
    ((monomial, coefficient), *more) = expression.terms.items() or (((), Fraction(0)),)
    if more or coefficient != 1 or len(monomial) != 1 or monomial[0][1] != 1 or monomial[0][0].kind != "symbol":
        return None
    return monomial[0][0].symbol


def _rounded(expression: Expression, *, up: bool) -> Expression | None:
    """Return the expression rounded to a whole number, if it is (a symbol + a number) / a number."""
    rest = Expression({key: value for key, value in expression.terms.items() if key})
    number = expression.terms.get((), Fraction(0))
    if len(rest.terms) != 1:
        return None
    (coefficient,) = rest.terms.values()
    symbol = _single(rest.scaled(1 / coefficient))
    if symbol is None or coefficient.numerator != 1:
        return expression if symbol is not None and coefficient.denominator == number.denominator == 1 else None
    divisor = coefficient.denominator
    shift = number * divisor
    if shift.denominator != 1:
        return None
    return quotient(symbol, divisor, shift.numerator + (divisor - 1 if up else 0))


def _nodes(node: _Node) -> Iterable[_Node]:
    for part in node.parts:
        yield from _nodes(part)
    yield node


class _Parser:
    """Parses one formula. Each method parses one level of precedence, from sums down to numbers."""

    def __init__(self, text: str, start: int) -> None:
        self._text = text
        self._tokens = list(self._tokenize(text.translate(_SAME_SIGNS), start))
        self._next = 0
        self._depth = 0

    def parse(self) -> _Node:
        root = self._sum()
        if self._token.kind != "end":
            hint = "; write * before a factor, and no units: 8 GFLOPs is 8*10^9" if self._token.kind == "name" else ""
            self._fail(self._token.place, f"expected an operator, not {self._token.text!r}{hint}")
        return root

    def _tokenize(self, text: str, start: int) -> Iterable[_Token]:
        calls: list[bool] = []
        place, last = start, ""
        while text[place:].strip():
            match = _TOKEN.match(text, place)
            if match is None:
                place += len(text[place:]) - len(text[place:].lstrip())
                hint = {"<": "; <= comes first", ">": "; <= comes first", "%": "", "\u2308": "; write ceil(...)"}
                self._fail(place, f"{text[place]!r} is no part of a formula{hint.get(text[place], '')}")
            kind = match.lastgroup or ""
            found, end, begin = match[kind], match.end(), match.start(kind)
            if kind == "number" and not any(calls):
                # Law texts have commas between thousands. Inside of a call, a comma separates arguments.
                grouped = re.compile(r"\d{1,3}(?:,\d{3})+(?!\d)").match(text, begin)
                if grouped is not None:
                    found, end = grouped[0], grouped.end()
            if found == "(":
                calls.append(last in {"min", "max"})
            elif found == ")" and calls:
                calls.pop()
            place, last = end, found
            yield _Token(kind, found, begin)
        yield _Token("end", "the end", len(text))

    @property
    def _token(self) -> _Token:
        return self._tokens[self._next]

    def _fail(self, place: int, why: str) -> NoReturn:
        _fail(self._text, place, why)

    def _take(self, *signs: str) -> _Token | None:
        token = self._token
        if token.kind == "sign" and token.text in signs:
            self._next += 1
            return token
        return None

    def _sum(self) -> _Node:
        self._depth += 1
        if self._depth > _DEEPEST:
            self._fail(self._token.place, "too many parentheses inside of each other")
        node = self._product()
        while (sign := self._take("+", "-")) is not None:
            node = _Node(sign.text, sign.place, parts=(node, self._product()))
        self._depth -= 1
        return node

    def _product(self) -> _Node:
        node = self._negation()
        while (sign := self._take("*", "/")) is not None:
            node = _Node(sign.text, sign.place, parts=(node, self._negation()))
        return node

    def _negation(self) -> _Node:
        negative = None
        count = 0
        while (sign := self._take("-", "+")) is not None:
            count += sign.text == "-"
            negative = negative or sign
        node = self._power()
        return _Node("negative", negative.place, parts=(node,)) if negative is not None and count % 2 else node

    def _power(self) -> _Node:
        node = self._factor()
        if self._token.kind == "power":
            token = self._token
            self._next += 1
            digits = "".join(str(_POWERS.index(sign)) for sign in token.text)
            return _Node("^", token.place, parts=(node, _Node("number", token.place, Fraction(int(digits)))))
        sign = self._take("^", "**")
        if sign is None:
            return node
        self._depth += 1
        if self._depth > _DEEPEST:
            self._fail(sign.place, "too many powers of powers")
        # Like in Python, -x^2 is -(x^2), and x^y^z is x^(y^z).
        exponent = self._negation()
        self._depth -= 1
        return _Node("^", sign.place, parts=(node, exponent))

    def _factor(self) -> _Node:
        token = self._token
        if token.kind == "number":
            self._next += 1
            return _Node("number", token.place, Fraction(token.text.replace(",", "").replace("_", "")))
        if token.kind == "name":
            self._next += 1
            if self._token.text != "(":
                return _Node("name", token.place, name=token.text)
            if token.text not in _FUNCTIONS:
                self._fail(token.place, f"no function {token.text!r}; there are {', '.join(_FUNCTIONS)}")
            return _Node(token.text, token.place, parts=self._arguments(token))
        opened = self._take("(")
        if opened is None:
            found = token.text if token.kind == "end" else repr(token.text)
            self._fail(token.place, f"expected a number, a name or '(', not {found}")
        node = self._sum()
        if self._take(")") is None:
            self._fail(opened.place, "this parenthesis is not closed")
        return node

    def _arguments(self, function: _Token) -> tuple[_Node, ...]:
        opened = self._token
        self._next += 1
        parts = [self._sum()]
        while self._take(",") is not None:
            parts.append(self._sum())
        if self._take(")") is None:
            self._fail(opened.place, "this parenthesis is not closed")
        least, most = _FUNCTIONS[function.text]
        if not least <= len(parts) <= most:
            takes = "one argument" if most == 1 else "two arguments or more"
            self._fail(function.place, f"{function.text} takes {takes}, not {len(parts)}")
        return tuple(parts)
