"""If any private name of PyTorch is missing, the package can still be imported."""

import ast
import functools
import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import pytest_flopsbudget
from pytest_flopsbudget.counting import torch_private

PACKAGE = Path(pytest_flopsbudget.__file__).parent
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "torch_private.py")

#: Private names that belong to other libraries: to Python's standard library and to pytest.
ELSEWHERE = {
    "_getframe", "_replace", "_target", "_actions", "_SubParsersAction", "_option_string_actions", "_callTestMethod",
    "_file", "_asdict",
    "_increment_mock_call", "_make_runner", "_from_config",  # of unittest.mock, pytest-benchmark and transformers
}  # fmt: skip


def defined_names(tree):
    """Yield the names of functions and attributes that the parsed file ``tree`` defines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            yield node.name
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id


@functools.cache
def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"))


@functools.cache
def our_names():
    return {name for path in FILES for name in defined_names(tree_of(path))}


def is_private(name):
    return name.startswith("_") and not name.endswith("__")


def private_module(name):
    parts = name.split(".")
    return parts[0] == "torch" and any(map(is_private, parts))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_no_private_name_elsewhere(path):
    """If the file uses a private attribute of PyTorch, `torch_private.ATTRIBUTES` lists the attribute."""
    listed = {name.rpartition(".")[2] for name in torch_private.ATTRIBUTES}
    found = []
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "torch":
            found += [name for alias in node.names if private_module(name := f"{node.module}.{alias.name}")]
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if private_module(alias.name)]
        elif isinstance(node, ast.Attribute) and is_private(node.attr):
            if node.attr not in listed | ELSEWHERE | our_names() or ast.unparse(node).startswith("torch."):
                found.append(ast.unparse(node))
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in {"getattr", "hasattr", "setattr"}:
            found += [
                name.value
                for name in node.args[1:2]
                if isinstance(name, ast.Constant) and is_private(name.value) and name.value not in ELSEWHERE
            ]
    assert found == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_no_private_module_in_a_string(path):
    """If a string in the file names a private module of PyTorch, `torch_private.NAMES` lists the module."""
    strings = {
        node.value for node in ast.walk(tree_of(path)) if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    private = {text for text in strings if re.fullmatch(r"torch(\.\w+)+", text) and private_module(text)}
    listed = {name.replace(":", ".") for name in torch_private.NAMES}
    assert private <= listed


def test_every_name_exists_in_this_version():
    missing = {name for name in torch_private.NAMES if torch_private._look_up(name) is torch_private._ABSENT}
    assert missing <= NEWER
    torch_private.require_attributes()


#: Names that some supported versions of PyTorch lack. Each has a reaction other than an error.
NEWER = {
    "torch._C._distributed_c10d:FakeWork",
    "torch.utils._python_dispatch:TorchDispatchMode.ignore_compile_internals",
    "torch.utils._python_dispatch:TorchDispatchMode.supports_higher_order_operators",
}

#: Names that every measurement needs.
CORE = {
    "torch.utils._python_dispatch:TorchDispatchMode",
    "torch._C:_dispatch_has_kernel_for_dispatch_key",
    "torch._C:_current_autograd_node",
    "torch._C:_autograd._get_sequence_nr",
    "torch:Tensor._make_subclass",
}

#: 2 layers, each with 2·2·8·8 FLOPs for a batch of 2.
FLOPS = 2 * (2 * 2 * 8 * 8)

WITHOUT = """
    import json, os, pkgutil, sys
    import torch
    import pytest_flopsbudget.counting.measure

    # Each child imports the package again. The operators that this import looked up in PyTorch are still loaded.
    for name in [name for name in sys.modules if name.partition(".")[0] == "pytest_flopsbudget"]:
        del sys.modules[name]

    real = pkgutil.resolve_name
    answers = {}
    for key, names in json.loads(sys.argv[1]).items():
        read, write = os.pipe()
        if os.fork() == 0:
            def look_up(asked):
                if asked in names:
                    raise AttributeError(asked)
                return real(asked)

            pkgutil.resolve_name = look_up
            try:
                from pytest_flopsbudget.counting.measure import measure
                model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 8))
                answer = measure(model, torch.zeros(2, 8)).metrics["flops"]
            except Exception as error:
                answer = f"{type(error).__name__}: {error}"
            os.write(write, json.dumps(answer).encode())
            os._exit(0)
        os.close(write)
        with open(read) as answered:
            answers[key] = json.loads(answered.read() or '"it died"')
        os.wait()
    print(json.dumps(answers))
"""


OTHERS = [name for name in torch_private.NAMES if name not in CORE]
#: A name that has a default is removed alone. Any other name is replaced by an object that raises when it is used, so
#: these names are all removed in one process.
WITH_DEFAULT = [name for name in OTHERS if torch_private.NAMES[name].without != torch_private._REFUSED]
RAISING = [name for name in OTHERS if name not in WITH_DEFAULT]
TAKEN_AWAY = {**{name: [name] for name in (*CORE, *WITH_DEFAULT)}, "all others": RAISING}


@pytest.fixture(scope="module")
def answers():
    """Return the FLOPs of a model, or the error of its measurement, for each set of removed names."""
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(WITHOUT), json.dumps(TAKEN_AWAY)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(PACKAGE.parent)},
    )
    return json.loads(run.stdout)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.parametrize("name", sorted(CORE))
def test_without_a_name_of_the_core(answers, name):
    """If a private name that every measurement needs is missing, each measurement raises an error with this name."""
    feature = torch_private.NAMES[name].feature
    assert answers[name].startswith(f"UsageError: {feature} needs {name.replace(':', '.')}, a private part of")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.parametrize("name", [*WITH_DEFAULT, "all others"])
def test_without_a_name_of_a_feature(answers, name):
    assert answers[name] == FLOPS


def test_a_missing_function_says_so_when_it_is_called():
    function = torch_private._refusing("Counting mist", "torch:_mist")
    with pytest.raises(pytest_flopsbudget.UsageError, match=r"Counting mist needs torch\._mist, a private part"):
        function(1, 2)
    names, attributes = dict(torch_private.NAMES), dict(torch_private.ATTRIBUTES)
    try:
        later = torch_private._imported_later("torch._mist:name", "Counting mist")
        attribute = torch_private._attribute("Mist", "_drop", "Counting mist")
        kind = torch_private._class("torch._mist:Mist", "Counting mist")
    finally:
        for table, before in ((torch_private.NAMES, names), (torch_private.ATTRIBUTES, attributes)):
            table.clear()
            table.update(before)
    for use in (later, kind, lambda: attribute(object())):
        with pytest.raises(pytest_flopsbudget.UsageError, match="Counting mist needs"):
            use()
    assert not isinstance(1, kind)


def test_a_missing_attribute_is_reported_before_measuring(monkeypatch):
    monkeypatch.setattr(torch_private, "_MISSING", [("Counting parameters", "Module._parameters")])
    with pytest.raises(pytest_flopsbudget.UsageError, match=r"Counting parameters needs Module\._parameters"):
        pytest_flopsbudget.measure(len, ["a"])
