"""The documentation site in a browser, on small and large screens, in light and dark. ``make browser`` runs this."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest
from paths import DOCS

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
if BROWSER is None:
    pytest.skip("no Chromium on this machine", allow_module_level=True)
sync_api = pytest.importorskip("playwright.sync_api", reason="make browser installs it")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="make browser installs it")
for builder in ("sphinx", "furo", "myst_parser"):
    pytest.importorskip(builder, reason="make browser installs it")

#: The start page, the tutorial, a how-to page, and pages of the reference: written by hand, and made from the code.
PAGES = [
    "index",
    "tutorial/first-budget",
    "how-to/libraries",
    "configuration",
    "reference/api",
    "reference/operators",
    "search",
]
#: The whole site takes at most as many bytes.
LARGEST_SITE = 4_000_000


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Build the site like ``make docs``, into a temporary folder."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "--nitpicky", "--fail-on-warning", "--quiet", "-b", "html"]
    subprocess.run([*command, "-d", folder / "doctrees", DOCS, folder / "html"], check=True)
    return folder / "html"


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("name", PAGES)
def test_accessible(browser, site, name, width, scheme):
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    shown = context.new_page()
    problems, requests = [], []
    shown.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    shown.on("pageerror", lambda error: problems.append(str(error)))
    shown.on("request", lambda one: requests.append(one.url))
    shown.goto((site / f"{name}.html").as_uri())
    shown.wait_for_load_state("networkidle")
    assert problems == []  # Axe reads the style sheets again, which Chromium refuses for files and reports
    found = axe.Axe().run(shown).response["violations"]
    assert [(one["id"], one["nodes"][0]["html"]) for one in found] == []
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []
    # The page itself never scrolls sideways; wide tables and blocks scroll in their own boxes.
    assert shown.evaluate("document.documentElement.scrollWidth <= innerWidth")
    context.close()


def test_size(site):
    assert sum(path.stat().st_size for path in site.rglob("*") if path.is_file()) <= LARGEST_SITE
