"""The command ``law``. The models of `nets` and of this file are small; their laws are derived by hand."""

import json
import re
import sys
from pathlib import Path

import pytest
import torch
from features import requires

from pytest_flopsbudget import measure

LAWS = """
import torch
from torch import nn


class Square(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.first = nn.Linear(width, width, bias=False)
        self.second = nn.Linear(width, width, bias=False)

    def forward(self, x):
        return self.second(self.first(x) @ x.transpose(1, 2) @ x)


class Padded(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x):
        return self.layer(nn.functional.pad(x, (0, 0, 0, -x.shape[1] % 16)))


class Shrinking(nn.Linear):
    def forward(self, x):
        return super().forward(x[:, : 40 if x.shape[1] < 50 else 10])


class Divided(nn.Module):
    def forward(self, x):
        return x.reshape(1, -1, 16, 8) * 2


class Chosen(nn.Linear):
    def forward(self, x):
        return super().forward(x[x > 1].reshape(-1, 8))


class Sorted(nn.Module):
    def forward(self, x):
        return torch.fft.fft(torch.complex(x, x), dim=1)


class Positions(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.zeros(1, 4096, 8))
        self.layer = nn.Linear(8, 8)

    def forward(self, x):
        return self.layer(x + self.table[:, : x.shape[1]])


def build(width=8):
    return Square(width)


def shrinking():
    return Shrinking(8, 8)


def chosen():
    return Chosen(8, 8)


def repeated(depth, width=8):
    return nn.Sequential(*(nn.Linear(width, width) for _ in range(depth)))
"""
#: Two products with weights, each 2·8·8·S, and two products of S by S by 8, each 2·8·S².
BUILD = ["laws_of_tests:build", "--input", "1x{S}x8"]
RANGE = ["--S", "16:4096"]


@pytest.fixture
def laws(nets, monkeypatch):
    """Run commands in a folder with the modules ``laws_of_tests`` and ``nets_of_tests``."""
    Path("laws_of_tests.py").write_text(LAWS, encoding="utf-8")
    monkeypatch.setenv("COLUMNS", "200")

    def run(*argv):
        return nets("law", *argv)

    run.command = nets
    return run


def row(lines, name):
    """Return the rest of the first line that begins with ``name``."""
    return next(line.split(None, 1)[1] for line in lines if line.split(None, 1)[:1] == [name])


def test_total_and_modules(laws):
    lines = laws(*BUILD, *RANGE)
    assert lines[0].startswith("Square: exact for S = 16 ... 4,096; rests on ")
    assert row(lines, "flops") == "32·S² + 256·S"
    assert row(lines, "params") == "128"
    assert row(lines, "first") == "128·S"
    assert lines.index("flops of modules") > lines.index("launches          4")
    assert laws.command.code == 0


def test_sentences_fit_the_terminal(laws, monkeypatch):
    wide = laws(*BUILD, *RANGE, "--solve", "flops <= 32256000", "--metrics", "flops")
    monkeypatch.setenv("COLUMNS", "80")
    lines = laws(*BUILD, *RANGE, "--solve", "flops <= 32256000", "--metrics", "flops")
    assert max(map(len, wide)) > 80 >= max(map(len, lines))
    assert " ".join(" ".join(lines).split()) == " ".join(" ".join(wide).split())


def test_both_ends_are_included_and_steps(laws):
    lines = laws(*BUILD, "--S", "16:40:8", "--json")
    found = json.loads(lines[0])
    assert found["sizes"] == {"S": {"first": 16, "last": 40, "step": 8}}
    assert found["laws"]["flops"]["pieces"] == [{"terms": {"S^2": 32, "S": 256}}]
    assert found["modules"]["second"]["flops"]["text"] == "128*S"
    assert found["operators"]["aten.bmm"]["flops"]["text"] == "32*S^2"


def test_metrics_and_backward(laws):
    lines = laws(*BUILD, *RANGE, "--metrics", "params,flops", "--backward")
    assert [line.split()[0] for line in lines[2:4]] == ["params", "flops"]
    # The input needs no gradient, so the products with x have one gradient each, and the first layer has one.
    assert row(lines, "flops") == "64·S² + 640·S"
    assert "params of modules" in lines


