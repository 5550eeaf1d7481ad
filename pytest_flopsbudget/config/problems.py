"""Where in a file or a marker something wrong stands, and the list in which all that is wrong gathers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pytest_flopsbudget.quantities.parsing import nearest_spelling

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pytest_flopsbudget.hardware.profile import Device


class Problems:
    """A table that is being read, and the list in which the mistakes of its file or marker gather."""

    def __init__(
        self,
        head: str,
        messages: list[str],
        parents: tuple[str, ...] = (),
        devices: Mapping[str, Device] | None = None,
    ) -> None:
        self.head = head
        self.messages = messages
        self.parents = parents
        #: The project's own profiles, which may be named besides those that everybody has.
        self.devices = devices or {}

    def inside(self, key: object) -> Problems:
        """The table that stands in this one under ``key``."""
        return Problems(self.head, self.messages, (*self.parents, str(key)), self.devices)

    def for_table(self, head: str) -> Problems:
        """Another table of the same file, which messages call ``head``."""
        return Problems(head, self.messages, devices=self.devices)

    def add(self, key: object, why: object) -> None:
        """Note what is wrong with the value of ``key``."""
        keys = (*self.parents, str(key))
        path = ".".join(key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else f'"{key}"' for key in keys)
        self.messages.append(f"{self.head} {path}: {why}")

    def add_unknown_key(self, key: object, allowed: Iterable[str]) -> None:
        """Note that there is no such ``key``, and which there are."""
        keys = list(allowed)
        near = nearest_spelling(str(key), keys)
        hint = f"; did you mean {near}?" if near else "."
        self.add(key, f"no such key{hint} There are {', '.join(keys)}")
