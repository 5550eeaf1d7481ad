"""The attempts to run a model for a measurement: the choice of the next attempt, and notes on failed attempts."""

from __future__ import annotations

import traceback
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import TYPE_CHECKING, Literal

import torch

from pytest_flopsbudget.errors import UsageError
from pytest_flopsbudget.results.data import PLEASE_REPORT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


Way = Literal["shapes", "settings", "integers", "data"]
#: All ways to run a model. The fastest way is first.
WAYS: tuple[Way, ...] = ("shapes", "settings", "integers", "data")
#: The ways that ``shapes="only"`` allows. Their counts do not depend on data.
SHAPES_ONLY: tuple[Way, ...] = ("shapes", "settings")


class ShapesOnlyError(UsageError):
    """A model cannot be counted on shapes alone, and a run on data is not allowed."""

    def __init__(self, message: str, asked: str = "") -> None:
        super().__init__(message)
        #: The operator that asked for data, and its module, in words.
        self.asked = asked


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt to run a model: on which tensors it runs, and with which options."""

    #: "shapes": on tensors without data. "settings": on tensors without data too, but the values of small tensors that
    #: the model holds beside its parameters (strides, scales) are known, because they are settings of the model.
    #: Large tensors that follow from Python numbers, such as masks of ones, are known too.
    #: "integers": the values of integer and boolean tensors (masks, lengths, indices) are known too; they are small,
    #: and operators that need data often need just them.
    #: "data": on the model's own data.
    way: Way
    #: Whether gradients are enabled. A forward pass runs faster without gradients, and few models compute gradients in
    #: their forward pass.
    gradients: bool
    #: Whether each clone of a module without hooks has separate dicts for hooks. If not, all clones share one dict that
    #: refuses hooks. This is faster.
    own_hooks: bool
    #: Whether a run on shapes also replaces functions that check for a device which the machine may not have.
    any_device: bool = False
    #: Whether a run on shapes keeps the values of Python lists that are used as indices: ``x[[0, -1]]``.
    keeps_lists: bool = False


@dataclass(frozen=True, slots=True)
class Failure:
    """Says why an attempt to run a model gave no result. The fields hold only text, so they keep no tensor alive."""

    #: The exception and the place where it was raised: "ZeroDivisionError in shape_rules.py:118: division by zero".
    text: str
    #: (operator, path of its module) for the first operator that needed data; None if no operator needed data.
    asked_for_data: tuple[str, str] | None = None
    #: A description of the first tensor without data in the model or its inputs; None if all tensors hold data.
    without_data: str | None = None
    #: Whether the attempt failed before the model ran. Known values of some tensors would then not help.
    needs_all_data: bool = False
    #: Whether code asked for the text of a tensor. A model may do this to build the message of an error.
    wants_text: bool = False
    #: Whether the exception was raised because this machine does not have a device.
    lacks_device: bool = False
    #: Whether the values of a Python list in an index may have been lost, so that values seemed to be unknown.
    lost_list: bool = False
    #: Whether the model holds small tensors as settings, or makes large ones of Python numbers, whose values a further
    #: run on shapes could use.
    has_settings: bool = False


@dataclass(frozen=True, slots=True)
class LeftAttempt:
    """An attempt that was given up or is repeated, and the reason."""

    attempt: Attempt
    #: The next attempt; None if there is no next attempt.
    following: Attempt | None
    #: Why the attempt failed; None if the attempt is repeated for another reason.
    failure: Failure | None = None


def describe(error: Exception) -> str:
    """Return one line with the exception, and the file and the line that raised it."""
    text = "".join(traceback.format_exception_only(error)).strip().split("\n", 1)[0]
    kind, _, message = text.partition(": ")
    frames = traceback.extract_tb(error.__traceback__)
    where = f" in {PurePath(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{kind.rpartition('.')[2]}{where}" + (f": {message}" if message else "")


def choose_next(
    attempt: Attempt, failure: Failure, ways: Sequence[Way], *, needs_gradients: bool, may_enable_gradients: bool
) -> Attempt | None:
    """Return the next attempt to run a model after a failed attempt; None if no further attempt is possible.

    Args:
        attempt: the attempt that failed.
        failure: why the attempt failed.
        ways: the ways that are allowed.
        needs_gradients: whether every attempt has to enable gradients.
        may_enable_gradients: whether the caller has enabled gradients. The model may then compute gradients.
    """
    if attempt.way != "data" and failure.lacks_device and not attempt.any_device:
        return replace(attempt, any_device=True)
    asked = failure.asked_for_data is not None
    if asked and failure.lost_list and not attempt.keeps_lists:
        return replace(attempt, keeps_lists=True)
    if (not asked or failure.wants_text) and not attempt.gradients and may_enable_gradients:
        return replace(attempt, gradients=True)  # the model may compute gradients in its forward pass
    if attempt.way == "data":
        return None
    following: Way | None = None
    if failure.needs_all_data:
        pass
    elif asked and attempt.way == "shapes" and failure.has_settings and "settings" in ways:
        following = "settings"
    elif asked and attempt.way != "integers" and "integers" in ways:
        following = "integers"
    if following is not None:
        return replace(attempt, way=following, gradients=needs_gradients)
    if failure.without_data is None and "data" in ways:
        return Attempt("data", gradients=needs_gradients, own_hooks=True)
    return None


def notes_on(left: Sequence[LeftAttempt], last: Attempt) -> Iterator[str]:
    """Yield notes that tell the user why the attempts in ``left`` failed. ``last`` is the attempt that succeeded."""
    failures = [one.failure for one in left if one.failure is not None and one.attempt.way != "data"]
    asked = next((failure.asked_for_data for failure in failures if failure.asked_for_data is not None), None)
    if last.way == "integers" and asked is not None:
        yield f"the values of integer inputs were used, because {needs_data(asked)}; the count may depend on them"
    elif last.way == "data" and asked is not None:
        yield f"ran on real data, because {needs_data(asked)}; the count may depend on that data"
    elif last.way == "data" and failures:
        yield unexpected_failure(failures[-1])


def needs_data(asked: tuple[str, str]) -> str:
    """Return a text which says that an operator needs data. ``asked`` names the operator and its module."""
    operator, path = asked
    return f"{operator} in {path or 'the model itself'!r} needs data"


def unexpected_failure(failure: Failure) -> str:
    """Return a note for the user: a run on shapes failed for another reason than missing data."""
    return (
        f"could not be counted on shapes with PyTorch {torch.__version__} ({failure.text}); {PLEASE_REPORT}, with this "
        "text; ran on real data instead, and the count may depend on that data"
    )
