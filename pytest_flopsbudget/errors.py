"""The exceptions that this package raises on purpose. The text of each exception is a complete message.

::

    Exception
    ├── UsageError            a wrong key, value, marker, file or call; shown without a traceback
    │   ├── BaselineError     a baseline file that cannot be read or written
    │   └── ReportError       a report that cannot be read or written
    └── AssertionError
        └── BudgetExceededError   a test's measurements broke a limit or regressed
"""

from __future__ import annotations


class UsageError(Exception):
    """A mistake in a setting, a marker, a file or a call. The text gives the mistake's place and a remedy."""


class BaselineError(UsageError):
    """A baseline file cannot be read or written. The file is unchanged."""


class ReportError(UsageError):
    """A report cannot be read or written. An existing file is unchanged."""


class BudgetExceededError(AssertionError):
    """A test measured more than its budget allows. It is an AssertionError, so xfail treats it like a failed assert."""
