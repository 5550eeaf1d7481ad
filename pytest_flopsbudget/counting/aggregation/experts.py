"""Find routed experts in a trace, and how many of them each token uses.

A router chooses ``chosen`` of ``candidates`` experts for each of its rows: the trace has this call, of ``topk`` for
example. The experts are equal parts of the model, as many as there are candidates. They belong to this router if the
forward pass multiplied their weights with ``rows * chosen`` rows in total. So nothing is read from names.
"""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from typing import TYPE_CHECKING, Literal, NamedTuple

from pytest_flopsbudget.counting.tensors.metadata import UNINITIALIZED, count_values
from pytest_flopsbudget.counting.torch_private import convolution_class
from pytest_flopsbudget.errors import UsageError
from pytest_flopsbudget.quantities.parsing import quote_value

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    import torch

    from pytest_flopsbudget.counting.costs.registry import Choice
    from pytest_flopsbudget.counting.operators.work import Work
    from pytest_flopsbudget.counting.tracing.nodes import Node
    from pytest_flopsbudget.counting.tracing.tracer import WorkPhase


#: The attribute of a module by which the user says (chosen, experts) for all parameters in it.
SETTING = "flops_budget_experts"
#: The shape of a stack of matrices, one for each expert, has at least three dimensions; the shape of a matrix has two.
_STACK, _MATRIX = 3, 2
_FORWARD = ("forward", "setup")


class Experts(NamedTuple):
    """A module with routed experts."""

    path: str
    #: The parameters of all its experts.
    parameters: Sequence[torch.Tensor]
    #: The number of experts that each token uses; None if it is not known.
    chosen: int | None
    #: The number of experts; 0 if it is not known.
    number: int
    #: Whether each token runs through all experts, and the router only decides which results count.
    runs_all: bool = False


class _Candidate(NamedTuple):
    """A module that may hold routed experts, before a router is found for it."""

    path: str
    number: int
    #: "stack": the first dimension of each parameter is that of the experts. "rows": the rows of each matrix belong to
    #: the experts, one after the other. "list": each expert is a module.
    kind: Literal["stack", "rows", "list"]
    #: Parameters of the experts in which products multiply.
    matrices: Sequence[torch.Tensor]
    #: Other parameters that may belong to the experts, such as biases.
    vectors: Sequence[torch.Tensor] = ()


class _Choices:
    """All choices in the forward calls of one module that choose equally many of equally many candidates."""

    __slots__ = ("chosen", "first", "node", "number", "operators", "ranks", "rows")

    def __init__(self, node: Node, choice: Choice, first: int) -> None:
        self.node = node
        #: The number of candidates.
        self.number = choice.candidates
        self.chosen = choice.chosen
        self.ranks = choice.ranks
        #: The place of the first one in the order of the trace.
        self.first = first
        #: The number of rows in all calls of the forward pass.
        self.rows = 0
        #: The number of calls of operators that choose, and that checkpointing called again.
        self.operators = 0

    def times(self) -> Fraction:
        """Return how often one call of the module chooses: the best expert, and then the best of the others."""
        return Fraction(self.operators, self.node.calls or self.operators)


class _Products:
    """The products of one module or of several."""

    __slots__ = ("first", "flops", "last")

    def __init__(self) -> None:
        #: FLOPs of the forward pass.
        self.flops = 0
        #: The places of the first and the last product in the order of the trace.
        self.first = self.last = 0

    def add(self, flops: int, place: int) -> None:
        self.first = self.first if self.flops else place
        self.last = place
        self.flops += flops


def find_experts(nodes: Mapping[str, Node], calls: Mapping[tuple[Node, Work, WorkPhase], int]) -> list[Experts]:
    """Return the modules of the trace that hold routed experts.

    Args:
        nodes: path → node, for all modules.
        calls: (module, work, phase) → number of calls, in the order of the first calls.

    Raises:
        UsageError: a module has an attribute `SETTING` that is no pair of numbers of experts.
    """
    known = [_given(node) for node in nodes.values() if node.module is not None and SETTING in node.module.__dict__]
    choices, grouped = _choices(calls)
    if choices:
        candidates = list(_candidates(nodes, {one.number for one in choices}))
        products = _products(calls, {one.path for one in candidates if one.kind == "list"})
        # Rows of a matrix are weak evidence, so they come last, and only beside a router that makes one choice. A
        # router that chooses groups first scores each group, and these scores have more rows than there are tokens.
        in_module = Counter(one.node.path for one in choices)
        alone = [one for one in choices if in_module[one.node.path] == 1]
        pairs = [
            *_with_routers(candidates, choices),
            *((candidate, [router]) for router in alone for candidate in _rows_beside(router, nodes)),
        ]
        for candidate, routers in pairs:
            if not _overlaps(candidate.path, known):
                found = _match(candidate, routers, products.get(candidate.path, _Products()))
                known += () if found is None else (found,)
    known += [_unrouted(path, nodes[path]) for path in grouped if not _overlaps(path, known)]
    return [one for one in known if one.number != 1]


