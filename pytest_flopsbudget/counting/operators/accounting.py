"""The work of one call of an operator: FLOPs, activations, bytes, launches, messages.

The memory traffic counts every operand as read once and every output as written once ("memory access cost", Ma et al.,
ShuffleNet V2, 2018, §2.1). These are the bytes that pass between memory and processor if the cache is perfect. An
operand that is passed twice is read twice. Elements that share their memory, as in an expanded tensor, count once. An
operator that reads or writes fewer bytes registers a rule for ``traffic``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from pytest_flopsbudget.counting.costs import FREE, Call, Cost
from pytest_flopsbudget.counting.costs.activations import products_outputs
from pytest_flopsbudget.counting.costs.messages import group_size
from pytest_flopsbudget.counting.costs.operands import total_bytes
from pytest_flopsbudget.counting.operators.work import NOTHING, Work, bits_of_operand, dtype_of, precision_of
from pytest_flopsbudget.counting.tensors.metadata import tensors_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pytest_flopsbudget.counting.costs.registry import Kept
    from pytest_flopsbudget.counting.operators.info import OperatorInfo


def work_of(info: OperatorInfo, args: Sequence[Any], kwargs: Mapping[str, Any], output: Any) -> Work:
    """Return the work of one call in every metric, or `NOTHING` for a call that runs nothing."""
    launched = launches(info, args, kwargs, output)
    cost = cost_of(info, args, kwargs, output)
    message = communication(info, args, kwargs, output)
    if not (launched or message) and cost is FREE:
        return NOTHING
    chain, choice = info.facets.chain, info.facets.choice
    return Work(
        info.name,
        flops=cost.flops,
        other_flops=cost.other_flops,
        communication=message,
        activations=activations(info, args, kwargs, output) if cost.flops else 0,
        bit_operations=bit_operations(info, args, kwargs, output, cost.flops) if cost.flops else 0,
        memory_traffic=memory_traffic(info, args, kwargs, output) if launched else 0,
        launches=launched,
        steps=None if chain is None else chain(Call(info.operator, args, kwargs, output)),
        dtype=precision_of(info.name, dtype_of(args, kwargs.values(), output)),
        choice=None if choice is None else choice(Call(info.operator, args, kwargs, output)),
        grouped=info.facets.grouped,
    )


def deciding_tensors(
    info: OperatorInfo, args: Sequence[Any], kwargs: Mapping[str, Any], output: Any
) -> Iterable[torch.Tensor]:
    """Return the arguments whose values decide the cost of one call; none for a user's formula."""
    if info.facets.values is None or info.registered is not None:
        return ()
    return info.facets.values(Call(info.operator, args, kwargs, output))


def cost_of(info: OperatorInfo, args: Sequence[Any], kwargs: Mapping[str, Any], output: Any) -> Cost:
    """Return the FLOPs of one call, or `FREE` if no formula applies."""
    if _has_components(info, args):
        costs = [_cost_of_plain(info, *part) for part in _components(args, kwargs, output)]
        return Cost(sum(cost.flops for cost in costs), sum(cost.other_flops for cost in costs))
    return _cost_of_plain(info, args, kwargs, output)


def _cost_of_plain(info: OperatorInfo, args: Sequence[Any], kwargs: Mapping[str, Any], output: Any) -> Cost:
    """Return the FLOPs of a call without nested tensors."""
    if not info.computes:
        return FREE
    call = Call(info.operator, args, kwargs, output)
    if info.registered is not None:
        cost = info.registered(call)
    else:
        cost = Cost(
            info.formula(call) if info.formula else 0,
            info.other_formula(call) if info.other_formula else 0,
        )
    return cost if any(cost) else FREE


