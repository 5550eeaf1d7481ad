"""What the masks of attention leave: the part of each operator's products for the pairs (query, key) that are left.

A fused operator gets its mask as an argument. If attention consists of single operators, the mask is added to the
scores, between two products. So the product that made the scores is credited again, with fewer `masked_flops`, when the
softmax of the masked scores runs. Products of the weights, and of the gradients of scores, follow it. Each of them has
the weight 0, or the gradient 0, for every pair that a mask removes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch

from pytest_flopsbudget.counting.meta.deferred import removes
from pytest_flopsbudget.counting.operators.accounting import masked_flops_of
from pytest_flopsbudget.counting.operators.info import COPIES, PRODUCTS, SOFTMAX, SOFTMAX_BACKWARD
from pytest_flopsbudget.counting.tensors.storages import StorageTable
from pytest_flopsbudget.safe_text import pluralize

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from fractions import Fraction

    from pytest_flopsbudget.counting.operators.info import OperatorInfo
    from pytest_flopsbudget.counting.operators.work import Work
    from pytest_flopsbudget.counting.tracing.modules import ModuleTracker


class Reader(Protocol):
    """Reads the masks of a run. The class `Tracer` implements this protocol."""

    def read_mask(self, mask: torch.Tensor, *, drops: bool) -> object | None:
        """Return what a mask leaves; None if its values are not known.

        If ``drops``, truth values are true for the pairs that the mask removes.
        """

    def share_left(self, masks: Sequence[Any]) -> Fraction | None:
        """Return the share of the pairs that all of these masks leave; None if it is not known."""

    def read_number(self, value: object) -> float | None:
        """Return the number that an argument holds; None if it is not known, or is no single number."""

    def credit_again(self, key: Any, times: int, work: Work) -> None:
        """Replace the work of earlier calls, which were credited under ``key``."""


class _Product(NamedTuple):
    """A product whose output may be scores of attention, or gradients of weights."""

    #: The key of `Tracer.credits`.
    key: Any
    times: int


class _Scores(NamedTuple):
    """The output of products, and the masks that were added since then."""

    products: tuple[_Product, ...]
    masks: tuple[Any, ...] = ()
    #: The first operator with a mask whose values are not known; empty if all are known.
    unknown: str = ""


class _Weights(NamedTuple):
    """Weights of attention, or gradients of scores: 0 for each pair that a mask removes."""

    #: The share of the other pairs.
    share: Fraction


#: Products that are no scores if they multiply with a weight, as nearly all of them do.
_PLAIN = "aten.mm"
#: Operators that keep zeros: weights stay weights. Each may write to its first argument.
_KEEPING_ZEROS = frozenset(f"aten.{name}{end}" for name in ("mul", "div", "neg") for end in ("", "_")) | COPIES

#: Operators that put a number in place of some elements. They keep zeros if it is 0.
_FILLING = ("aten.masked_fill", "aten.masked_fill_", "aten.where")


class AttentionMasks:
    """The masks of the attention that one run computes.

    Args:
        tracker: the object that knows which module is running.
    """

    def __init__(self, tracker: ModuleTracker) -> None:
        self._tracker = tracker
        #: (work, masked FLOPs) → the work with these masked FLOPs, so that equal calls share one object.
        self._works: dict[tuple[Work, int], Work] = {}
        #: (path of the module, operator) of the first call whose mask is not known, and the number of such calls.
        self._first_unknown: tuple[str, str] | None = None
        self._unknown_calls = 0
        #: What is known of the tensors between the products of attention.
        self.between: StorageTable[tuple[_Scores | _Weights, int]] = StorageTable()

    def masked(  # noqa: PLR0913, PLR0917 -- a call and its work
        self,
        info: OperatorInfo,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        output: Any,
        work: Work,
        reader: Reader,
    ) -> Work:
        """Return the work of a call of fused attention, with the FLOPs that its masks leave.

        If the values of a mask are not known, return ``work`` unchanged, and note the call.
        """

        def kept(mask: torch.Tensor, *, drops: bool) -> Fraction | None:
            read = reader.read_mask(mask, drops=drops)
            return None if read is None else reader.share_left([read])

        flops = masked_flops_of(info, args, kwargs, output, work.flops, kept)
        if flops is None:
            self.note_unknown(info.name)
            return work
        return self._with(work, flops)

    def of_product(self, args: Sequence[Any], work: Work) -> Work:
        """Return the work of a product. If an operand has zeros for removed pairs, the product leaves them out."""
        for operand in args:
            found = self._find(operand)
            if type(found) is _Weights:
                return self._with(work, work.flops * found.share.numerator // found.share.denominator)
        return work

    def follow(  # noqa: PLR0913, PLR0917 -- a call, and how it was credited
        self,
        info: OperatorInfo,
        args: Sequence[Any],
        output: Any,
        product: tuple[Any, int],
        is_weight: Callable[[torch.Tensor], bool],
        reader: Reader,
    ) -> None:
        """Record what an operator does to scores or weights of attention.

        Args:
            info: the operator.
            args: the positional arguments of the call.
            output: the output of the call.
            product: the key under which the call was credited, and how many calls it stands for.
            is_weight: returns whether a tensor existed before the run.
            reader: reads the masks.
        """
        result = output[0] if isinstance(output, tuple) and output else output
        if not isinstance(result, torch.Tensor) or result.layout is not torch.strided:
            return
        state = self._after(info, args, result, product, is_weight, reader)
        storage = result.untyped_storage()
        if state is not None:
            self.between.keep(storage, (state, result.numel()))
        elif info.written:
            self.between.pop(storage._cdata, None)

    def _after(  # noqa: PLR0913, PLR0917 -- as for `follow`, and one case an operator
        self,
        info: OperatorInfo,
        args: Sequence[Any],
        result: torch.Tensor,
        product: tuple[Any, int],
        is_weight: Callable[[torch.Tensor], bool],
        reader: Reader,
    ) -> _Scores | _Weights | None:
        name = info.name
        if name in PRODUCTS:
            return self._made_by_product(name, args, product, is_weight, reader)
        if name in SOFTMAX:
            scores = self._find(args[0])
            last = args[1] in (-1, result.ndim - 1)
            return self._masked_by_softmax(scores, reader) if type(scores) is _Scores and last else None
        if name == SOFTMAX_BACKWARD:
            gradient, weights = self._find(args[0]), self._find(args[1])
            if type(weights) is not _Weights:
                return None
            if type(gradient) is _Scores:
                self._credit_again(gradient.products, weights.share, reader)
            return weights
        found = [state for state in map(self._find, args[:3]) if state is not None]
        if not found:
            return None
        weights = next((state for state in found if type(state) is _Weights), None)
        if weights is not None:
            kept = name in _KEEPING_ZEROS or (name in _FILLING and self._fills_with_zero(name, args, reader))
            return weights if kept else None
        first = next(state for state in found if type(state) is _Scores)
        return self._with_masks(info, first, args, reader)

    def _made_by_product(
        self,
        name: str,
        args: Sequence[Any],
        product: tuple[Any, int],
        is_weight: Callable[[torch.Tensor], bool],
        reader: Reader,
    ) -> _Scores | None:
        if any(type(self._find(operand)) is _Weights for operand in args):
            return None
        if name == _PLAIN and any(map(is_weight, args)):
            return None
        scores = _Scores((_Product(*product),))
        if name == "aten.baddbmm":
            mask = reader.read_mask(args[0], drops=False)
            if mask is not None:
                return scores._replace(masks=(mask,))
        return scores

    def _with_masks(self, info: OperatorInfo, scores: _Scores, args: Sequence[Any], reader: Reader) -> _Scores | None:
        """Return the scores after an operator that works element by element, with the mask that it applies."""
        name = info.name.removesuffix("_")
        mask, drops = None, False
        if name in ("aten.add", "aten.sub"):
            others = [item for item in args[:2] if isinstance(item, torch.Tensor) and self._find(item) is None]
            if others and name == "aten.add" and others[0].ndim:
                mask = others[0]
                if mask.dtype is torch.bool or not mask.is_floating_point():
                    return scores
        elif name == "aten.masked_fill":
            if _removes(reader.read_number(args[2])):
                mask, drops = args[1], True
        elif name == "aten.where":
            fills = [item for item in args[1:] if self._find(item) is None]
            if len(fills) == 1 and _removes(reader.read_number(fills[0])):
                mask, drops = args[0], fills[0] is args[1]
        if mask is None:
            return scores
        read = reader.read_mask(mask, drops=drops)
        if read is not None:
            return scores._replace(masks=(*scores.masks, read))
        # Truth values are certainly a mask. Numbers may be a learned bias.
        return scores._replace(unknown=scores.unknown or info.name) if name != "aten.add" else scores

    def _fills_with_zero(self, name: str, args: Sequence[Any], reader: Reader) -> bool:
        fills = [item for item in args[1:] if self._find(item) is None] if name == "aten.where" else [args[2]]
        return len(fills) == 1 and reader.read_number(fills[0]) == 0

    def _masked_by_softmax(self, scores: _Scores, reader: Reader) -> _Weights | None:
        share = reader.share_left(scores.masks) if scores.masks and not scores.unknown else None
        if share is None:
            if scores.masks or scores.unknown:
                self.note_unknown(scores.unknown or "aten._softmax")
            return None
        self._credit_again(scores.products, share, reader)
        return _Weights(share)

    def _credit_again(self, products: Iterable[_Product], share: Fraction, reader: Reader) -> None:
        for key, times in products:
            work = key[1]
            flops = work.flops * share.numerator // share.denominator
            reader.credit_again(key, times, self._with(work, flops))

    def _find(self, tensor: object) -> _Scores | _Weights | None:
        if not isinstance(tensor, torch.Tensor) or tensor.layout is not torch.strided:
            return None
        found = self.between.get(tensor.untyped_storage()._cdata)
        # A part of a tensor may have another share of removed pairs.
        return None if found is None or found[0][1] != tensor.numel() else found[0][0]

    def _with(self, work: Work, flops: int) -> Work:
        if flops == work.masked_flops:
            return work
        key = (work, flops)
        known = self._works.get(key)
        if known is None:
            known = self._works[key] = work.masked(flops)
        return known

    def note_unknown(self, operator: str) -> None:
        """Record that the values of the mask of an operator are not known."""
        if self._first_unknown is None:
            self._first_unknown = self._tracker.current().path, operator
        self._unknown_calls += 1

    def notes(self) -> Iterator[str]:
        """Yield a sentence on the masks whose values are not known, if there are any."""
        if self._first_unknown is not None:
            path, operator = self._first_unknown
            more = "" if self._unknown_calls == 1 else f" and {pluralize(self._unknown_calls - 1, 'more call')}"
            yield (
                f"masked_flops counts all pairs in {path or 'the model itself'} ({operator}){more}: "
                "the values of the mask are not known without data"
            )

    def release(self) -> None:
        """Drop what is known of tensors."""
        self.between = StorageTable()


def _removes(number: float | None) -> bool:
    return number is not None and removes(number)
