import pytest

from pytest_flopsbudget.errors import UsageError
from pytest_flopsbudget.targets.grammar import CallOptions, InputSpec, parse_input, parse_kwargs, parse_target


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("1x3x224x224", InputSpec((1, 3, 224, 224))),
        ("1\N{MULTIPLICATION SIGN}3", InputSpec((1, 3))),
        ("7", InputSpec((7,))),
        ("0x4", InputSpec((0, 4))),
        ("1x128:int64", InputSpec((1, 128), "int64")),
        ("tokens=1x128:int64", InputSpec((1, 128), "int64", "tokens")),
        (" 2x2:bool ", InputSpec((2, 2), "bool")),
    ],
)
def test_inputs(text, spec):
    assert parse_input(text) == spec


@pytest.mark.parametrize(
    "text",
    ["", "1x", "x3", "1x3y3", "-1x3", "1.5x3", "1x3:", "=1x3", "1a=1x3", "a=b=1x3", "1 x 3", "1,3", "٣x4:int64="],
)
def test_what_is_no_input(text):
    with pytest.raises(UsageError, match="is no input; write sizes, as in 1x3x224x224"):
        parse_input(text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("1x3:int46", "no dtype 'int46'; did you mean int64"),
        ("1x3:zzz", "no dtype 'zzz'; there are float32, "),
        (f"1x{'9' * 5000}", "too many elements"),
        ("4294967296x4294967296", "too many elements"),
    ],
)
def test_inputs_that_no_tensor_has(text, told):
    with pytest.raises(UsageError, match=told):
        parse_input(text)


@pytest.mark.parametrize(
    ("text", "model", "options"),
    [
        ("net:build", "net:build", CallOptions()),
        ("a.b:C.method(18, w='x')", "a.b:C.method(18, w='x')", CallOptions()),
        ("hf:org/name", "hf:org/name", CallOptions()),
        ("dir/m.pt2", "dir/m.pt2", CallOptions()),
        ("hf:gpt2?backward", "hf:gpt2", CallOptions(backward=True)),
        (
            "net:build?input=1x3&input=m=1x4:bool&batch=8",
            "net:build",
            CallOptions(inputs=(InputSpec((1, 3)), InputSpec((1, 4), "bool", "m")), batch=8),
        ),
        ('net:build?kwargs={"a": "x&y"}&backward', "net:build", CallOptions(kwargs={"a": "x&y"}, backward=True)),
    ],
)
def test_targets(text, model, options):
    found = parse_target(text)
    assert (found.text, found.model, found.options) == (text, model, options)


def test_sizes_copied_from_a_message():
    """Messages write a multiplication sign between sizes; the target is the same, and so is its baseline."""
    assert parse_target("net:build?input=1x3x8x8".replace("x", "\N{MULTIPLICATION SIGN}")) == parse_target(
        "net:build?input=1x3x8x8"
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "names no model; write module:attribute, hf:NAME, timm:NAME or FILE.pt2"),
        ("hf:", "names no model"),
        ("timm:?backward", "names no model"),
        ("net", "names no model"),
        ("my-net:build", "'my-net' is not the name of a module"),
        ("net:", "'' is not the name of an attribute"),
        ("net::build", "':build' is not the name of an attribute"),
        ("src/net.py:build", "names a file; write the module: src.net:build"),
        ("net.py", "names a file; write the module: net:build"),
        ("net:build?inptu=1x3", "no option 'inptu' after the question mark; did you mean input"),
        ("net:build?", "no option '' after the question mark; there are input, kwargs"),
        ("net:build?backward=yes", "backward takes no value"),
        ("net:build?batch=0", "batch '0' is no whole number from 1 on"),
        ("net:build?batch=many", "batch 'many' is no whole number"),
        ("net:build?kwargs=[1]", "is no JSON object"),
        ("net:build?kwargs={a}", "is no JSON: "),
    ],
)
def test_what_is_no_target(text, told):
    with pytest.raises(UsageError) as info:
        parse_target(text)
    assert told in str(info.value)


def test_kwargs_nested_too_deeply():
    with pytest.raises(UsageError, match="is no JSON"):
        parse_kwargs("[" * 100_000)


def test_own_options_win():
    target = parse_target("net:build?batch=2").with_defaults(CallOptions(inputs=(InputSpec((1, 3)),), batch=8))
    assert target.options == CallOptions(inputs=(InputSpec((1, 3)),), batch=2)
