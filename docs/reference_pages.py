"""The pages in docs/reference/ that are made from the code. Sphinx writes them when the site is built.

Every page begins with a title in Markdown. The folder is not committed: the code is the source of these pages.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest_flopsbudget
from pytest_flopsbudget.commands import main as command_line
from pytest_flopsbudget.counting import costs
from pytest_flopsbudget.quantities.metrics import HELD_BY_DEFAULT, METRICS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import ModuleType

    from pytest_flopsbudget.counting.costs.registry import Facets

FOLDER = Path(__file__).parent / "reference"
_PACKAGE = Path(pytest_flopsbudget.__file__).parent
_COSTS = _PACKAGE / "counting" / "costs"


def write(folder: Path = FOLDER) -> None:
    """Write all pages. A page that has not changed is not written, so that Sphinx does not build it again."""
    for name, text in pages():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def pages() -> Iterator[tuple[str, str]]:
    """Yield the path of each page in the folder, and its text."""
    yield "api.md", api()
    yield "options.md", options()
    yield "metrics.md", metrics()
    yield "operators.md", operators()
    for family, module in _families().items():
        yield f"operators/{family}.md", _family_page(family, module)


def api() -> str:
    """Return the page of the public names, which Sphinx fills from their docstrings."""
    names = [(name, getattr(pytest_flopsbudget, name)) for name in pytest_flopsbudget.__all__]
    groups = {
        "Functions": [name for name, thing in names if not inspect.isclass(thing)],
        "Classes": [name for name, thing in names if inspect.isclass(thing) and not issubclass(thing, Exception)],
        "Exceptions": [name for name, thing in names if inspect.isclass(thing) and issubclass(thing, Exception)],
    }
    parts = [
        "# Python API\n\nAll names are imported from `pytest_flopsbudget`. Other modules of the package are private. "
        "The fixture `flops_budget` is a `FlopsBudget`, and everything that measures returns a `Complexity`.\n"
    ]
    for title, members in groups.items():
        directive = "autofunction" if title == "Functions" else "autoclass"
        shown = "".join(
            f".. {directive}:: pytest_flopsbudget.{name}\n"
            + ("" if title == "Functions" else "   :members:\n   :special-members: __call__, __getitem__\n")
            + "\n"
            for name in members
        )
        parts.append(f"## {title}\n\n```{{eval-rst}}\n{shown}```\n")
    return "\n".join(parts)


def options() -> str:
    """Return the page of pytest's options and of the commands, as their help shows them."""
    help_texts = [_help([]), *(_help([name]) for name in _commands())]
    titles = ["flopsbudget", *(f"flopsbudget {name}" for name in _commands())]
    shown = "".join(
        f"## {title}\n\n```text\n{text}```\n\n" for title, text in zip(titles, help_texts, strict=True)
    )
    return (
        "# Options\n\nThis page shows the help of all commands. [The command line](../commands.md) explains the commands, and "
        f"[Configuration](../configuration.md) the options of pytest.\n\n## pytest\n\n```text\n{_pytest_options()}```\n\n{shown}"
    )


def _commands() -> Iterable[str]:
    lines = _help([]).partition("COMMAND\n")[2].splitlines()
    return [line.split()[0] for line in lines if line.startswith("    ") and not line.startswith("     ")]


@functools.cache
def _help_of(words: tuple[str, ...], width: str) -> str:
    shown = io.StringIO()
    before = sys.argv, os.environ.get("COLUMNS")
    sys.argv, os.environ["COLUMNS"] = ["flopsbudget"], width
    try:
        with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
            command_line.main([*words, "--help"])
    finally:
        sys.argv = before[0]
        os.environ.pop("COLUMNS")
        if before[1] is not None:
            os.environ["COLUMNS"] = before[1]
    return shown.getvalue()


def _help(words: list[str]) -> str:
    return _help_of(tuple(words), "100")


def _pytest_options() -> str:
    command = [sys.executable, "-m", "pytest", "--help", "-c", os.devnull, "-p", "no:cacheprovider"]
    environment = {**os.environ, "COLUMNS": "100"}
    text = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout  # noqa: S603
    group = text.partition("complexity budgets (pytest-flopsbudget):\n")[2].partition("\n\n")[0]
    return f"{group.rstrip()}\n".replace("\n  -", "\n\n  -")