def test_several_sizes_and_named_inputs(laws):
    lines = laws("nets_of_tests:Tokens", "--input", "tokens={batch}x{n}:int64", "--batch", "2", "--n", "1:9")
    assert laws.command.code == 2  # --batch is an option of the command
    assert "{batch}: this name is an option of the command" in laws.command.errors
    lines = laws(
        "nets_of_tests:Tokens?input=tokens={B}x{n}:int64", "--B", "1:8", "--n", "1:9", "--metrics", "activations"
    )
    assert "exact for B = 1 ... 8, n = 1 ... 9" in lines[0]


def test_sizes_of_the_model(laws):
    lines = laws("laws_of_tests:build({W})", "--input", "1x4x{W}", "--W", "2:64", "--metrics", "params")
    assert row(lines, "params") == "2·W²"
    lines = laws("laws_of_tests:repeated({D})", "--input", "1x8", "--D", "1:40", "--metrics", "flops")
    assert row(lines, "flops") == "128·D"


def test_a_size_within_the_range(laws):
    lines = laws(*BUILD, *RANGE, "--at", "S=100", "--metrics", "flops,params")
    start = lines.index("at S = 100")
    assert lines[start + 1 :] == ["  flops   345.6 kFLOPs  = 345,600 FLOPs", "  params  128"]
    assert laws.command.errors == ""


def test_a_size_outside_of_the_range_extends_it(laws):
    (line,) = laws(*BUILD, *RANGE, "--at", "S=8192", "--at", "S=8", "--json")
    found = json.loads(line)
    assert found["sizes"] == {"S": {"first": 8, "last": 8192, "step": 1}}
    assert [one["values"]["flops"] for one in found["at"]] == [32 * n**2 + 256 * n for n in (8192, 8)]
    assert laws.command.errors.splitlines() == [
        "note: the range of S is extended to 8,192, so that the law is checked there",
        "note: the range of S is extended to 8, so that the law is checked there",
    ]


@pytest.mark.parametrize("limit", [32 * 1000**2 + 256 * 1000, 32 * 1001**2 + 256 * 1001 - 1])
def test_the_largest_size_that_fits(laws, limit):
    lines = laws(*BUILD, *RANGE, "--solve", f"flops <= {limit}", "--metrics", "flops")
    assert lines[-1] == (
        f"flops <= {limit}: the largest size is S = 1,000, which takes 32,256,000 FLOPs; "
        "S = 1,001 takes 32,320,288 FLOPs"
    )


def test_steps_of_padding_are_solved_exactly(laws):
    # ceil(S/16) · 16 rows of 2·8·8 FLOPs.
    (line,) = laws("laws_of_tests:Padded", *BUILD[1:], *RANGE, "--solve", "flops <= 128 kFLOPs", "--json")
    assert json.loads(line)["solve"] == [
        {"metric": "flops", "limit": 128_000, "for": "S", "sizes": {}, "largest": 992, "first_too_large": 993}
    ]


def test_smaller_sizes_that_do_not_fit_are_named(laws):
    lines = laws("laws_of_tests:shrinking", *BUILD[1:], "--S", "16:400", "--solve", "flops <= 2560")
    # 20 rows of 128 FLOPs fit; 10 rows run from 50 tokens on.
    assert "the largest size is S = 400" in lines[-1]
    assert "the range ends there, so larger sizes may fit: write a longer range for --S" in lines[-1]
    assert lines[-1].endswith("not all smaller sizes fit: S = 21 does not")


def test_two_sizes_are_solved_for_one(laws):
    argv = ["laws_of_tests:build", "--input", "{B}x{S}x8", "--B", "1:64", *RANGE]
    lines = laws(*argv, "--solve", "params <= 1k", "--for", "B", "--at", "S=16", "--metrics", "params")
    assert lines[-1].startswith("params <= 1k at S = 16: the largest size is B = 64, which takes 128")
    lines = laws(*argv, "--solve", "flops <= 30 kFLOPs", "--for", "B", "--at", "S=16", "--at", "S=32")
    # One batch of 16 tokens has 12,288 FLOPs, one of 32 tokens has 40,960.
    assert "at S = 16: the largest size is B = 2, " in lines[-3]
    assert lines[-1] == "flops <= 30 kFLOPs at S = 32: no size fits; B = 1 takes 40,960 FLOPs"
    assert laws.command.code == 1


