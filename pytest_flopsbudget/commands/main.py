"""Arguments → a command → an exit code."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, NoReturn

from pytest_flopsbudget.commands import accept, diff, history, merge, rename
from pytest_flopsbudget.commands.console import Output
from pytest_flopsbudget.errors import UsageError
from pytest_flopsbudget.quantities.parsing import nearest_spelling

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Nothing was wrong, or what was wrong was not asked for.
FINE = 0
#: A wrong argument or file, or nothing could be done; as argparse has it.
USAGE = 2
#: Ctrl-C, and a reader that has gone, as shells number them.
INTERRUPTED = 130
READER_GONE = 141

_COMMANDS = {"accept": accept, "merge": merge, "diff": diff, "rename": rename, "history": history}

_EPILOG = """\
exit codes: 0 all is well; 1 a verdict fails, something was not accepted, or --exit-code found a difference;
2 a wrong argument, file or revision, told on standard error.
"""


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, and say where to read more."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that ``argv`` asks for, ``sys.argv`` without its first if it is None.

    Returns:
        The exit code.
    """
    try:
        return _run(sys.argv[1:] if argv is None else list(argv))
    except UsageError as error:
        Output().error(f"error: {error}")
        return USAGE
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # `... | head` has read enough. Python would complain once more while it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return READER_GONE


def _run(argv: list[str]) -> int:
    parser = _parser()
    # No shell can hand it over, but no file, revision or node id has it, and not all that take them say so.
    if any("\0" in word for word in argv):
        raise UsageError(f"a zero byte in an argument (see {parser.prog} --help)")
    command = next((word for word in argv if not word.startswith("-")), None)
    if command is not None and command not in _COMMANDS:
        near = nearest_spelling(command, _COMMANDS)
        hint = f"did you mean {near}?" if near else f"there are {', '.join(_COMMANDS)}"
        raise UsageError(f"no command {command!r}; {hint} (see {parser.prog} --help)")
    if not argv:
        parser.print_help()
        return USAGE
    arguments, unknown = parser.parse_known_args(argv)
    if unknown:
        raise UsageError(_unknown(unknown[0], parser, command))
    output = Output(colour=False if arguments.no_color else None)
    code: int = arguments.run(arguments, output)
    sys.stdout.flush()
    return code


def _parser() -> _Parser:
    parser = _Parser(
        prog="python -m pytest_flopsbudget",
        description="What is done with baselines and reports of pytest-flopsbudget without running a test.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_no_color(parser, default=False)
    commands = parser.add_subparsers(metavar="COMMAND", required=True, dest="command")
    for name, module in _COMMANDS.items():
        own = commands.add_parser(
            name,
            help=module.SUMMARY,
            description=module.DESCRIPTION,
            epilog=module.EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        module.add_arguments(own)
        # Before the command or behind it: what is not given here must not undo what was given there.
        _add_no_color(own, default=argparse.SUPPRESS)
        own.set_defaults(run=module.run)
    return parser


def _add_no_color(parser: argparse.ArgumentParser, *, default: bool | str) -> None:
    parser.add_argument(
        "--no-color", action="store_true", default=default, help="no colour; NO_COLOR in the environment says so too"
    )


def _unknown(word: str, parser: _Parser, command: str | None) -> str:
    """What to say of an argument that the command does not take."""
    place = f"{parser.prog} {command}" if command else parser.prog
    if not word.startswith("-"):
        return f"one argument too many: {word!r} (see {place} --help)"
    subparsers = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction))  # noqa: SLF001 -- argparse tells nobody else
    own = subparsers.choices.get(command) if command else None
    options = [option for option in (own or parser)._option_string_actions if option.startswith("--")]  # noqa: SLF001
    near = nearest_spelling(word.partition("=")[0], options)
    hint = f"did you mean {near}?" if near else f"there are {', '.join(options)}"
    return f"no option {word!r}; {hint} (see {place} --help)"