def masked_flops_of(  # noqa: PLR0913, PLR0917 -- a call, and what is known of it
    info: OperatorInfo, args: Sequence[Any], kwargs: Mapping[str, Any], output: Any, flops: int, kept: Kept
) -> int | None:
    """Return the part of the FLOPs of one call that the masks of attention leave; None if a mask is not known.

    Args:
        info: an operator with a formula for its masks (`Facets.masked`).
        args: the positional arguments.
        kwargs: the keyword arguments.
        output: the output of the call.
        flops: the FLOPs of the call.
        kept: returns the share of the pairs that a mask leaves.
    """
    formula = info.facets.masked
    if formula is None or info.registered is not None:
        return flops
    if not _has_components(info, args):
        return formula(Call(info.operator, args, kwargs, output), kept, flops)
    total = 0
    for part in _components(args, kwargs, output):
        left = formula(Call(info.operator, *part), kept, _cost_of_plain(info, *part).flops)
        if left is None:
            return None
        total += left
    return total


def activations(info: OperatorInfo, args: Sequence[Any], kwargs: Mapping[str, Any], output: Any) -> int:
    """Return the number of elements in the outputs of the matrix products and convolutions of one call."""
    if _has_components(info, args):
        return sum(products_outputs(Call(info.operator, *part)) for part in _components(args, kwargs, output))
    return products_outputs(Call(info.operator, args, kwargs, output))


def bit_operations(info: OperatorInfo, args: Sequence[Any], kwargs: Mapping[str, Any], output: Any, flops: int) -> int:
    """Return the multiply-accumulates of one call, each times the bits of its one operand and the bits of the other."""
    if info.facets.bits is None:
        own = bits_of_operand(args, kwargs.values(), output)
        return flops * own * own // 2
    one, other = info.facets.bits(Call(info.operator, args, kwargs, output))
    return flops * one * other // 2


def communication(info: OperatorInfo, args: Sequence[Any], kwargs: Mapping[str, Any], output: Any) -> int:
    """Return the bytes of the message of one call, or 0 in a group of one process."""
    if info.facets.message is None:
        return 0
    call = Call(info.operator, args, kwargs, output)
    return info.facets.message(call) if group_size(call) > 1 else 0


def launches(info: OperatorInfo, args: Sequence[Any], kwargs: Mapping[str, Any], output: Any) -> int:
    """Return 1 if the call launches a kernel in eager mode. Return 0 otherwise, for example for empty tensors."""
    if info.moves_nothing:
        return 0
    results = list(tensors_in(output))
    if info.written:
        results += info.writes_to(args, kwargs)
    if not results:  # the output is a number that Python reads
        return int(info.takes_tensors)
    return int(any(tensor.numel() for tensor in results))


def memory_traffic(info: OperatorInfo, args: Sequence[Any], kwargs: Mapping[str, Any], output: Any) -> int:
    """Return the bytes that one call reads and writes."""
    if info.moves_nothing:
        return 0
    if info.facets.traffic is not None:
        return info.facets.traffic(Call(info.operator, args, kwargs, output))
    read = total_bytes(args) + total_bytes(kwargs.values())
    if info.writes_out:
        return read  # the results are among the arguments, and the operator does not read them
    written = total_bytes(info.writes_to(args, kwargs)) if info.written else 0
    return read + written + (total_bytes((output,)) if info.behaviour == "functional" else 0)


def _has_components(info: OperatorInfo, args: Sequence[Any]) -> bool:
    return not info.across_components and any(tensor.is_nested for tensor in tensors_in(args))


def _components(
    args: Sequence[Any], kwargs: Mapping[str, Any], output: Any
) -> Iterator[tuple[Sequence[Any], Mapping[str, Any], Any]]:
    """Yield (arguments, keywords, output) for each component of the nested tensors, as for a batch of size 1."""
    count = next(tensor.size(0) for tensor in tensors_in(args) if tensor.is_nested)

    def component(value: Any, index: int) -> Any:
        if isinstance(value, torch.Tensor):
            return value.select(0, index).unsqueeze(0) if value.is_nested else value
        if isinstance(value, (list, tuple)):
            return type(value)(component(item, index) for item in value)
        return value

    for index in range(count):
        keywords = {name: component(value, index) for name, value in kwargs.items()}
        yield component(args, index), keywords, component(output, index)
