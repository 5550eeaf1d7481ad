"""Read the baselines of the revision that the setting ``anchor`` names."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_flopsbudget.commands import git
from pytest_flopsbudget.errors import BaselineError, UsageError
from pytest_flopsbudget.identifiers import baseline_path, split_nodeid
from pytest_flopsbudget.storage.baseline import loads
from pytest_flopsbudget.storage.baseline_document import REMEDY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_flopsbudget.results.complexity import Complexity
    from pytest_flopsbudget.storage.baseline_document import Tests


class Anchor:
    """The baselines of one revision. Each file is read when it is first needed.

    Args:
        folder: a folder in the repository.
        revision: a tag, a branch or a commit.

    Raises:
        UsageError: the folder is in no repository, or the repository has no such revision.
    """

    def __init__(self, folder: Path, revision: str) -> None:
        self.revision = revision
        repository = git.Repository(folder)
        commit = repository.resolve(revision)
        if commit is None:
            hint = git.HOW_TO_DEEPEN if repository.shallow else "fetch it first: git fetch --tags"
            raise UsageError(f"git knows no revision {revision!r} here; {hint}")
        self._top = repository.top()
        # The paths that a `Repository` lists begin at its folder.
        self._repository = git.Repository(self._top)
        self._objects = self._repository.baselines_of(commit)
        #: Path of a baseline file relative to the top of the repository → its content at the revision.
        self._files: dict[str, Tests] = {}

    def entries(self, test_file: Path, nodeid: str) -> Mapping[str, Complexity]:
        """Return name of the measurement → its entry at the revision, for one test.

        Raises:
            BaselineError: the file at the revision is damaged, or git cannot read it.
        """
        try:
            path = Path(os.path.realpath(baseline_path(test_file))).relative_to(self._top).as_posix()
        except ValueError:  # the test is outside of the repository
            return {}
        if path not in self._objects:
            return {}
        if path not in self._files:
            try:
                with self._repository.objects() as objects:
                    text = objects.read(self._objects[path]).decode("utf-8", "surrogateescape")
                self._files[path] = loads(text, Path(f"{self.revision}:{path}")).tests
            except UsageError as error:
                # The remedy for a file of the checkout does not help here, because a commit cannot be changed.
                reason = str(error).removesuffix(REMEDY).rstrip(". ")
                raise BaselineError(f"{reason}; name another revision in the setting anchor") from error
        return self._files[path].get(split_nodeid(nodeid)[1], {})