def test_a_maximum_of_laws_is_solved_for_one_size(laws):
    # The peak is in one of several operators. Which one depends on B and on S.
    argv = ["laws_of_tests:Positions", "--input", "{B}x{S}x8", "--B", "1:64", "--S", "16:1024", "--backward"]
    lines = laws(*argv, "--solve", "peak_memory <= 2 MiB", "--for", "B", "--at", "S=1024", "--metrics", "peak_memory")
    assert row(lines, "peak_memory").startswith("no law of degree <= 4")
    found = re.search(r"peak_memory <= 2 MiB at S = 1,024: the largest size is B = (\d+),", lines[-1])

    def peak(batch):
        model = sys.modules["laws_of_tests"].Positions()
        return measure(model, torch.empty(batch, 1024, 8), backward=True).peak_memory

    assert peak(int(found[1])) <= 2 * 2**20 < peak(int(found[1]) + 1)


CONFIG = {"model_type": "gpt2", "n_layer": 2, "n_embd": 8, "n_head": 2, "vocab_size": 16, "n_positions": 64}


def test_a_model_of_transformers(laws):
    Path("c.json").write_text(
        json.dumps({**CONFIG, "architectures": ["GPT2Model"], "bos_token_id": 0, "eos_token_id": 0})
    )
    lines = laws("hf:c.json", "--input", "1x{S}:int64", "--S", "2:64")
    # Each layer has 12·d² weights and two products of attention.
    assert row(lines, "flops") == "64·S² + 3,072·S"
    assert row(lines, "h.*.attn") == "32·S² + 512·S (each of 2)"
    assert "model: GPT2Model, from c.json, without weights" in lines


