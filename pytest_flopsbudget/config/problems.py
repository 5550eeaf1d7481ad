"""Collect the problems in a file or a marker, with their places and with suggestions for misspelled names."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pytest_flopsbudget.config.prescan import FILE
from pytest_flopsbudget.quantities.parsing import near_words, quote_value

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pytest_flopsbudget.hardware.profile import Device

#: If there are more choices than this, a message names only those that are near.
_FEW = 5


class Problems:
    """Collects messages on the mistakes in one table. All tables of a file or a marker share one list of messages."""

    def __init__(
        self,
        head: str,
        messages: list[str],
        parents: tuple[str, ...] = (),
        devices: Mapping[str, Device] | None = None,
        file: str = FILE,
    ) -> None:
        self.head = head
        self.messages = messages
        self.parents = parents
        #: The project's own profiles. Limits may name these devices in addition to the devices of the catalog.
        self.devices = devices or {}
        #: The name of the pyproject in messages.
        self.file = file

    def inside(self, key: object) -> Problems:
        """Return an object for the table under ``key``, with the same list of messages."""
        return Problems(self.head, self.messages, (*self.parents, str(key)), self.devices, self.file)

    def for_table(self, head: str) -> Problems:
        """Return an object for another table, with the same list of messages. Its messages begin with ``head``."""
        return Problems(head, self.messages, devices=self.devices, file=self.file)

    def add(self, key: object, why: object) -> None:
        """Add the message ``why`` about the value of ``key``."""
        keys = (*self.parents, str(key))
        path = ".".join(key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else f'"{key}"' for key in keys)
        self.messages.append(f"{self.head} {path}: {why}")

    def add_unknown_key(self, key: object, allowed: Iterable[str]) -> None:
        """Add a message that ``key`` is unknown, with up to three near keys. If none is near, all are named."""
        keys = list(allowed)
        near = near_words(str(key), keys)
        hint = f"did you mean {_either(near)}?" if near else f"there are {', '.join(keys)}"
        self.add(key, f"no such key; {hint}")

    def add_unknown_choice(self, key: str, value: object, allowed: Iterable[str]) -> None:
        """Add a message that ``value`` is not allowed, with all allowed words and the nearest one."""
        words = list(allowed)
        near = near_words(value, words) if isinstance(value, str) else []
        if near and len(words) > _FEW:
            hint = _either([f'"{word}"' for word in near])
            self.add(key, f"{quote_value(value)} is none of the {len(words)} choices; did you mean {hint}?")
            return
        hint = f'; did you mean "{near[0]}"?' if near else ""
        choices = ", ".join(f'"{word}"' for word in words)
        self.add(key, f"{quote_value(value)} is none of {choices}{hint}")


def with_dicts(message: str) -> str:
    """Return the message of a marker, where a proposed value is a Python dict in place of an inline table of TOML."""
    said, write, advice = message.partition("; write ")
    if "{" not in advice:
        return message
    return said + write + re.sub(r'([{ ])"?([\w.*-]+)"? = ', r'\1"\2": ', advice)


def _either(words: list[str]) -> str:
    """Join words with commas, and with "or" before the last one."""
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
