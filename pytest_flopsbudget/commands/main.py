"""Parse the arguments, run the command that they name, and return its exit code."""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import textwrap
from typing import TYPE_CHECKING, NoReturn

from pytest_flopsbudget.commands import accept, diff, export, github, history, init, merge, page, rename
from pytest_flopsbudget.commands.console import Output
from pytest_flopsbudget.commands.counting import audit, compare, law, measure, mfu, training_run
from pytest_flopsbudget.commands.counting.size_options import add_size_options
from pytest_flopsbudget.errors import UsageError
from pytest_flopsbudget.quantities.parsing import nearest_spelling

if TYPE_CHECKING:
    from collections.abc import Sequence

#: The exit code for a wrong argument or file; argparse uses the same one.
USAGE = 2
#: Exit codes that shells use for Ctrl-C and for a closed pipe.
INTERRUPTED = 130
READER_GONE = 141

#: The maximum length of an error message, in characters.
_LONGEST = 2_000

_COMMANDS = {
    "measure": measure,
    "compare": compare,
    "law": law,
    "audit": audit,
    "mfu": mfu,
    "run": training_run,
    "init": init,
    "accept": accept,
    "merge": merge,
    "diff": diff,
    "rename": rename,
    "history": history,
    "page": page,
    "export": export,
    "github": github,
}

#: The console script. The examples of commands are written for it.
_SCRIPT = "flopsbudget"
#: How the commands are called without the console script.
_AS_MODULE = "python -m pytest_flopsbudget"

_EPILOG = """\
exit codes: 0 all is well; 1 a verdict fails, something was not accepted or published, or --exit-code found a
difference; 2 a wrong argument, file or revision, with a message on standard error.
"""


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Wraps the paragraphs of a help text at the width of the terminal. Indented lines (commands) are not wrapped."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        lines: list[str] = []
        for indented, group in itertools.groupby(text.splitlines(), lambda line: not line or line[0].isspace()):
            part = list(group)
            lines += part if indented else textwrap.wrap(" ".join(part), width, break_on_hyphens=False)
        return "\n".join(indent + line for line in lines)


class _Parser(argparse.ArgumentParser):
    """An argument parser whose error messages are one line long and point to --help."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that the arguments name.

    Args:
        argv: the arguments without the program's name; None for the arguments of this process.

    Returns:
        The exit code.
    """
    try:
        return _run(sys.argv[1:] if argv is None else list(argv))
    except UsageError as error:
        Output().error(f"error: {_shortened(str(error))}")
        return USAGE
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader has closed the pipe, as in `... | head`. Python would print an error when it flushes the stream.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return READER_GONE
    except OSError as error:
        # The file system refuses a name, for example because it is too long, or because a folder must not be read.
        name = f"{_shortened(str(error.filename))}: " if error.filename else ""
        Output().error(f"error: {name}{error.strerror or error}")
        return USAGE


def _shortened(text: str) -> str:
    """Return ``text``. If it is too long to read, its middle is cut out."""
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]} ... {text[-_LONGEST // 2 :]}"


def _run(argv: list[str]) -> int:
    parser = _parser(argv)
    # No file, revision or node id contains a zero byte, and not every function reports a zero byte clearly.
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


def _parser(argv: Sequence[str]) -> _Parser:
    parser = _Parser(
        prog=_program(),
        description="Count models, and work with the baselines and reports of pytest-flopsbudget, without a test.",
        epilog=_EPILOG,
        formatter_class=_HelpFormatter,
        allow_abbrev=False,
    )
    _add_no_color(parser, default=False)
    parser.add_argument("--version", action=_Version, help="show the versions of this program, PyTorch and Python")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, dest="command")
    for name, module in _COMMANDS.items():
        own = commands.add_parser(
            name,
            help=module.SUMMARY,
            description=module.DESCRIPTION,
            epilog=module.EXAMPLES.replace(_SCRIPT, parser.prog),
            formatter_class=_HelpFormatter,
            allow_abbrev=False,
        )
        module.add_arguments(own)
        if module in {law, audit} and next((word for word in argv if not word.startswith("-")), None) == name:
            add_size_options(own, argv)
        # The option may be written before or after the command. The default at one place must not override the other
        # place.
        _add_no_color(own, default=argparse.SUPPRESS)
        own.set_defaults(run=module.run)
    return parser


def _program() -> str:
    """Return the command that started this process, as the user would type it again."""
    started = os.path.splitext(os.path.basename(sys.argv[0] if sys.argv else ""))[0]  # noqa: PTH119, PTH122
    return _SCRIPT if started == _SCRIPT else _AS_MODULE


class _Version(argparse.Action):
    """``--version``: write the versions and exit."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str) -> None:  # noqa: A002 -- argparse's name
        super().__init__(option_strings, dest, nargs=0, default=argparse.SUPPRESS, help=help)

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,  # noqa: ARG002 -- argparse hands it over
        values: object,  # noqa: ARG002
        option_string: str | None = None,  # noqa: ARG002
    ) -> NoReturn:
        from platform import python_version

        from pytest_flopsbudget.versions import installed_version, own_version

        torch = installed_version("torch")
        Output().line(f"pytest-flopsbudget {own_version()} (PyTorch {torch}, Python {python_version()})")
        parser.exit()


def _add_no_color(parser: argparse.ArgumentParser, *, default: bool | str) -> None:
    parser.add_argument(
        "--no-color",
        action="store_true",
        default=default,
        help="write without colour; the environment variable NO_COLOR does the same",
    )


def _unknown(word: str, parser: _Parser, command: str | None) -> str:
    """Return the error message for an argument that the command does not take."""
    place = f"{parser.prog} {command}" if command else parser.prog
    if not word.startswith("-"):
        return f"one argument too many: {word!r} (see {place} --help)"
    subparsers = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction))  # noqa: SLF001 -- argparse has no public way to list them
    own = subparsers.choices.get(command) if command else None
    options = [option for option in (own or parser)._option_string_actions if option.startswith("--")]  # noqa: SLF001
    near = nearest_spelling(word.partition("=")[0], options)
    hint = f"did you mean {near}?" if near else f"there are {', '.join(options)}"
    return f"no option {word!r}; {hint} (see {place} --help)"