def _is_within(path: str, above: str) -> bool:
    return not above or path == above or path.startswith(f"{above}.")


def _is_inside(path: str, above: str) -> bool:
    return path != above and _is_within(path, above)


def _overlaps(path: str, known: Iterable[Experts]) -> bool:
    return any(_is_within(path, one.path) or _is_within(one.path, path) for one in known)


def _given(node: Node) -> Experts:
    module = node.module
    value = getattr(module, SETTING)
    pair = value if isinstance(value, (tuple, list)) else ()
    are_numbers = len(pair) == 2 and all(type(one) is int for one in pair)  # noqa: PLR2004 -- a pair
    if module is None or not are_numbers or not 0 < pair[0] <= pair[1]:
        raise UsageError(
            f"{SETTING} of the module {node.path!r} is {quote_value(value)}; write a pair of whole numbers: "
            "(2, 8) if each token uses 2 of its 8 experts"
        )
    return Experts(node.path, list(_sized(module.parameters())), *pair)


def _unrouted(path: str, node: Node) -> Experts:
    parameters = () if node.module is None else list(_sized(node.module.parameters()))
    return Experts(path, parameters, None, max((one.shape[0] for one in parameters if one.ndim >= _STACK), default=0))


def _sized(parameters: Iterable[torch.Tensor | None]) -> Iterator[torch.Tensor]:
    return (one for one in parameters if one is not None and type(one) not in UNINITIALIZED)


def _choices(calls: Mapping[tuple[Node, Work, WorkPhase], int]) -> tuple[list[_Choices], list[str]]:
    """Return the choices of the forward pass, and the paths of the modules with grouped products."""
    choices: dict[tuple[str, int, int], _Choices] = {}
    grouped: dict[str, None] = {}
    for place, ((node, work, when), times) in enumerate(calls.items()):
        choice, is_forward = work.choice, when in _FORWARD
        if choice is not None:
            key = node.path, choice.candidates, choice.chosen
            found = choices.get(key) or choices.setdefault(key, _Choices(node, choice, place))
            found.rows += choice.rows * times * is_forward
            found.ranks |= choice.ranks
            found.operators += times
        if work.grouped and is_forward:
            grouped[node.path] = None
    return list(choices.values()), list(grouped)


def _products(calls: Mapping[tuple[Node, Work, WorkPhase], int], with_parts: Collection[str]) -> dict[str, _Products]:
    """Return path → the products of a module: with its parts if the path is in ``with_parts``, else without."""
    found: dict[str, _Products] = {}
    for place, ((node, work, when), times) in enumerate(calls.items()):
        # How many rows a convolution multiplies does not follow from its FLOPs.
        if work.flops and when in _FORWARD and "conv" not in work.name:
            names = _names(node.path)
            for length in range(len(names)):
                path = ".".join(names[:length])
                if path in with_parts:
                    found.setdefault(path, _Products()).add(work.flops * times, place)
            found.setdefault(node.path, _Products()).add(work.flops * times, place)
    return found


def _candidates(nodes: Mapping[str, Node], numbers: Collection[int]) -> Iterator[_Candidate]:
    """Yield the modules whose parameters may be those of as many equal experts as a router had candidates."""
    for path, node in nodes.items():
        if node.module is None:
            continue
        matrices = _matrices(node.module)
        all_stacks = [one for one in matrices if one.ndim >= _STACK]
        for number in dict.fromkeys(one.shape[0] for one in all_stacks if one.shape[0] in numbers):
            stacks = [one for one in all_stacks if one.shape[0] == number]
            vectors = [one for one in matrices if one.ndim == _MATRIX and one.shape[0] == number]
            yield _Candidate(path, number, "stack", stacks, vectors)
        parts = list(node.module._modules.values())
        if len(parts) in numbers and _are_equal(parts):
            inside = [one for part in parts if part is not None for one in _sized(part.parameters())]
            matrices = [one for one in inside if one.ndim >= _MATRIX]
            yield _Candidate(path, len(parts), "list", matrices, [one for one in inside if one.ndim < _MATRIX])


