"""The tracer of a run on shapes (``execution="shapes"``): no data, no weights in memory, nothing is computed.

The metadata of an operator's outputs depends only on the metadata of its inputs and on its other arguments. So PyTorch
computes the metadata for each combination once per process. Later calls get the metadata from a cache.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from pytest_flopsbudget.counting.costs.recurrent import gradients_asked
from pytest_flopsbudget.counting.distributed.world import answer_in_place, is_in_place
from pytest_flopsbudget.counting.meta import shape_rules
from pytest_flopsbudget.counting.meta.attention import ATTENTION, attention
from pytest_flopsbudget.counting.meta.deferred_values import DeferredValues
from pytest_flopsbudget.counting.meta.devices import Devices
from pytest_flopsbudget.counting.meta.dtype_errors import check_dtypes
from pytest_flopsbudget.counting.meta.known_values import KnownValues
from pytest_flopsbudget.counting.meta.mask_pairs import Mask, may_be_mask, share_left
from pytest_flopsbudget.counting.operators.accounting import deciding_tensors, work_of
from pytest_flopsbudget.counting.operators.info import PACKS
from pytest_flopsbudget.counting.operators.work import NOTHING
from pytest_flopsbudget.counting.tensors.metadata import (
    PLAIN_TYPES,
    append_key,
    is_on_meta,
    restore_output,
    spec_of,
    tensors_in,
    to_meta,
)
from pytest_flopsbudget.counting.torch_private import disable_current_modes
from pytest_flopsbudget.counting.tracing.tracer import Tracer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from fractions import Fraction

    from pytest_flopsbudget.counting.operators.info import OperatorInfo
    from pytest_flopsbudget.counting.operators.work import Work
    from pytest_flopsbudget.counting.torch_private import OpOverload
    from pytest_flopsbudget.counting.tracing.modules import ModuleTracker


#: Call → (metadata of its output, its work). Both depend only on the call and on PyTorch, so an entry never becomes
#: wrong.
_ANSWERS: dict[tuple[Any, ...], tuple[Any, Work]] = {}
#: The number of entries at which the cache is emptied. If a process makes so many different calls, the cache does not
#: help.
_MAX_ANSWERS = 200_000

_CPU, _META = torch.device("cpu"), torch.device("meta")
_default_dtype = torch.get_default_dtype
#: This operator makes zeros without memory, for forward-mode derivatives. PyTorch treats them unlike other tensors of
#: zeros, so metadata is not enough to make the output again.
_EFFICIENT_ZEROS = "aten._efficientzerotensor"
_MASKS = (torch.bool, torch.uint8)
#: Operators that wait for a collective and return their argument. PyTorch's meta kernel returns another tensor.
_WAITS = ("_c10d_functional.wait_tensor", "c10d_functional.wait_tensor")


#: A part of PyTorch's error message that a nested tensor cannot be on the meta device.
_NESTED = "NestedTensorImpl storage must be"


class NeedsDataError(Exception):
    """The result of an operator depends on values, but only shapes are known."""


class _OnlyNumbersError(Exception):
    """An operator that takes tensors was called with Python numbers only, so its result can be computed."""


class ShapesTracer(Tracer):
    """Returns the output of every operator as tensors on the meta device with the right metadata."""

    def __init__(self, tracker: ModuleTracker, *, reuse_answers: bool = True) -> None:
        super().__init__(tracker)
        #: Whether outputs come from the cache and from shape rules. If not, PyTorch computes the metadata for every
        #: call.
        self._reuse_answers = reuse_answers
        self.known_values = KnownValues()
        #: The values of masks.
        self.deferred = DeferredValues(self.known_values)
        #: The device that each tensor would be on in a real run.
        self.devices = Devices()
        #: Whether a model is built, and not run.
        self.builds = False
        #: Returns whether a following attempt may know the values of a tensor. Then an operator whose cost depends on
        #: these values asks for data, instead of counting an upper bound.
        self.may_be_known_later: Callable[[torch.Tensor], bool] = _never
        #: Whether an index that reads elements had a tensor which no operator made. PyTorch makes such tensors from
        #: Python lists, without the values of the lists. See `lists_in_index_kept`.
        self.lost_list = False
        #: The first operator that needed data, and the path of its module. It is kept because the model may catch the
        #: exception, and then take another path than with data.
        self.asked_for_data: tuple[str, str] | None = None

    def follow(
        self, info: OperatorInfo, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any, work: Work
    ) -> None:
        """Count a call, and record the memory that it allocated and the values of a mask that it made."""
        if info.keeps_values:
            self.deferred.follow(info, args, kwargs, output)
        super().follow(info, args, kwargs, output, work)

    def read_mask(self, mask: torch.Tensor, *, drops: bool) -> object | None:
        """Return what a mask of attention leaves; None if its values are not known."""
        values = self.deferred.mask(mask) if may_be_mask(mask) else None
        return None if values is None else Mask(values, drops)

    def share_left(self, masks: Sequence[Any]) -> Fraction | None:
        """Return the share of the pairs that all of these masks (`read_mask`) leave; None if it is not known."""
        return share_left(masks)

    def share_of_mask(self, make: Callable[[], torch.Tensor]) -> Fraction | None:
        """Return the share of the pairs that a mask leaves; None if its values are not known."""
        before, asked = self._counts, self.asked_for_data
        self._counts = False
        try:
            with self, torch.no_grad():
                mask = make()
        except (NeedsDataError, RuntimeError):  # PyTorch raises the latter for tensors that are not the model's
            self.asked_for_data = asked
            return None
        finally:
            self._counts = before
        read = self.read_mask(mask, drops=False)
        return None if read is None else self.share_left([read])

    def decompose(self, operator: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run the operators that the CPU would run in place of a composite operator."""
        if operator is ATTENTION and is_on_meta(args[0]):
            return attention(*args, **kwargs)
        return super().decompose(operator, args, kwargs)

    def answer(self, info: OperatorInfo, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, Work]:
        """Return the output without data, and the work that the call would do.

        Raises:
            NeedsDataError: the result depends on values that are not known.
        """
        if not self._reuse_answers:
            return self._answer_anything(info, args, kwargs)
        if info.is_view and args and type(args[0]) in PLAIN_TYPES and is_on_meta(args[0]):
            return info.operator(*args, **kwargs), NOTHING
        if (
            info.is_plain
            and not (self.known_values and self._may_be_known(info, args))
            and (info.creates_only or _is_on_meta(info, args, kwargs))
        ):
            parts: list[Any] = [info, _default_dtype()]
            append_key(parts, [], args)
            if kwargs:
                parts.extend(kwargs)
                append_key(parts, [], kwargs.values())
            try:
                output, work = self._answer_cached(tuple(parts), info, args, kwargs)
            except _OnlyNumbersError:
                return self._answer_numbers(info, args, kwargs)
            if self.devices.others:
                self._note_device(info, args, kwargs, output)
            return self._written_arguments(info, args) if info.behaviour == "inplace" else output, work
        return self._answer_anything(info, args, kwargs)

    def _answer_anything(
        self, info: OperatorInfo, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[Any, Work]:
        """Return the output and the work for any operator and any arguments, and note the device of the output."""
        try:
            output, work = self._answer(info, args, dict(kwargs))
        except _OnlyNumbersError:
            return self._answer_numbers(info, args, kwargs)
        if info.has_device or self.devices.others or info.name == "aten.lift_fresh":
            self._note_device(info, args, kwargs, output)
        return output, work

    def _answer_numbers(self, info: OperatorInfo, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, Work]:
        """Compute an operator whose arguments are all Python numbers, such as ``torch.div(5, 2)``."""
        output = self.known_values.with_meta_clones(info.operator(*args, **kwargs))
        return output, work_of(info, args, kwargs, output)

    def _note_device(self, info: OperatorInfo, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any) -> None:
        """Note the device of the output in a real run: the device in the arguments, or else that of the inputs."""
        if info.behaviour == "inplace":
            return
        wanted = kwargs.get("device") if info.has_device else None
        if wanted is None:
            self.devices.inherit((*args, *kwargs.values()), output)
        elif wanted != _META and (self.devices.others or wanted != self.devices.usual):
            for tensor in tensors_in(output):
                self.devices.note(tensor, wanted)

    def _answer(self, info: OperatorInfo, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Work]:
        """Return the output and the work for any operator. For common operators, `answer` has a faster way."""
        if info.is_collective or info.name == PACKS:
            special = self._answer_collective if info.is_collective else self._answer_packing
            return special(info, args, kwargs)
        positions = self._replace_known_masks(args[1]) if info.name == "aten.index" else None
        if positions is not None:
            output, _ = self._answer(info, (args[0], positions), kwargs)
            return output, work_of(info, args, kwargs, output)  # the real operator reads the mask
        wants_cpu = info.name == "aten._to_copy" and kwargs.get("device") == _CPU
        if info.has_device:
            self._redirect_to_meta(info, kwargs)
        parts: list[Any] = [info, _default_dtype()]  # a new formula for the operator makes a new info
        tensors: list[torch.Tensor] = []
        append_key(parts, tensors, args)
        if kwargs:
            parts.extend(kwargs)
            append_key(parts, tensors, kwargs.values())
        if tensors and (self.known_values or info.name == "aten.lift_fresh"):
            found, output = self._answer_from_known_values(info, args, kwargs, tensors, wants_cpu)
            if found:
                return output, work_of(info, args, kwargs, output)
        self._refuse_without_data(info, args, kwargs)
        output, work = self._answer_without_data(tuple(parts), info, args, kwargs)
        if info.behaviour == "inplace":
            output = self._written_arguments(info, args)
        if info.fills or info.is_constant:
            self._remember_constant(output, info, args, kwargs)
        return output, work

    def _answer_packing(self, info: OperatorInfo, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Work]:
        """Return the packed sequences, and the work of packing them. The lengths of the sequences must be known."""
        padded, lengths, *options = args
        known = self.known_value(lengths)
        if known is None:
            self.require_data(info.name)
        output = info.operator(to_meta(padded), known, *options, **kwargs)
        self.known_values.track_on_cpu(output[1])
        return output, work_of(info, args, kwargs, output)

    def _remember_constant(
        self, output: Any, info: OperatorInfo, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """Note the values of a small output if they follow from Python numbers alone."""
        if not isinstance(output, torch.Tensor):
            return
        if output.numel() > self.known_values.max_elements:
            self.known_values.left_out = True
            return
        remember = self.known_values.remember_filled if info.fills else self.known_values.remember_computed
        remember(output, info, args, kwargs)

    def _answer_collective(self, info: OperatorInfo, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Work]:
        """Return a collective's output without communication.

        The output is not cached, because its shape depends on the world size.
        """
        written = tuple(info.writes_to(args, kwargs))
        if not all(map(is_on_meta, written)):
            self.require_data(info.name)
        for tensor in written:
            self.known_values.forget(tensor)
        if info.name in _WAITS:
            return args[0], work_of(info, args, kwargs, args[0])
        if not is_in_place(info.name):
            output, work = self._run(info, args, kwargs)
            return self._written_arguments(
                info, args
            ) if info.behaviour == "inplace" and info.returned else output, work
        output = answer_in_place(info.operator, args)
        return output, work_of(info, args, kwargs, output)

    def _answer_without_data(
        self, key: tuple[Any, ...], info: OperatorInfo, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, Work]:
        if info.facets.values:  # the cost depends on values, so shapes are not enough for a cache
            output, _ = self._run(info, args, kwargs)
            return output, self.work_by_values(info, args, kwargs, output)
        if info.behaviour == "alias" or not info.known or not self._reuse_answers or info.name == _EFFICIENT_ZEROS:
            return self._run(info, args, kwargs)
        return self._answer_cached(key, info, args, kwargs)

    def _may_be_known(self, info: OperatorInfo, args: tuple[Any, ...]) -> bool:
        """Return whether the output's values may be known, or whether the call may overwrite known values."""
        if info.written:
            return True
        if info.formula is not None:
            return False
        # The output's values are known only if the values of all arguments are known. Values of large tensors never
        # are.
        first = args[0] if args else None
        if isinstance(first, (list, tuple)) and first:
            first = first[0]
        return not isinstance(first, torch.Tensor) or not self.known_values.is_too_large(first)

    def known_value(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """Return the tensor's values; None if they are not known."""
        return self.known_values.value(tensor) if is_on_meta(tensor) else tensor

    def _answer_cached(
        self, key: tuple[Any, ...], info: OperatorInfo, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[Any, Work]:
        """Return output and work, from the cache if possible. The output of an in-place operator may be None."""
        if info.facets.by_gradients:
            key += (torch.is_grad_enabled(), *gradients_asked(), *(tensor.requires_grad for tensor in tensors_in(args)))
        try:
            known = _ANSWERS.get(key)
        except (TypeError, NotImplementedError):  # an argument cannot be hashed or compared
            return self._run(info, args, kwargs)
        if known is not None:
            spec, work = known
            return restore_output(spec), work
        output, work = self._run(info, args, kwargs)
        if len(_ANSWERS) >= _MAX_ANSWERS:
            _ANSWERS.clear()
        _ANSWERS[key] = (spec_of(output) if info.behaviour == "functional" else None, work)
        return output, work

    def _replace_known_masks(self, indices: Sequence[torch.Tensor | None]) -> list[torch.Tensor | None] | None:
        """Replace each mask whose values are known by the positions that the mask selects.

        Returns:
            The indices, with positions in place of known masks; None if the values of no mask are known.
        """
        found: list[torch.Tensor | None] = []
        knows = False
        for index in indices:
            value = self.known_values.value(index) if index is not None and index.dtype in _MASKS else None
            if value is None:
                found.append(index)
            else:
                knows = True
                found.extend(
                    self.known_values.with_meta_clones(positions) for positions in value.nonzero(as_tuple=True)
                )
        return found if knows else None

    @staticmethod
    def _redirect_to_meta(info: OperatorInfo, kwargs: dict[str, Any]) -> None:
        """Change the keyword arguments to make the operator return its output on the meta device."""
        if kwargs.get("device") is not None or not info.takes_tensors:
            kwargs["device"] = _META
        if kwargs.get("pin_memory"):
            kwargs["pin_memory"] = False
        if kwargs.get("generator") is not None:
            kwargs["generator"] = None  # a generator works only on the device of the generator, which is not meta

    def _run(self, info: OperatorInfo, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Any, Work]:
        """Get the output from a shape rule, or else from PyTorch's meta kernel.

        Raises:
            _OnlyNumbersError: no argument is a tensor, although the operator takes tensors.
        """
        if info.is_plain and info.takes_tensors and next(tensors_in((*args, *kwargs.values())), None) is None and args:
            raise _OnlyNumbersError
        given, args = args, tuple(map(to_meta, args))
        kwargs = {name: to_meta(value) for name, value in kwargs.items()}
        if info.is_view and given and args[0] is not given[0] and isinstance(given[0], torch.Tensor):
            self.deferred.remember_original(args[0], given[0])  # a mask that is neither the model's nor an input
        check_dtypes(info, args, kwargs)
        output = (
            shape_rules.infer_output(info, args, kwargs)
            if self._reuse_answers
            else shape_rules.infer_corrected_output(info, args, kwargs)
        )
        if output is None:
            try:
                output = to_meta(info.operator(*args, **kwargs))
            except (NotImplementedError, RuntimeError) as error:
                if isinstance(error, NotImplementedError) or _NESTED in str(error):  # no meta kernel exists
                    self.require_data(info.name)
                raise
        return output, work_of(info, args, kwargs, output)

    @staticmethod
    def _written_arguments(info: OperatorInfo, args: Sequence[Any]) -> Any:
        """Return the arguments that an in-place operator returns; None if it returns nothing."""
        if not info.returned:
            return None
        returned = [args[position] for position in info.returned]
        return returned[0] if len(returned) == 1 else tuple(returned)

    def _answer_from_known_values(
        self,
        info: OperatorInfo,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        tensors: Sequence[torch.Tensor],
        wants_cpu: bool,
    ) -> tuple[bool, Any]:
        """Return (true, output) if the output follows from known values. Otherwise, return (false, None)."""
        value = args[0] if info.name == "aten.lift_fresh" else None
        if value is not None and not is_on_meta(value):
            follow = value.numel() <= self.known_values.max_elements
            return follow, self.known_values.with_meta_clones(value) if follow else None
        if info.formula is not None or not info.known or info.is_random or (info.written and info.behaviour == "alias"):
            known = None
        else:
            known = self.known_values.values(tensors) if self.known_values.can_compute(info, tensors) else None
        if known is None:
            for tensor in info.writes_to(args, kwargs):
                self.known_values.forget(tensor)
            if info.name == "aten.copy_":
                self.known_values.remember_copied(args[0], args[1])
            return False, None
        if info.behaviour == "alias" and not info.needs_data and is_on_meta(tensors[0]):
            return False, None  # a view on meta shares its storage, and known values belong to a storage
        output = self.known_values.compute(info, known, args, kwargs)
        if info.behaviour == "inplace":
            return True, self._written_arguments(info, args)
        if info.behaviour == "alias":
            return True, output  # the output is a view of real values
        if wants_cpu or not all(map(is_on_meta, tensors)):
            return True, self.known_values.track_on_cpu(output)
        return True, self.known_values.with_meta_clones(output)

    def _refuse_without_data(self, info: OperatorInfo, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        if info.needs_data:
            if info.name == "aten.index" and not self.lost_list:
                self.lost_list = any(index is not None and not self.memory.has_allocated(index) for index in args[1])
            refused = _depends_on_values(info, args, kwargs)
        elif info.facets.values:
            deciding = deciding_tensors(info, args, kwargs, None)
            refused = any(
                self.known_value(item) is None and (self.lost_list or self.may_be_known_later(item))
                for item in deciding
            )
        else:
            # The write would not happen, so a tensor with data would keep wrong values.
            refused = bool(info.written) and not all(map(is_on_meta, info.writes_to(args, kwargs)))
        if refused:
            self.require_data(info.name)

    def release(self) -> None:
        """Drop the known values, and all references to modules and tensors. Call this after the result is built."""
        super().release()
        self.may_be_known_later = _never
        self.known_values = KnownValues()
        self.deferred = DeferredValues(self.known_values)

    def read_known(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """Return the tensor's values, for code that runs while this tracer is active; None if they are not known."""
        with disable_current_modes():
            return self.known_values.value(tensor)

    def require_data(self, name: str) -> None:
        """Record which operator needs data, and raise an error.

        Raises:
            NeedsDataError: always.
        """
        if self.asked_for_data is None:
            self.asked_for_data = (name, self.tracker.current().path)
        raise NeedsDataError(f"{name} needs data")


def _never(_: torch.Tensor) -> bool:
    return False


def _is_on_meta(info: OperatorInfo, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Return whether all tensors that the operator makes or writes to are on the meta device."""
    if info.has_device and kwargs.get("device") != _META:
        return False
    if info.written and kwargs:
        return False
    for position in info.written:
        written = args[position] if position < len(args) else None
        if written is not None and not (isinstance(written, torch.Tensor) and is_on_meta(written)):
            return False
    return True


def _depends_on_values(info: OperatorInfo, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Return whether the size of this call's output depends on values.

    ``info`` is an operator that needs data in some calls only. For example, an argument may give the output's size.
    """
    if info.name == "aten.index":
        return any(index is not None and index.dtype in _MASKS for index in args[1])
    return kwargs.get("output_size") is None  # the argument ``output_size`` of ``repeat_interleave`` gives the size
