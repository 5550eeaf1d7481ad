"""Moved ids: if a parameter set is removed, the ids after it name other models."""

from __future__ import annotations

import pytest

#: Name → (code that makes a model and its input from ``config``, parameter sets from expensive to cheap).
WAYS = {
    "width": ("model = nn.Linear(config['w'], 4); x = torch.ones(1, config['w'])", [{"w": w} for w in (32, 16, 8, 4)]),
    "hidden": (
        "h = config['h']; model = nn.Sequential(nn.Linear(8, h), nn.Linear(h, 4)); x = torch.ones(1, 8)",
        [{"h": h} for h in (64, 32, 16, 8)],
    ),
    # Models with different strides have equal parameters and inputs.
    "stride": (
        "model = nn.Conv2d(3, 4, 1, stride=config['s']); x = torch.ones(1, 3, 16, 16)",
        [{"s": s} for s in (1, 2, 4, 8)],
    ),
    "steps": (
        "layer = nn.Linear(8, 8); model = nn.Sequential(*[layer] * config['n']); x = torch.ones(1, 8)",
        [{"n": n} for n in (8, 6, 4, 2)],
    ),
    "batch": ("model = nn.Linear(8, 4); x = torch.ones(config['b'], 8)", [{"b": b} for b in (8, 6, 4, 2)]),
    "kernel": (
        "k = config['k']; model = nn.Conv2d(3, 4, k, padding=k // 2); x = torch.ones(1, 3, 16, 16)",
        [{"k": k} for k in (7, 5, 3, 1)],
    ),
}


@pytest.fixture
def write(project):
    def write(body, configs, parametrize=""):
        parametrize = parametrize or "@pytest.mark.parametrize('config', CONFIGS)"
        project.pytester.makepyfile(
            test_net=f"import torch, pytest\nfrom torch import nn\n\nCONFIGS = {configs!r}\n\n"
            f"{parametrize}\ndef test_net(flops_budget, config):\n    {body}\n    flops_budget(model, x)\n"
        )
        return project

    return write


@pytest.mark.parametrize("way", WAYS)
def test_cheaper_neighbours(write, way):
    """If a test id now names a cheaper model, the test is not reported as improved."""
    body, configs = WAYS[way]
    write(body, configs).run("--flops-budget-update").assert_outcomes(passed=4)
    result = write(body, [configs[0], *configs[2:]]).run()
    result.assert_outcomes(passed=3)
    result.stdout.no_fnmatch_line("*improved*")
    what = "input" if way == "batch" else "model"
    for moved, before in ((1, 2), (2, 3)):
        now = f"what was measured now is in the baseline as test_net[[]config{before}]"
        line = f"test_net.py::test_net[[]config{moved}]: this id held another {what}; {now}"
        result.stdout.fnmatch_lines([line])
    command = "2 tests changed: another input or model; to accept: pytest --flops-budget-update"
    result.stdout.fnmatch_lines(["3 measurements: 2 changed, 1 ok; *", command])


@pytest.mark.parametrize("way", WAYS)
def test_more_expensive_neighbours(write, way):
    """If a test id now names a more expensive model, the failure says that the id named another one before."""
    body, configs = WAYS[way]
    configs = configs[::-1]
    write(body, configs).run("--flops-budget-update").assert_outcomes(passed=4)
    result = write(body, [configs[0], *configs[2:]]).run()
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(["this id held another *; what was measured now is in the baseline as test_net*"])


def test_input(write):
    """If a test id now names a model with another input, the summary shows both inputs."""
    body, configs = WAYS["batch"]
    write(body, configs).run("--flops-budget-update")
    result = write(body, configs[1:]).run()
    result.stdout.fnmatch_lines(["*[[]config0]: the input changed: float32[[]8, 8] * float32[[]6, 8]"])


@pytest.mark.parametrize(
    "parametrize",
    [
        "@pytest.mark.parametrize('config', CONFIGS, ids=list('abcd')[: len(CONFIGS)])",
        "@pytest.fixture(params=CONFIGS)\ndef config(request):\n    return request.param\n",
    ],
)
def test_other_ways_to_parametrize(write, parametrize):
    body, configs = WAYS["hidden"]
    write(body, configs, parametrize).run("--flops-budget-update").assert_outcomes(passed=4)
    result = write(body, configs[2:], parametrize).run()
    result.stdout.no_fnmatch_line("*improved*")
    result.stdout.fnmatch_lines(["*this id held another model; *"])


