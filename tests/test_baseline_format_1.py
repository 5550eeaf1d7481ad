"""Files of format 1 are read as ever, and become files of today's format when they are updated."""

from __future__ import annotations

import pytest
from test_baseline import EXAMPLE as TODAYS
from test_baseline import net, refusal

from pytest_flopsbudget.storage.baseline import BaselineFile, change, load

EXAMPLE = """\
{
  "format": 1,
  "tests": {
    "TestX::test_y[a]": {
      "model": {
        "model": "Net", "execution": "shapes", "backward": false,
        "inputs": ["float32[1, 8]", "mask=int64[1, 8]"],
        "metrics": {"flops": 384, "params": 136, "trainable_params": 64, "param_bytes": 544, "buffer_bytes": 0},
        "modules": {
          "": {"type": "Net", "calls": 1, "flops": 384, "params": 136, "trainable_params": 64, "param_bytes": 544},
          "block.{0-1}": {"type": "Linear", "shape": "8->8", "calls": 1, "flops": 128, "params": 64, "param_bytes": 64},
          "scale": {"type": "Scale", "calls": 0, "params": 8, "trainable_params": 0, "param_bytes": 32}
        },
        "operators": {
          "aten.mm": {"calls": 3, "flops": 384}
        },
        "unknown_operators": {
          "mylib.op": {"calls": 1, "modules": ["block.0"]}
        }
      }
    }
  }
}
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "__flops__" / "test_net.json"


@pytest.fixture
def written(path):
    """A baseline file that holds EXAMPLE."""
    path.parent.mkdir()
    path.write_bytes(EXAMPLE.encode())
    return path


def test_example(written):
    """What the layout leaves out comes back: zeros, and trainable parameters where all are."""
    assert load(written) == BaselineFile(written, {"TestX::test_y[a]": {"model": net()}})


def test_becomes_todays_format(written):
    """An update that changes no number writes the format of today."""
    assert change(written, lambda file: file)
    assert written.read_bytes() == TODAYS.encode()


class TestRefusals:
    @pytest.mark.parametrize(
        ("before", "after", "line", "told"),
        [
            ('"flops": 128', '"flops": -1', 11, '"block.{0-1}": "flops": Expected `int` >= 0.'),
            ('"flops": 128', '"flops": 1.0', 11, '"flops": Expected `int`, got `float`.'),
            ('"flops": 128', '"flops": NaN', 11, '"flops": Expected `int`, got `float`.'),
            ('"flops": 128', '"flops": true', 11, '"flops": Expected `int`, got `bool`.'),
            ('"flops": 128', '"flop": 128', 11, '"flop": unknown key (did you mean "flops"?).'),
            (
                '{"flops": 384, "params"',
                '{"flops": 384, "param"',
                8,
                '"metrics": "param": unknown key (did you mean "params"?).',
            ),
            ('"type": "Scale", ', "", 12, '"modules": "scale": Object missing required field `type`.'),
            (
                '"execution": "shapes"',
                '"execution": "guess"',
                6,
                'enum value \'guess\'; allowed: "shapes", "real", "watched".',
            ),
            ('"inputs": [', '"inputs": [1, ', 7, '"inputs": Expected `str`, got `int`.'),
            ('"inputs"', '"input"', 7, '"model": "input": unknown key (did you mean "inputs"?).'),
            ('"calls": 3', '"calls": "3"', 15, '"operators": "aten.mm": "calls": Expected `int`, got `str`.'),
            ('["block.0"]', "null", 18, '"unknown_operators": "mylib.op": "modules": Expected `array`, got `null`.'),
            ("block.{0-1}", "block.{1-0}", 9, "\"modules\": '{1-0}' is no list of rising numbers"),
            ('"scale"', '"block.1"', 9, "which another entry names too"),
            ('"model": {', '"model": 3, "other": {', 5, '"TestX::test_y[a]": "model": Expected `object`, got `int`.'),
            (
                '"format": 1,',
                '"format": 1, "made_by": "me",',
                2,
                '"made_by": unknown key (allowed: "format", "tests").',
            ),
        ],
    )
    def test_wrong_content(self, path, before, after, line, told):
        """What does not belong in a baseline is named with its line and its keys."""
        assert EXAMPLE.count(before) == 1
        message = refusal(path, EXAMPLE.replace(before, after))
        assert message.startswith(f"{path}, line {line}: ")
        assert told in message
        assert "Restore it from git" in message

    def test_duplicate_key(self, path):
        """A module that a merge left there twice is refused at its second line."""
        lines = EXAMPLE.splitlines(keepends=True)
        lines.insert(10, lines[10].replace("128", "256"))
        message = refusal(path, "".join(lines))
        assert message.startswith(f'{path}, line 12: "tests": ')
        assert '"modules": "block.{0-1}": the key is there twice' in message
