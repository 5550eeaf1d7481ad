"""Check that a model has the same counts in each way to run it in PyTorch."""

from __future__ import annotations

import copy
import dataclasses
from typing import TYPE_CHECKING, Any

import pytest
import torch
from features import need
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import _pytree as pytree
from zoo import for_real, on_shapes

from pytest_flopsbudget.counting.measure import measure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MODES = (torch.enable_grad, torch.no_grad, torch.inference_mode)


@dataclasses.dataclass(frozen=True)
class Case:
    """A model with its inputs and its MACs. The MACs are computed by hand."""

    build: Callable[[], torch.nn.Module]
    macs: int
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = dataclasses.field(default_factory=dict)
    #: A module whose MACs are not part of ``macs``, or None.
    besides: str | None = None
    #: Why a run on shapes is not enough, or "" if it is.
    needs_data: str = ""
    #: Whether to decompose the exported program too, which is slow.
    decompositions: bool = False
    #: Why `torch.export`, `torch.jit.script` or `torch.jit.trace` is left out, or "" if it is not.
    no_export: str = ""
    no_script: str = ""
    no_trace: str = ""
    #: The feature in `features.FEATURES` that `torch.export` needs for this model, or "" if every PyTorch exports it.
    export_needs: str = ""

    def check(self, counted: Any) -> None:
        """Check that the MACs are right and that no operator is unknown."""
        assert not counted.unknown_operators
        left_out = 0 if self.besides is None else counted[self.besides].macs
        assert counted.macs - left_out == self.macs


def cases(table, left_out=None):
    """Parametrize a test with the cases of a table. ``left_out`` names the field with a reason to leave a case out."""
    chosen = {name: case for name, case in table.items() if not (left_out and getattr(case, left_out))}
    return pytest.mark.parametrize("case", chosen.values(), ids=chosen)


either_mode = pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])


def flops_by_module(counted: Any) -> dict[str, tuple[int, int]]:
    return {path: (module.flops, module.metrics["activations"]) for path, module in counted.modules.items()}


def totals(counted: Any) -> tuple[int, int]:
    """Return (FLOPs, activations) of the whole model."""
    return counted.flops, counted.metrics["activations"]


def with_fake_tensors(model: torch.nn.Module, mode: FakeTensorMode) -> torch.nn.Module:
    model = copy.deepcopy(model)
    for module in model.modules():
        for name, tensor in [*module._parameters.items(), *module._buffers.items()]:
            if tensor is not None:
                setattr(module, name, mode.from_tensor(tensor))
    return model


def graph_with_inputs(exported: torch.export.ExportedProgram, case: Case) -> tuple[torch.nn.Module, tuple[Any, ...]]:
    """Return the graph of the program and all its inputs: parameters, buffers, and the inputs of the case."""
    state = {**exported.state_dict, **exported.constants}
    inputs = iter(pytree.tree_leaves((case.args, case.kwargs)))
    taken = (
        next(inputs) if spec.kind is torch.export.graph_signature.InputKind.USER_INPUT else state[spec.target]
        for spec in exported.graph_signature.input_specs
    )
    return exported.graph_module, tuple(taken)


def in_modes(modes: Any, model: Any, args: Any, kwargs: Any, *, shapes: bool) -> Iterator[Any]:
    """Yield two measurements for each grad mode. The second measurement runs on data.

    If ``shapes``, the first measurement runs on shapes. Otherwise `measure` decides.
    """
    for mode in modes:
        with mode():
            yield on_shapes(model, args, kwargs) if shapes else measure(model, args, kwargs)
            yield for_real(model, args, kwargs)


def check_modes(case: Case, train: bool) -> None:
    """Check that each module has the same count in each grad mode, on shapes and on data."""
    model = case.build().train(train)
    expected = flops_by_module(measure(model, case.args, case.kwargs))
    for one in (model, torch.compile(model, backend="eager"), torch.compile(model)):
        for counted in in_modes(
            MODES if one is model else MODES[-1:], one, case.args, case.kwargs, shapes=not case.needs_data
        ):
            case.check(counted)
            assert flops_by_module(counted) == expected