def test_names(project):
    """If the name of a measurement contains a number, the run notices that the name now belongs to another model."""

    def write(widths):
        project.write(
            f"def test_net(flops_budget):\n    for i, w in enumerate({widths}):\n"
            "        flops_budget(torch.nn.Linear(8, w), torch.ones(1, 8), name=f'net{i}')\n"
        )

    write([64, 32, 16])
    project.run("--flops-budget-update")
    write([64, 16])
    result = project.run()
    result.stdout.no_fnmatch_line("*improved*")
    result.stdout.fnmatch_lines(["*this id held another model; what was measured now is in the baseline as *:net2"])


def test_new_neighbour(write):
    """If a test id now names a model that is in no baseline, the summary says that this is another model."""
    body, configs = WAYS["hidden"]
    write(body, configs).run("--flops-budget-update")
    result = write(body, [configs[0], {"h": 31}, *configs[2:]]).run()
    result.stdout.no_fnmatch_line("*improved*")
    line = "*[[]config1]: this id held another model: the modules in the baseline have other types or sizes"
    result.stdout.fnmatch_lines([line])
    # An update of improved tests writes nothing for such an id.
    result = write(body, [configs[0], {"h": 31}, *configs[2:]]).run("--flops-budget-update=improved")
    result.stdout.fnmatch_lines(["nothing to write"])


def test_less_work_in_the_same_modules(write):
    body = "model = nn.Linear(8, 8); x = torch.ones(1, 8)"
    write(body, [{"a": 0}]).run("--flops-budget-update")
    baseline = write(body, [{"a": 0}]).baseline
    baseline.write_text(baseline.read_text().replace('"flops": 128', '"flops": 129'))
    result = write(body, [{"a": 0}]).run()
    result.stdout.fnmatch_lines(["1 measurement: 1 improved; *"])
    result.stdout.no_fnmatch_line("*another model*")


def test_without_parameters(project):
    project.write("def test_net(flops_budget):\n    flops_budget(Net(5), IMAGE)\n")
    project.run("--flops-budget-update")
    project.write("def test_net(flops_budget):\n    flops_budget(Net(3), IMAGE)\n")
    result = project.run()
    result.stdout.fnmatch_lines(["1 measurement: 1 improved; *"])
    result.stdout.no_fnmatch_line("*another model*")


def test_strict_improvements(write):
    """With improved-baseline = "fail", a test whose id now names another model fails."""
    body, configs = WAYS["hidden"]
    write(body, configs).run("--flops-budget-update")
    project = write(body, [configs[0], *configs[2:]])
    project.settings('[tool.pytest-flopsbudget]\nimproved-baseline = "fail"\n')
    result = project.run()
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(
        [
            'test_* changed, and improved-baseline = "fail": flops *',
            "this id held another model; *",
            "to accept: pytest --flops-*",
        ]
    )
    project.run("--flops-budget-update").assert_outcomes(passed=3)
    project.run().assert_outcomes(passed=3)


def test_workers(project):
    body = (
        "@pytest.mark.parametrize('model', {}, ids=range({}))\n"
        "def test_net(flops_budget, model):\n    flops_budget(model, IMAGE)\n"
    )
    project.write(body.format("[Net(5, 8), Net(5, 5), Net(5, 4)]", 3))
    project.run_apart("--flops-budget-update")
    project.write(body.format("[Net(5, 8), Net(5, 4)]", 2))
    project.settings('[tool.pytest-flopsbudget]\nimproved-baseline = "fail"\n')
    result = project.run_apart("-n1")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["this id held another model; *"])
    project.run_apart("--flops-budget-update", "-n1").assert_outcomes(passed=2)


def test_one_changed_setting(project):
    """If one setting of one module changed, the text does not say that the id holds another model."""
    body = (
        "@pytest.mark.parametrize('width', [4, 5])\n"
        "def test_net(flops_budget, width):\n    flops_budget(Net({}, width), IMAGE)\n"
    )
    project.write(body.format(3))
    project.run("--flops-budget-update").assert_outcomes(passed=2)
    project.write(body.format(5))
    result = project.run()
    result.assert_outcomes(failed=2)
    result.stdout.no_fnmatch_line("*another model*")
