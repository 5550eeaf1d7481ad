import json
from pathlib import Path

import pytest
from conftest import NET_FLOPS

IMAGE = ["--input", "1x3x8x8"]
#: FLOPs of the convolution with a kernel of 5: 2·8·8·4·3·5·5; the linear layer has 80.
WIDE_FLOPS = 38_400 + 80


def test_table(nets):
    lines = nets("compare", "nets_of_tests:build", "nets_of_tests:build(5)", *IMAGE)
    assert nets.code == 0
    assert lines[0] == "nets_of_tests:build → nets_of_tests:build(5)"
    assert any("stem" in line and "3x3 -> 5x5" in line for line in lines)


def test_json(nets):
    (line,) = nets("compare", "nets_of_tests:build", "nets_of_tests:build(5)", *IMAGE, "--json")
    assert json.loads(line)["totals"]["flops"] == {"before": NET_FLOPS, "now": WIDE_FLOPS}


def test_options_of_one_side(nets):
    (line,) = nets("compare", "nets_of_tests:net", "nets_of_tests:net?batch=2", *IMAGE, "--json")
    assert json.loads(line)["totals"]["flops"] == {"before": NET_FLOPS, "now": 2 * NET_FLOPS}


def test_page_and_profiles(nets):
    nets("compare", "nets_of_tests:build", "nets_of_tests:build(5)", *IMAGE, "--html", "p.html", "--collapsed", "c.txt")
    page = Path("p.html").read_text(encoding="utf-8")
    assert "Compared with nets_of_tests:build, without a budget." in page
    assert "+176.8%" in page  # 38,480 / 13,904
    assert Path("c.txt").read_text().splitlines()[-2] == "nets_of_tests:build(5);Net;stem 38400"


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["nets_of_tests:net"], "B"),
        (["nets_of_tests:net", "nets_of_tests:gone"], "nets_of_tests has no 'gone'"),
        (["nets_of_tests:gone", "nets_of_tests:net"], "nets_of_tests has no 'gone'"),
        (["nets_of_tests:net", "nets_of_tests:net", "--metrics", "flop"], "flop"),
    ],
)
def test_mistakes(nets, argv, told):
    nets("compare", *argv, *IMAGE)
    assert nets.code == 2
    assert told in nets.errors
    assert nets.errors.count("\n") == 1
