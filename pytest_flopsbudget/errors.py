"""The mistakes that a user can make, as exceptions whose text is the whole message.

    UsageError            a wrong key, value, marker, file or call: told before or instead of a traceback
    └── BaselineError     a baseline file that cannot be read or written
"""

from __future__ import annotations


class UsageError(Exception):
    """A mistake in a setting, a marker, a file or a call; its text names the place, what is allowed and what to do."""


class BaselineError(UsageError):
    """A baseline file that cannot be read or written; the file is as it was."""
