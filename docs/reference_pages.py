"""The pages in docs/reference/ that are made from the code. Sphinx writes them when the site is built.

The folder is not committed: the code is the source of these pages.
"""

from __future__ import annotations

import functools
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

import pytest_flopsbudget
from pytest_flopsbudget.counting import costs
from pytest_flopsbudget.quantities.metrics import HELD_BY_DEFAULT, METRICS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import ModuleType

    from pytest_flopsbudget.counting.costs.registry import Facets

FOLDER = Path(__file__).parent / "reference"
_PACKAGE = Path(pytest_flopsbudget.__file__).parent
_COSTS = _PACKAGE / "counting" / "costs"
#: Runs the command line under the name of its console script.
_PROGRAM = (
    "import sys; sys.argv[0] = 'flopsbudget'; from pytest_flopsbudget.commands.main import main; sys.exit(main())"
)

_API = """# Python API

All names are imported from `pytest_flopsbudget`. Other modules of the package are private. The fixture `flops_budget`
is a `FlopsBudget`, and everything that measures returns a `Complexity`.
"""
_OPTIONS = """# Options

This page shows the help of all commands. [The command line](../commands.md) explains the commands, and
[Configuration](../configuration.md) the options of pytest.
"""
_METRICS = """# Metrics

The keys are those of limits, tolerances, baselines and reports. [Counting](../counting.md) defines each metric, and
[Configuration](../configuration.md#quantities) says how an amount is written.

| key | unit | meaning | a limit is | held by a baseline by default | a value for each |
|---|---|---|---|---|---|
"""
_OPERATORS = """# Operators

This table lists the operators that have a formula, and the operators that are known to be free. Other operators
decompose into these, return views, or carry PyTorch's tag `pointwise` (1 FLOP per element) or `reduction`. All others
are named as unknown ([what is counted](../counting.md#free-counted-unknown)). The page of a family has the formulas,
their sources and their code.
"""


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
    yield from families()


def families() -> Iterator[tuple[str, str]]:
    """Yield the path and the text of the page of each family of operators."""
    for family, module in _families().items():
        yield f"operators/{family}.md", _family_page(family, module)


def api() -> str:
    """Return the page of the public names, which Sphinx fills from their docstrings."""
    named = {name: getattr(pytest_flopsbudget, name) for name in pytest_flopsbudget.__all__}
    groups = {
        "Functions": {name: thing for name, thing in named.items() if not inspect.isclass(thing)},
        "Classes": {
            name: thing for name, thing in named.items() if _is_class(thing) and not _is_class(thing, Exception)
        },
        "Exceptions": {name: thing for name, thing in named.items() if _is_class(thing, Exception)},
    }
    parts = [
        f"\n## {title}\n\n```{{eval-rst}}\n{''.join(_directive(name, thing) for name, thing in members.items())}```\n"
        for title, members in groups.items()
    ]
    return "".join([_API, *parts])


def _is_class(thing: object, base: type = object) -> bool:
    return inspect.isclass(thing) and issubclass(thing, base)


def _directive(name: str, thing: object) -> str:
    """Return Sphinx's directive for one public name. Metrics are attributes that results inherit."""
    if not _is_class(thing):
        return f".. autofunction:: pytest_flopsbudget.{name}\n\n"
    inherited = "   :inherited-members: Struct\n" if _is_class(thing, msgspec.Struct) else ""
    members = "   :members:\n   :special-members: __call__, __getitem__\n"
    return f".. autoclass:: pytest_flopsbudget.{name}\n{members}{inherited}\n"


def options() -> str:
    """Return the page of pytest's options and of the commands, as their help shows them."""
    general = _help("-c", _PROGRAM)
    listed = general.partition("COMMAND\n")[2].splitlines()
    commands = [line.split()[0] for line in listed if re.match(r" {4}\w", line)]
    texts = {"pytest": _pytest_options(), "flopsbudget": general}
    texts |= {f"flopsbudget {name}": _help("-c", _PROGRAM, name) for name in commands}
    return _OPTIONS + "".join(f"\n## {title}\n\n```text\n{text}```\n" for title, text in texts.items())


def _pytest_options() -> str:
    text = _help("-m", "pytest", "-c", os.devnull, "-p", "no:cacheprovider")
    group = text.partition("complexity budgets (pytest-flopsbudget):\n")[2].partition("\n\n")[0]
    return f"{group.rstrip()}\n".replace("\n  -", "\n\n  -")


def _help(*arguments: str) -> str:
    """Return what Python prints for these arguments and ``--help``, in lines of 100 characters."""
    environment = {**os.environ, "COLUMNS": "100"}
    command = [sys.executable, "-W", "ignore", *arguments, "--help"]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment).stdout  # noqa: S603


def metrics() -> str:
    """Return the page with the table of metrics."""
    rows = "".join(
        f"| `{metric.key}` | {metric.unit} | {metric.meaning} | {_limit(metric.better)} "
        f"| {'yes' if metric.key in HELD_BY_DEFAULT else 'no'} | {metric.per or ''} |\n"
        for metric in METRICS.values()
    )
    return _METRICS + rows


def _limit(better: str) -> str:
    return "a maximum" if better == "less" else "a minimum"


def operators() -> str:
    """Return the page with the table of all operators that are registered."""
    counted, free = [], []
    for name, facets in sorted(costs.REGISTRY.items(), key=_aten_first):
        family = _family(facets)
        if family:
            kinds = [word for word, rule in (("flops", facets.flops), (r"other\_flops", facets.other)) if rule]
            counted.append(f"| {_plain(name)} | {', '.join(kinds)} | [{family}](operators/{family}.md) |")
        elif facets.free:
            free.append(f"| {_plain(name)} | free | |")
    table = f"| operator | counted in | family |\n|---|---|---|\n{_lines([*counted, *free])}"
    return f"{_OPERATORS}\n{_filtered(table)}"


def _aten_first(item: tuple[str, Facets]) -> tuple[bool, str]:
    return not item[0].startswith("aten."), item[0]


def _plain(name: str) -> str:
    """Return a name that Markdown shows as it is. As code, the names of all operators would double the page's size."""
    return name.replace("_", r"\_")


def _filtered(table: str) -> str:
    """Return a table that has a field for searching above it."""
    return f"```{{table}}\n:class: filtered\n\n{table}```\n"


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
    table = f"| operator | formula of `flops` | formula of `other_flops` |\n|---|---|---|\n{_lines(rows)}"
    code = f"```{{literalinclude}} {source}\n:language: text\n:start-at: from __future__\n```\n"
    title = family.replace("_", " ").capitalize()
    return (
        f"---\norphan: true\n---\n\n# {title}\n\n```{{eval-rst}}\n{inspect.getdoc(module)}\n```\n\n"
        f"Each formula is a function in the code at the end of this page.\n\n{_filtered(table)}\n## Code\n\n{code}"
    )


def _named(rule: Any) -> str:
    if rule is None:
        return ""
    function = _function(rule)
    given = ", ".join(map(repr, rule.args)) if isinstance(rule, functools.partial) else ""
    return f"`{function.__qualname__.replace('.<locals>', '')}{f'({given})' if given else ''}`"
