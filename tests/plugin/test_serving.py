"""`flops_budget.serving` in whole runs of pytest: limits, mistakes in them, baselines."""

from __future__ import annotations

import csv
import io

import pytest

#: A decoder with one head of width 4, so that each token has 2 * 4 numbers of 4 bytes in the cache: 32 bytes.
DECODER = """
class Decoder(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.embed = nn.Embedding(10, 8)
        self.queries, self.keys, self.values = (nn.Linear(8, width, bias=False) for _ in range(3))
        self.head = nn.Linear(width, 10, bias=False)

    def forward(self, tokens, cache=None):
        x = self.embed(tokens)
        keys, values = self.keys(x), self.values(x)
        if cache is not None:
            keys, values = torch.cat([cache[0], keys], 1), torch.cat([cache[1], values], 1)
        self.head((self.queries(x) @ keys.mT).softmax(-1) @ values)
        return keys, values

def serve(flops_budget, width=4, **options):
    return flops_budget.serving(
        Decoder(width), prompt=6, new_tokens=2, batch=3,
        prefill=lambda model, tokens: model(tokens),
        decode=lambda model, tokens, cache: model(tokens, cache),
        **options,
    )
"""
#: Weights of 3 * 8 * 4 + 4 * 10 numbers, one row of the embedding, and 3 requests of 8 tokens.
BYTES_READ = 4 * (3 * 8 * 4 + 4 * 10 + 8) + 3 * 8 * 32


def write(project, marker, body="serve(flops_budget)"):
    project.write(f"{DECODER}\n@pytest.mark.flops_budget({marker})\ndef test_served(flops_budget):\n    {body}\n")


@pytest.mark.parametrize(
    ("marker", "lines"),
    [
        ('kv_cache_per_token="32 B", kv_cache=3 * 8 * 32', []),
        ('kv_cache_per_token="31 B"', ["kv_cache_per_token +3.2% over its limit in test_served decode"]),
        ('kv_cache="700 B"', ["kv_cache +9.7% over its limit in test_served decode"]),
        (f"bytes_read={BYTES_READ}", []),
        (f"bytes_read={BYTES_READ - 1}", ["bytes_read +0.07% over its limit in test_served decode"]),
        (
            'measurements={"prefill": {"kv_cache": 3 * 6 * 32 - 1}}',
            ["kv_cache * over its limit in test_served prefill"],
        ),
        ('requests={"H100": 40}, tokens_per_second={"H100": "1k tokens/s"}', []),
        (
            'requests={"H100": "1T"}',
            ["requests[[]H100[]] * under its minimum in test_served decode", "  requests[[]H100[]]  <=*marker"],
        ),
        ('time_to_first_token={"H100": "1 ns"}', []),
        ('tokens_per_second={"H100": "1T"}', ["tokens_per_second[[]H100[]] * under its minimum in test_served decode"]),
    ],
)
def test_limits(project, marker, lines):
    write(project, marker)
    result = project.run()
    result.assert_outcomes(failed=bool(lines), passed=not lines)
    result.stdout.fnmatch_lines(lines)


@pytest.mark.parametrize(
    ("marker", "line"),
    [
        ('kv_cach="64 KiB"', "*kv_cach: no such key; did you mean kv_cache?"),
        ('kv_cache_per_token="64 KiBs"', '*unknown unit*did you mean "64 KiB"*'),
        ('requests={"H1000": 40}', "*H1000*"),
        ("requests=40", '*requests*not a table of limits by device; write {"A100": 40}'),
        ('tokens_per_second={"H100": "3 ms"}', "*tokens_per_second*a time, which does not fit*"),
        ('phases={"forward": {"kv_cache": 1}}', "*kv_cache*measures no work*"),
        ('modules={"head": {"kv_cache": 1}}', "*kv_cache*belongs to the whole model*"),
        ("prompt=2048", "*prompt: belongs in the call: flops_budget.serving(model, prompt=*"),
        ('tolerance={"requests": "1%"}', "*requests*is a bound, which no baseline holds*"),
        ('hold=["requests"]', "*requests*hold kv_cache*"),
    ],
)
def test_mistakes(project, marker, line):
    write(project, marker)
    result = project.run()
    assert result.ret != 0
    result.stderr.fnmatch_lines([line])


def test_a_limit_that_nothing_measures(project):
    write(project, "kv_cache=1", "flops_budget(Net(), IMAGE)")
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*kv_cache has a limit, but was not measured: call flops_budget.serving(*"])


def test_limits_of_the_pyproject_are_for_served_models_only(project):
    project.settings('[tool.pytest-flopsbudget.limits]\nkv_cache_per_token = "32 B"\n')
    write(project, "", "flops_budget(Net(), IMAGE)")
    project.run().assert_outcomes(passed=1)
    write(project, "", "serve(flops_budget, width=5)")
    project.run().assert_outcomes(failed=1)


def test_baseline(project):
    """The cache is held by the baseline: a wider model fails in both steps."""
    write(project, "")
    project.run("--flops-budget-update").assert_outcomes(passed=1)
    text = project.baseline.read_text()
    assert '"kv_cache": 768' in text
    project.run().assert_outcomes(passed=1)
    write(project, "", "serve(flops_budget, width=5)")
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*kv_cache *", "*kv_cache_per_token *"])


def test_csv_has_columns_of_serving_only_for_served_models(project):
    write(project, "", "flops_budget(Net(), IMAGE)")
    project.run("--flops-budget-csv=plain.csv")
    assert "kv_cache" not in (project.path / "plain.csv").read_text()
    write(project, 'requests={"H100": 1}')
    project.run("--flops-budget-csv=served.csv")
    prefill, decode = csv.DictReader(io.StringIO((project.path / "served.csv").read_text()))
    assert (prefill["kv_cache"], decode["kv_cache"]) == (str(3 * 6 * 32), str(3 * 8 * 32))
    assert decode["requests[H100]_limit"] == "1"


def test_names(project):
    write(project, "", "serve(flops_budget); serve(flops_budget, width=5, name='wide')")
    result = project.run("--flops-budget-update")
    result.assert_outcomes(passed=1)
    text = project.baseline.read_text()
    assert all(name in text for name in ("prefill", "decode", "wide prefill", "wide decode"))


def test_a_name_twice(project):
    write(project, "", "serve(flops_budget); serve(flops_budget)")
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*'prefill' was measured before in this test*name=*"])
