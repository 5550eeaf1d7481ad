"""Parameters that one token uses, and parameters without embedding tables."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import pytest_flopsbudget
from pytest_flopsbudget.counting.measure import measure
from pytest_flopsbudget.errors import UsageError

WIDTH, EXPERTS = 8, 4
#: The parameters of an expert and of a router without a bias.
EXPERT, ROUTER = WIDTH * WIDTH, WIDTH * EXPERTS
TOKENS = torch.zeros(6, WIDTH)


class Router(nn.Module):
    def __init__(self, chosen=2):
        super().__init__()
        self.chosen = chosen
        self.score = nn.Linear(WIDTH, EXPERTS, bias=False)

    def forward(self, x):
        return self.score(x).topk(self.chosen)


class Stacked(nn.Module):
    """Each row is multiplied by the matrix of the expert that was chosen for it."""

    def __init__(self, bias=False):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(EXPERTS, WIDTH, WIDTH))
        self.bias = nn.Parameter(torch.ones(EXPERTS, WIDTH)) if bias else None

    def forward(self, x, index):
        rows = torch.bmm(self.weight[index.flatten()], x.repeat_interleave(index.shape[1], 0)[:, :, None]).squeeze(-1)
        rows = rows if self.bias is None else rows + self.bias[index.flatten()]
        return rows.view(*index.shape, WIDTH).sum(1)


class Mixture(nn.Module):
    def __init__(self, experts, router=None):
        super().__init__()
        self.router = router or Router()
        self.shared = nn.Linear(WIDTH, WIDTH)
        self.experts = experts

    def forward(self, x):
        return self.shared(x) + self.experts(x, self.router(x)[1])


SHARED = WIDTH * WIDTH + WIDTH


class Listed(nn.ModuleList):
    """Each expert runs on the rows that chose it, so the sizes depend on data."""

    def forward(self, x, index):
        result = torch.zeros_like(x)
        for number, expert in enumerate(self):
            rows = (index == number).any(-1).nonzero().squeeze(-1)
            result[rows] += expert(x[rows])
        return result


class AllRun(nn.Module):
    """Each expert runs on all rows."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(EXPERTS, WIDTH, WIDTH))

    def forward(self, x, index):
        kept = torch.zeros(len(x), EXPERTS).scatter(1, index, 1.0)
        return (torch.bmm(x.expand(EXPERTS, -1, -1), self.weight) * kept.T[:, :, None]).sum(0)


