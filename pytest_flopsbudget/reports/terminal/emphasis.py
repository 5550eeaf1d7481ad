"""Mark what a reader should see first in the text of a failure: the sentence, the edited module and the growth."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


_GROWTH = re.compile(r"(?<!\S)(?:\+[\d.]+%|x[\d.]+(?:e\+\d+)?[kMGTPE]?)(?!\S)")
_EDIT = re.compile(r"  (\S[^:]*)(: )")


def emphasize(lines: Iterable[str], bold: Callable[[str], str], red: Callable[[str], str]) -> Iterator[str]:
    """Yield the lines of a failure with marks. Without marks, the lines are unchanged.

    Args:
        lines: the text that `failure.explain` made. An empty line separates measurements.
        bold: returns a text in bold.
        red: returns a text in red.
    """
    is_first = True
    for line in lines:
        edit = _EDIT.match(line)
        if is_first:
            yield bold(line)
        elif edit is not None:
            yield f"  {bold(edit[1])}{line[edit.end(1) :]}"
        else:
            yield _GROWTH.sub(lambda found: red(found[0]), line)
        is_first = not line
