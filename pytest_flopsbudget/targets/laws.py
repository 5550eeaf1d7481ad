"""Load the model that a target names, and find out how its costs grow with the sizes in braces."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pytest_flopsbudget.errors import UsageError
from pytest_flopsbudget.laws.law import law
from pytest_flopsbudget.targets.grammar import CallOptions, parse_inputs, parse_kwargs, parse_target
from pytest_flopsbudget.targets.inputs import make_arguments
from pytest_flopsbudget.targets.loading import explained, load
from pytest_flopsbudget.targets.sizes import symbols_in, with_sizes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pytest_flopsbudget.laws.law import Law
    from pytest_flopsbudget.targets.grammar import Target


class SymbolicTarget:
    """A target and its inputs as the user typed them, with symbols in place of some sizes.

    Args:
        text: the target.
        inputs: the values of --input.
        kwargs: the value of --kwargs; None without the option.
        batch: the value of --batch.
        backward: whether the backward pass is counted too.
    """

    def __init__(
        self, text: str, inputs: Sequence[str], kwargs: str | None, *, batch: int | None, backward: bool
    ) -> None:
        self.text, self._inputs, self._kwargs = text, inputs, kwargs
        self._batch, self._backward = batch, backward
        #: The symbols, in the order of their first use.
        self.symbols = symbols_in([text, *inputs, *([] if kwargs is None else [kwargs])])
        #: Whether a size is one of the model, which is then built for each size.
        self.is_built_for_sizes = bool(symbols_in([text.partition("?")[0]]))

    def fixed(self, sizes: Mapping[str, int]) -> SymbolicTarget:
        """Return the target with a size in place of some of its symbols."""
        return SymbolicTarget(
            with_sizes(self.text, sizes),
            [with_sizes(text, sizes) for text in self._inputs],
            None if self._kwargs is None else with_sizes(self._kwargs, sizes),
            batch=self._batch,
            backward=self._backward,
        )

    def at(self, sizes: Mapping[str, int]) -> Target:
        """Return the target for one size of each symbol.

        Raises:
            UsageError: the target, an input or kwargs has the wrong form.
        """
        options = CallOptions(
            inputs=parse_inputs([with_sizes(text, sizes) for text in self._inputs]),
            kwargs={} if self._kwargs is None else parse_kwargs(with_sizes(self._kwargs, sizes)),
            batch=self._batch,
            backward=self._backward,
        )
        return parse_target(with_sizes(self.text, sizes)).with_defaults(options)


def law_of_target(  # noqa: PLR0913 -- the options of a law
    target: SymbolicTarget,
    ranges: Mapping[str, range],
    folder: Path,
    *,
    on_data: bool = False,
    devices: Sequence[str] = (),
    metrics: Sequence[str] | None = None,
) -> tuple[Law, tuple[str, ...]]:
    """Return the law of a target, and sentences on where the model comes from.

    Args:
        target: the target.
        ranges: symbol → its sizes.
        folder: the folder from which the project's modules are imported, and to which paths of files are relative.
        on_data: whether a model that needs data may run on inputs of zeros.
        devices: names of devices for which the time is estimated.
        metrics: the keys of the metrics whose laws are searched; None for all.

    Raises:
        UsageError: the model cannot be loaded, refuses a size, or needs data.
    """
    smallest = target.at({symbol: sizes[0] for symbol, sizes in ranges.items()})
    with explained(smallest, folder):
        loaded = load(smallest, folder)

    def make_inputs(**sizes: int) -> Any:
        one = target.at(sizes)
        if target.is_built_for_sizes:
            found = load(one, folder)
            return found.model, (found.args, found.kwargs)
        arguments = make_arguments(loaded.model, one.options, None)
        return arguments.args, arguments.kwargs

    try:
        with explained(smallest, folder):
            found = law(
                None if target.is_built_for_sizes else loaded.model,
                make_inputs,
                backward=smallest.options.backward,
                on_data=on_data,
                devices=devices,
                metrics=metrics,
                **ranges,  # type: ignore[arg-type] # mypy takes the sizes for the other options
            )
    except UsageError as error:
        raise UsageError(_as_options(str(error), smallest, target)) from error
    return found, loaded.notes


def _as_options(text: str, smallest: Target, target: SymbolicTarget) -> str:
    """Return an error message of `law` with options of the command line in place of Python arguments."""
    text = text.replace(smallest.text, target.text, 1).replace("law(...): ", "").replace("law(...) at", "at")
    text = text.replace(
        "allow runs on the data of make_inputs with on_data=True", "allow runs on inputs of zeros with --on-data"
    )
    text = re.sub(
        r"(\w+)=range\((\d+), (\d+), (\d+)\)",
        lambda found: f"--{found[1]} {found[2]}:{int(found[3]) - 1}:{found[4]}",
        text,
    )
    given = smallest.options.inputs
    if "indices" in text and given and all(one.dtype.startswith("float") for one in given):
        text += "; token ids are whole numbers: write :int64 after the sizes of the input"
    return text