class Rows(nn.Module):
    """The rows of one matrix belong to the experts, one after the other."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(EXPERTS * WIDTH, WIDTH))

    def forward(self, x, index):
        chosen = self.weight.view(EXPERTS, WIDTH, WIDTH)[index.flatten()]
        return torch.bmm(chosen, x.repeat_interleave(2, 0)[:, :, None]).view(*index.shape, WIDTH).sum(1)


class ListWithRouter(nn.ModuleList):
    """The parts of one module are the experts, and the module chooses."""

    def __init__(self):
        super().__init__(nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(EXPERTS))

    def forward(self, x):
        index = x[:, :EXPERTS].topk(1)[1].squeeze(-1)
        result = torch.zeros_like(x)
        for number, expert in enumerate(self):
            rows = (index == number).nonzero().squeeze(-1)
            result[rows] = expert(x[rows])
        return result


class Function(nn.Module):
    """Routers and experts of two layers without modules of their own."""

    def __init__(self):
        super().__init__()
        self.scores = nn.ParameterList(torch.ones(EXPERTS, WIDTH) for _ in range(2))
        self.layers = nn.ModuleList([Stacked(), Stacked()])

    def forward(self, x):
        for score, experts in zip(self.scores, self.layers, strict=True):
            x = experts(x, nn.functional.linear(x, score).topk(2)[1])
        return x


class Beside(nn.Module):
    """The matrix of the router and the stack of experts belong to one module."""

    def __init__(self):
        super().__init__()
        self.score = nn.Parameter(torch.ones(EXPERTS, WIDTH))
        self.weight = nn.Parameter(torch.ones(EXPERTS, WIDTH, WIDTH))

    def forward(self, x):
        index = nn.functional.linear(x, self.score).topk(2)[1]
        return torch.bmm(self.weight[index.flatten()], x.repeat_interleave(2, 0)[:, :, None]).view(-1, 2, WIDTH).sum(1)


class TwoRounds(nn.Module):
    """The best expert is chosen, and then the best of the others (Lepikhin et al., GShard, 2020, algorithm 1)."""

    def __init__(self):
        super().__init__()
        self.score = nn.Linear(WIDTH, EXPERTS, bias=False)

    def forward(self, x):
        scores = self.score(x)
        first = scores.argmax(-1, keepdim=True)
        second = scores.scatter(1, first, -torch.inf).argmax(-1, keepdim=True)
        return None, torch.cat([first, second], 1)


def listed():
    return Listed(nn.Linear(WIDTH, WIDTH) for _ in range(EXPERTS))


@pytest.mark.parametrize(
    ("model", "active"),
    [
        (Mixture(Stacked()), ROUTER + SHARED + 2 * EXPERT),
        (Mixture(Stacked(), Router(3)), ROUTER + SHARED + 3 * EXPERT),
        (Mixture(Stacked(bias=True)), ROUTER + SHARED + 2 * (EXPERT + WIDTH)),
        (Mixture(Stacked(), TwoRounds()), ROUTER + SHARED + 2 * EXPERT),
        (Mixture(listed()), ROUTER + SHARED + 2 * (EXPERT + WIDTH)),
        (Mixture(listed(), Router(1)), ROUTER + SHARED + EXPERT + WIDTH),
        (Mixture(listed(), Router(3)), ROUTER + SHARED + 3 * (EXPERT + WIDTH)),
        (Mixture(Rows()), ROUTER + SHARED + 2 * EXPERT),
        (Beside(), ROUTER + 2 * EXPERT),
        (ListWithRouter(), EXPERT),
        (Function(), 2 * (ROUTER + 2 * EXPERT)),
        (nn.Sequential(*(Mixture(Stacked()) for _ in range(EXPERTS))), EXPERTS * (ROUTER + SHARED + 2 * EXPERT)),
    ],
    ids=[
        "two",
        "three",
        "bias",
        "rounds",
        "list",
        "list-of-one",
        "list-of-three",
        "rows",
        "beside",
        "all-in-one",
        "functions",
        "as-many-layers",
    ],
)
def test_routed_experts(model, active):
    counted = measure(model, TOKENS)
    assert counted.active_params == active < counted.params
    assert not any("active_params" in note for note in counted.notes)


def test_all_experts_are_chosen():
    counted = measure(Mixture(Stacked(), Router(EXPERTS)), TOKENS)
    assert counted.active_params == counted.params
    assert counted.notes == ()


def test_every_module_has_its_share():
    counted = measure(nn.Sequential(nn.Linear(WIDTH, WIDTH), Mixture(Stacked())), TOKENS)
    assert counted["1.experts"].active_params == 2 * EXPERT
    assert counted["1.experts"].params == EXPERTS * EXPERT
    assert counted["1.shared"].active_params == counted["1.shared"].params == SHARED
    assert counted["1"].active_params == ROUTER + SHARED + 2 * EXPERT


def test_a_share_of_a_single_expert_is_rounded_up():
    """Each token uses 2 of 3 experts, which is 2/3 of each."""
    model = Mixture(Listed(nn.Linear(WIDTH, WIDTH) for _ in range(3)))
    model.router.score = nn.Linear(WIDTH, 3)
    counted = measure(model, TOKENS)
    assert counted["experts"].active_params == 2 * (EXPERT + WIDTH)
    assert counted["experts.0"].active_params == -(-2 * (EXPERT + WIDTH) // 3)


def test_without_experts_it_is_equal_to_params_and_not_stored():
    counted = measure(nn.Linear(3, 4), torch.zeros(2, 3))
    assert counted.active_params == counted.non_embedding_params == counted.params == 16
    assert not {"active_params", "non_embedding_params"} & counted.metrics.keys()
    assert "active" not in counted.table()


@pytest.mark.parametrize("reentrant", [True, False])
def test_recomputed_experts(reentrant):
    class Checkpointed(Mixture):
        def forward(self, x):
            return checkpoint(super().forward, x, use_reentrant=reentrant)

    counted = measure(Checkpointed(Stacked()), TOKENS.clone().requires_grad_(), backward=True)
    assert counted.recomputed_flops
    assert counted.active_params == ROUTER + SHARED + 2 * EXPERT


def test_experts_in_a_watch():
    with pytest_flopsbudget.watch() as watched:
        model = Mixture(Stacked())
        for length in (1, 5):
            model(torch.zeros(length, WIDTH)).sum().backward()
    assert watched.complexity.active_params == ROUTER + SHARED + 2 * EXPERT


class TestAllExpertsRun:
    def test_the_router_decides(self):
        """In Llama 4, each token runs through all experts, and results that the router did not choose count 0."""
        counted = measure(Mixture(AllRun()), TOKENS)
        assert counted.active_params == ROUTER + SHARED + 2 * EXPERT
        assert counted.flops == 2 * len(TOKENS) * (ROUTER + WIDTH * WIDTH + EXPERTS * EXPERT)
        note = "all 4 experts of 'experts' ran for each token; active_params counts the 2 that the router chooses"
        assert counted.notes == (note,)


class Dropping(Stacked):
    """An expert leaves out rows beyond its capacity."""

    def forward(self, x, index):
        return nn.functional.pad(super().forward(x[:5], index[:5]), (0, 0, 0, 1))


UNKNOWN = (
    "active_params is an upper bound: how many experts of 'experts' each token uses is not known; set "
    "flops_budget_experts = (chosen, experts) on the module, such as (2, 8)"
)


class Hashed(nn.Module):
    """No router: the number of a token decides."""

    def __init__(self):
        super().__init__()
        self.experts = nn.Module()
        self.experts.weight = nn.Parameter(torch.ones(EXPERTS, WIDTH, WIDTH, dtype=torch.bfloat16))
        self.experts.forward = lambda x, ends: torch._grouped_mm(x, self.experts.weight, ends)

    def forward(self, x):
        return self.experts(x, torch.tensor([2, 4, 6, 8], dtype=torch.int32))


class Labelled(nn.Module):
    """As many layers as labels, whose best score only chooses rows."""

    def __init__(self):
        super().__init__()
        self.score, self.layers = nn.Linear(WIDTH, 4), nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(4))

    def forward(self, x):
        rows = x[self.score(x).max(-1)[0].topk(1)[1]]
        for layer in self.layers:
            rows = layer(rows)
        return rows


class TestUnknown:
    def test_a_router_that_does_not_explain_the_products(self):
        counted = measure(Mixture(Dropping()), TOKENS)
        assert counted.active_params == counted.params
        assert counted.notes == (UNKNOWN,)

    def test_several_modules(self):
        counted = measure(nn.Sequential(Mixture(Dropping()), Mixture(Dropping())), TOKENS)
        assert any("how many experts of '0.experts' and 1 more each" in note for note in counted.notes)

    def test_experts_without_a_router(self):
        counted = measure(Hashed(), torch.zeros(8, WIDTH, dtype=torch.bfloat16))
        assert counted.active_params == counted.params
        assert counted.notes == (UNKNOWN,)

    @pytest.mark.parametrize("given", [(1, EXPERTS), [1, 4]])
    def test_the_user_says_it(self, given):
        model = Hashed()
        model.experts.flops_budget_experts = given
        counted = measure(model, torch.zeros(8, WIDTH, dtype=torch.bfloat16))
        assert counted.active_params == EXPERT
        assert counted.notes == ()

    @pytest.mark.parametrize("given", [2, (2,), (0, 4), (5, 4), (True, 4), ("2", "4"), None])
    def test_a_wrong_setting(self, given):
        model = Mixture(Stacked())
        model.experts.flops_budget_experts = given
        with pytest.raises(UsageError, match=r"flops_budget_experts of the module 'experts' is .*\(2, 8\)"):
            measure(model, TOKENS)


class ChannelMaximum(nn.Module):
    """Spatial attention by the maximum over channels (Woo et al., CBAM, 2018, §3.2)."""

    def __init__(self):
        super().__init__()
        self.mask, self.mix = nn.Conv2d(1, 1, 3, padding=1), nn.Conv2d(EXPERTS, EXPERTS, 1)

    def forward(self, x):
        return self.mix(x * self.mask(x.max(1, keepdim=True)[0]).sigmoid())


class PerHead(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(EXPERTS, WIDTH, WIDTH))

    def forward(self, x):
        return torch.einsum("thd,hde->the", x * x.max(1, keepdim=True)[0], self.weight)


class Classifier(nn.Sequential):
    def forward(self, x):
        return super().forward(x).argmax(-1)


class OneExpert(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, WIDTH, WIDTH, dtype=torch.bfloat16))

    def forward(self, x):
        return torch._grouped_mm(x.bfloat16(), self.weight, torch.tensor([6], dtype=torch.int32))


class BestQueries(nn.Module):
    def __init__(self):
        super().__init__()
        self.score, self.layers = nn.Linear(WIDTH, 1), nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(6))

    def forward(self, x):
        rows = x[self.score(x).squeeze(-1).topk(3)[1]]
        for layer in self.layers:
            rows = layer(rows)
        return rows


@pytest.mark.parametrize(
    ("model", "size"),
    [
        (ChannelMaximum(), (2, EXPERTS, 5, 5)),
        (PerHead(), (6, EXPERTS, WIDTH)),
        (Classifier(nn.Linear(2, 2), nn.Linear(2, 2)), (6, 2)),
        (BestQueries(), (6, WIDTH)),
        (Labelled(), (6, WIDTH)),
        (OneExpert(), (6, WIDTH)),
    ],
    ids=["channels", "heads", "classes", "queries", "labels", "one-expert"],
)
def test_what_routes_nothing(model, size):
    counted = measure(model, torch.zeros(size))
    assert counted.active_params == counted.params
    assert counted.notes == ()


class Lookup(nn.Module):
    def __init__(self, head):
        super().__init__()
        self.table = nn.Parameter(torch.ones(10, WIDTH))
        self.head = nn.Linear(WIDTH, 10, bias=False)
        if head == "tied":
            self.head.weight = self.table

    def forward(self, ids):
        return self.head(nn.functional.embedding(ids, self.table))


IDS = torch.zeros(2, 3, dtype=torch.long)


class TestEmbeddings:
    def test_modules(self):
        counted = measure(nn.Sequential(nn.Embedding(10, WIDTH), nn.Linear(WIDTH, 3)), IDS)
        assert (counted.params, counted.non_embedding_params) == (10 * WIDTH + 27, 27)
        assert counted["0"].non_embedding_params == 0
        assert counted["1"].non_embedding_params == 27
        assert "non-embedding" in counted.table()

    def test_bags(self):
        counted = measure(nn.Sequential(nn.EmbeddingBag(10, WIDTH), nn.Linear(WIDTH, 3)), IDS)
        assert counted.non_embedding_params == 27

    def test_an_embedding_that_was_not_called(self):
        model = nn.Linear(WIDTH, 3)
        model.words = nn.Embedding(10, WIDTH)
        assert measure(model, TOKENS).non_embedding_params == 27

    @pytest.mark.parametrize(("head", "expected"), [("tied", 0), ("own", 10 * WIDTH)])
    def test_a_parameter_that_is_looked_up(self, head, expected):
        """An output layer counts, unless it has the table of the embedding."""
        counted = measure(Lookup(head), IDS)
        assert counted.non_embedding_params == expected
        assert counted["head"].non_embedding_params == expected

    def test_in_a_watch(self):
        model = Lookup("own")
        with pytest_flopsbudget.watch() as watched:
            model(IDS)
        assert watched.complexity.non_embedding_params == 10 * WIDTH

    def test_indexing_is_no_embedding(self):
        class Positions(nn.Module):
            def __init__(self):
                super().__init__()
                self.positions = nn.Parameter(torch.ones(10, WIDTH))

            def forward(self, x):
                return x + self.positions[: len(x)]

        assert measure(Positions(), TOKENS).non_embedding_params == 10 * WIDTH

    def test_lazy_parameters(self):
        model = nn.Linear(WIDTH, 3)
        model.lazy, model.words = nn.LazyLinear(3), nn.Embedding(10, WIDTH)
        assert measure(model, TOKENS).non_embedding_params == 27
