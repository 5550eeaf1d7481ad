import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import NET_FLOPS, NET_PARAMS
from features import requires

IMAGE = ["--input", "1x3x8x8"]


def totals(nets, *argv):
    """Run ``measure --json`` and return the metrics of each target."""
    lines = nets("measure", *argv, "--json")
    assert nets.code == 0, nets.errors
    return [json.loads(line)["metrics"] for line in lines]


@pytest.mark.parametrize("target", ["build", "net", "Net", "build(3, width=4)", "Net()"])
def test_functions_classes_and_models(nets, target):
    (found,) = totals(nets, f"nets_of_tests:{target}", *IMAGE)
    assert (found["flops"], found["params"]) == (NET_FLOPS, NET_PARAMS)


def test_table(nets):
    lines = nets("measure", "nets_of_tests:build", *IMAGE)
    assert lines[0] == "Net of float32[1, 3, 8, 8]: forward, counted on shapes"
    assert any("stem" in line and "13.82 k" in line for line in lines)
    assert "building" in nets.errors  # what the user's code prints does not mix with the results


def test_depth_and_metrics(nets):
    text = "\n".join(nets("measure", "nets_of_tests:build", *IMAGE, "--depth", "0", "--metrics", "macs, params"))
    assert "MACs" in text
    assert "Conv2d" not in text


def test_device(nets):
    assert "est. time A100" in "\n".join(nets("measure", "nets_of_tests:build", *IMAGE, "--on", "a100"))


def test_batch_and_backward(nets):
    """FLOPs grow with the batch. The backward pass has a product for each weight, and none for the input's gradient."""
    (found,) = totals(nets, "nets_of_tests:build", *IMAGE, "--batch", "3")
    assert found["flops"] == 3 * NET_FLOPS
    (found,) = totals(nets, "nets_of_tests:build", *IMAGE, "--backward")
    # The convolution has the gradient of its weight, the linear layer those of its weight and its input.
    assert found["flops"] == 2 * 13_824 + 3 * 80


def test_several_targets_with_options_of_their_own(nets):
    found = totals(nets, "nets_of_tests:build", "nets_of_tests:build?input=2x3x8x8", *IMAGE)
    assert [one["flops"] for one in found] == [NET_FLOPS, 2 * NET_FLOPS]
    lines = nets("measure", "nets_of_tests:net", "nets_of_tests:Net", *IMAGE)
    assert lines[0] == "nets_of_tests:net"
    assert "nets_of_tests:Net" in lines


def test_inputs_by_name_and_kwargs(nets):
    argv = ["nets_of_tests:Tokens", "--input", "tokens=2x5:int64", "--kwargs", '{"scale": 2.0}']
    (line,) = nets("measure", *argv, "--json")
    assert json.loads(line)["inputs"] == ["tokens=int64[2, 5]"]


def test_the_models_own_example(nets):
    lines = nets("measure", "nets_of_tests:Held", "--batch", "2")
    assert lines[0] == "Held of float32[2, 3, 8, 8]: forward, counted on shapes"
    assert "inputs: the model's own example_input_array (2x3x8x8), as no input was given" in lines