def test_data(laws):
    assert laws("laws_of_tests:chosen", *BUILD[1:], *RANGE) == []
    assert "the model needs data at S=16: " in laws.command.errors
    assert "allow runs on inputs of zeros with --on-data" in laws.command.errors
    lines = laws("laws_of_tests:chosen", *BUILD[1:], *RANGE, "--on-data")
    assert "counts, which ran on data" in lines[0]


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        ([*BUILD], "no sizes for {S}; write --S 1:64"),
        ([*BUILD[:1], "--input", "1x16x8", *RANGE], "no size is a name in braces; write {S} in place of a size"),
        ([*BUILD[:1], "--input", "1x16x8"], "as in --input '1x{S}x512' --S 128:8192"),
        ([*BUILD, *RANGE, "--T", "1:8"], "--T 1:8: the target and its inputs have no {T}; there are {S}"),
        ([*BUILD, *RANGE, "--time", "1:8"], "--time 1:8: the target and its inputs have no {time}; there are {S}"),
        ([*BUILD, *RANGE, "--solv", "flops <= 1"], "no option '--solv'; did you mean --solve?"),
        ([*BUILD, "--S", "16"], "--S '16' is no range of sizes; write --S 128:8192, or --S 64:1024:32"),
        ([*BUILD, "--S", "16:x"], "--S '16:x' is no range of sizes"),
        ([*BUILD, "--S", "4096:16"], "--S '4096:16': the first size is larger than the last; write --S 16:4096"),
        ([*BUILD, "--S", "16:4096:0"], "--S '16:4096:0': the step is 0; write --S 16:4096"),
        ([*BUILD, "--S", "16:17"], "has 2 sizes; a law needs at least 3, and a polynomial of degree 4 needs 6"),
        ([*BUILD, "--S", "16:20:8"], "has one size"),
        ([*BUILD[:1], "--input", "1x{S}x{W}x{a}x{b}"], "one to three sizes are possible, not 4: S, W, a"),
        ([*BUILD[:1], "--input", "1x{model}x8"], "{model}: this name is an option of the command; choose another name"),
        ([*BUILD[:1], "--input", "1x{S}y8", *RANGE], "'1x16y8' is no input"),
        ([*BUILD, *RANGE, "--metrics", "flop"], "no metric 'flop'; did you mean flops?"),
        ([*BUILD, *RANGE, "--metrics", "arithmetic_intensity"], "write --metrics flops,other_flops,memory_traffic"),
        ([*BUILD, *RANGE, "--metrics", "time[A100]"], "time[A100] was not measured; there are flops, "),
        ([*BUILD, *RANGE, "--at", "T=5"], "--at: no size is called 'T'; there are S"),
        ([*BUILD, *RANGE, "--at", "5"], "--at '5': '5' is no size; write --at S=1024"),
        ([*BUILD, *RANGE, "--at", "S=5,S=6"], "--at 'S=5,S=6': S has two sizes"),
        ([*BUILD, "--S", "16:64:8", "--at", "S=21"], "the range has a step of 8, so the nearest sizes are 16 and 24"),
        ([*BUILD, *RANGE, "--solve", "flops"], "--solve 'flops' is no limit; write METRIC <= AMOUNT"),
        ([*BUILD, *RANGE, "--solve", "flop <= 3"], "no metric 'flop'; did you mean flops?"),
        ([*BUILD, *RANGE, "--solve", "flops <= 3 GiB"], "--solve 'flops <= 3 GiB': '3 GiB' "),
        ([*BUILD, *RANGE, "--solve", "peak_memory <= 3 G"], 'write "3 GB" or "3 GiB"'),
        ([*BUILD, *RANGE, "--solve", "flops <= 3 k", "--for", "B"], "--for: no size is called 'B'; there are S"),
        ([*BUILD, *RANGE, "--solve", "flops <= 3 k", "--at", "S=16"], "--at S=16: --solve asks for S"),
        ([*BUILD, *RANGE, "--for", "S"], "--for S belongs to --solve; write --solve 'peak_memory <= 80 GiB' --for S"),
        ([*BUILD, *RANGE, "--on", "A1000"], "no device is named 'A1000'; did you mean A100?"),
        ([*BUILD, *RANGE, "--batch", "x"], "batch 'x' is no whole number"),
        (["laws_of_tests:buidl", *BUILD[1:], *RANGE], "laws_of_tests has no 'buidl'; did you mean build?"),
        (["laws_of_tests:Divided", *BUILD[1:], "--S", "33:200"], "the multiples of 16 fit: --S 48:200:16"),
        pytest.param(
            ["nets_of_tests:Tokens", "--input", "1x{S}", "--S", "1:64"],
            "token ids are whole numbers: write :int64 after the sizes of the input",
            marks=requires("shapes of embeddings of whole numbers only"),
        ),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(laws, argv, told):
    assert laws(*argv) == []
    assert laws.command.code == 2
    assert laws.command.errors.startswith("error: ")
    assert told in laws.command.errors
    assert laws.command.errors.count("\n") == 1
    assert "law(" not in laws.command.errors


def test_two_sizes_need_all_values(laws):
    argv = ["laws_of_tests:build", "--input", "{B}x{S}x8", "--B", "1:64", *RANGE]
    for more, told in [
        (["--solve", "flops <= 3 k"], "--solve 'flops <= 3 k': for which size? write --for B"),
        (["--solve", "flops <= 3 k", "--for", "B"], "--solve for B needs the other sizes; write --at S=1024"),
        (["--at", "S=16"], "--at S=16: it needs a size of B too; write --at S=16,B=8"),
    ]:
        assert laws(*argv, *more) == []
        assert told in laws.command.errors


def test_a_metric_without_a_law_is_not_solved(laws):
    assert laws("laws_of_tests:Sorted", *BUILD[1:], "--S", "16:4000", "--solve", "other_flops <= 3 MFLOPs") == []
    assert "other_flops: the law holds for some sizes of S only: n" not in laws.command.errors
    assert "other_flops: the law holds for some sizes of S only: S = 16, 32 ... 2,048: " in laws.command.errors
