"""Describe an exception of the user's code in one line."""

from __future__ import annotations

import os
import traceback
from pathlib import Path

import torch

from pytest_flopsbudget.tracebacks import without_own_frames

#: The maximum length of the exception's own text.
_LONGEST = 300
_TORCH = str(Path(torch.__file__).parent)


def described(error: BaseException) -> str:
    """Return the exception's class, the first line of its text, and the line of the user's code that raised it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0][:_LONGEST] if lines else ""
    place = _place(error)
    return f"{type(error).__name__}{': ' if text else ''}{text}{f' ({place})' if place else ''}"


def _place(error: BaseException) -> str:
    """Return "net.py:12, in forward"; "" if no frame of the user's code is known."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{_shown(error.filename)}:{error.lineno}"
    frames = [
        frame
        for frame in traceback.extract_tb(without_own_frames(error.__traceback__))
        if not frame.filename.startswith((_TORCH, "<frozen")) and f"{os.sep}importlib{os.sep}" not in frame.filename
    ]
    return f"{_shown(frames[-1].filename)}:{frames[-1].lineno}, in {frames[-1].name}" if frames else ""


def _shown(file: str) -> str:
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else path.name
