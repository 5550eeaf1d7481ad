"""The HTML page in a real browser: clicks, search, keyboard, accessibility. ``make browser`` runs these tests."""

from __future__ import annotations

import base64
import shutil

import pytest
from budgets import budget
from reporting import a_test, measurement, report

from pytest_flopsbudget.reports.html import page
from pytest_flopsbudget.results.complexity import Complexity
from pytest_flopsbudget.results.data import Module, Operator

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
if BROWSER is None:
    pytest.skip("no Chromium on this machine", allow_module_level=True)
sync_api = pytest.importorskip("playwright.sync_api", reason="make browser installs it")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="make browser installs it")


def model(kernel, head=10):
    """Return a model with a convolution of ``kernel`` MFLOPs and a head of ``head`` MFLOPs."""
    total = (kernel + head) * 10**6
    return Complexity(
        model="Net",
        inputs=("float32[1, 3, 8, 8]",),
        execution="shapes",
        metrics={"flops": total, "other_flops": 0, "params": 30, "memory_traffic": total // 10, "launches": 2},
        modules={
            "": Module(type="Net", metrics={"flops": total, "params": 30}, calls=1),
            "stem": Module(type="Conv2d", shape="3->4", metrics={"flops": kernel * 10**6, "params": 10}, calls=1),
            "head": Module(type="Linear", shape="4->2", metrics={"flops": head * 10**6, "params": 20}, calls=1),
        },
        operators={
            "aten.convolution": Operator(
                calls=1, metrics={"flops": kernel * 10**6, "other_flops": 0, "memory_traffic": 99}
            ),
            "aten.addmm": Operator(calls=1, metrics={"flops": head * 10**6, "other_flops": 0, "memory_traffic": 9999}),
        },
        memory_over_time=(100, 300, 200),
    )


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    grown = measurement(model(30), model(10), budget("here", {"flops": 25 * 10**6}))
    tests = [
        a_test(grown, nodeid="test_net.py::test_grown"),
        a_test(measurement(model(10), model(10)), nodeid="b.py::test_b"),
    ]
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_text(page.text(report(*tests)), encoding="utf-8")
    return path


@pytest.fixture
def opened(browser, file):
    def open_page(width=1200, scheme="light", scripts=True):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, java_script_enabled=scripts
        )
        shown = context.new_page()
        shown.problems, shown.requests = [], []
        shown.on("console", lambda message: shown.problems.append(message.text) if message.type == "error" else None)
        shown.on("pageerror", lambda error: shown.problems.append(str(error)))
        shown.on("request", lambda request: shown.requests.append(request.url))
        shown.goto(file.as_uri())
        return shown

    return open_page


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1600])
def test_accessible(opened, width, scheme):
    shown = opened(width, scheme)
    for summary in shown.locator("summary").all():
        summary.click()
    shown.locator(".bars").first.scroll_into_view_if_needed()
    found = axe.Axe().run(shown).response["violations"]
    assert [(one["id"], one["nodes"][0]["html"]) for one in found] == []
    assert shown.problems == []
    assert len(shown.requests) == 1
    # The page itself never scrolls sideways; wide tables scroll in their own boxes.
    assert shown.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize(("width", "is_wide"), [(390, True), (1600, False)])
def test_a_table_that_scrolls_has_a_shadow(opened, width, is_wide):
    """The shadow is at the edge behind which more of the table is, and at no other edge."""
    shown = opened(width)
    box = shown.locator(".scroll").first
    assert box.evaluate("one => one.scrollWidth > one.clientWidth") == is_wide
    # The rightmost pixels of the table's lower edge are outside of all texts.
    area = box.bounding_box()
    edges = {
        "left": {"x": area["x"], "width": 2},
        "right": {"x": area["x"] + area["width"] - 2, "width": 2},
    }

    def darkest(edge):
        clip = {"y": area["y"] + 2, "height": 4, **edges[edge]}
        image = base64.b64encode(shown.screenshot(clip=clip)).decode()
        return shown.evaluate(
            """async image => {
                const bitmap = await createImageBitmap(await (await fetch("data:image/png;base64," + image)).blob());
                const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d");
                context.drawImage(bitmap, 0, 0);
                const data = context.getImageData(0, 0, bitmap.width, bitmap.height).data;
                return Math.min(...data.filter((_, place) => place % 4 < 3));
            }""",
            image,
        )

    assert (darkest("right") < 200, darkest("left") < 200) == (is_wide, False)
    box.evaluate("one => one.scrollLeft = one.scrollWidth")
    assert (darkest("right") < 200, darkest("left") < 200) == (False, is_wide)


def test_icicle(opened):
    shown = opened()
    baseline, now = shown.locator(".icicle").first.locator(".bars").all()
    for bars, share in ((baseline, 0.5), (now, 0.75)):
        whole, stem = bars.locator(".bar").nth(0), bars.locator(".bar", has_text="stem")
        assert stem.bounding_box()["width"] / whole.bounding_box()["width"] == pytest.approx(share, abs=0.01)
        assert "more" in stem.get_attribute("class")
    now.locator(".bar", has_text="stem").click()
    told = shown.locator(".icicle .told").first
    assert told.inner_text() == "stem: Conv2d 3->4. 30 MFLOPs, 75.0% of the model, +20 MFLOPs against the baseline."
    shown.locator(".icicle select").first.select_option("params")
    assert told.inner_text().startswith("stem: Conv2d 3->4. 10, 33.3% of the model")


def test_search(opened):
    shown = opened()
    shown.locator(".icicle input").first.fill("linear")
    now = shown.locator(".icicle").first.locator(".bars").nth(1)
    assert "dim" in now.locator(".bar", has_text="stem").get_attribute("class")
    assert "chosen" in now.locator(".bar", has_text="head").get_attribute("class")


def test_keyboard(opened):
    shown = opened()
    now = shown.locator(".icicle").first.locator(".bars").nth(1)
    told = shown.locator(".icicle .told").first
    now.focus()
    for key, start in (
        ("ArrowDown", "head:"),
        ("ArrowRight", "stem:"),
        ("ArrowLeft", "head:"),
        ("ArrowUp", "the model:"),
    ):
        now.press(key)
        assert told.inner_text().startswith(start)


def test_without_scripts(opened):
    shown = opened(scripts=False)
    assert shown.locator(".icicle").first.is_hidden()
    shown.locator("summary", has_text="Modules").first.click()
    assert shown.locator("table.tree tbody tr").nth(1).inner_text().split("\t")[:2] == ["head", "Linear 4->2"]
