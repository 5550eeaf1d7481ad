"""Make names safe to show, and use signs beyond ASCII where they can be shown."""

from __future__ import annotations

import re

#: The beginning of a command in the log of a CI system.
_COMMAND = re.compile(r"(?<!\S)::|##(?=\[|vso\[)")

#: A command that a text suggests, up to the end of its line.
_SUGGESTED = re.compile(r"((?:pytest --|python -m |flopsbudget )\S[^\n]*)")
_TIMES = re.compile(r"(?<=\d)x(?=\d)")


def can_show_signs(encoding: str | None) -> bool:
    """Return whether a terminal with this encoding shows signs beyond ASCII; False if it is None (unknown)."""
    try:
        "\u2192\u00d7\u2026\u2500".encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def use_signs(text: str) -> str:
    """Return ``text`` with arrows and multiplication signs instead of their ASCII forms.

    A command at the end of a line stays as it is, because a test id in it may have such a form: ``test_net[1x3]``.
    """
    return "".join(
        part if number % 2 else _TIMES.sub("\u00d7", part.replace("->", "\u2192"))
        for number, part in enumerate(_SUGGESTED.split(text))
    )


def pluralize(number: int, noun: str) -> str:
    """Format a number of things: "1 test", "2 tests"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def visible(text: str) -> str:
    """Return ``text`` on one line, safe to show. Names of tests and modules may contain any characters.

    Every name passes through this function before it is shown in a terminal, a log or a file for readers. The function
    escapes unprintable characters, which could control the terminal or hide text. It also escapes the signs by which
    GitHub Actions and Azure Pipelines find commands in a log: ``::error`` at the beginning of a line, and ``##[error]``
    anywhere. A text may be wrapped between words, so ``::`` is escaped at the beginning of every word.
    """
    if not text.isprintable():
        text = "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)
    return _COMMAND.sub(lambda found: f"\\x{ord(found[0][0]):02x}{found[0][1:]}", text)