def test_page_and_profiles(nets):
    nets("measure", "nets_of_tests:build", *IMAGE, "--html", "p.html", "--speedscope", "s.json", "--collapsed", "c.txt")
    assert Path("c.txt").read_text() == "Net;stem 13824\nNet;head 80\n"
    assert json.loads(Path("s.json").read_text())["profiles"]
    page = Path("p.html").read_text(encoding="utf-8")
    assert "Measured, without a budget." in page
    assert "nets_of_tests:build" in page
    assert nets.errors.endswith("written: s.json\nwritten: c.txt\nwritten: p.html\n")


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("nets_of_test:build", "no module 'nets_of_test'; did you mean nets_of_tests?"),
        ("zzz.yyy:build", "no module 'zzz' in the current folder or installed"),
        ("nets_of_tests.x:build", "no module 'nets_of_tests.x'"),
        ("nets_of_tests:buidl", "nets_of_tests has no 'buidl'; did you mean build?"),
        ("nets_of_tests:NUMBER", "NUMBER is a value of type int, and no model, class or function"),
        ("nets_of_tests:number", "number returned a value of type int, and no torch.nn.Module"),
        ("nets_of_tests:net()", "net is a model; write nets_of_tests:net without arguments"),
        ("nets_of_tests:Block", "Block takes width, depth; write the values, as in nets_of_tests:Block(..., ...)"),
        ("nets_of_tests:build(x)", "'build(x)' is no call with plain values"),
        ("nets_of_tests:build(**{})", "is no call with plain values"),
        ("nets_of_tests:build(1)(2)", "is no call with plain values"),
        ("nets_of_tests:build(", "is no call with plain values"),
        ("nets_of_tests:broken", "broken() raised ValueError: two (nets_of_tests.py:"),
        ("nets_of_tests:build(3, 4, 5)", "build(3, 4, 5) raised TypeError: build() takes from 0 to 2 positional"),
        ("nets_of_tests:build?input=1x4x8x8", "the model raised RuntimeError: Given groups=1, weight of size"),
        ("nets_of_tests:build?input=1x3x8x8:int64", "the model raised RuntimeError: "),
        ("nets_of_tests:leave", "leave() raised SystemExit: 3 (nets_of_tests.py:"),
        ("nets_of_tests:net?input=9999999x999999x99", "PyTorch cannot make this tensor: RuntimeError: "),
        ("nets_of_tests:build?input=x=1x3x8x8", "the model raised TypeError: "),
        pytest.param(
            "nets_of_tests:Tokens?input=1x5",
            "token ids are whole numbers: --input 1x5:int64",
            marks=requires("shapes of embeddings of whole numbers only"),
        ),
        ("nets_of_tests:build", "the model takes image, and no input was given; write --input 1x3x224x224"),
        ("raises_on_import:build", "importing raises_on_import raised NameError: name 'nn' is not defined"),
        ("exits_on_import:build", "importing exits_on_import raised SystemExit"),
        ("no_python:build", "importing no_python raised SyntaxError"),
        ("needs_another:build", "importing needs_another raised ModuleNotFoundError: No module named 'zzz_gone'"),
        ("timm:resnet50", "timm is not installed: pip install timm"),
        ("gone.pt2", "there is no such file"),
        (f"{'n' * 300}.pt2", "there is no such file"),
        ("no_python.pt2", "PyTorch cannot load it: "),
    ],
)
def test_mistakes_are_one_line(nets, target, told, monkeypatch):
    for name, text in {
        "raises_on_import.py": "class A(nn.Module): pass",
        "exits_on_import.py": "raise SystemExit",
        "no_python.py": "def build(:",
        "no_python.pt2": "x",
        "needs_another.py": "import zzz_gone",
    }.items():
        Path(name).write_text(text)
    monkeypatch.setitem(sys.modules, "timm", None)
    assert nets("measure", target) == []
    assert nets.code == 2
    error = nets.errors.removeprefix("building\n")
    assert error.startswith(f"error: {target}: ")
    assert told in error
    assert error.count("\n") == 1
    assert "pytest_flopsbudget" not in error


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["--input", "1x3y3"], "'1x3y3' is no input"),
        (["--input", "a=1x3", "--input", "a=1x3"], "two inputs have the name 'a'"),
        (["--kwargs", "{"], "is no JSON"),
        (["--batch", "0"], "batch '0' is no whole number"),
        (["--on", "A1000", *IMAGE], "no device is named 'A1000'; did you mean A100?"),
        (["--metrics", "flop", *IMAGE], "flop"),
        (["--html", "x.py", *IMAGE], "would overwrite a source file"),
        (["--metric", "depth", *IMAGE], "depth does not add up over modules"),
    ],
)
def test_mistakes_in_options(nets, argv, told):
    assert nets("measure", "nets_of_tests:net", *argv) == []
    assert nets.code == 2
    assert told in nets.errors
    assert nets.errors.count("\n") == 1


def test_a_target_that_fails_does_not_stop_the_others(nets):
    lines = nets("measure", "nets_of_tests:gone", "nets_of_tests:net", *IMAGE)
    assert nets.code == 2
    assert "nets_of_tests:gone: nets_of_tests has no 'gone'" in nets.errors
    assert "Net of float32[1, 3, 8, 8]: forward, counted on shapes" in lines


def test_sys_path_is_put_back(nets):
    before = list(sys.path)
    nets("measure", "nets_of_tests:net", *IMAGE)
    assert sys.path == before


CONFIG = {"model_type": "gpt2", "n_layer": 1, "n_embd": 8, "n_head": 2, "vocab_size": 16, "n_positions": 8}
SMALL = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
CONFIG |= {"bos_token_id": 0, "eos_token_id": 0}


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        (CONFIG, "GPT2LMHeadModel"),  # the class for pretraining
        (SMALL | {"model_type": "llama"}, "LlamaForCausalLM"),
        (CONFIG | {"architectures": ["GPT2Model"]}, "GPT2Model"),
    ],
)
def test_transformers_from_a_file(nets, config, kind):
    Path("config.json").write_text(json.dumps(config))
    for name in ("config.json", "."):
        lines = nets("measure", f"hf:{name}", "--input", "1x4:int64")
        assert lines[0] == f"{kind} of int64[1, 4]: forward, counted on shapes"
        assert f"model: {kind}, from {name}, without weights" in lines


def test_transformers_without_inputs(nets):
    Path("c.json").write_text(json.dumps(CONFIG))
    lines = nets("measure", "hf:c.json", "--batch", "1")
    assert "inputs: the model's own dummy_inputs (input_ids=1x5), as no input was given" in lines
    Path("v.json").write_text(json.dumps(SMALL | {"model_type": "vit", "image_size": 32}))
    lines = nets("measure", "hf:v.json")
    assert lines[0].startswith("ViTModel of pixel_values=float32[1, 3, 32, 32]: ")
    assert "inputs: one image of the size in the configuration (pixel_values=1x3x32x32), as no input was given" in lines