def metrics() -> str:
    """Return the page with the table of metrics."""
    rows = "".join(
        f"| `{metric.key}` | {metric.unit} | {metric.meaning} | {_limit(metric.better)} "
        f"| {'yes' if metric.key in HELD_BY_DEFAULT else 'no'} | {metric.per or ''} |\n"
        for metric in METRICS.values()
    )
    return (
        "# Metrics\n\nThe keys are those of limits, tolerances, baselines and reports. [Counting](../counting.md) defines each "
        "metric, and [Configuration](../configuration.md#quantities) says how an amount is written.\n\n"
        "| key | unit | meaning | a limit is | held by a baseline by default | a value for each |\n|---|---|---|---|---|---|\n"
        f"{rows}"
    )


def _limit(better: str) -> str:
    return "a maximum" if better == "less" else "a minimum"


def operators() -> str:
    """Return the page with the table of all operators that are registered."""
    rows = []
    for name, facets in sorted(costs.REGISTRY.items()):
        family = _family(facets)
        if family:
            counted = " and ".join(word for word, rule in (("`flops`", facets.flops), ("`other_flops`", facets.other)) if rule)
            rows.append(f"| `{name}` | {counted} | [{family}](operators/{family}.md) |")
        elif facets.free:
            rows.append(f"| `{name}` | free | |")
    toctree = "\n".join(f"operators/{family}" for family in _families())
    return (
        "# Operators\n\nThis table lists the operators that have a formula, and the operators that are known to be free. Other "
        "operators decompose into these, return views, or carry PyTorch's tag `pointwise` (1 FLOP per element) or `reduction`; "
        "all others are named as unknown ([what is counted](../counting.md#free-counted-unknown)). "
        "The page of a family has the formulas, their sources and their code.\n\n"
        f"```{{table}}\n:class: filtered\n\n| operator | counted in | family |\n|---|---|---|\n{_lines(rows)}```\n\n"
        f"```{{toctree}}\n:hidden:\n\n{toctree}\n```\n"
    )


def _lines(rows: Iterable[str]) -> str:
    return "".join(f"{row}\n" for row in rows)


@functools.cache
def _families() -> dict[str, ModuleType]:
    """Return the modules of formulas by name: those in which at least one operator's formula is defined."""
    names = sorted({family for _, facets in costs.REGISTRY.items() if (family := _family(facets))})
    return {name: sys.modules[f"{costs.__name__}.{name}"] for name in names}


def _family(facets: Facets) -> str | None:
    rule = facets.flops or facets.other
    home = _function(rule).__module__ if rule else ""
    return home.removeprefix(f"{costs.__name__}.") if home.startswith(f"{costs.__name__}.") else None


def _function(rule: Any) -> Callable[..., object]:
    function: Callable[..., object] = rule.func if isinstance(rule, functools.partial) else rule
    return function


def _family_page(family: str, module: ModuleType) -> str:
    rows = [
        f"| `{name}` | {_named(facets.flops)} | {_named(facets.other)} |"
        for name, facets in sorted(costs.REGISTRY.items())
        if _family(facets) == family
    ]
    source = Path(os.path.relpath(_COSTS / f"{family}.py", FOLDER / "operators")).as_posix()
    return (
        f"# {family.replace('_', ' ').capitalize()}\n\n```{{eval-rst}}\n{inspect.getdoc(module)}\n```\n\n"
        "Each formula below is a function in the code at the end of this page.\n\n"
        "```{table}\n:class: filtered\n\n| operator | formula of `flops` | formula of `other_flops` |\n|---|---|---|\n"
        f"{_lines(rows)}```\n\n## Code\n\n```{{literalinclude}} {source}\n:language: python\n```\n"
    )


def _named(rule: Any) -> str:
    if rule is None:
        return ""
    function = _function(rule)
    given = ", ".join(map(repr, rule.args)) if isinstance(rule, functools.partial) else ""
    return f"`{function.__qualname__.replace('.<locals>', '')}{f'({given})' if given else ''}`"
