"""`TrainingFlops`: the counted FLOPs of a training step per token, beside what published formulas give."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from pytest_flopsbudget.errors import UsageError
from pytest_flopsbudget.quantities.formatting import format_delta, format_value
from pytest_flopsbudget.quantities.metrics import METRICS
from pytest_flopsbudget.results.module_tree import path_above
from pytest_flopsbudget.training.conventions import CONVENTIONS, find_convention
from pytest_flopsbudget.training.utilization import utilization

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pytest_flopsbudget.hardware.profile import Device
    from pytest_flopsbudget.results.complexity import Complexity
    from pytest_flopsbudget.training.conventions import Convention
    from pytest_flopsbudget.training.model_sizes import ModelSizes
    from pytest_flopsbudget.training.utilization import Utilization

_FLOPS = METRICS["flops"]
_DIGITS = re.compile(r"\d+")
_ATTENTION_CLASS = re.compile(r"attn|attention", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class OwnWeights:
    """The parameters that a module holds itself. A shared parameter belongs to the first module that holds it."""

    params: int
    #: Those that one token uses: of routed experts, only the chosen ones.
    active: int
    #: The elements of those with one dimension, which are biases and the weights of norms.
    vectors: int = 0
    #: Whether the module is an embedding, and whether it is one of positions.
    is_embedding: bool = False
    is_position: bool = False
    #: The path of the module that a shared parameter belongs to; empty if no parameter is shared.
    shared_with: str = ""


@dataclass(frozen=True, slots=True)
class Difference:
    """What a formula gives for some equal modules more than the count has; all numbers are FLOPs per token."""

    #: The path of the module, with "*" in place of numbers if there are several; "" is the model itself.
    path: str
    modules: int
    #: The count and the formula, for all these modules together, without the modules below them.
    counted: Fraction
    formula: Fraction
    reason: str = ""

    @property
    def difference(self) -> Fraction:
        """The FLOPs per token that the formula has more than the count; negative if it has fewer."""
        return self.formula - self.counted


@dataclass(frozen=True)
class TrainingFlops:
    """The counted FLOPs of a forward and a backward pass, and the sizes that published formulas read."""

    #: The measurement of the forward and the backward pass.
    complexity: Complexity
    #: The number of tokens of the measured call.
    tokens: int
    sizes: ModelSizes
    #: Path → parameters that the module holds itself, for the modules that hold any.
    weights: Mapping[str, OwnWeights]

    def per_token(self, convention: str = "exact", *, recompute: bool = False) -> Fraction:
        """Return the FLOPs for one token of training: 2 for each multiply-accumulate.

        Args:
            convention: "exact" for the count, or the key of a published formula: "6nd", "palm", "megatron",
                "torchtitan", "nanogpt", "hf".
            recompute: whether products that activation checkpointing computes again are included. Of the published
                formulas, only "megatron" has a form for them; the others ignore this argument.

        Raises:
            UsageError: there is no such convention, or it needs a size that is unknown.
        """
        found = find_convention(convention)
        if found.formula:
            return found.value(self.sizes, recompute=recompute)
        recomputed = 0 if recompute else self.complexity.recomputed_flops
        return Fraction(self.complexity.flops - recomputed, self.tokens)

    def available(self, *, recompute: bool = False) -> tuple[dict[str, Fraction], dict[str, str]]:
        """Return (convention → FLOPs per token, convention → why it has no value)."""
        values: dict[str, Fraction] = {}
        reasons: dict[str, str] = {}
        for key in CONVENTIONS:
            with _collecting(reasons, key):
                values[key] = self.per_token(key, recompute=recompute)
        return values, reasons

    def mfu(  # noqa: PLR0913 -- what an utilization depends on
        self,
        tokens_per_second: float | Fraction,
        device: str | Device,
        convention: str = "exact",
        *,
        dtype: str = "bfloat16",
        devices: int = 1,
        recompute: bool = False,
    ) -> Utilization:
        """Return the model FLOPs utilization: the FLOPs of products per second, divided by the peak rate.

        Args:
            tokens_per_second: the tokens that all devices train on in a second.
            device: the name of a device in the catalog, or a profile (`Device`).
            convention: the FLOPs per token to take, like in `per_token`.
            dtype: the dtype of the products, which chooses the peak rate.
            devices: the number of devices.
            recompute: whether recomputed products count too. The result is then the hardware FLOPs utilization (HFU).

        Raises:
            UsageError: there is no such convention or device, the device has no rate for the dtype, or a number is not
                above 0.
        """
        self.per_token(convention, recompute=recompute)
        values, reasons = self.available(recompute=recompute)
        return utilization(
            values,
            reasons,
            tokens_per_second=tokens_per_second,
            device=device,
            convention=convention,
            dtype=dtype,
            devices=devices,
            recompute=recompute,
        )

    def differences(self, convention: str, *, recompute: bool = False) -> list[Difference]:
        """Return what the formula has more or less than the count, module by module, largest first.

        The differences add up to the difference of the totals. Equal modules are one entry.

        Raises:
            UsageError: there is no such convention, or it needs a size that is unknown.
        """
        found = find_convention(convention)
        if not found.formula:
            return []
        counted = self._counted(recompute=recompute)
        if found.layer:
            formula, counted = self._by_layers(found, counted, recompute=recompute)
        else:
            formula = self._by_weights(found, counted)
        return sorted(self._rows(found, counted, formula), key=lambda one: -abs(one.difference))

    def _counted(self, *, recompute: bool) -> dict[str, Fraction]:
        """Return path → FLOPs per token of the module without the modules below it."""
        modules = self.complexity.modules
        totals = {
            path: module.flops - (0 if recompute else module.recomputed_flops) for path, module in modules.items()
        }
        own = dict(totals)
        for path in modules:
            if path:
                own[path_above(path, modules)] -= totals[path]
        return {path: Fraction(flops, self.tokens) for path, flops in own.items()}

    def _by_weights(self, convention: Convention, counted: Mapping[str, Fraction]) -> dict[str, Fraction]:
        formula: dict[str, Fraction] = {}
        is_active = convention.letters["N"].startswith("active_params")
        for path, own in self.weights.items():
            left_out = (own.is_embedding and convention.weights == "without embeddings") or (
                own.is_position and convention.weights == "without position embeddings"
            )
            formula[path] = Fraction(0 if left_out else 6 * (own.active if is_active else own.params))
        if convention.attention:
            share = convention.part(convention.attention, self.sizes)
            places = self._attention(counted) or [""]
            for path in places:
                formula[path] = formula.get(path, Fraction(0)) + share / len(places)
        # Parameters of no listed module, and sizes from the caller that contradict the measured parameters.
        rest = convention.value(self.sizes) - sum(formula.values())
        formula[""] = formula.get("", Fraction(0)) + rest
        return formula

    def _attention(self, counted: Mapping[str, Fraction]) -> list[str]:
        """Return the modules that compute products of activations with each other."""
        working = [path for path, flops in counted.items() if flops]
        named = [path for path in working if _ATTENTION_CLASS.search(self.complexity.modules[path].type)]
        return named or [path for path in working if path not in self.weights]

    def _by_layers(
        self, convention: Convention, counted: Mapping[str, Fraction], *, recompute: bool
    ) -> tuple[dict[str, Fraction], dict[str, Fraction]]:
        """Return (path → the formula's share, path → the count), with a layer and all modules below it as one place."""
        layers = self._layers(convention)
        joined: dict[str, Fraction] = {}
        for path, flops in counted.items():
            place = next((layer for layer in layers if path == layer or path.startswith(f"{layer}.")), path)
            joined[place] = joined.get(place, Fraction(0)) + flops
        part = convention.layer_with_recomputation if recompute else convention.layer
        formula = dict.fromkeys(layers, convention.part(part, self.sizes))
        rest = convention.value(self.sizes, recompute=recompute) - sum(formula.values())
        outside = [path for path in joined if path not in layers]
        head = max(outside, key=lambda path: joined[path], default="")
        formula[head] = formula.get(head, Fraction(0)) + rest
        return formula, joined

    def _layers(self, convention: Convention) -> list[str]:
        """Return the paths of the layers: as many numbered siblings as the model has layers, with most FLOPs."""
        count = self.sizes.need("layers", f"convention {convention.key!r}")
        modules = self.complexity.modules
        lists = {path.rpartition(".")[0] for path in modules if path.rpartition(".")[2].isdigit()}
        numbered = [[f"{above}.{n}".lstrip(".") for n in range(count + 1)] for above in lists]
        found = [paths[:-1] for paths in numbered if [path in modules for path in paths] == [True] * count + [False]]
        return max(found, key=lambda paths: sum(modules[path].flops for path in paths), default=[])

    def _rows(
        self, convention: Convention, counted: Mapping[str, Fraction], formula: Mapping[str, Fraction]
    ) -> Iterator[Difference]:
        groups: dict[tuple[str, Fraction, Fraction, str], list[str]] = {}
        for path in dict.fromkeys([*counted, *formula]):
            has, gives = counted.get(path, Fraction(0)), formula.get(path, Fraction(0))
            if has != gives:
                key = _DIGITS.sub("*", path), has, gives, self._reason(convention, path, has, gives)
                groups.setdefault(key, []).append(path)
        for (pattern, has, gives, reason), paths in groups.items():
            name = pattern if len(paths) > 1 else paths[0]
            yield Difference(name, len(paths), has * len(paths), gives * len(paths), reason)

    def _reason(self, convention: Convention, path: str, has: Fraction, gives: Fraction) -> str:
        own = self.weights.get(path)
        if own is not None and own.is_embedding and gives and not has:
            return "an embedding is a look-up, without products"
        if own is not None and own.shared_with:
            return f"its weight is that of {own.shared_with}"
        if own is not None and gives and not has:
            return "its parameters are in no product"
        if own is not None and own.vectors and gives - has == 6 * own.vectors:
            return "a bias is in no product"
        if own is not None and own.active < own.params and gives == 6 * own.params:
            return "the formula counts experts that a token does not use"
        if not convention.attention and not convention.layer and own is None and has and not gives:
            return "the formula has no attention"
        return ""

    def text(self, *, recompute: bool = False, signs: bool = True) -> str:
        """Return a table of the conventions: FLOPs per token, the formula with numbers, the difference from the count.

        Args:
            recompute: like in `per_token`.
            signs: whether to write signs beyond ASCII.
        """
        return "\n".join(self._lines(recompute=recompute, signs=signs))

    def difference_text(self, convention: str, *, recompute: bool = False, signs: bool = True) -> str:
        """Return a table of `differences`, below a line with the formula and a line with its source.

        Raises:
            UsageError: there is no such convention, or it needs a size that is unknown.
        """
        found = find_convention(convention)
        lines = [f"{convention}: {_signed(found.text(recompute=recompute) or 'counted', signs=signs)}"]
        if found.formula:
            numbers = found.with_numbers(self.sizes, recompute=recompute)
            value = self.per_token(convention, recompute=recompute)
            lines.append(f"  = {_signed(numbers, signs=signs)} = {_number(value)}")
            letters = ", ".join(f"{letter} = {terms}" for letter, terms in found.letters.items())
            lines.append(f"  where {letters}")
        lines.append(f"  source: {found.source}")
        rows = self.differences(convention, recompute=recompute)
        if rows:
            names = [f"{one.path or '(model)'}{f' (x{one.modules})' if one.modules > 1 else ''}" for one in rows]
            width = max(map(len, names))
            lines.append("  formula less count, FLOPs per token:")
            for name, one in zip(names, rows, strict=True):
                because = f"  {one.reason}" if one.reason else ""
                lines.append(f"    {name:{width}}  {format_delta(one.difference, _FLOPS):>15}{because}")
        elif found.formula:
            lines.append("  equal to the count in every module")
        return "\n".join(lines)

    def _lines(self, *, recompute: bool, signs: bool) -> Iterator[str]:
        values, reasons = self.available(recompute=recompute)
        exact = values["exact"]
        sequence = self.sizes.values.get("sequence")
        of = "" if sequence is None else f" in sequences of {sequence:,}"
        yield f"{self.complexity.model}: training FLOPs per token, for {self.tokens:,} tokens{of}"
        width = max(map(len, CONVENTIONS))
        for key, convention in CONVENTIONS.items():
            if key in reasons:
                missing = ", ".join(convention.missing(self.sizes))
                yield f"  {key:{width}}  needs {missing}, which the model does not give"
                continue
            value = values[key]
            share = "" if key == "exact" else f"{float((value - exact) / exact) * 100 if exact else 0:+.2f}%"
            numbers = "counted"
            if convention.formula:
                numbers = f"{convention.text(recompute=recompute)} = "
                numbers += convention.with_numbers(self.sizes, recompute=recompute)
            yield f"  {key:{width}}  {format_value(value, _FLOPS):>14}  {share:>8}  {_signed(numbers, signs=signs)}"

        unknown = ", ".join(self.complexity.unknown_operators)
        if unknown:
            yield f"  the count leaves out operators without a formula: {unknown}"

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        return f"<TrainingFlops of {self.complexity.model}: {format_value(self.per_token(), _FLOPS)} per token>"


@contextlib.contextmanager
def _collecting(reasons: dict[str, str], key: str) -> Iterator[None]:
    """Put the message of a `UsageError` that the context raises into ``reasons``."""
    try:
        yield
    except UsageError as error:
        reasons[key] = str(error)


def _signed(formula: str, *, signs: bool) -> str:
    return formula.replace("^2", "\u00b2").replace("*", "\u00b7") if signs else formula


def _number(value: Fraction) -> str:
    return f"{value.numerator:,}" if value.denominator == 1 else f"{float(value):,.2f}"