TINY = {"d_model": 8, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2}
TINY |= {"decoder_attention_heads": 2, "encoder_ffn_dim": 8, "decoder_ffn_dim": 8, "vocab_size": 16, "pad_token_id": 1}


@pytest.mark.parametrize(
    ("config", "told"),
    [
        # The decoder alone would be a causal language model. Its example is on meta, where masks have no values.
        ({"model_type": "marian", "decoder_start_token_id": 1} | TINY, "MarianMTModel of attention_mask="),
        ({"model_type": "whisper"} | TINY, "WhisperModel takes input_features, and no input was given; write --input"),
        ({"model_type": "resnet", "depths": [1]}, "and no input was given; write --input pixel_values=1x3x224x224"),
    ],
)
def test_transformers_with_encoders_and_other_inputs(nets, config, told):
    special = {"bos_token_id": 0, "eos_token_id": 0, "forced_eos_token_id": 0}
    Path("c.json").write_text(json.dumps(special | config))
    assert told in "\n".join(nets("measure", "hf:c.json")) + nets.errors


def test_transformers_model_type_and_class(nets):
    """DistilBERT's embedding of its default configuration has 30,522 tokens and 512 positions of 768 numbers."""
    transformers = pytest.importorskip("transformers")
    for name, kind in {"distilbert": "DistilBertForMaskedLM", "DistilBertModel": "DistilBertModel"}.items():
        (line,) = nets("measure", f"hf:{name}", "--input", "1x4:int64", "--json")
        found = json.loads(line)
        assert found["model"] == kind
        embeddings = next(one for path, one in found["modules"].items() if path.endswith("embeddings"))
        assert embeddings["metrics"]["params"] == (30_522 + 512 + 2) * 768
        assert f"in transformers {transformers.__version__}, without weights" in found["notes"][0]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("gone.json", "gone.json: there is no such file"),
        ("bad.json", "bad.json is no JSON: "),
        ("list.json", 'list.json is no configuration of transformers: it has no "model_type"'),
        ("kind.json", "has no model type 'gtp2'; did you mean gpt2?"),
        ("n" * 300, "and the hub gave no configuration"),
        ("org/name", "and the hub gave no configuration (no network)"),
        ("gptt2", "did you mean the model type gpt2?"),
    ],
)
def test_mistakes_with_transformers(nets, name, told, monkeypatch):
    transformers = pytest.importorskip("transformers")

    def refuse(*_args, **_kwargs):
        raise OSError("no network\nand more")

    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", refuse)
    Path("bad.json").write_text("{")
    Path("list.json").write_text("[1]")
    Path("kind.json").write_text('{"model_type": "gtp2"}')
    assert nets("measure", f"hf:{name}") == []
    assert nets.code == 2
    assert told in nets.errors
    assert nets.errors.count("\n") == 1


def test_timm(nets, monkeypatch):
    """A stand-in for timm, with the functions that the command calls."""

    class Net(torch.nn.Conv2d):
        pretrained_cfg = {"input_size": (3, 8, 8)}  # noqa: RUF012 -- as timm has it

    def create(name, *, pretrained):
        assert (name, pretrained) == ("net50", False)
        return Net(3, 4, 3, padding=1)

    timm = SimpleNamespace(
        __version__="1.2.3", is_model=lambda name: name == "net50", list_models=lambda: ["net50"], create_model=create
    )
    monkeypatch.setitem(sys.modules, "timm", timm)
    lines = nets("measure", "timm:net50")
    assert lines[0] == "Net of float32[1, 3, 8, 8]: forward, counted on shapes"
    assert "model: Net, from timm 1.2.3, without weights" in lines
    nets("measure", "timm:net5")
    assert nets.errors == "error: timm:net5: timm 1.2.3 has no model 'net5'; did you mean net50?\n"


# PyTorch 2.10 to 2.12 warn about the buffers that they read from the file.
@pytest.mark.filterwarnings("ignore:The given buffer is not writable:UserWarning")
def test_exported_program(nets):
    program = torch.export.export(torch.nn.Linear(4, 2), (torch.empty(3, 4),))
    torch.export.save(program, "m.pt2")
    (found,) = totals(nets, "m.pt2")
    assert found["flops"] == 2 * 3 * 4 * 2


def test_progress_bar(nets, monkeypatch):
    """The bar is on standard error, if this is a terminal and there are several targets."""
    nets("measure", "nets_of_tests:net", "nets_of_tests:Net", *IMAGE)
    assert nets.errors == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    lines = nets("measure", "nets_of_tests:net", "nets_of_tests:Net", *IMAGE)
    assert lines[0] == "nets_of_tests:net"