def _rows_beside(router: _Choices, nodes: Mapping[str, Node]) -> Iterator[_Candidate]:
    """Yield the modules beside a router whose matrices may have the rows of all experts, one after the other."""
    above = router.node.path.rpartition(".")[0]
    parent = nodes[above].module if router.node.path and above in nodes else None
    for name, module in () if parent is None else parent.named_modules():
        path = f"{above}.{name}" if above and name else above or name
        matrices = _matrices(module)
        if path in nodes and matrices and all(one.shape[0] % router.number == 0 for one in matrices):
            yield _Candidate(path, router.number, "rows", matrices)


def _matrices(module: torch.nn.Module) -> list[torch.Tensor]:
    """Return the parameters of a module, without its submodules, by which products may multiply rows."""
    own = () if isinstance(module, convolution_class) else _sized(module._parameters.values())
    return [one for one in own if one.ndim >= _MATRIX]


def _are_equal(parts: Iterable[torch.nn.Module | None]) -> bool:
    """Return whether these modules have parameters of equal shapes, and at least one matrix."""
    first: list[torch.Size] = []
    for part in parts:
        shapes = [] if part is None else [one.shape for one in _sized(part.parameters())]
        first = first or shapes
        if shapes != first or not shapes:
            return False
    return any(len(shape) >= _MATRIX for shape in first)


def _with_routers(
    candidates: Sequence[_Candidate], choices: Iterable[_Choices]
) -> Iterator[tuple[_Candidate, list[_Choices]]]:
    """Yield each candidate with the choices that may be its router's: those of the nearest modules."""
    by_number: dict[int, list[tuple[int, list[str]]]] = {}
    for index, one in enumerate(candidates):
        by_number.setdefault(one.number, []).append((index, _names(one.path)))
    routers: dict[int, list[_Choices]] = {}
    for choice in choices:
        path = choice.node.path
        names = _names(path)
        common = {
            index: _common(names, others)
            for index, others in by_number.get(choice.number, ())
            # A router inside of one of the parts does not choose among these parts.
            if not (candidates[index].kind == "list" and _is_inside(path, candidates[index].path))
        }
        nearest = max(common.values(), default=0)
        for index, near in common.items():
            if near == nearest:
                routers.setdefault(index, []).append(choice)
    for index in sorted(routers):
        yield candidates[index], routers[index]


def _names(path: str) -> list[str]:
    return path.split(".") if path else []


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """Return how many names two paths have in common at their beginnings."""
    return next((place for place, (a, b) in enumerate(zip(one, other)) if a != b), min(len(one), len(other)))  # noqa: B905


def _match(candidate: _Candidate, routers: Iterable[_Choices], products: _Products) -> Experts | None:
    """Return the experts of a candidate; None if the trace shows no router for it."""
    matrices, vectors = _elements(candidate.matrices), _elements(candidate.vectors)
    is_routed = False
    for router in routers:
        # A router chooses before its experts run. Its own product may be one of the module that has the stack.
        begin = products.last if candidate.kind == "stack" else products.first
        if not router.rows or (products.flops and router.first > begin):
            continue
        times = router.times()
        rows = router.rows / times
        # Matrices with one row for each expert are biases of a stack, or the matrix of a router beside the stack.
        for beside in {0, vectors} if candidate.kind == "stack" else {0}:
            used = (products.flops - 2 * rows * beside) * candidate.number / (2 * rows * matrices)
            chosen = _chosen(used, router, times if candidate.kind != "rows" else Fraction(1))
            runs_all = not chosen and used == candidate.number and router.ranks and candidate.kind != "rows"
            if chosen or runs_all:
                owned = [*candidate.matrices, *(() if beside else candidate.vectors)]
                return Experts(candidate.path, owned, chosen or router.chosen, candidate.number, runs_all=runs_all)
        # Layers that run one after the other take more rows than a router has.
        runs_less = candidate.kind == "stack" or (candidate.kind == "list" and 0 < products.flops < 2 * rows * matrices)
        is_routed |= router.ranks and runs_less
    if not is_routed:
        return None
    return Experts(candidate.path, [*candidate.matrices, *candidate.vectors], None, candidate.number)


def _chosen(used: Fraction, router: _Choices, times: Fraction) -> int:
    """Return the number of experts that each token uses; 0 if it is no result of ``times`` choices of the router."""
    rounds = used / router.chosen
    return int(used) if rounds.denominator == 1 and 1 <= rounds <= times and used <= router.number else 0


def _elements(tensors: Iterable[torch.Tensor]) -> int:
    return sum(map(count_values, tensors))
