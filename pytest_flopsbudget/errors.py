"""What this package raises on purpose; the text of each is the whole message.

::

    Exception
    ├── UsageError            a wrong key, value, marker, file or call: told before or instead of a traceback
    │   ├── BaselineError     a baseline file that cannot be read or written
    │   └── ReportError       a report that cannot be read or written
    └── AssertionError
        └── BudgetExceededError   a test's measurements broke a limit or regressed
"""

from __future__ import annotations


class UsageError(Exception):
    """A mistake in a setting, a marker, a file or a call; its text names the place, what is allowed and what to do."""


class BaselineError(UsageError):
    """A baseline file that cannot be read or written; the file is as it was."""


class ReportError(UsageError):
    """A report that cannot be read or written; a file that was there is as it was."""


class BudgetExceededError(AssertionError):
    """A test measured more than it may. An assertion, so that whatever expects a failed one (xfail) treats it alike."""
