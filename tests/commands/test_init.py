"""`init` reads source files and never imports them. Its proposals are run by pytest in tests/plugin/test_models.py."""

import ast
from pathlib import Path

import pytest

HEAD = "import torch\nfrom torch import nn\n\n\n"


def module(name, bases="nn.Module", init="self", body="pass"):
    return f"class {name}({bases}):\n    def __init__({init}):\n        {body}\n\n\n"


def write(path, *parts):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(HEAD + "".join(parts), encoding="utf-8")


def proposed(command, *argv):
    """Return {test: what it measures} and the imports of the proposal for the current folder."""
    text = "\n".join(command("init", *argv))
    code = text.partition(".py\n")[2].partition("\n# pyproject.toml")[0]
    tree = ast.parse(code)
    tests = {node.name: ast.unparse(node.body[0]) for node in tree.body if isinstance(node, ast.FunctionDef)}
    return tests, [ast.unparse(node) for node in tree.body if isinstance(node, ast.ImportFrom)]


def test_a_class_with_parts(command):
    write("net.py", module("Block"), module("ResNet50", body="self.stem = nn.Conv2d(3, 8, 3); self.block = Block()"))
    tests, imports = proposed(command)
    assert tests == {"test_res_net50": "flops_budget(ResNet50(), torch.empty(1, 3, 224, 224))"}
    assert imports == ["from net import ResNet50"]


@pytest.mark.parametrize(
    ("path", "name"),
    [("a/b/net.py", "a.b.net"), ("src/pkg/net.py", "pkg.net"), ("pkg/__init__.py", "pkg"), ("src/net.py", "net")],
)
def test_module_names(command, path, name):
    write(path, module("Net"))
    assert proposed(command)[1] == [f"from {name} import Net"]


@pytest.mark.parametrize(
    "path", ["tests/net.py", "test_net.py", ".hidden/net.py", "venv/net.py", "my-dir/net.py", "build/net.py"]
)
def test_files_that_define_no_models_of_the_project(command, path):
    write("net.py", module("Net"))
    write(path, module("Other"))
    Path("venv").mkdir(exist_ok=True)
    Path("venv/pyvenv.cfg").touch()
    assert proposed(command)[1] == ["from net import Net"]


@pytest.mark.parametrize(
    ("bases", "found"),
    [
        ("nn.Module", True),
        ("torch.nn.Module", True),
        ("Module", True),
        ("pl.LightningModule", True),
        ("Generic[int], nn.Module", True),
        ("nn.Sequential", True),
        ("Sequential", False),
        ("object", False),
        ("Enum", False),
    ],
)
def test_bases(command, bases, found):
    write("net.py", module("Net", bases))
    assert bool(proposed(command)[0]) == found


def test_bases_in_other_files(command):
    """A base that other models derive from is not proposed."""
    write("base.py", module("Base"))
    write("net.py", module("Net", "base.Base"))
    assert proposed(command)[1] == ["from net import Net"]


@pytest.mark.parametrize(
    ("init", "layer", "code"),
    [
        ("self", "nn.Linear(16, 2)", "torch.empty(1, 16)"),
        ("self", "nn.Conv1d(2, 4, 3)", "torch.empty(1, 2, 1024)"),
        ("self", "nn.Embedding(100, 4)", "torch.zeros(1, 128, dtype=torch.int64)"),
        ("self, channels=1", "nn.Conv2d(channels, 4, 3)", "torch.empty(1, 1, 224, 224)"),
        ("self, *, channels=4", "nn.Conv3d(channels, 4, 3)", "torch.empty(1, 4, 16, 112, 112)"),
        ("self, flag=True", "nn.Linear(flag, 4)", "torch.empty(1, 3, 224, 224)"),
        ("self", "nn.Linear(unknown, 4)", "torch.empty(1, 3, 224, 224)"),
    ],
)
def test_inputs_are_guessed_from_the_first_layer(command, init, layer, code):
    write("net.py", module("Net", init=init, body=f"self.a = {layer}"))
    assert proposed(command)[0] == {"test_net": f"flops_budget(Net(), {code})"}


def test_an_example_of_the_model(command):
    write("net.py", module("Net", body="self.example_input_array = torch.empty(1)"))
    assert proposed(command)[0] == {"test_net": "flops_budget(Net())"}


@pytest.mark.parametrize(
    "builder",
    [
        "def build():\n    return Net(3)\n",
        "def build(width=3) -> Net:\n    net = Net(width)\n    return net\n",
        "def build(*, width=3) -> nn.Module:\n    return models.Net(width)\n",
    ],
)
def test_builders_stand_for_their_class(command, builder):
    write("net.py", module("Net", init="self, width"), builder)
    assert proposed(command)[1] == ["from net import build"]
    assert command.errors == ""


def test_required_arguments_are_named(command):
    write("net.py", module("Net"), module("Other", init="self, width, *, depth"))
    assert proposed(command)[1] == ["from net import Net"]
    assert command.errors == "net.py:10: Other needs width, depth; write its test by hand\n"


def test_equal_names_are_told_apart(command):
    write("a.py", module("Net"))
    write("b/c.py", module("Other"), "def build():\n    return Other()\n")
    write("b/d.py", "from b.c import Other\n", "def build():\n    return Other()\n")
    tests, imports = proposed(command)
    assert imports == [
        "from a import Net",
        "from b.c import build as b_c_build",
        "from b.d import build as b_d_build",
    ]
    assert [*tests] == ["test_net", "test_b_c_build", "test_b_d_build"]


def test_a_file_that_python_cannot_parse(command):
    write("net.py", module("Net"))
    Path("old.py").write_text("print 1")
    Path("zero.py").write_bytes(b"a = '\0'")
    assert proposed(command)[1] == ["from net import Net"]
    assert command.errors.count("Python cannot parse this file") == 2


def test_write(command):
    write("net.py", module("Net"))
    Path("tests").mkdir()
    assert command("init", "--write") == [
        "written: tests/test_flops_budget.py",
        "written: pyproject.toml",
        "Check the inputs in the test, then write the first baseline: pytest --flops-budget-update",
    ]
    assert "[tool.pytest-flopsbudget]" in Path("pyproject.toml").read_text()


@pytest.mark.parametrize(
    "existing", [["pyproject.toml"], ["test_flops_budget.py"], ["pyproject.toml", "test_flops_budget.py"]]
)
def test_nothing_is_overwritten(command, existing):
    write("net.py", module("Net"))
    for name in existing:
        Path(name).write_text("# mine")
    command("init", "--write")
    assert [Path(name).read_text() for name in existing] == ["# mine"] * len(existing)
    assert command.errors.count("not written: ") == len(existing)
    assert command.code == (1 if len(existing) == 2 else 0)


@pytest.mark.parametrize(
    ("argv", "told"), [(["gone"], "gone is no folder"), ([], "no model that can be built without arguments was found")]
)
def test_mistakes(command, argv, told):
    Path("net.py").write_text("x = 1")
    assert command("init", *argv) == []
    assert command.code == 2
    assert told in command.errors
