"""Bold and red words in the text of a failure."""

from __future__ import annotations

from pytest_flopsbudget.reports.terminal.emphasis import emphasize

TEXT = [
    "flops +120.0% over its baseline by stem in test_net",
    "  stem: Conv2d(3->4, 3x3) -> Conv2d(3->4, 5x5)",
    "  metric      before         now   change    allowed  set by",
    "  flops   2.5 kFLOPs  5.5 kFLOPs  +120.0%  no growth  baseline",
    "  params  1           2,000       x2k      min 3",
    "",
    "params +1.0% over its limit in test_net other",
]


def test_marks():
    """The first line of each measurement, the edited module and each growth are marked."""
    assert [*emphasize(TEXT, "<{}>".format, "!{}!".format, 80)] == [
        f"<{TEXT[0]}>",
        "  <stem>: Conv2d(3->4, 3x3) -> Conv2d(3->4, 5x5)",
        TEXT[2],
        "  flops   2.5 kFLOPs  5.5 kFLOPs  !+120.0%!  no growth  baseline",
        "  params  1           2,000       !x2k!      min 3",
        "",
        f"<{TEXT[6]}>",
    ]


def test_the_text_is_unchanged():
    assert [*emphasize(TEXT, str, str, 80)] == TEXT


def test_edits_are_wrapped():
    """The line of an edit fits the terminal. The first line, tables and commands stay on one line."""
    sentence = "flops +120.0% over its baseline by encoder.layers.{0-11}.feed_forward (x12) and 1 more in test_net"
    edit = "  layers.{0-11} (x12): Block(256->256) -> Block(256->512), calls 1 -> 2 (net.py:4)"
    row = "  flops: x" + 80 * " " + "2.5 kFLOPs"
    command = "to accept: pytest --flops-budget-update " + 80 * "x"
    assert [*emphasize([sentence, edit, row, command], "<{}>".format, str, 60)] == [
        f"<{sentence}>",
        "  <layers.{0-11} (x12)>: Block(256->256) -> Block(256->512),",
        "      calls 1 -> 2 (net.py:4)",
        row,
        command,
    ]
