"""Find the pyprojects that may have a table for this plugin, without parsing them.

Every run of pytest calls this code, so this file imports only the standard library. Parsing TOML would take longer
than everything else that this plugin does in a run without measurements.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

FILE = "pyproject.toml"
TABLE = "pytest-flopsbudget"

#: The head of a table, or a key, that contains this plugin's name. A requirement that installs the plugin is a string,
#: and does not match.
_TABLE_OR_KEY = re.compile(
    rb"""(?im)^[ \t]*(?:\[[^\n]*flop|[\w.\-"' ]*flop[\w.\-"' ]*=(?!=))"""
    rb"""|^[^"'#\n]*flop"""  # a line that is no valid TOML, or the first line after a byte order mark
    rb"""|[{,][ \t]*["']?[\w.\-]*flop[\w.\-]*["']?[ \t]*=(?!=)"""  # in a table that is written inline
)


def may_have_table(path: Path) -> bool:
    """Return whether the file may have a table for this plugin; False if the file cannot be read."""
    try:
        return names_table(path.read_bytes())
    except OSError:
        return False


def names_table(data: bytes) -> bool:
    """Return whether the bytes of a pyproject may contain a table for this plugin, even with a misspelled name."""
    return _TABLE_OR_KEY.search(data) is not None


class PyprojectFinder:
    """Finds the folders in which a run looks for pyprojects.

    This class is no dataclass, because creating a dataclass takes longer than everything else that this plugin does in
    a run without measurements.

    Args:
        rootpath: pytest's root folder.
        here: the folder where pytest was started.
        args: the files, folders and tests to collect, as typed in ``here``.
    """

    def __init__(self, rootpath: Path, here: Path, args: Iterable[str]) -> None:
        self._rootpath = rootpath
        self._here = here
        self._args = args
        #: Folder → whether its pyproject may have a table.
        self._may_have: dict[Path, bool] = {}
        self._last: Path | None = None
        self._last_may_have = False

    def folders_of_run(self) -> Iterator[Path]:
        """Yield the folders in which to look for the settings of the whole run. The root folder is the first one.

        If tests are outside of the root folder, its parents follow, up to the first one that contains all tests. This
        happens if a file such as ``ci/pytest.ini`` makes ``ci`` the root folder.
        """
        paths = [self._here / arg.partition("::")[0] for arg in self._args]
        # The path "ci/../tests" is not below "ci".
        paths = [type(path)(os.path.normpath(path)) for path in paths if path.exists()]
        for folder in (self._rootpath, *self._rootpath.parents):
            yield folder
            if all(path.is_relative_to(folder) for path in paths):
                return

    def folders_of(self, test_file: Path) -> Iterator[Path]:
        """Yield the folders in which to look for the settings of a test file. The nearest folder is the first one.

        The last folder is the nearest one that contains both the test file and the root folder. If the root folder
        contains the test file, the last folder is the root folder.
        """
        for folder in test_file.parents:
            yield folder
            if self._rootpath.is_relative_to(folder):
                return

    def may_run_have_table(self) -> bool:
        """Return whether a pyproject may have settings for the whole run."""
        return any(map(self._may_have_table_in, self.folders_of_run()))

    def may_have_table(self, test_file: Path) -> bool:
        """Return whether a pyproject may have settings for the tests of a file."""
        # The tests of a file share one path and are asked about one after another, so the last answer is kept.
        if test_file is not self._last:
            self._last_may_have = any(map(self._may_have_table_in, self.folders_of(test_file)))
            self._last_may_have = self._last_may_have or self.may_run_have_table()
            self._last = test_file
        return self._last_may_have

    def _may_have_table_in(self, folder: Path) -> bool:
        found = self._may_have.get(folder)
        if found is None:
            found = self._may_have[folder] = may_have_table(folder / FILE)
        return found
