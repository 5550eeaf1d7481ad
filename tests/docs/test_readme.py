"""README.md: its blocks work, show what a run shows, and are few."""

from __future__ import annotations

import re

import yaml
from page_story import Story
from paths import DOCS, ROOT

from pytest_flopsbudget.config.pyproject import find_table, read_document

PAGE = (ROOT / "README.md").read_text(encoding="utf-8")


def block(begin):
    """Return the text of the block that begins with a text."""
    (found,) = re.findall(rf"^```\w+\n({re.escape(begin)}.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    return found


FAILURE = block("______")


def test_it_is_short():
    assert len(PAGE.splitlines()) <= 150
    assert len(block("# test_net.py").strip().splitlines()) - 3 == 5  # without the name, an empty line and the imports
    assert len(FAILURE.splitlines()) <= 10


def test_from_the_first_test_to_a_failure(project):
    """The example, its baseline, the edit that the text describes, and the failure that is shown."""
    Story(project, None).play(f"```python\n{block('# test_net.py')}```\n")
    assert project.run("--flops-budget-update").ret == 0
    (added,) = re.findall(r"^\$ git add (.*)$", PAGE, re.MULTILINE)
    assert all(project.path.joinpath(name).exists() for name in added.split())
    test = project.path / "test_net.py"
    text = test.read_text()
    assert text.count("Conv2d(64, 64, 3)") == 1
    test.write_text(text.replace("Conv2d(64, 64, 3)", "Conv2d(64, 64, 5)"))
    said = project.run().stdout.str()
    assert f"\n{FAILURE}======" in said


def test_the_site_begins_with_this_example():
    assert f"```python\n{block('# test_net.py')}```\n" in (DOCS / "index.md").read_text(encoding="utf-8")


def test_by_hand():
    stem = 2 * 222**2 * 64 * 3 * 9
    before, now = stem + 2 * 220**2 * 64 * 64 * 9, stem + 2 * 218**2 * 64 * 64 * 25
    assert f"{before / 10**9:.3f} GFLOPs  {now / 10**9:.3f} GFLOPs" in FAILURE
    assert f"{100 * (now / 4e9 - 1):+.1f}% over its limit" in FAILURE


def test_the_workflow(project):
    """pytest accepts the commands of the workflow and the settings below it, and writes what the workflow uploads."""
    Story(project, None).play(f"```toml\n{block('# pyproject.toml')}```\n")
    assert find_table(read_document(project.path / "pyproject.toml", "pyproject.toml"), [], "")
    project.write("def test_a(flops_budget):\n    flops_budget(Net(), IMAGE)\n")
    assert project.run("--flops-budget-update").ret == 0
    (job,) = yaml.safe_load(block("# .github"))["jobs"].values()
    (command,) = [step["run"] for step in job["steps"] if step.get("run", "").startswith("pytest")]
    assert project.run(*command.split()[1:]).ret == 0
    (folder,) = [step["with"]["path"] for step in job["steps"] if "upload-artifact" in step.get("uses", "")]
    assert sorted(path.name for path in project.path.joinpath(folder).iterdir()) == ["page.html", "run.json"]
