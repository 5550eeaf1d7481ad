"""Links between the pages lead to files and headings that exist."""

from __future__ import annotations

import re

import pytest
from paths import DOCS, ROOT

from pytest_flopsbudget.config.pyproject import read_document

#: Pages that the build of the site, or pytest in a folder of examples, makes are not in the repository.
MADE = (DOCS / "reference", DOCS / "_build", *DOCS.rglob(".*"))
PAGES = [
    *ROOT.glob("*.md"),
    *(path for path in sorted(DOCS.glob("**/*.md")) if not any(folder in path.parents for folder in MADE)),
]
_CODE = re.compile(r"^( *)```.*?^\1```$|`[^`\n]+`", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def anchors(path):
    """Return the anchors of the headings, as GitHub and MyST make them."""
    text = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in _HEADING.findall(text)}


def links(path):
    return [link for link in _LINK.findall(_CODE.sub("", path.read_text(encoding="utf-8"))) if "://" not in link]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    for link in links(page):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_there_are_links():
    assert len(PAGES) > 25
    assert sum(len(links(page)) for page in PAGES) > 150


def test_every_page_is_in_the_index():
    """docs/index.md lists every page. Otherwise, the build of the site fails."""
    trees = re.findall(r"^```{toctree}\n(.*?)^```$", (DOCS / "index.md").read_text("utf-8"), re.DOTALL | re.MULTILINE)
    listed = {line for tree in trees for line in tree.splitlines() if line and not line.startswith(":")}
    pages = {page.relative_to(DOCS).with_suffix("").as_posix() for page in PAGES if DOCS in page.parents}
    assert pages - listed == {"index"}
    assert {name.partition("/")[0] for name in listed - pages} == {"reference"}


def test_the_packages_page_has_no_relative_link():
    """The build makes the README's links absolute. Each absolute link is the address of a file of the repository."""
    project = read_document(ROOT / "pyproject.toml", "pyproject.toml")
    text = ROOT.joinpath("README.md").read_text(encoding="utf-8")
    for one in project["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]["substitutions"]:
        text = re.sub(one["pattern"], one["replacement"], text)
    assert [link for link in _LINK.findall(text) if "://" not in link] == []
    source = project["project"]["urls"]["Source"]
    raw = source.replace("github.com", "raw.githubusercontent.com") + "/main/"
    files = [re.sub(f"^({source}/blob/main/|{raw})", "", link).partition("#")[0] for link in _LINK.findall(text)]
    assert "docs/page.png" in files
    assert [file for file in files if not ROOT.joinpath(file).exists()] == []