def check_weights_without_data(case: Case, train: bool, inputs_without_data: bool = True) -> None:
    """Check that each module has equal counts with real, meta and fake weights, and optionally with such inputs."""
    model = case.build().train(train)
    expected = flops_by_module(measure(model, case.args, case.kwargs))
    fakes = FakeTensorMode()
    on_meta, on_fakes = copy.deepcopy(model).to("meta"), with_fake_tensors(model, fakes)
    inputs = (case.args, case.kwargs)
    ways = [(on_meta, inputs), (on_fakes, inputs)]
    if inputs_without_data:
        ways += [
            (on_meta, pytree.tree_map_only(torch.Tensor, lambda item: item.to("meta"), inputs)),
            (on_fakes, pytree.tree_map_only(torch.Tensor, fakes.from_tensor, inputs)),
        ]
    for weights, (args, kwargs) in ways:
        for mode in MODES:
            with mode():
                counted = measure(weights, args, kwargs)
            case.check(counted)
            assert flops_by_module(counted) == expected


def check_exported(case: Case) -> None:
    model = case.build().eval()
    expected = totals(measure(model, case.args, case.kwargs))
    if case.export_needs:
        need(case.export_needs)
    exported = torch.export.export(model, case.args, case.kwargs)
    for counted in in_modes(MODES, exported.module(), case.args, case.kwargs, shapes=True):
        assert totals(counted) == expected
        assert not counted.unknown_operators
    graph, inputs = graph_with_inputs(exported, case)
    for counted in in_modes(MODES[-1:], graph, inputs, {}, shapes=True):
        assert totals(counted) == expected
        assert not counted.unknown_operators
    if case.decompositions:
        decomposed = exported.run_decompositions().module()
        for counted in in_modes(MODES[-1:], decomposed, case.args, case.kwargs, shapes=True):
            assert totals(counted) == expected
            assert not counted.unknown_operators


def check_scripted(case: Case) -> None:
    plain = case.build().eval()
    expected = totals(measure(plain, case.args, case.kwargs))
    model = torch.jit.script(plain)
    for modes, train in ((MODES, False), (MODES[:1], True)):
        for counted in in_modes(modes, model.train(train), case.args, case.kwargs, shapes=not case.needs_data):
            case.check(counted)
            assert totals(counted) == expected


def check_traced(case: Case) -> None:
    plain = case.build().eval()
    expected = totals(measure(plain, case.args))
    model = torch.jit.trace(plain, case.args, check_trace=False, strict=False)
    for counted in in_modes(MODES[::2], model, case.args, {}, shapes=False):
        case.check(counted)
        assert totals(counted) == expected


def check_backward(case: Case) -> None:
    """Check the counts of forward and backward, in training and in evaluation."""
    model = case.build()
    forward = measure(model, case.args, case.kwargs)
    if case.needs_data:
        expected = measure(model, case.args, case.kwargs, backward=True)
    else:
        expected = on_shapes(model, case.args, case.kwargs, backward=True)
    assert forward.flops < expected.flops <= 3 * forward.flops
    for train in (True, False):
        counted = for_real(model.train(train), case.args, case.kwargs, backward=True)
        assert flops_by_module(counted) == flops_by_module(expected)
    if not case.needs_data:
        on_meta = copy.deepcopy(model).to("meta")
        counted = measure(on_meta, case.args, case.kwargs, backward=True)
        assert flops_by_module(counted) == flops_by_module(expected)
    if not case.no_export:
        if case.export_needs:
            need(case.export_needs)  # all that is above has passed
        exported = torch.export.export(model.train(), case.args, case.kwargs).module()
        for way in (on_shapes, for_real):
            assert totals(way(exported, case.args, case.kwargs, backward=True)) == totals(expected)
