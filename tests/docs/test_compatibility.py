"""Baselines that other versions of PyTorch wrote pass under this version."""

from __future__ import annotations

import json
import shutil

import pytest
import torch._decomp.decompositions_for_rng
import torch._dynamo  # noqa: F401 -- pytester would remove these modules, and they cannot be imported twice
from paths import DOCS

PROJECT = DOCS / "compatibility" / "upgrade_project"
BASELINES = sorted((PROJECT / "baselines").glob("*.json"))


def test_two_versions_wrote_baselines():
    assert [path.name for path in BASELINES] == ["pytorch-2.15.json", "pytorch-2.6.json"]


@pytest.mark.parametrize("baseline", BASELINES, ids=lambda path: path.stem)
def test_passes(pytester: pytest.Pytester, baseline):
    """All metrics are held, and what another version of PyTorch measured is no regression."""
    for name in ("pyproject.toml", "test_upgrade.py"):
        shutil.copy(PROJECT / name, pytester.path)
    pytester.mkdir("__flops__")
    shutil.copy(baseline, pytester.path / "__flops__" / "test_upgrade.json")
    done = pytester.runpytest("-q", "-k", "test_model or test_attention", "--flops-budget-json=report.json")
    assert done.ret == 0
    report = json.loads((pytester.path / "report.json").read_text(encoding="utf-8"))
    changes = [
        change
        for test in report["tests"]
        for measurement in test["measurements"]
        for change in measurement["comparison"].get("changes", ())
    ]
    assert done.parseoutcomes() == {"passed": 18, "deselected": 4}
    assert all(change["judged"] is False for change in changes)
