"""Write docs/beyond-flops.md and its chart: ``cd docs && python -m inversion``."""

from __future__ import annotations

from inversion.chart import svg
from inversion.page import CHART, PAGE, page

PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
CHART.write_text(svg(), encoding="utf-8")
